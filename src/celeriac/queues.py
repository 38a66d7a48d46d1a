"""Queues and exchanges as values: what a user declares, in the spelling of kombu.

Nothing here is declared on a server or resolved: which queue a message reaches is ``routing``'s
business. Objects of kombu are understood by their attributes, so that kombu need not be installed.
"""

import os
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import force_setattr, replace

from celeriac.exceptions import ImproperlyConfigured

__all__ = [
    "Binding",
    "Broadcast",
    "Exchange",
    "Queue",
    "as_declaration",
    "as_delivery_mode",
    "as_exchange",
    "as_queue",
    "binding",
    "is_queue",
    "queue_from_options",
    "worker_direct",
]

Arguments = Mapping[str, Any]

PERSISTENT = 2
DELIVERY_MODES = {"transient": 1, "persistent": PERSISTENT}

_DRAWN = re.compile(r"\.([0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})$")
"""How the names of queues end that were drawn."""

DIRECT_EXCHANGE, DIRECT_SUFFIX = "C.dq2", ".dq2"
"""The exchange of the queues that belong to one worker, and how their names end."""


def as_delivery_mode(value: int | str | None) -> int | None:
    """Return 1 or 2 for a delivery mode by number or by name. Raises ImproperlyConfigured."""
    mode = DELIVERY_MODES.get(value, value) if isinstance(value, str) else value
    if mode is None or mode in DELIVERY_MODES.values():
        return mode if mode is None else int(mode)
    raise ImproperlyConfigured(
        f"there is no delivery mode {value!r}; write 1 or 'transient', 2 or 'persistent'"
    )


class Exchange(Struct, frozen=True, repr_omit_defaults=True):
    """An exchange. The one without a name is the broker's own: its keys are names of queues."""

    name: str = ""
    type: str = "direct"
    """``direct``, ``topic``, ``fanout`` or ``headers``; or a type that the server alone knows."""
    durable: bool = True
    auto_delete: bool = False
    delivery_mode: int | str | None = None
    """1 or ``transient``, 2 or ``persistent``; None leaves it to the settings."""
    arguments: Arguments | None = None
    passive: bool = False
    no_declare: bool = False

    def __post_init__(self) -> None:
        force_setattr(self, "name", self.name or "")
        force_setattr(self, "type", self.type or "direct")
        force_setattr(self, "delivery_mode", as_delivery_mode(self.delivery_mode))

    def __hash__(self) -> int:
        return hash((Exchange, self.name))

    def __str__(self) -> str:
        return f"{self.name}({self.type})"


class Binding(Struct, frozen=True, repr_omit_defaults=True):
    """Leads messages of an exchange to the queue that holds it."""

    exchange: Exchange = Exchange()
    routing_key: str = ""
    arguments: Arguments | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            exchange: "Exchange | str | None" = None,
            routing_key: str = "",
            arguments: Arguments | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        force_setattr(self, "exchange", as_exchange(self.exchange))
        force_setattr(self, "routing_key", self.routing_key or "")

    def __hash__(self) -> int:
        return hash((Binding, self.exchange.name, self.routing_key))

    def __str__(self) -> str:
        return f"{self.exchange} {self.routing_key!r}"


binding = Binding
"""The name that kombu gives it."""


class Queue(Struct, frozen=True, repr_omit_defaults=True):
    """A queue, and the bindings that lead to it (ROUTE-01, ROUTE-08).

    ``exchange`` may be a name, or a list of bindings in its place. Times are seconds.
    """

    name: str = ""
    exchange: Exchange = Exchange()
    routing_key: str = ""
    bindings: tuple[Binding, ...] = ()
    queue_arguments: Arguments | None = None
    binding_arguments: Arguments | None = None
    consumer_arguments: Arguments | None = None
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    no_ack: bool = False
    alias: str | None = None
    """Another name, for ``-Q``, ``-X`` and routes (ROUTE-11)."""
    no_declare: bool = False
    expires: float | None = None
    message_ttl: float | None = None
    max_length: int | None = None
    max_length_bytes: int | None = None
    max_priority: int | None = None
    broadcast: bool = False
    """Each worker has a queue of its own in place of this one (ROUTE-09)."""

    if TYPE_CHECKING:

        def __init__(
            self,
            name: str = "",
            exchange: "Exchange | str | Iterable[Binding] | None" = None,
            routing_key: str = "",
            bindings: Iterable[Binding] | None = None,
            **options: Any,
        ) -> None: ...

    def __post_init__(self) -> None:
        bindings = [_as_binding(one) for one in self.bindings or ()]
        exchange: object = self.exchange
        if isinstance(exchange, list | tuple | set | frozenset):
            bindings += [_as_binding(one) for one in exchange]
            exchange = None
        force_setattr(self, "name", self.name or "")
        force_setattr(self, "exchange", as_exchange(exchange))
        force_setattr(self, "routing_key", self.routing_key or "")
        force_setattr(self, "bindings", tuple(bindings))
        # A queue that only one connection may use has no use after it.
        force_setattr(self, "auto_delete", bool(self.auto_delete or self.exclusive))

    def __hash__(self) -> int:
        return hash((Queue, self.name))

    @property
    def private(self) -> bool:
        """Whether it is known only to those who are told its name, and ends by itself: for replies."""
        return bool(self.expires) and not self.all_bindings

    @property
    def single(self) -> bool:
        """Whether only one process has it: a broadcast whose name was drawn, here or by kombu."""
        return self.exclusive or (self.broadcast and _DRAWN.search(self.name) is not None)

    @property
    def passing(self) -> bool:
        """Whether it belongs to one process, and ends with it: nobody else need know of it."""
        return self.private or self.broadcast

    @property
    def all_bindings(self) -> tuple[Binding, ...]:
        """Every binding, that to its own exchange first."""
        if not self.exchange.name:
            return self.bindings
        own = Binding(self.exchange, self.routing_key, self.binding_arguments)
        return (own, *self.bindings)


