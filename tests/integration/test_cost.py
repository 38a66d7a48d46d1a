"""What a task costs on Redis: calls and instructions of ours, and what the server is asked to do.

As ``tests/unit/test_call_budget.py``, which says what to do when a count changes.
"""

import sys
from collections.abc import Iterator

import pytest
import redis

from celeriac import Celery
from celeriac.brokers.redis.broker import RedisBroker
from celeriac.completion import SETTLED, Completion, Put, Settlement
from celeriac.message import Delivery
from celeriac.results.urls import open_store
from celeriac.settings import Settings
from tests.fixtures.messages import publishes
from tests.fixtures.road import BATCH, CALLS, INSTRUCTIONS, SEND, WORK, measured

PINNED = {
    (SEND, CALLS): 38,
    (WORK, CALLS): 72.36,
    (SEND, INSTRUCTIONS): 1235,
    (WORK, INSTRUCTIONS): 2481.08,
}
LIMITS = {SEND: 40, WORK: 80}
NEARLY = 0.02

pytestmark = pytest.mark.skipif(
    sys.version_info[:2] != (3, 11), reason="each version of Python has its own counts"
)


@pytest.fixture
def server(redis_url: str) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(redis_url) as server:
        yield server


@pytest.mark.parametrize("road", [SEND, WORK])
def test_calls_for_one_task(road: str, redis_url: str) -> None:
    calls = measured(redis_url, road, CALLS)
    assert calls <= LIMITS[road]
    assert calls == PINNED[road, CALLS]


@pytest.mark.parametrize("road", [SEND, WORK])
def test_instructions_for_one_task(road: str, redis_url: str) -> None:
    found = measured(redis_url, road, INSTRUCTIONS)
    assert found == pytest.approx(PINNED[road, INSTRUCTIONS], rel=NEARLY)


def asked(server: "redis.Redis") -> dict[str, int]:
    """Return how often the server was told to do what, within scripts too, since it was last asked."""
    told = server.info("commandstats")
    server.config_resetstat()
    own = {"info", "config|resetstat", "hello", "client|setinfo", "client|setname", "select"}
    counts = {name.removeprefix("cmdstat_"): stats["calls"] for name, stats in told.items()}
    return {name: calls for name, calls in counts.items() if name not in own}


def done(delivery: Delivery, number: int) -> Completion:
    put = Put(f"celery-task-meta-{number}", b"{}", 60.0, "SUCCESS", None)
    return Completion(receipt=delivery.receipt, settlement=Settlement.ACK, puts=(put,))


def test_what_a_server_does_for_fifty_tasks(redis_url: str, server: "redis.Redis") -> None:
    broker, store = RedisBroker(redis_url, 5.0, {}), open_store(redis_url, Settings())
    assert store is not None
    consumer = broker.consumer(["work"])
    broker.publish(publishes(range(1)))
    [first] = consumer.claim(1, 1000)
    assert consumer.commit([done(first, 0)], store) == [SETTLED]
    asked(server)

    broker.publish(publishes(range(BATCH)))
    assert asked(server) == {"lpush": 1}

    deliveries = consumer.claim(BATCH, 1_000_000)
    assert len(deliveries) == BATCH
    claim = asked(server)
    assert claim.pop("evalsha") == 1
    assert sum(claim.values()) == 16

    completions = [done(delivery, n) for n, delivery in enumerate(deliveries)]
    assert consumer.commit(completions, store) == [SETTLED] * BATCH
    commit = asked(server)
    assert commit.pop("evalsha") == 1
    assert sum(commit.values()) == 212
    consumer.close()
    broker.close()


def test_a_queued_task_is_no_larger_than_one_of_celery(
    redis_url: str, server: "redis.Redis"
) -> None:
    """Celery 5.7 takes 1,030 bytes of a server's memory for ``add(1, 2)``."""
    app = Celery("size", broker=redis_url, backend=redis_url)
    app.client.warned = True
    add = app.task(name="benchmarks.apps.celery_app.add")(lambda x, y: x + y)
    add.delay(1, 2)
    before = server.info("memory")["used_memory"]
    for _ in range(1000):
        add.delay(1, 2)
    assert (server.info("memory")["used_memory"] - before) / 1000 <= 1030
    app.close()
