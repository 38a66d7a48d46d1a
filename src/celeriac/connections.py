"""What an app opens on first use: broker, result store, and the client that uses them.

Every process of a program has objects of its own behind one app; adapters see to themselves after a
fork. Thread-safe.
"""

import threading
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from celeriac.brokers.base import Broker
from celeriac.brokers.urls import broker_url, open_broker
from celeriac.client import Client
from celeriac.results.base import ResultStore
from celeriac.results.urls import open_store, store_url
from celeriac.routing.amqp import AMQP
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
        """The URL of the broker, with its password: as configured, or the embedded file's.

        It is that of clients: ``broker_write_url`` stands in for ``broker_url`` (BROK-13).
        """
        settings = self._app.settings
        return self._broker_url(settings.broker_write_url or settings.broker_url)

    @property
    def read_url(self) -> str:
        """The URL that workers take messages from: ``broker_read_url`` stands in for ``broker_url``."""
        settings = self._app.settings
        return self._broker_url(settings.broker_read_url or settings.broker_url)

    def _broker_url(self, url: str | tuple[str, ...] | None) -> str:
        return broker_url(url, (self._app.main, self._app.folder))

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
        broker = open_broker(self.broker_url, self._app.settings)
        broker.queues = self._app.amqp.queues
        self._app.amqp.broker_routes = broker.routes
        return broker

    def _open_store(self) -> ResultStore | None:
        return open_store(self.store_url, self._app.settings, lambda: self.broker)

    def _new_client(self) -> Client:
        with self._opening:
            earlier: Client | None = self._open.get("client")
            warned = earlier is not None and earlier.warned
            app, broker = self._app, self.broker
            replies = self.store if self.store_url.startswith("rpc") else None
            client = Client(
                app.settings, broker, app.spec, app.amqp.router, warned=warned, replies=replies
            )
            self._open["client"] = client
            return client


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
