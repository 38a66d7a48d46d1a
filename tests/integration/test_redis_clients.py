"""What callers cost a Redis server: connections and round trips."""

import asyncio
from collections.abc import Iterator
from threading import Thread
from typing import Any

import pytest

from celeriac import Celery
from tests.fixtures.redis_server import RedisServer


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    app = Celery("clients", broker=redis_url)
    yield app
    app.close()


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as client:
        client.config_resetstat()
        yield client


def calls(server: Any) -> int:
    """Return how many commands clients have sent that put messages there."""
    stats = server.info("commandstats")
    names = ("lpush", "evalsha", "eval")
    return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in names)


@pytest.mark.filterwarnings("ignore::celeriac.exceptions.NoWorkerSeenWarning")
class TestRoundTrips:
    def test_one_for_each_call(self, app: Celery, server: Any) -> None:
        add = app.task(name="add")(lambda x, y: x + y)
        add.delay(1, 1)
        server.config_resetstat()
        for _ in range(20):
            add.delay(1, 1)
        assert calls(server) == 20

    def test_one_for_many_at_once(self, app: Celery, server: Any) -> None:
        add = app.task(name="add")(lambda x, y: x + y)
        add.delay(1, 1)
        server.config_resetstat()
        add.delay_many([(number, 1) for number in range(500)])
        assert calls(server) == 1
        assert server.llen("celery") == 501

    def test_few_for_concurrent_awaits(self, app: Celery, server: Any) -> None:
        add = app.task(name="add")(lambda x, y: x + y)
        add.delay(1, 1)
        server.config_resetstat()

        async def send() -> None:
            await asyncio.gather(*(add.adelay(number, 1) for number in range(500)))

        asyncio.run(send())
        assert server.llen("celery") == 501
        assert calls(server) < 50


@pytest.mark.follows("BROK-12")
def test_a_connection_for_each_thread_that_calls_at_the_same_time(app: Celery, server: Any) -> None:
    add = app.task(name="add")(lambda x, y: x + y)

    def send() -> None:
        for _ in range(50):
            add.delay(1, 1)

    before = server.info("clients")["connected_clients"]
    threads = [Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.llen("celery") == 200
    assert server.info("clients")["connected_clients"] - before <= 4
    app.close()
