"""``app.amqp``: the queues and the router of an app, as the settings are now (ROUTE-18).

Made on first use, and again when settings that concern it have changed. It sends nothing.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from celeriac.queues import Exchange, Queue
from celeriac.routing.registry import Queues as Registry
from celeriac.routing.router import Router as MessageRouter
from celeriac.routing.router import default_exchange, make_queues
from celeriac.settings import Settings

QUEUE_SETTINGS = (
    "task_create_missing_queue_exchange_type",
    "task_create_missing_queue_type",
    "task_create_missing_queues",
    "task_default_exchange",
    "task_default_exchange_type",
    "task_default_queue",
    "task_default_queue_type",
    "task_default_routing_key",
    "task_queue_max_priority",
    "task_queues",
)
"""The settings that queues are made of."""


class RoutedApp(Protocol):
    """What it needs of an app."""

    @property
    def settings(self) -> Settings:
        """The settings now."""
        ...

    @property
    def registry(self) -> Mapping[str, Any]:
        """The tasks that are made so far, by name."""
        ...


class AMQP:
    """Queues and routes of one app. Thread-safe; subclasses may replace ``autoexchange``."""

    autoexchange: Callable[[str], Exchange | None] | None = None
    """Makes the exchange of a queue that is created because it was missing."""
    broker_routes = False
    """Whether the broker resolves exchanges and broadcasts itself (see ``Router``): as it says when it
    is opened.
    """

    def __init__(self, app: RoutedApp) -> None:
        self.app = app
        self._making = threading.RLock()
        self._queues: Registry | None = None
        self._made_of: tuple[Any, ...] = ()
        self._router: MessageRouter | None = None

    @property
    def queues(self) -> Registry:
        """All queues that are known. Those that were added stay, unless a setting of queues changes."""
        settings = self.app.settings
        made_of = tuple(getattr(settings, name) for name in QUEUE_SETTINGS)
        with self._making:
            if self._queues is None or (self._made_of and self._made_of != made_of):
                self._queues, self._made_of = self.Queues(settings.task_queues), made_of
            return self._queues

    @queues.setter
    def queues(self, queues: Registry) -> None:
        with self._making:
            # Nothing that settings say replaces what was put here by hand.
            self._queues, self._made_of = queues, ()
            if self._router is not None:
                self._router.reread(queues)

    @property
    def router(self) -> MessageRouter:
        """The router under the settings as they are now."""
        settings, queues = self.app.settings, self.queues
        with self._making:
            made = self._router
            if (
                made is None
                or made.settings is not settings
                or made.queues is not queues
                or made.broker_routes is not self.broker_routes
            ):
                made = self._router = self.Router(queues)
            return made

    @property
    def routes(self) -> tuple[Any, ...]:
        """What ``task_routes`` says, as a tuple."""
        routes = self.app.settings.task_routes
        if routes is None:
            return ()
        return tuple(routes) if isinstance(routes, list | tuple) else (routes,)

    def flush_routes(self) -> None:
        """Read ``task_routes`` again, after its value was changed in place."""
        with self._making:
            if self._router is not None:
                self._router.reread()

    @property
    def default_queue(self) -> Queue:
        """The queue of calls that are routed nowhere (ROUTE-10)."""
        return self.queues[self.app.settings.task_default_queue]

    @property
    def default_exchange(self) -> Exchange:
        """The exchange of queues that name none (ROUTE-10)."""
        return default_exchange(self.app.settings)

    def Queues(self, queues: Any, **changes: Any) -> Registry:
        """Return a new registry of these queues; ``changes`` go before what the settings say."""
        changes.setdefault("autoexchange", self.autoexchange)
        return make_queues(self.app.settings, queues, **changes)

    def Router(self, queues: Registry | None = None) -> MessageRouter:
        """Return a new router for these queues, or for all that are known."""
        known = self.queues if queues is None else queues
        return MessageRouter(
            self.app.settings, known, self.app.registry, broker_routes=self.broker_routes
        )
