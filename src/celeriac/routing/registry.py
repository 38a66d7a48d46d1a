"""The queues that an app knows, by name, and which of them its worker consumes (ROUTE-18).

It holds declarations and creates missing ones; nothing is declared on a server here.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import count
from typing import Any

import msgspec

from celeriac.exceptions import ImproperlyConfigured, QueueNotFound
from celeriac.queues import Exchange, Queue, as_queue, is_queue, queue_from_options

MAX_PRIORITY, QUEUE_TYPE = "x-max-priority", "x-queue-type"
QUEUE_TYPES = ("classic", "quorum")


def queue_arguments(kind: str | None) -> dict[str, Any] | None:
    """Return the arguments for a queue of this type (ROUTE-06). Raises ImproperlyConfigured."""
    if kind and kind not in QUEUE_TYPES:
        raise ImproperlyConfigured(f"there is no queue type {kind!r}; write classic or quorum")
    return {QUEUE_TYPE: kind} if kind == "quorum" else None


class Queues(dict[str, Queue]):
    """Queues by name; an alias finds its queue too, and a missing one is created if it may be.

    Queues in it are values: ``add`` returns the one that is kept, with exchange and key filled in.
    Each method may be called from any thread; a worker selects before it begins to consume.
    """

    def __init__(
        self,
        queues: Mapping[str, Any] | Iterable[Any] | None = None,
        default_exchange: Exchange | None = None,
        create_missing: bool = True,
        create_missing_queue_type: str | None = None,
        create_missing_queue_exchange_type: str | None = None,
        autoexchange: Callable[[str], Exchange | None] | None = None,
        max_priority: int | None = None,
        default_routing_key: str | None = None,
    ) -> None:
        super().__init__()
        self._versions = count(1)
        self.version = 0
        """Another number after every change."""
        self.aliases: dict[str, Queue] = {}
        self.default_exchange = default_exchange
        self.default_routing_key = default_routing_key
        self.create_missing = create_missing
        self.create_missing_queue_type = create_missing_queue_type
        self.create_missing_queue_exchange_type = create_missing_queue_exchange_type
        self.autoexchange = autoexchange or Exchange
        self.max_priority = max_priority
        if isinstance(queues, Mapping):
            for name, options in queues.items():
                self.add(options) if is_queue(options) else self.add(name, **options)
        else:
            for queue in queues or ():
                self.add(self.new_missing(queue) if isinstance(queue, str) else queue)
        self._all: dict[str, Queue] = dict(self)
        self._selected: dict[str, Queue] | None = None

    def __getitem__(self, name: str) -> Queue:
        queue = self.aliases.get(name)
        return super().__getitem__(name) if queue is None else queue

    def __setitem__(self, name: str, queue: Queue) -> None:
        queue = self._completed(as_queue(queue))
        super().__setitem__(name, queue)
        if queue.alias:
            self.aliases[queue.alias] = queue
        # After the change: what was routed during it is then not taken for what is right now.
        self.version = next(self._versions)

    def __delitem__(self, name: str) -> None:
        super().__delitem__(name)
        self.aliases = {alias: q for alias, q in self.aliases.items() if q.name != name}
        self.version = next(self._versions)

    def __missing__(self, name: str) -> Queue:
        """Create a queue (ROUTE-05). Raises QueueNotFound if none may be created."""
        if not self.create_missing:
            raise QueueNotFound(
                f"queue {name!r} is not in task_queues, and task_create_missing_queues is off; known "
                f"queues: {', '.join(sorted([*self, *self.aliases])) or 'none'}"
            )
        return self.add(self.new_missing(name))

    def add(self, queue: Any, **options: Any) -> Queue:
        """Add a queue, or one of this name with options (see ``queue_from_options``); return it.

        It is known to routes; the worker does not consume it (see ``select_add``).
        """
        named = isinstance(queue, str)
        queue = queue_from_options(queue, options) if named else as_queue(queue)
        name = queue.name
        self[name] = queue
        return super().__getitem__(name)

    def select_add(self, queue: Any, **options: Any) -> Queue:
        """Add a queue that the worker consumes, also if ``-Q`` chose others (ROUTE-17)."""
        added = self.add(queue, **options)
        self.consume_from[added.name] = added
        return added

    def select(self, include: Iterable[str] | str | None) -> None:
        """Let the worker consume these queues only (ROUTE-11). Raises QueueNotFound."""
        if include:
            chosen = [self[name] for name in _names(include)]
            self._selected = {queue.name: queue for queue in chosen}

    def deselect(self, exclude: Iterable[str] | str | None) -> None:
        """Let the worker not consume these queues (ROUTE-11). Unknown names are no mistake."""
        for name in _names(exclude or ()):
            queue = self.aliases.get(name)
            self.consume_from.pop(name if queue is None else queue.name, None)

    @property
    def consume_from(self) -> dict[str, Queue]:
        """The queues that the worker consumes: the selected ones, or all that were configured."""
        return self._all if self._selected is None else self._selected

    def format(self, indent: int = 0, indent_first: bool = True) -> str:
        """Return the consumed queues as lines of text."""
        queues = [queue for _, queue in sorted(self.consume_from.items())]
        margin = " " * indent
        text = "\n".join(
            f"{margin}.> {q.name:<16} exchange={q.exchange.name}({q.exchange.type}) key={q.routing_key}"
            for q in queues
        )
        return text if indent_first else text[indent:]

    def new_missing(self, name: str) -> Queue:
        """Return the queue that is created for a name that is not known (ROUTE-06)."""
        kind = self.create_missing_queue_exchange_type
        exchange = Exchange(name, kind) if kind else self.autoexchange(name)
        arguments = queue_arguments(self.create_missing_queue_type)
        return Queue(name, exchange, name, queue_arguments=arguments)

    def _completed(self, queue: Queue) -> Queue:
        """Return the queue with what it leaves to the settings."""
        changes: dict[str, Any] = {}
        if self.default_exchange is not None and not queue.exchange.name:
            changes["exchange"] = self.default_exchange
        if not queue.routing_key and self.default_routing_key:
            changes["routing_key"] = self.default_routing_key
        arguments = dict(queue.queue_arguments or {})
        unlimited = queue.max_priority is None and MAX_PRIORITY not in arguments
        if self.max_priority is not None and unlimited:
            changes["queue_arguments"] = {**arguments, MAX_PRIORITY: self.max_priority}
        return msgspec.structs.replace(queue, **changes) if changes else queue


def _names(given: Iterable[str] | str) -> list[str]:
    return [given] if isinstance(given, str) else list(given)
