"""Where fault runs have their messages on RabbitMQ and their results on Redis."""

from msgspec import Struct

from tests.fixtures.ledger_rabbit import RabbitView
from tests.fixtures.ledger_site import Ground
from tests.fixtures.ports import HOST
from tests.fixtures.proxy import Proxy
from tests.fixtures.rabbit_server import RabbitServer
from tests.fixtures.redis_server import RedisServer

HEARTBEAT = 1
"""Seconds: a connection without a sign of life for two of them is given up, on both sides."""


class Place(Struct, frozen=True):
    """The two servers of a run."""

    server: RabbitServer
    vhost: str
    results: RedisServer

    @property
    def view(self) -> RabbitView:
        return RabbitView(self.server, self.vhost)

    def ground(self, proxy: Proxy | None = None) -> Ground:
        """Return the ground, on which workers, and only they, use a proxy to their broker."""
        url = f"{self.server.url(self.vhost)}?heartbeat={HEARTBEAT}"
        way = None
        if proxy is not None:
            way = url.replace(f"@{HOST}:{self.server.port}/", f"@{HOST}:{proxy.port}/")
        return Ground(broker=url, results=self.results.url(), worker_broker=way)
