"""Fanout exchanges on Redis: what kombu says on channels is heard, and nothing is left behind."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange as TheirExchange
from kombu.messaging import Producer

from celeriac.brokers.redis import fanout
from celeriac.brokers.redis.broker import RedisBroker
from celeriac.brokers.redis.consumer import RedisConsumer
from celeriac.message import Delivery, QueueSize
from celeriac.queues import Broadcast, Exchange, Queue
from tests.contract.exchange_contract import to_everyone
from tests.fixtures.messages import ANY_SIZE, ids, publish
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.waiting import eventually

OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "under a prefix": {"global_keyprefix": "site:"},
    "with a prefix of its own": {"fanout_prefix": "/own-{db}."},
    "without a prefix": {"fanout_prefix": False},
    "without patterns": {"fanout_patterns": False},
}

Join = Callable[..., RedisConsumer]


@pytest.fixture(params=OPTIONS)
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    return OPTIONS[request.param]


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Any]:
    redis_server.flush()
    with redis_server.client(decode_responses=True) as client:
        yield client


@pytest.fixture
def join(redis_server: RedisServer, server: Any) -> Iterator[Join]:
    """Return a function that opens the consumer of a queue, on a broker of its own."""
    with ExitStack() as at_the_end:

        def join(queue: Queue, number: int = 0, **options: Any) -> RedisConsumer:
            broker = RedisBroker(redis_server.url(number), options=options)
            at_the_end.callback(broker.close)
            broker.queues = {queue.name: queue}
            consumer = broker.consumer([queue.name])
            at_the_end.callback(consumer.close)
            return consumer

        yield join


def say(url: str, id_: str, key: str = "key", **options: Any) -> None:
    """Publish to everyone as a caller of Celery's who has declared the exchange."""
    with Connection(url, transport_options=options) as connection:
        channel: Any = connection.channel()
        exchange = TheirExchange("everyone", "fanout")
        exchange(channel).declare()
        Producer(channel, exchange).publish(
            b"[[], {}, {}]",
            routing_key=key,
            headers={"task": "demo.task", "id": id_, "lang": "py"},
            content_type="application/json",
            content_encoding="utf-8",
            correlation_id=id_,
        )


def claim(consumer: RedisConsumer) -> list[Delivery]:
    return consumer.claim(100, ANY_SIZE)


def hear(consumer: RedisConsumer) -> list[str]:
    """Return the ids of what comes next."""
    return ids(eventually(lambda: consumer.wait(1.0) or claim(consumer)))


@pytest.mark.follows("BROK-02", "ROUTE-09")
class TestHearing:
    @pytest.mark.follows("BROK-16")
    def test_what_kombu_says(self, redis_server: RedisServer, join: Join, options: Any) -> None:
        listener = join(Broadcast("everyone", routing_key="key"), 2, **options)
        assert claim(listener) == []
        say(redis_server.url(2), "1", **options)
        assert hear(listener) == ["1"]
        say(redis_server.url(2), "2", **options)
        assert hear(listener) == ["2"]

    def test_the_key_may_be_a_pattern(self, redis_server: RedisServer, join: Join) -> None:
        listener = join(Broadcast("everyone", routing_key="news.#"))
        assert claim(listener) == []
        say(redis_server.url(), "1", "news.today")
        assert hear(listener) == ["1"]

    def test_many_who_consume_one_queue_hear_it_once(
        self, redis_server: RedisServer, join: Join
    ) -> None:
        queue = Queue("shared", Exchange("everyone", "fanout"), "key")
        workers = [join(queue) for _ in range(3)]
        assert [claim(one) for one in workers] == [[], [], []]
        say(redis_server.url(), "1")
        say(redis_server.url(), "2")
        heard: list[str] = []
        eventually(
            lambda: heard.extend(i for w in workers for i in ids(claim(w))) or len(heard) > 1
        )
        assert heard == ["1", "2"]

    def test_it_goes_on_after_its_connection_was_cut(
        self, redis_server: RedisServer, server: Any, join: Join
    ) -> None:
        listener = join(Broadcast("everyone", routing_key="key"))
        assert claim(listener) == []
        assert server.execute_command("CLIENT", "KILL", "TYPE", "pubsub") >= 1
        eventually(server.pubsub_numpat)
        say(redis_server.url(), "1")
        assert hear(listener) == ["1"]

    def test_our_own_voice_is_not_heard_twice(self, redis_server: RedisServer, join: Join) -> None:
        listener = join(Broadcast("everyone", routing_key="key"))
        assert claim(listener) == []
        broker = RedisBroker(redis_server.url())
        broker.publish([to_everyone("ours")])
        say(redis_server.url(), "theirs")
        heard: list[str] = []
        eventually(lambda: heard.extend(ids(claim(listener))) or "theirs" in heard)
        assert heard == ["ours", "theirs"]
        broker.close()


