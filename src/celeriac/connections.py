"""What an app opens on first use: broker, result store, and the client that uses them.

Every process of a program has objects of its own behind one app; adapters see to themselves after a
fork. Thread-safe.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

from celeriac.brokers.base import Broker
from celeriac.brokers.urls import broker_url, open_broker
from celeriac.client import Client
from celeriac.queues import Queue
from celeriac.results.base import ResultStore
from celeriac.results.urls import open_store, store_url
from celeriac.routing.amqp import AMQP
from celeriac.routing.registry import MAX_PRIORITY, queue_arguments
from celeriac.settings import Settings

Part = TypeVar("Part")


class Connecting(Protocol):
    """What connections need of their app."""

    main: str
    folder: str

    @property
    def settings(self) -> Settings:
        """The settings now."""
        ...

    @property
    def amqp(self) -> AMQP:
        """Its queues and routes."""
        ...

    @property
    def spec(self) -> str:
        """What to write behind ``-A`` to find the app."""
        ...


class Connections:
    """The open parts of one app, by name."""

    def __init__(self, app: Connecting) -> None:
        self._app = app
        self._opening = threading.RLock()
        self._open: dict[str, Any] = {}

    @property
    def broker(self) -> Broker:
        """The broker."""
        return self.opened("broker", self._open_broker)

    @property
    def store(self) -> ResultStore | None:
        """The result store; None if results are disabled."""
        return self.opened("store", self._open_store)

    @property
    def client(self) -> Client:
        """The road out, under the settings as they are now."""
        client: Client | None = self._open.get("client")
        if client is None or client.settings is not self._app.settings:
            return self._new_client()
        return client

    def opened(self, part: str, make: Callable[[], Part]) -> Part:
        """Return a part of this name, made by ``make`` if it is not there."""
        try:
            opened: Part = self._open[part]
        except KeyError:
            with self._opening:
                if part not in self._open:
                    self._open[part] = make()
                opened = self._open[part]
        return opened

    @property
    def broker_url(self) -> str:
        """The URL of the broker, with its password: as configured, or the embedded file's."""
        app = self._app
        return broker_url(app.settings.broker_url, (app.main, app.folder))

    @property
    def store_url(self) -> str:
        """The URL of the result store, with its password."""
        return store_url(self._app.settings.result_backend, self.broker_url)

    def close(self) -> None:
        """Let go of everything. It is opened again when needed."""
        with self._opening:
            opened, self._open = self._open, {}
        for part in ("awaiter", "client", "backend", "broker", "store"):
            if (close := getattr(opened.get(part), "close", None)) is not None:
                close()

    def _open_broker(self) -> Broker:
        settings = self._app.settings
        options = broker_options(settings, self._app.amqp.queues)
        return open_broker(self.broker_url, settings.broker_timeout, options)

    def _open_store(self) -> ResultStore | None:
        return open_store(self.store_url, self._app.settings.broker_timeout)

    def _new_client(self) -> Client:
        with self._opening:
            earlier: Client | None = self._open.get("client")
            warned = earlier is not None and earlier.warned
            app = self._app
            client = Client(app.settings, self.broker, app.spec, app.amqp.router, warned=warned)
            self._open["client"] = client
            return client


def broker_options(settings: Settings, queues: Mapping[str, Queue]) -> dict[str, Any]:
    """Return what a broker is told beside its URL: ``broker_transport_options``, and how queues are
    declared on a server that has declarations (those that are known, and those that are not).
    """
    arguments = queue_arguments(settings.task_create_missing_queue_type) or {}
    if settings.task_queue_max_priority is not None:
        arguments[MAX_PRIORITY] = settings.task_queue_max_priority
    return {
        "heartbeat": settings.broker_heartbeat,
        "ssl": settings.broker_use_ssl,
        "delayed_queue_type": settings.broker_native_delayed_delivery_queue_type,
        "exchange_type": settings.task_create_missing_queue_exchange_type,
        "queue_arguments": arguments,
        "queues": queues,
        **settings.broker_transport_options,
    }


class Connected:
    """The half of an app that is about what it opens on first use."""

    connections: Connections

    @property
    def broker(self) -> Broker:
        """The broker."""
        return self.connections.broker

    @property
    def store(self) -> ResultStore | None:
        """The result store; None if results are disabled."""
        return self.connections.store

    @property
    def client(self) -> Client:
        """The road out, under the settings as they are now."""
        return self.connections.client

    @property
    def broker_url(self) -> str:
        """The URL of the broker, with its password: as configured, or the embedded file's."""
        return self.connections.broker_url

    @property
    def store_url(self) -> str:
        """The URL of the result store, with its password."""
        return self.connections.store_url
