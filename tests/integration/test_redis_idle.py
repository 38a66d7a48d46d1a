"""Many idle workers on one Redis server: each message goes to one of them, and soon."""

from statistics import median
from threading import Event, Thread
from time import monotonic
from typing import Any

from celeriac.brokers.redis.broker import RedisBroker
from tests.fixtures.messages import ANY_SIZE, publish
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.waiting import eventually

WORKERS = 200
MESSAGES = 40


class Idle:
    """Workers that wait, take one message at a time, and note when."""

    def __init__(self, broker: RedisBroker) -> None:
        self.taken: dict[str, list[float]] = {}
        self._over = Event()
        self.consumers = [broker.consumer(["work"]) for _ in range(WORKERS)]
        self._threads = [Thread(target=self._work, args=(one,)) for one in self.consumers]
        for thread in self._threads:
            thread.start()

    def _work(self, consumer: Any) -> None:
        while not self._over.is_set():
            for delivery in consumer.claim(1, ANY_SIZE):
                self.taken.setdefault(delivery.message.id, []).append(monotonic())
            consumer.wait(30.0)

    def end(self) -> None:
        self._over.set()
        for consumer in self.consumers:
            consumer.wake()
        for thread in self._threads:
            thread.join()
        for consumer in self.consumers:
            consumer.close()


def test_two_hundred_of_them(redis_server: RedisServer, redis_url: str) -> None:
    broker = RedisBroker(redis_url)
    idle = Idle(broker)
    try:
        with redis_server.client() as client:
            eventually(lambda: client.zcard("celeriac:workers") == WORKERS)
            # They hear of each other when they renew, which is some seconds from now.
            for consumer in idle.consumers:
                consumer._doorbell.company = WORKERS
            client.config_resetstat()
        delays = []
        for number in range(MESSAGES):
            began = monotonic()
            broker.publish([publish(str(number))])
            eventually(lambda: str(number) in idle.taken)  # noqa: B023 (called at once)
            delays.append(idle.taken[str(number)][0] - began)
        assert [len(times) for times in idle.taken.values()] == [1] * MESSAGES
        with redis_server.client() as client:
            claims = client.info("commandstats")["cmdstat_evalsha"]["calls"]
        # All are told of each message, and look before they claim.
        assert claims < MESSAGES * WORKERS / 4
        # All of them share one process here, which is slower than it would be.
        assert median(delays) < 0.25
    finally:
        idle.end()
        broker.close()
