"""The router: from a call and its task to queues, exchange, key and priority.

Precedence: the call, then the task, then its route, then the defaults (ROUTE-03). Exchanges are
resolved to queues here, before anything is published, so that a message is never dropped for want of
a binding. Nothing is declared or sent.
"""

from collections.abc import Iterable, Mapping
from operator import attrgetter
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import asdict, replace

from celeriac import imports
from celeriac.context import running
from celeriac.exceptions import ImproperlyConfigured, QueueNotFound
from celeriac.queues import (
    Exchange,
    Queue,
    as_declaration,
    as_delivery_mode,
    as_exchange,
    as_queue,
    is_queue,
)
from celeriac.routing.bindings import reached, uses_headers
from celeriac.routing.registry import Queues, queue_arguments
from celeriac.settings import Settings

Options = dict[str, Any]

DESTINATION = frozenset(
    {
        "declare",
        "delivery_mode",
        "exchange",
        "exchange_type",
        "priority",
        "queue",
        "router",
        "routing_key",
    }
)
"""The options of a call that the router deals with; others of a route are handed on."""
_NAMES = tuple(sorted(DESTINATION))
_FIELDS = attrgetter(*_NAMES)
TASK_ROUTES = "celeriac.routing.task_routes:TaskRoutes"
REMEMBERED = 2000
"""Routes kept: queues may be named after users, and there is no end of those."""

_NOTHING: Mapping[str, Any] = {}


class Route(Struct, frozen=True, kw_only=True, repr_omit_defaults=True):
    """Where one message goes."""

    queues: tuple[str, ...]
    """All queues that get it, at least one (none only if the broker resolves exchanges itself)."""
    exchange: str = ""
    routing_key: str = ""
    """With the exchange without a name: the name of the queue (ROUTE-07)."""
    exchange_type: str = "direct"
    """The type of the exchange, as far as it is known."""
    priority: int | None = None
    """0 to 255; None leaves the property out of the message, which means 0 (QUIRK-03)."""
    delivery_mode: int = 2
    """1 is transient, 2 persistent."""
    options: Mapping[str, Any] = _NOTHING
    """What the route says of other options, and the call does not. Not to be changed."""
    declare: tuple[Any, ...] = ()
    """Queues and exchanges that a server must have before it is published (ROUTE-20)."""
    broadcast: bool = False
    """Every worker that consumes the queue gets it (ROUTE-09)."""
    declarations: tuple[Queue, ...] = ()
    """Where the broker resolves exchanges: what it must know of them, and what the call declares."""


class TaskRouter(Protocol):
    """What the option ``router`` of a call may be, and what ``Router`` is itself."""

    def route(
        self, options: Options, name: str, args: Any, kwargs: Mapping[str, Any], task_type: Any
    ) -> Options:
        """Return the options with the destination filled in."""
        ...