def Broadcast(
    name: str | None = None,
    queue: str | None = None,
    unique: bool = False,
    auto_delete: bool = True,
    exchange: Exchange | str | None = None,
    alias: str | None = None,
    **options: Any,
) -> Queue:
    """Return a queue whose messages reach every worker that consumes it (ROUTE-09).

    ``name`` is that of the exchange, and what ``-Q`` and routes call it. Each process that makes one
    has a queue of its own, named at random unless ``queue`` names it; ``unique`` makes the name
    random all the same.
    """
    own = os.urandom(16).hex()
    if unique:
        queue = f"{queue or 'bcast'}.{own}"
    return Queue(
        queue or f"bcast.{own}",
        Exchange(name or "", "fanout") if exchange is None else exchange,
        auto_delete=auto_delete,
        alias=alias or name,
        broadcast=True,
        **options,
    )


def worker_direct(hostname: str | Queue) -> Queue:
    """Return the queue of the worker of this name, for which nobody else works (ROUTE-13)."""
    if isinstance(hostname, Queue):
        return hostname
    return Queue(f"{hostname}{DIRECT_SUFFIX}", Exchange(DIRECT_EXCHANGE), hostname)


# -- from other forms


def is_queue(value: object) -> bool:
    """Whether this declares a queue, here or in kombu."""
    return isinstance(value, Queue) or hasattr(value, "queue_arguments")


def as_queue(value: Any) -> Queue:
    """Return a queue for a queue, of ours or of kombu. Raises ImproperlyConfigured for others."""
    if isinstance(value, Queue):
        return value
    if not is_queue(value):
        raise ImproperlyConfigured(f"{value!r} is no queue; write Queue(name) or a name")
    fields = _fields(value, Queue, but=("exchange", "bindings", "broadcast"))
    return Queue(
        exchange=as_exchange(value.exchange),
        bindings=tuple(_as_binding(one) for one in value.bindings or ()),
        broadcast=any(kind.__name__ == "Broadcast" for kind in type(value).__mro__),
        **fields,
    )


def as_exchange(value: Any) -> Exchange:
    """Return an exchange for one of ours or of kombu, a name, or None (the one without a name)."""
    if isinstance(value, Exchange):
        return value
    if value is None or isinstance(value, str):
        return Exchange(value or "")
    if not hasattr(value, "name"):
        raise ImproperlyConfigured(f"{value!r} is no exchange; write Exchange(name) or a name")
    return Exchange(**_fields(value, Exchange))


def as_declaration(value: Any) -> Queue:
    """Return a queue, or for an exchange a queue without a name that stands for it."""
    return as_queue(value) if is_queue(value) else Queue("", as_exchange(value))


def queue_from_options(name: str, options: Mapping[str, Any]) -> Queue:
    """Return the queue that a mapping of options describes, as ``task_queues`` may hold them.

    Those of ``Queue``, and ``binding_key``, ``exchange_type``, ``exchange_durable``,
    ``exchange_auto_delete``, ``exchange_arguments``, ``delivery_mode``, ``queue_durable``,
    ``queue_auto_delete``. The key is the queue's name unless given. Raises ImproperlyConfigured for
    others.
    """
    rest = dict(options)
    keys = rest.pop("binding_key", None), rest.pop("routing_key", None)
    exchange = _exchange_from_options(rest)
    for option in ("durable", "auto_delete"):
        if (own := rest.pop(f"queue_{option}", None)) is not None:
            rest[option] = own
    fields = {option: value for option, value in rest.items() if value is not None}
    if unknown := fields.keys() - set(Queue.__struct_fields__) | fields.keys() & {"name"}:
        raise ImproperlyConfigured(
            f"queue {name!r} has options that do not exist: {', '.join(sorted(unknown))}; options are: "
            f"exchange, exchange_type, {', '.join(Queue.__struct_fields__[2:])}"
        )
    return Queue(name, exchange, keys[0] or keys[1] or name, **fields)


def _exchange_from_options(options: dict[str, Any]) -> Exchange:
    """Take out of the options what describes the exchange, and return that."""
    exchange = as_exchange(options.pop("exchange", None))
    taken = {
        "type": options.pop("exchange_type", None),
        "delivery_mode": options.pop("delivery_mode", None),
        "durable": options.pop("exchange_durable", options.get("durable")),
        "auto_delete": options.pop("exchange_auto_delete", options.get("auto_delete")),
        "arguments": options.pop("exchange_arguments", None),
    }
    return replace(exchange, **{key: value for key, value in taken.items() if value is not None})


def _as_binding(value: Any) -> Binding:
    if isinstance(value, Binding):
        return value
    return Binding(value.exchange, value.routing_key, value.arguments)


def _fields(value: object, kind: type[Struct], but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the attributes of ``value`` that ``kind`` has as fields, as far as they are set."""
    found = {name: getattr(value, name, None) for name in kind.__struct_fields__ if name not in but}
    return {name: one for name, one in found.items() if one is not None}