class TestRegister:
    def test_nothing_is_left_of_who_has_gone(self, server: Any, join: Join) -> None:
        listener = join(Broadcast("everyone", routing_key="key"))
        assert server.zcard("celeriac:fanout:everyone") == 1
        listener.close()
        lasting = [key for key in server.keys("*") if server.ttl(key) < 0]
        assert (lasting, server.keys("*everyone*")) == ([], [])

    def test_those_who_share_a_queue_keep_it_when_one_has_gone(
        self, redis_server: RedisServer, join: Join
    ) -> None:
        queue = Broadcast("everyone", queue="shared", routing_key="key")
        one, other = join(queue), join(queue)
        broker = RedisBroker(redis_server.url())
        broker.publish([to_everyone("1")])
        one.close()
        broker.publish([to_everyone("2")])
        assert ids(claim(other)) == ["1", "2"]
        broker.close()

    def test_a_lasting_queue_loses_its_binding_and_no_message(
        self, redis_server: RedisServer, server: Any, join: Join, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fanout, "LASTING", 0.1)
        monkeypatch.setattr(fanout, "GRACE", 0)
        broker = RedisBroker(redis_server.url())
        news = Exchange("everyone", "fanout")
        join(Queue("mails", news, "key")).close()
        broker.publish([publish("1", "mails"), publish("later", "mails", due=2e9)])
        monkeypatch.setattr(fanout, "LASTING", 60.0)

        def another() -> bool:
            join(Queue("audit", news, "key"))
            return bool(server.zrange("celeriac:fanout:everyone", 0, -1) == ["laudit"])

        eventually(another)
        assert broker.sizes()["mails"] == QueueSize(ready=1, delayed=1)
        assert server.smembers("_kombu.binding.everyone") == {"key\x06\x16\x06\x16audit"}
        broker.close()

    def test_nobody_is_struck_off_just_after_the_server_was_away(
        self, redis_server: RedisServer, server: Any, join: Join, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fanout, "PASSING", 0.01)
        away = Broadcast("everyone", queue="away", routing_key="key")
        join(away)
        # Nobody has renewed anything for a long time.
        server.set("celeriac:listened", 1.0)
        for _ in range(3):
            join(Broadcast("everyone", queue="back", routing_key="key"))
        assert "paway" in server.zrange("celeriac:fanout:everyone", 0, -1)

    def test_a_user_who_may_not_use_channels_reaches_our_workers(
        self, redis_server: RedisServer, server: Any, join: Join
    ) -> None:
        listener = join(Broadcast("everyone", routing_key="key"))
        server.execute_command(
            "ACL", "SETUSER", "mute", "on", ">pw", "~*", "+@all", "resetchannels"
        )
        mute = redis_server.url().replace("redis://", "redis://mute:pw@")
        broker = RedisBroker(mute)
        broker.publish([to_everyone("1"), publish("2")])
        assert ids(claim(listener)) == ["1"]
        assert broker.sizes()["work"] == QueueSize(ready=1)
        broker.close()
        server.execute_command("ACL", "DELUSER", "mute")

    def test_who_was_killed_is_struck_off_in_time(
        self, redis_server: RedisServer, server: Any, join: Join, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(fanout, "PASSING", 0.2)
        monkeypatch.setattr(fanout, "GRACE", 0)
        join(Broadcast("everyone", queue="killed", routing_key="key"))
        broker = RedisBroker(redis_server.url())
        broker.publish([to_everyone("1"), publish("later", "killed", due=2e9)])
        assert server.llen("killed") == 1
        monkeypatch.setattr(fanout, "PASSING", 60.0)

        def another() -> bool:
            join(Broadcast("everyone", queue="alive", routing_key="key"))
            return bool(server.zrange("celeriac:fanout:everyone", 0, -1) == ["palive"])

        eventually(another)
        assert server.keys("*killed*") == []
        assert server.smembers("_kombu.binding.everyone") == {"key\x06\x16\x06\x16alive"}
        assert server.hlen("unacked") == 0
        broker.close()
