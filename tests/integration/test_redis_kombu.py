"""Messages on Redis as kombu sees them: written by one, read by the other, and never left behind."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from kombu.connection import Connection
from kombu.entity import Exchange, Queue
from kombu.messaging import Producer
from msgspec.structs import replace

from celeriac import queues
from celeriac.brokers.redis.broker import RedisBroker
from celeriac.clock import wall
from celeriac.completion import SETTLED, Completion, Put, Settlement
from celeriac.message import QueueSize
from celeriac.results.redis import RedisStore
from tests.fixtures.messages import ANY_SIZE, ids, publish, publishes
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.waiting import eventually

VISIBILITY = 30.0
OPTIONS: dict[str, Any] = {"visibility_timeout": VISIBILITY}


class Peer:
    """A kombu connection to the same server."""

    def __init__(self, url: str, **options: Any) -> None:
        self.connection = Connection(url, transport_options={**OPTIONS, **options})
        self.channel = self.connection.channel()

    def publish(self, body: bytes = b"[[], {}, {}]", queue: str = "work", **more: Any) -> None:
        """Publish a task message as Celery does."""
        headers = {"task": "demo.task", "id": more.pop("id", "theirs"), "lang": "py"}
        producer = Producer(self.channel)
        producer.publish(
            body,
            exchange="",
            routing_key=queue,
            headers=headers,
            content_type="application/json",
            content_encoding="utf-8",
            correlation_id=headers["id"],
            **more,
        )

    def take(self, queue: str = "work") -> Any:
        """Take one message as a worker does; None if there is none."""
        return self.channel.basic_get(queue)

    def restore(self) -> None:
        """Put back what has been unacknowledged for the visibility timeout."""
        self.channel.qos.restore_visible(num=100, interval=1)

    def close(self) -> None:
        self.connection.close()


@pytest.fixture
def peer(redis_url: str) -> Iterator[Peer]:
    peer = Peer(redis_url)
    yield peer
    peer.close()


@pytest.fixture
def broker(redis_url: str) -> Iterator[RedisBroker]:
    broker = RedisBroker(redis_url, options=OPTIONS)
    yield broker
    broker.close()


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as client:
        yield client


class TestForm:
    @pytest.mark.follows("BROK-02")
    def test_kombu_reads_what_we_write(self, broker: RedisBroker, peer: Peer) -> None:
        broker.publish([publish("1", body="[[1], {}, {}] ☃".encode(), reply_to="answers")])
        message = peer.take()
        assert message.body == "[[1], {}, {}] ☃".encode()
        assert message.headers == {"id": "1", "task": "demo.task"}
        assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
        told = message.properties
        assert (told["correlation_id"], told["reply_to"]) == ("1", "answers")
        assert (told["priority"], told["delivery_mode"]) == (0, 2)
        assert told["delivery_info"] == {"exchange": "", "routing_key": "work"}

    @pytest.mark.follows("BROK-02")
    def test_we_read_what_kombu_writes(self, broker: RedisBroker, peer: Peer) -> None:
        peer.publish(b"[[1], {}, {}]", reply_to="answers")
        [delivery] = broker.consumer(["work"]).claim(10, ANY_SIZE)
        message = delivery.message
        assert (message.id, message.task, message.body) == ("theirs", "demo.task", b"[[1], {}, {}]")
        assert (message.content_type, message.reply_to) == ("application/json", "answers")
        assert b'"lang"' in message.headers

    def test_a_body_that_is_not_wrapped(self, broker: RedisBroker, redis_url: str) -> None:
        peer = Peer(redis_url)
        peer.channel.body_encoding = None
        Producer(peer.channel).publish([["ü"], {}, {}], exchange="", routing_key="work")
        [delivery] = broker.consumer(["work"]).claim(10, ANY_SIZE)
        assert json.loads(delivery.message.body) == [["ü"], {}, {}]
        peer.close()

    def test_no_message_is_larger_than_theirs(
        self, broker: RedisBroker, peer: Peer, server: Any
    ) -> None:
        broker.publish([publish("theirs")])
        peer.publish()
        theirs, ours = server.lrange("work", 0, -1)
        assert len(ours) < len(theirs)

    def test_a_prefix_stands_before_every_key(self, redis_url: str, server: Any) -> None:
        options = {**OPTIONS, "global_keyprefix": "shop:"}
        broker, peer = RedisBroker(redis_url, options=options), Peer(**options, url=redis_url)
        broker.publish([publish("1"), publish("2", due=wall() + 60), publish("3", priority=4)])
        peer.publish(id="4")
        consumer = broker.consumer(["work"])
        assert ids(consumer.claim(10, ANY_SIZE)) == ["3", "1", "4"]
        assert all(key.startswith(b"shop:") for key in server.scan_iter())
        consumer.close()
        assert peer.take() is not None
        peer.close()
        broker.close()


class TestPriorities:
    @pytest.mark.follows("QUIRK-02", "ROUTE-15")
    def test_those_of_the_wire_are_kept(self, broker: RedisBroker, peer: Peer, server: Any) -> None:
        for number in (9, 0, 5, 3):
            peer.publish(id=str(number), priority=number)
        consumer = broker.consumer(["work"])
        deliveries = consumer.claim(10, ANY_SIZE)
        assert ids(deliveries) == ["0", "5", "3", "9"]
        # Higher is sooner, so what comes later than the rest is below 0.
        assert [delivery.message.priority for delivery in deliveries] == [0, -5, -3, -9]
        consumer.requeue([delivery.receipt for delivery in deliveries])
        assert [server.llen(f"work\x06\x16{step}") for step in (3, 6, 9)] == [2, 0, 1]
        broker.publish([publish("again", priority=-5)])
        assert server.llen("work\x06\x163") == 3

    def test_what_is_above_the_others_reaches_kombu_too(
        self, broker: RedisBroker, peer: Peer, server: Any
    ) -> None:
        broker.publish([publish("ordinary"), publish("urgent", priority=5)])
        assert broker.sizes()["work"] == QueueSize(ready=2)
        # Nobody of us comes for it in time.
        age(server, VISIBILITY)
        peer.restore()
        assert [peer.take().headers["id"] for _ in range(2)] == ["urgent", "ordinary"]
        assert broker.consumer(["work"]).claim(10, ANY_SIZE) == []

    @pytest.mark.follows("ROUTE-15")
    def test_the_direction_may_be_that_of_the_wire(
        self, redis_url: str, peer: Peer, server: Any
    ) -> None:
        broker = RedisBroker(redis_url, options={**OPTIONS, "priority_direction": "lower"})
        broker.publish([publish("9", priority=9), publish("3", priority=3), publish("0")])
        assert server.llen("work\x06\x169") == 1
        peer.publish(id="theirs", priority=3)
        deliveries = broker.consumer(["work"]).claim(10, ANY_SIZE)
        assert ids(deliveries) == ["0", "3", "theirs", "9"]
        assert [delivery.message.priority for delivery in deliveries] == [0, 3, 3, 9]
        broker.close()

    def test_steps_of_ones_own(self, redis_url: str, server: Any) -> None:
        options = {**OPTIONS, "priority_steps": list(range(10)), "sep": ":"}
        broker, peer = RedisBroker(redis_url, options=options), Peer(redis_url, **options)
        peer.publish(id="theirs", priority=7)
        broker.publish([publish("ours", priority=-8)])
        assert (server.llen("work:7"), server.llen("work:8")) == (1, 1)
        assert ids(broker.consumer(["work"]).claim(10, ANY_SIZE)) == ["theirs", "ours"]
        peer.close()
        broker.close()


class TestLeftBehind:
    """What Celeriac holds in Redis, a fleet that goes back to Celery finds."""

    def test_delayed_messages_are_restored_by_kombu_when_due(
        self, broker: RedisBroker, peer: Peer
    ) -> None:
        due = wall() + 0.3
        broker.publish([publish("later", due=due), publish("much later", due=due + 60)])
        peer.restore()
        assert peer.take() is None
        eventually(lambda: wall() > due)
        peer.restore()
        assert peer.take().headers["id"] == "later"
        assert peer.take() is None
        # It is not there for us any more.
        assert broker.consumer(["work"]).claim(10, ANY_SIZE) == []
        assert broker.sizes() == {"work": QueueSize(delayed=1, leased=1)}

    def test_deferred_ones_too(self, broker: RedisBroker, peer: Peer) -> None:
        peer.publish(id="theirs")
        consumer = broker.consumer(["work"])
        [delivery] = consumer.claim(1, ANY_SIZE)
        consumer.defer(delivery.receipt, due := wall() + 0.2, unknown=True)
        consumer.close()
        eventually(lambda: wall() > due)
        peer.restore()
        message = peer.take()
        assert (message.headers["id"], message.headers["redelivered"]) == ("theirs", True)

    def test_what_a_dead_worker_held_is_restored_by_kombu(
        self, broker: RedisBroker, peer: Peer, server: Any
    ) -> None:
        broker.publish(publishes(range(3)))
        broker.consumer(["work"]).claim(2, ANY_SIZE)
        peer.restore()
        assert server.llen("work") == 1
        age(server, VISIBILITY)
        peer.restore()
        assert sorted(peer.take().headers["id"] for _ in range(3)) == ["0", "1", "2"]

    def test_what_a_live_worker_holds_is_not(
        self, broker: RedisBroker, peer: Peer, server: Any
    ) -> None:
        broker.publish([publish("1")])
        consumer = broker.consumer(["work"])
        [delivery] = consumer.claim(1, ANY_SIZE)
        age(server, VISIBILITY)
        assert consumer.renew([delivery.receipt]) == set()
        peer.restore()
        assert peer.take() is None

    def test_what_befell_a_message_is_still_known_after_kombu_had_it(
        self, broker: RedisBroker, peer: Peer, server: Any
    ) -> None:
        broker.publish([publish("1")])
        consumer = broker.consumer(["work"])
        for _ in range(2):
            [delivery] = consumer.claim(1, ANY_SIZE)
            loss = Completion(receipt=delivery.receipt, settlement=Settlement.LOSS)
            assert consumer.commit([loss], None) == [SETTLED]
        peer.take().reject(requeue=True)
        [delivery] = consumer.claim(1, ANY_SIZE)
        assert (delivery.losses, delivery.claims) == (2, 3)
        consumer.requeue([delivery.receipt])
        [delivery] = consumer.claim(1, ANY_SIZE)
        assert (delivery.losses, delivery.claims) == (2, 4)


class TestRestoring:
    """What Celery workers have lost is put back by ours."""

    def test_after_the_visibility_timeout(
        self, broker: RedisBroker, peer: Peer, server: Any
    ) -> None:
        peer.publish(id="theirs", priority=3)
        assert peer.take() is not None
        assert broker.sizes() == {"work": QueueSize(leased=1)}
        consumer = broker.consumer(["work"])
        assert consumer.sweep() == 0
        assert server.hlen("unacked") == 1
        age(server, VISIBILITY + 1)
        consumer = broker.consumer(["work"])
        assert consumer.sweep() == 1
        assert (server.hlen("unacked"), server.zcard("unacked_index")) == (0, 0)
        assert server.llen("work\x06\x163") == 1
        [delivery] = consumer.claim(1, ANY_SIZE)
        assert delivery.message.id == "theirs"
        assert b'"redelivered":true' in delivery.message.headers
        assert not server.exists("unacked_mutex")

    def test_one_worker_at_a_time(self, broker: RedisBroker, peer: Peer, server: Any) -> None:
        peer.publish()
        peer.take()
        age(server, VISIBILITY + 1)
        server.set("unacked_mutex", "somebody")
        assert broker.consumer(["work"]).sweep() == 0
        server.delete("unacked_mutex")
        assert broker.consumer(["work"]).sweep() == 1

    def test_where_their_exchange_leads(self, broker: RedisBroker, peer: Peer, server: Any) -> None:
        queue = Queue("orders", Exchange("shop", type="topic"), "order.#")
        queue(peer.channel).declare()
        Producer(peer.channel).publish({}, exchange="shop", routing_key="order.new.eu")
        assert peer.take("orders") is not None
        age(server, VISIBILITY + 1)
        assert broker.consumer(["orders"]).sweep() == 1
        assert server.llen("orders") == 1

    def test_also_with_a_separator_of_ones_own(self, redis_url: str, server: Any) -> None:
        options = {**OPTIONS, "sep": "|"}
        broker, peer = RedisBroker(redis_url, options=options), Peer(redis_url, **options)
        Queue("orders", Exchange("shop"), "order")(peer.channel).declare()
        Producer(peer.channel).publish({}, exchange="shop", routing_key="order")
        assert peer.take("orders") is not None
        age(server, VISIBILITY + 1)
        assert broker.consumer(["orders"]).sweep() == 1
        assert server.llen("orders") == 1
        peer.close()
        broker.close()

    def test_behind_any_number_of_our_own(
        self, broker: RedisBroker, peer: Peer, server: Any
    ) -> None:
        """Those wait for a worker of their queue, which may be away."""
        broker.publish([publish(str(n), "elsewhere", priority=5) for n in range(150)])
        age(server, VISIBILITY + 1)
        peer.publish(id="theirs")
        peer.take()
        age(server, VISIBILITY + 1)
        assert broker.consumer(["work"]).sweep() == 1
        assert server.llen("work") == 1

    def test_all_that_a_worker_has_lost_at_once(
        self, broker: RedisBroker, peer: Peer, server: Any
    ) -> None:
        for number in range(250):
            peer.publish(id=str(number))
            peer.take()
        age(server, VISIBILITY + 1)
        assert broker.consumer(["work"]).sweep() == 250
        assert server.hlen("unacked") == 0

    def test_what_cannot_be_read_stays(self, broker: RedisBroker, server: Any) -> None:
        server.hset("unacked", mapping={"tag": b"garbage", "other": b'["x"]'})
        server.zadd("unacked_index", {"tag": 1.0, "other": 1.0, "gone": 1.0})
        assert broker.consumer(["work"]).sweep() == 0
        assert server.hlen("unacked") == 2


def age(server: Any, seconds: float) -> None:
    """Have all that is unacknowledged be so much older."""
    for tag, score in server.zrange("unacked_index", 0, -1, withscores=True):
        server.zadd("unacked_index", {tag: score - seconds})


class TestBindings:
    """Which exchange leads where: kombu finds our queues, and we find theirs."""

    @pytest.mark.follows("ROUTE-08")
    @pytest.mark.parametrize(
        ("kind", "bound", "key"),
        [("direct", "orders", "orders"), ("topic", "order.*.#", "order.new.eu.de")],
    )
    def test_kombu_finds_what_our_worker_consumes(
        self, broker: RedisBroker, peer: Peer, kind: str, bound: str, key: str
    ) -> None:
        declared = queues.Queue("work", queues.Exchange("shop", kind), bound)
        broker.queues = {"work": declared}
        consumer = broker.consumer(["work"])
        Exchange("shop", type=kind)(peer.channel).declare()
        Producer(peer.channel).publish({}, exchange="shop", routing_key=key)
        Producer(peer.channel).publish({}, exchange="shop", routing_key="other")
        assert len(consumer.claim(10, ANY_SIZE)) == 1

    def test_the_bindings_are_those_of_kombu(
        self, broker: RedisBroker, peer: Peer, server: Any
    ) -> None:
        exchanges = {"shop": "topic", "plain": "direct"}
        for name, kind in exchanges.items():
            Queue("work", Exchange(name, type=kind), "a.*.#")(peer.channel).declare()
        keys = [f"_kombu.binding{lasting}.{n}" for n in exchanges for lasting in ("", "_permanent")]
        theirs = [server.smembers(key) for key in keys]
        server.flushall()
        for name, kind in exchanges.items():
            declared = queues.Queue("work", queues.Exchange(name, kind), "a.*.#")
            broker.queues = {"work": declared}
            broker.consumer(["work"])
        assert [server.smembers(key) for key in keys] == theirs

    @pytest.mark.follows("ROUTE-08")
    def test_what_kombu_has_bound_gets_our_messages_too(
        self, broker: RedisBroker, peer: Peer, server: Any
    ) -> None:
        Queue("audit", Exchange("shop", type="topic"), "order.#")(peer.channel).declare()
        routed = replace(publish("1"), exchange="shop", routing_key="order.new")
        broker.publish([routed, replace(publish("2"), exchange="shop", routing_key="other")])
        assert [server.llen(queue) for queue in ("work", "audit")] == [2, 1]
        delivered = peer.take("audit").properties["delivery_info"]
        assert (delivered["exchange"], delivered["routing_key"]) == ("shop", "order.new")


def test_many_documents_are_told_to_those_who_listen(redis_url: str, server: Any) -> None:
    """And to nobody else: to ask who listens to fifty of them costs less than to tell two."""
    store, puts = RedisStore(redis_url), [Put(f"document {n}", b"{%d}" % n) for n in range(50)]
    server.config_resetstat()
    store.put(puts)
    assert "cmdstat_publish" not in server.info("commandstats")
    one, pattern = server.pubsub(ignore_subscribe_messages=True), server.pubsub()
    one.subscribe("document 7", "document 49")
    assert eventually(lambda: server.pubsub_numsub("document 49") == [(b"document 49", 1)])
    store.put(puts)
    assert server.info("commandstats")["cmdstat_publish"]["calls"] == 2
    told = [eventually(lambda: one.get_message(timeout=1.0))["data"] for _ in range(2)]
    assert told == [b"{7}", b"{49}"]
    one.close()
    pattern.psubscribe("docu*")
    assert eventually(lambda: pattern.get_message(timeout=1.0))
    store.put(puts)
    told = [eventually(lambda: pattern.get_message(timeout=1.0))["data"] for _ in range(50)]
    assert told == [put.value for put in puts]
    pattern.close()
    store.close()


def test_a_large_document_is_told_to_those_who_listen(redis_url: str, server: Any) -> None:
    """And published to nobody else: that costs as much as to store it."""
    store, value = RedisStore(redis_url), b"x" * 10_000
    server.config_resetstat()
    store.put([Put("unheard", value)])
    assert "cmdstat_publish" not in server.info("commandstats")
    plain, pattern = server.pubsub(), server.pubsub()
    plain.subscribe("heard")
    assert eventually(lambda: plain.get_message(timeout=1.0))
    store.put([Put("heard", value)])
    told = eventually(lambda: plain.get_message(timeout=1.0))
    assert told["data"] == value
    plain.close()
    pattern.psubscribe("he*")
    assert eventually(lambda: pattern.get_message(timeout=1.0))
    store.put([Put("heard again", value)])
    assert eventually(lambda: pattern.get_message(timeout=1.0))["data"] == value
    pattern.close()
    store.close()