class Router:
    """Routes calls under one snapshot of settings. Thread-safe.

    ``tasks`` are the known tasks, which functions in ``task_routes`` are given. With
    ``broker_routes`` the broker has exchanges of its own: it may know bindings that are not known
    here, and broadcasts.
    """

    def __init__(
        self,
        settings: Settings,
        queues: Queues | None = None,
        tasks: Mapping[str, Any] = _NOTHING,
        *,
        broker_routes: bool = False,
    ) -> None:
        self.settings = settings
        self.queues = make_queues(settings) if queues is None else queues
        self.broker_routes = broker_routes
        self._tasks = tasks
        self._routes: Any = None
        self._inherits = settings.task_inherit_parent_priority
        self._same = False
        """Whether equal calls are always routed alike, as far as it can be told beforehand."""
        self._known: dict[tuple[Any, ...], Route] = {}
        self.reread()

    def find(
        self,
        options: Mapping[str, Any] | Struct,
        name: str,
        args: Any = (),
        kwargs: Mapping[str, Any] = _NOTHING,
        task: Any = None,
    ) -> Route:
        """Return where the call of a task with these options goes.

        ``options`` are those of the call over those of its task, as a mapping or as ``Options``; None
        is the same as missing.
        Raises QueueNotFound, and ImproperlyConfigured for what cannot be right; what routers of the
        user raise comes through.
        """
        key = (
            self.queues.version,
            self._routes and name,
            task is not None or name in self._tasks,
            _FIELDS(options) if isinstance(options, Struct) else tuple(map(options.get, _NAMES)),
        )
        try:
            route = self._known.get(key)
        except TypeError:  # A list of queues, say, cannot be a key.
            route = self._decide(_mapping(options), name, args, kwargs, task)[0]
        if route is None:
            route, same = self._decide(_mapping(options), name, args, kwargs, task)
            if same:
                self._remember(key, route)
        return _without(route, _mapping(options)) if route.options else route

    def route(
        self,
        options: Mapping[str, Any],
        name: str,
        args: Any = (),
        kwargs: Mapping[str, Any] | None = None,
        task_type: Any = None,
    ) -> Options:
        """Return the options with those of the route filled in; ``queue`` becomes a ``Queue``.

        The form that Celery's router has, for those who write one of their own.
        """
        given = self._expanded(dict(options))
        return self._merged(given, self._answer(given, name, args, kwargs or {}, task_type))

    def reread(self, queues: Queues | None = None) -> None:
        """Read ``task_routes`` again, and go on with other queues, if some are given."""
        self.queues = self.queues if queues is None else queues
        routes = self.settings.task_routes
        self._routes = imports.load(TASK_ROUTES)(routes) if routes else None
        self._same = not self._inherits and (self._routes is None or self._routes.static)
        self._known.clear()

    def _answer(
        self, given: Options, name: str, args: Any, kwargs: Mapping[str, Any], task: Any
    ) -> Options | None:
        if self._routes is None:
            return None
        answer: Options | None = self._routes.answer(name, args, kwargs, given, task)
        return answer

    def _merged(self, given: Options, answer: Options | None) -> Options:
        """Return the options of a call over those of a route, or over the default queue (ROUTE-03)."""
        if answer:
            return self._expanded(answer) | _set(given)
        if "queue" not in given:
            return {"queue": self.queues[self.settings.task_default_queue], **_set(given)}
        return given

    def _expanded(self, options: Options) -> Options:
        """Turn the name of a queue into the queue."""
        queue = options.pop("queue", None)
        if queue:
            options["queue"] = self._queue(queue)
        return options

    def _queue(self, queue: Any) -> Queue:
        return self.queues[queue] if isinstance(queue, str) else as_queue(queue)

    def _remember(self, key: tuple[Any, ...], route: Route) -> None:
        if len(self._known) >= REMEMBERED:
            self._known.clear()
        self._known[key] = route

    def _decide(
        self, options: Mapping[str, Any], name: str, args: Any, kwargs: Any, task: Any
    ) -> tuple[Route, bool]:
        """Return the route, and whether calls with an equal destination get the same."""
        task = self._tasks.get(name) if task is None else task
        given = self._with_priority(options, task)
        router: TaskRouter | None = given.pop("router", None)
        if router is None:
            given = self._expanded(given)
            answer = self._answer(given, name, args, kwargs, task)
            merged = self._merged(given, answer)
        else:
            merged = answer = dict(router.route(given, name, args, kwargs, task))
        route, by_headers = self._resolved(merged, name)
        rest = {k: v for k, v in (answer or {}).items() if k not in DESTINATION}
        route = replace(route, priority=self._priority(merged, task), options=rest or _NOTHING)
        return route, self._same and router is None and not by_headers

    def _with_priority(self, options: Mapping[str, Any], task: Any) -> Options:
        """Return the options with the priority that tasks have by default: it is that of a task.

        For the others it is missing rather than None, as the message says in the end (QUIRK-03).
        """
        given = dict(options)
        if given.get("priority") is None:
            given.pop("priority", None)
            if task is not None:
                given["priority"] = self.settings.task_default_priority
        return given

    def _priority(self, merged: Options, task: Any) -> int | None:
        priority = merged.get("priority")
        if priority is None and self._inherits and (request := running()):
            priority = request.delivery_info.get("priority")
        if priority is None and task is None:
            priority = self.settings.task_default_priority
        if priority is None:
            return None if "priority" in merged else 0
        if not 0 <= priority <= 255 and not _came_with(priority):
            raise ImproperlyConfigured(
                f"priority {priority} is out of range; write a whole number from 0 to 255, "
                "where higher is sooner"
            )
        return int(priority)

    # -- from a destination to queues

    def _resolved(self, merged: Options, name: str) -> tuple[Route, bool]:
        """Return the route of these options, and whether headers have a say in it."""
        queue, exchange = merged.get("queue"), _name(merged.get("exchange"))
        if queue is None and exchange is None:
            queue = self.settings.task_default_queue
        if queue is not None:
            queue = self._queue(queue)
        target, key = self._address(queue, exchange, merged)
        declare = merged.get("declare")
        if declare is None:
            declare = () if queue is None or queue.broadcast else (queue,)
        route = Route(
            queues=(key,),
            exchange=target,
            routing_key=key,
            delivery_mode=self._mode(queue, merged),
            declare=tuple(declare),
            declarations=self._declarations(queue, merged.get("declare")),
        )
        if not target:
            return route, False
        queues = [as_queue(one) for one in (queue, *declare) if one is not None and is_queue(one)]
        known = {one.name: one for one in (*self.queues.values(), *queues)}
        headers = {"lang": "py", "task": name, **(merged.get("headers") or _NOTHING)}
        route = self._reaching(route, known.values(), headers)
        if route.exchange_type == "direct" and merged.get("exchange_type"):
            route = replace(route, exchange_type=merged["exchange_type"])
        return route, uses_headers(known.values(), target)

    def _declarations(
        self, queue: Queue | None, declare: Iterable[Any] | None
    ) -> tuple[Queue, ...]:
        """Return what a call says of queues and exchanges that is not known otherwise (ROUTE-20)."""
        if not self.broker_routes:
            return ()
        said = [as_declaration(one) for one in declare or ()]
        if queue is not None and not queue.broadcast and self.queues.get(queue.name) != queue:
            said.append(queue)
        return tuple(said)

    def _reaching(self, route: Route, known: Iterable[Queue], headers: Mapping[str, Any]) -> Route:
        """Return the route with the queues that its exchange leads to."""
        try:
            found = reached(known, route.exchange, route.routing_key, headers)
        except ImproperlyConfigured:  # Or QueueNotFound, which is one.
            if not self.broker_routes:
                raise
            found = []
        broadcast = any(queue.broadcast for queue in found)
        if broadcast and not self.broker_routes:
            raise ImproperlyConfigured(
                f"exchange {route.exchange!r} leads to a Broadcast, which reaches every worker, and this "
                "broker cannot do that; use Redis or RabbitMQ (broker_url), or name a queue"
            )
        route = replace(
            route,
            queues=tuple(queue.name for queue in found if not queue.broadcast),
            broadcast=broadcast,
        )
        return self._told(route, known) if self.broker_routes else route

    @staticmethod
    def _told(route: Route, known: Iterable[Queue]) -> Route:
        """Return the route with what a broker that resolves exchanges must be told of this one."""
        bound = [
            (queue, one.exchange.type)
            for queue in known
            for one in queue.all_bindings
            if one.exchange.name == route.exchange
        ]
        if not bound:
            return route
        queues = dict.fromkeys(queue for queue, _ in bound)
        said = tuple(one for one in route.declarations if one not in queues)
        return replace(route, exchange_type=bound[0][1], declarations=(*queues, *said))

    def _address(
        self, queue: Queue | None, exchange: str | None, merged: Options
    ) -> tuple[str, str]:
        """Return the exchange and the key that a message is published with (ROUTE-07)."""
        key = merged.get("routing_key")
        kind = merged.get("exchange_type") or (queue.exchange.type if queue else "direct")
        if kind == "direct" and not (exchange and key):
            if queue is None:
                raise QueueNotFound(
                    f"exchange {exchange!r} without a routing key leads to no queue; give routing_key or "
                    "queue"
                )
            return "", queue.name
        if exchange is None and queue is not None:
            default = default_exchange(self.settings).name
            default_key = self.settings.task_default_routing_key or self.settings.task_default_queue
            return queue.exchange.name or default, key or queue.routing_key or default_key
        return exchange or "", key or ""

    def _mode(self, queue: Queue | None, merged: Options) -> int:
        own = queue.exchange.delivery_mode if queue is not None else None
        mode = merged.get("delivery_mode") or own or self.settings.task_default_delivery_mode
        return as_delivery_mode(mode) or 2


def _came_with(priority: int) -> bool:
    """Whether the running task's own message has this priority.

    It may be one that no call can have: what Celery puts behind the others on Redis has one below 0.
    A retry has that again, and what inherits it.
    """
    request = running()
    return request is not None and request.delivery_info.get("priority") == priority


def _name(exchange: Any) -> str | None:
    return exchange if exchange is None else as_exchange(exchange).name


def _set(options: Options) -> Options:
    """Return the options that are not None."""
    return {name: value for name, value in options.items() if value is not None}


def _mapping(options: Mapping[str, Any] | Struct) -> Mapping[str, Any]:
    return asdict(options) if isinstance(options, Struct) else options


def _without(route: Route, options: Mapping[str, Any]) -> Route:
    """Return the route without what the call says itself."""
    rest = {name: value for name, value in route.options.items() if options.get(name) is None}
    return replace(route, options=rest or _NOTHING)


def make_queues(settings: Settings, queues: Any = None, **changes: Any) -> Queues:
    """Return the queues that the settings declare: ``task_queues``, or else the default queue.

    ``queues`` stands in for ``task_queues``; ``changes`` are arguments of ``Queues``.
    """
    exchange = default_exchange(settings)
    key = settings.task_default_routing_key or settings.task_default_queue
    queues = queues or settings.task_queues
    if not queues:
        arguments = queue_arguments(settings.task_default_queue_type)
        name = settings.task_default_queue
        queues = [Queue(name, exchange, key, queue_arguments=arguments)]
    options = {
        "create_missing": settings.task_create_missing_queues,
        "create_missing_queue_type": settings.task_create_missing_queue_type,
        "create_missing_queue_exchange_type": settings.task_create_missing_queue_exchange_type,
        "max_priority": settings.task_queue_max_priority,
        "default_exchange": exchange,
        "default_routing_key": key,
    }
    chosen = {name: value for name, value in changes.items() if value is not None}
    return Queues(queues, **{**options, **chosen})


def default_exchange(settings: Settings) -> Exchange:
    """Return the exchange of queues that name none (ROUTE-10)."""
    name = settings.task_default_exchange or settings.task_default_queue
    return Exchange(name, settings.task_default_exchange_type)
