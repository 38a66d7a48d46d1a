"""The broker on RabbitMQ: what is on the wire and on the server, and faults of both.

What it shares with all brokers is in ``tests/contract/test_brokers.py``.
"""

import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from threading import Event, Thread
from time import monotonic
from typing import Any

import pika
import pytest
from msgspec.structs import replace

from celeriac.brokers.amqp import consumer as consumer_module
from celeriac.brokers.amqp.broker import AmqpBroker
from celeriac.brokers.amqp.consumer import CROWD, AmqpConsumer
from celeriac.brokers.base import Consumer
from celeriac.clock import iso, wall
from celeriac.completion import AWAY, SETTLED, STALE, Completion, Put, Settlement
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.message import ALL_DEAD, Delivery, Message, QueueSize
from celeriac.queues import Broadcast, Exchange, Queue
from celeriac.results.memory import MemoryStore
from tests.contract.broker_contract import claim, claim_one, claim_when_ready, wait_for
from tests.contract.exchange_contract import to_everyone
from tests.fixtures.certificates import server_keys
from tests.fixtures.messages import ids, message, publish, publishes
from tests.fixtures.ports import free_port
from tests.fixtures.proxy import Proxy
from tests.fixtures.rabbit_server import RabbitServer
from tests.fixtures.servers import MakeProxy, MakeRabbit
from tests.fixtures.waiting import InAMoment, eventually

MakeBroker = Callable[..., AmqpBroker]
LATE = 3.0
"""Seconds: a message that waited for its time may be so late on a machine that has other things to do."""
ROUNDS = 20
CLASSIC = {"delayed_queue_type": "classic"}


@pytest.fixture
def make_broker(rabbit_url: str) -> Iterator[MakeBroker]:
    """Return a function that makes brokers, on the test's virtual host unless told otherwise."""
    made: list[AmqpBroker] = []

    def make(url: str = rabbit_url, timeout: float = 5.0, **options: Any) -> AmqpBroker:
        made.append(AmqpBroker(url, timeout, {**CLASSIC, **options}))
        return made[-1]

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def broker(make_broker: MakeBroker) -> AmqpBroker:
    return make_broker()


@pytest.fixture
def channel(rabbit_url: str) -> Iterator[Any]:
    """Return a channel of somebody else, who knows nothing of Celeriac."""
    connection = pika.BlockingConnection(pika.URLParameters(rabbit_url))
    yield connection.channel()
    if connection.is_open:
        connection.close()


@pytest.fixture
def proxy(rabbit_server: RabbitServer, make_proxy: MakeProxy) -> Proxy:
    return make_proxy(rabbit_server.port)


@pytest.fixture
def by_proxy(rabbit_url: str, rabbit_server: RabbitServer, proxy: Proxy) -> str:
    """The URL of the virtual host, by way of the proxy."""
    return rabbit_url.replace(f":{rabbit_server.port}/", f":{proxy.port}/")


def claim_all(consumer: Consumer) -> list[Delivery]:
    """Claim the whole crowd."""
    held: list[Delivery] = []
    eventually(lambda: held.extend(claim(consumer)) or len(held) == CROWD + 1)
    return held


def die(consumer: AmqpConsumer) -> None:
    """Close the channel, as the server does when a worker has died; and do nothing more, as the dead."""
    intake = consumer._supply.intake
    assert intake is not None
    consumer._supply._over = True
    intake.channel.line.ioloop.add_callback_threadsafe(intake.channel.close)


def leave_orphans(broker: AmqpBroker, *ids: str, queue: str = "work") -> None:
    """Have a worker die with runs whose start was on record."""
    broker.publish(publishes(ids, queue))
    consumer = broker.consumer([queue])
    assert consumer.start([delivery.receipt for delivery in claim(consumer)]) == set()
    die(consumer)


def missing(consumer: AmqpConsumer) -> int:
    """Return how many messages were lost with a connection and are not back."""
    return len(consumer._hold.missing)


def claims(consumer: Consumer) -> list[Delivery]:
    """Claim; nothing while the connection is down."""
    try:
        return claim(consumer)
    except OperationalError:
        return []


def settle(receipt: str, how: Settlement = Settlement.ACK) -> list[Completion]:
    return [Completion(receipt=receipt, settlement=how)]


class TestWire:
    def test_a_message_is_celerys(self, broker: AmqpBroker, channel: Any) -> None:
        sent = message("the id", priority=5, reply_to="answers")
        expires = iso(wall() + 120)
        headers = json.loads(sent.headers) | {"expires": expires, "timelimit": [None, 1]}
        sent = replace(sent, headers=json.dumps(headers).encode())
        broker.publish([replace(publish("", "celery"), message=sent)])
        method, properties, body = channel.basic_get("celery")
        assert (method.exchange, method.routing_key) == ("", "celery")
        assert body == sent.body
        assert properties.headers == headers
        assert 110_000 < int(properties.expiration) <= 120_000
        assert (properties.content_type, properties.content_encoding) == (
            "application/json",
            "utf-8",
        )
        assert (properties.delivery_mode, properties.priority) == (2, 5)
        assert (properties.correlation_id, properties.reply_to) == ("the id", "answers")

    def test_a_message_of_others_is_read(self, broker: AmqpBroker, channel: Any) -> None:
        [consumer] = [broker.consumer(["celery"])]
        headers: dict[str, Any] = {
            "task": "shop.pay",
            "id": "1",
            "tenant": {"n": [1, 2**40, None, True, "ü"]},
        }
        channel.basic_publish(
            "celery",  # By the exchange that a consumer binds its queue to.
            "celery",
            b"[[], {}, {}]",
            pika.BasicProperties("application/json", "utf-8", headers, 2, correlation_id="1"),
        )
        got = claim_when_ready(consumer).message
        assert (got.id, got.task, got.priority) == ("1", "shop.pay", 0)
        assert json.loads(got.headers) == headers

    def test_large_bodies_and_empty_ones(self, broker: AmqpBroker) -> None:
        bodies = [b"", b"x", b"y" * 131_064, b"z" * 1_000_000, b"", b"end"]
        consumer = broker.consumer(["work"])
        broker.publish([publish(str(n), body=body) for n, body in enumerate(bodies)])
        assert [d.message.body for d in claim(consumer)] == bodies
        # And by a subscription, which brings them another way.
        for body in bodies:
            brought = InAMoment(partial(broker.publish, [publish("0", body=body)]))
            assert wait_for(consumer).message.body == body
            brought.ago()
        consumer.close()

    def test_headers_that_are_no_headers_are_refused(self, broker: AmqpBroker) -> None:
        odd = Message(id="1", task="x", headers=b'{"n": 123456789012345678901234567890}', body=b"")
        with pytest.raises(TypeError, match=r"headers\['n'\].*64 bits; send it as text"):
            broker.publish([replace(publish("1"), message=odd)])


class TestDeclarations:
    def test_a_new_queue_is_celerys(self, broker: AmqpBroker, channel: Any) -> None:
        broker.publish([publish("1", "made")])
        # Each of these would raise if it differed from what is there.
        channel.exchange_declare("made", "direct", durable=True)
        channel.queue_declare("made", durable=True)
        channel.basic_publish("made", "made", b"bound")
        assert eventually(lambda: broker.sizes()["made"].ready == 2)

    def test_a_queue_that_is_there_is_used_as_it_is(self, broker: AmqpBroker, channel: Any) -> None:
        channel.queue_declare("theirs", durable=False, arguments={"x-max-length": 10})
        broker.publish([publish("1", "theirs")])
        consumer = broker.consumer(["theirs"])
        assert ids(claim(consumer)) == ["1"]

    def test_declared_queues_have_their_arguments_and_bindings(
        self, make_broker: MakeBroker, channel: Any
    ) -> None:
        topic = Exchange("media", "topic")
        declared = Queue("videos", topic, "video.#", max_priority=3, expires=60)
        broker = make_broker()
        broker.queues = {"videos": declared}
        consumer = broker.consumer(["videos"])
        arguments = {"x-max-priority": 3, "x-expires": 60_000}
        channel.queue_declare("videos", durable=True, arguments=arguments)
        properties = pika.BasicProperties(headers={"task": "x", "id": "1"})
        channel.basic_publish("media", "video.short", b"", properties)
        assert claim_when_ready(consumer).message.id == "1"

    def test_a_binding_that_does_not_fit_is_no_obstacle(
        self, broker: AmqpBroker, channel: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        channel.exchange_declare("work", "fanout")
        broker.publish([publish("1")])
        assert ids(claim(broker.consumer(["work"]))) == ["1"]
        assert "queue 'work' is not bound to work(direct)" in caplog.text

    @pytest.mark.follows("CALL-08")
    def test_a_queue_that_was_deleted_is_made_again(self, broker: AmqpBroker, channel: Any) -> None:
        broker.publish([publish("lost")])
        channel.queue_delete("work")
        broker.publish(publishes(range(3)))
        assert broker.sizes() == {"work": QueueSize(ready=3)}

    def test_also_under_a_consumer(self, broker: AmqpBroker, channel: Any) -> None:
        consumer = broker.consumer(["work"])
        assert claim(consumer) == []
        channel.queue_delete("work")
        broker.publish([publish("1")])
        assert ids(claim(consumer)) == ["1"]

    @pytest.mark.follows("CALL-08")
    def test_a_queue_that_is_full_says_so(self, broker: AmqpBroker, channel: Any) -> None:
        limit = {"x-max-length": 1, "x-overflow": "reject-publish"}
        channel.queue_declare("work", durable=True, arguments=limit)
        with pytest.raises(OperationalError, match="refused 2 of 3 messages"):
            broker.publish(publishes(range(3)))


class TestQuorum:
    def test_a_quorum_queue(self, make_broker: MakeBroker) -> None:
        broker = make_broker(queue_arguments={"x-queue-type": "quorum"})
        broker.publish(publishes(range(3)))
        consumer = broker.consumer(["work"])
        first, *_ = claim(consumer)
        consumer.requeue([first.receipt])
        again = claim_when_ready(consumer)
        assert (again.message.id, again.claims, again.suspect) == ("0", 2, False)
        # Another process does not know that it was given back unharmed, but the server counts.
        consumer.requeue([again.receipt])
        other = make_broker(queue_arguments={"x-queue-type": "quorum"}).consumer(["work"])
        delivery = claim_when_ready(other)
        assert (delivery.claims, delivery.suspect) == (3, True)
        assert other.commit(settle(delivery.receipt), None) == [SETTLED]

    @pytest.mark.follows("ROUTE-22")
    def test_levels_of_quorum_queues(self, make_broker: MakeBroker, channel: Any) -> None:
        broker = make_broker(timeout=30.0, delayed_queue_type="quorum")
        due = wall() + 1.2
        broker.publish([publish("later", due=due)])
        arguments = {
            "x-queue-type": "quorum",
            "x-overflow": "reject-publish",
            "x-message-ttl": 4000,
            "x-dead-letter-exchange": "celery_delayed_1",
            "x-dead-letter-strategy": "at-least-once",
        }
        channel.queue_declare("celery_delayed_2", durable=True, arguments=arguments)
        assert wait_for(broker.consumer(["work"])).message.id == "later"
        assert wall() >= due

    @pytest.mark.follows("ROUTE-22")
    def test_what_celery_delays_comes_to_consumed_queues(
        self, make_broker: MakeBroker, channel: Any
    ) -> None:
        """Its callers count on a worker having made the levels, and on its bindings."""
        quorum = {"x-queue-type": "quorum"}
        broker = make_broker(timeout=30.0)
        broker.queues = {
            "pay": Queue("pay", Exchange("shop", "topic"), "pay.#", queue_arguments=quorum),
            "work": Queue("work", Exchange("work"), "work", max_priority=5),
        }
        consumer = broker.consumer(["pay", "work"])
        properties = pika.BasicProperties(headers={"task": "x", "id": "1"})
        for key in ("pay.now", "work"):
            due = "0." * 27 + f"1.{key}"
            channel.basic_publish("celery_delayed_27", due, b"[[], {}, {}]", properties)
        received = sorted(wait_for(consumer).queue for _ in range(2))
        assert received == ["pay", "work"]
        assert claim(consumer) == []


class TestDelays:
    @pytest.mark.follows("ROUTE-22")
    def test_a_delay_is_kept_to_the_moment(self, broker: AmqpBroker) -> None:
        consumer = broker.consumer(["work"])
        due = wall() + 2.5
        sent = publish("1", due=due)
        broker.publish([sent])
        delivery = wait_for(consumer)
        assert 0.0 <= wall() - due < LATE
        # What the server notes on its way is taken off, or it would not let it through again.
        assert delivery.message == sent.message
        assert consumer.defer(delivery.receipt, wall() + 1.1)
        assert wait_for(consumer).message == sent.message

    def test_names_with_dots_are_told_apart(self, broker: AmqpBroker) -> None:
        consumer, other = broker.consumer(["shop.orders"]), broker.consumer(["orders"])
        due = wall() + 1.1
        broker.publish([publish("1", "shop.orders", due=due), publish("2", "orders", due=due)])
        assert [wait_for(consumer).message.id, wait_for(other).message.id] == ["1", "2"]
        assert claim(consumer) == claim(other) == []

    def test_levels_that_are_there_are_used(self, make_broker: MakeBroker, channel: Any) -> None:
        """Those of Celery, of the other type, and not all of them made yet."""
        first, second = make_broker(), make_broker(delayed_queue_type="quorum", timeout=30.0)
        first.publish([publish("1", due=wall() + 1.1)])
        channel.queue_delete("celery_delayed_27")
        second.publish([publish("2", due=wall() + 1.1)])
        consumer = first.consumer(["work"])
        assert {wait_for(consumer).message.id for _ in range(2)} == {"1", "2"}


class TestDeadLetters:
    def test_what_others_put_there_is_left_alone(self, broker: AmqpBroker, channel: Any) -> None:
        broker.publish([publish("1")])
        consumer = broker.consumer(["work"])
        consumer.commit(settle(claim_one(consumer).receipt, Settlement.DEAD), None)
        channel.basic_publish("", "celeriac.dead", b"theirs")
        [letter] = broker.dead()
        assert letter.message.id == "1"
        assert broker.delete_dead(ALL_DEAD) == 1
        assert channel.queue_declare("celeriac.dead", passive=True).method.message_count == 1


class TestStreams:
    def test_they_end_one_after_the_other(self, broker: AmqpBroker) -> None:
        """What comes for one after another one has ended is still known to be of its queue."""
        broker.publish([publish(f"{n}", "full") for n in range(ROUNDS * 50)])
        consumer = broker.consumer(["empty", "full", "empty too"])
        for _ in range(ROUNDS):
            # Large claims begin streams, small ones end them.
            for most in (10, 10, 10, 1, 1, 1, 1, 1):
                for delivery in consumer.claim(most, 10_000):
                    assert delivery.queue == "full"
                    assert consumer.commit(settle(delivery.receipt), None) == [SETTLED]


class TestLongRuns:
    def test_what_is_held_for_long_is_held_anew(
        self, make_broker: MakeBroker, broker: AmqpBroker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server closes a channel on which one message is unsettled for half an hour."""
        monkeypatch.setattr("celeriac.brokers.amqp.consumer.FRESH", 0.0)
        broker.publish(publishes(range(3)))
        consumer, other = broker.consumer(["work"]), make_broker().consumer(["work"])
        receipts = [delivery.receipt for delivery in claim(consumer)]
        [intake] = [consumer._supply.intake]
        assert intake is not None
        before = list(intake.channel.unsettled)
        for _ in range(2):
            assert consumer.renew(receipts) == set()
        assert not set(before) & set(intake.channel.unsettled)
        assert broker.sizes() == {"work": QueueSize(leased=3)}
        # They are settled as ever: done with, given back, and lost, which counts nothing.
        assert consumer.commit(settle(receipts[0]), None) == [SETTLED]
        consumer.requeue([receipts[1]])
        assert claim_one(other).message.id == "1"
        intake.channel.line.ioloop.add_callback_threadsafe(intake.channel.close)
        assert eventually(other.sweep) == 1
        lost = claim_when_ready(other)
        assert (lost.message.id, lost.suspect, lost.losses) == ("2", True, 0)


class Ledger:
    """Publishes and settles for ever, through whatever happens, and remembers what was confirmed."""

    def __init__(self) -> None:
        self.acknowledged: set[str] = set()
        self.settled: set[str] = set()
        self.sent, self.over = Event(), Event()

    def has_settled(self, most: int) -> bool:
        return len(self.settled) > most

    def publish_on(self, broker: AmqpBroker) -> None:
        for batch in count():
            if self.sent.is_set():
                return
            names = [f"{batch}-{number}" for number in range(20)]
            # If it fails some of them may be there, or none.
            with suppress(OperationalError):
                broker.publish(publishes(names))
                self.acknowledged.update(names)

    def work_on(self, broker: AmqpBroker) -> None:
        # What is forgotten here, because something was raised, comes back after a second.
        consumer = broker.consumer(["work"], lease=1.0)
        while not self.over.is_set():
            with suppress(OperationalError):
                if held := claim(consumer, 10):
                    # One of several goes back each time, and comes again.
                    consumer.requeue([delivery.receipt for delivery in held[:-1][:1]])
                    self._settle(consumer, held)
                else:
                    consumer.wait(0.01)
                    consumer.renew(())

    def _settle(self, consumer: Consumer, held: list[Delivery]) -> None:
        while held and not self.over.is_set():
            done = [Completion(receipt=d.receipt, settlement=Settlement.ACK) for d in held]
            verdicts = consumer.commit(done, None)
            pairs = list(zip(held, verdicts, strict=True))
            self.settled |= {one.message.id for one, verdict in pairs if verdict is SETTLED}
            # What was lost with a connection may come back.
            held = [one for one, verdict in pairs if verdict is AWAY]
            with suppress(OperationalError):
                consumer.renew([one.receipt for one in held])


class TestLosses:
    def test_what_was_lost_with_its_connection_comes_back_to_its_run(
        self, make_broker: MakeBroker, broker: AmqpBroker, by_proxy: str, proxy: Proxy
    ) -> None:
        broker.publish([publish("0"), publish("1"), replace(publish("2"), queue="other")])
        consumer = make_broker(by_proxy).consumer(["work", "other"])
        receipts = [delivery.receipt for delivery in claim(consumer)]
        proxy.cut()
        eventually(lambda: proxy.accepted == 2)
        eventually(lambda: not missing(consumer))
        assert consumer.renew(receipts) == set()
        # Nothing of it is delivered again, here or elsewhere.
        assert claim(consumer) == []
        assert claim(broker.consumer(["work", "other"])) == []
        assert consumer.commit(settle(receipts[0]), None) == [SETTLED]
        consumer.requeue(receipts[1:2])
        assert claim_when_ready(consumer).message.id == "1"
        assert consumer.commit(settle(receipts[2]), None) == [SETTLED]
        eventually(lambda: broker.sizes() == {})

    def test_nothing_is_committed_before_it_is_back(
        self, make_broker: MakeBroker, broker: AmqpBroker, by_proxy: str, proxy: Proxy
    ) -> None:
        broker.publish(publishes(range(2)))
        consumer = make_broker(by_proxy).consumer(["work"])
        lost = claim(consumer)
        proxy.refuse()
        proxy.cut()
        eventually(lambda: missing(consumer) == 2)
        follow_up = replace(settle(lost[0].receipt)[0], publishes=(publish("next", "next"),))
        store = MemoryStore()
        done = replace(follow_up, puts=(Put("document", b"{}"),))
        assert consumer.commit([done], store) == [AWAY]
        assert store.get(["document"]) == {}
        assert consumer.start([lost[0].receipt]) == set()
        proxy.accept()
        eventually(lambda: not missing(consumer))
        # It came back, but its start is not on record: whoever asked for that has to ask again.
        assert consumer.commit([done], store) == [AWAY]
        assert consumer.start([lost[0].receipt]) == set()
        assert consumer.commit([done], store) == [SETTLED]
        assert store.get(["document"]) == {"document": b"{}"}
        assert ids(claim(broker.consumer(["next"]))) == ["next"]
        # What began meanwhile is put on record now that it can be.
        assert consumer.start([lost[1].receipt]) == set()
        assert consumer.commit(settle(lost[1].receipt), None) == [SETTLED]

    def test_a_broadcast_that_runs_is_finished(
        self, make_broker: MakeBroker, broker: AmqpBroker, by_proxy: str, proxy: Proxy
    ) -> None:
        """The server has deleted its queue, with the message: nobody else can have it."""
        queue = Broadcast("everyone", routing_key="key")
        cut = make_broker(by_proxy)
        cut.queues = {queue.name: queue}
        consumer = cut.consumer([queue.name])
        broker.publish([to_everyone("1"), to_everyone("2")])
        held: list[Delivery] = []
        eventually(lambda: held.extend(claim(consumer)) or len(held) == 2)
        proxy.cut()
        eventually(lambda: proxy.accepted == 2 or claims(consumer))
        receipts = [delivery.receipt for delivery in held]
        assert consumer.renew(receipts) == set()
        store = MemoryStore()
        done = replace(settle(receipts[0])[0], puts=(Put("document", b"{}"),))
        assert consumer.commit([done], store) == [SETTLED]
        assert store.get(["document"]) == {"document": b"{}"}
        consumer.requeue(receipts[1:])
        assert eventually(lambda: ids(claims(consumer))) == ["2"]

    def test_what_a_worker_has_forgotten_goes_back(
        self, make_broker: MakeBroker, broker: AmqpBroker
    ) -> None:
        """As where leases lapse: nobody renews them."""
        broker.publish(publishes(range(3)))
        consumer = broker.consumer(["work"], lease=0.2)
        held = [delivery.receipt for delivery in claim(consumer)]
        assert consumer.renew(held[:1]) == set()
        began = monotonic()
        other = make_broker().consumer(["work"])
        again: list[str] = []
        eventually(
            lambda: (
                consumer.renew(held[:1])
                or again.extend(ids(claim(other)))
                or sorted(again) == ["1", "2"]
            )
        )
        assert monotonic() - began >= 0.1
        assert consumer.renew(held) == set(held[1:])

    def test_a_retry_is_not_taken_for_what_was_lost(
        self, make_broker: MakeBroker, broker: AmqpBroker, by_proxy: str, proxy: Proxy
    ) -> None:
        """It has the id of the run that asked for it."""
        broker.publish([publish("1")])
        consumer = make_broker(by_proxy).consumer(["work"])
        [lost] = claim(consumer)
        proxy.refuse()
        proxy.cut()
        [again] = [claim_when_ready(broker.consumer(["work"]))]
        assert again.message == lost.message
        broker.publish([replace(publish("1"), message=message("1", body=b"another"))])
        proxy.accept()
        assert claim_when_ready(consumer).message.body == b"another"
        assert consumer.commit(settle(lost.receipt), None) == [AWAY]

    def test_what_somebody_else_has_got_is_lost(
        self,
        make_broker: MakeBroker,
        broker: AmqpBroker,
        by_proxy: str,
        proxy: Proxy,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(consumer_module, "MISSED", 0.01)
        cut = make_broker(by_proxy)
        consumer, other = cut.consumer(["work"]), broker.consumer(["work"])
        broker.publish(publishes(range(2)))
        held = claim(consumer)
        assert consumer.renew([held[0].receipt]) == set()
        proxy.refuse()
        proxy.cut()
        again = [claim_when_ready(other), claim_when_ready(other)]
        proxy.accept()
        assert ids(again) == ["0", "1"]
        assert [(d.claims, d.suspect, d.losses) for d in again] == [(2, True, 0)] * 2
        receipts = {d.receipt for d in held}
        eventually(lambda: consumer.renew(list(receipts)) == receipts)
        assert consumer.commit(settle(held[0].receipt), None) == [STALE]
        assert not consumer.defer(held[0].receipt, wall())
        # And it goes on with a connection of its own.
        other.requeue([again[0].receipt])
        assert claim_when_ready(consumer).message.id == "0"

    def test_of_a_crowd_that_comes_again_nobody_is_accused(self, make_broker: MakeBroker) -> None:
        """A server that was killed says of all messages that they come again."""
        make_broker().publish(publishes(range(CROWD + 1)))
        first, second, third, last = (make_broker().consumer(["work"]) for _ in range(4))
        claim_all(first)
        die(first)
        held = claim_all(second)
        assert {(d.suspect, d.losses) for d in held} == {(True, 0)}
        assert second.start([held[0].receipt]) == set()
        die(second)
        assert eventually(third.sweep) == CROWD + 1
        held = claim_all(third)
        assert {(d.suspect, d.losses) for d in held} == {(True, 0)}
        # Now each is known, and is tried alone.
        assert third.start([held[0].receipt]) == set()
        die(third)
        assert eventually(last.sweep) == 1
        losses = {delivery.message.id: delivery.losses for delivery in claim_all(last)}
        assert losses.pop(held[0].message.id) == 1
        assert set(losses.values()) == {0}

    def test_who_waits_hears_of_it(
        self, make_broker: MakeBroker, broker: AmqpBroker, by_proxy: str, proxy: Proxy
    ) -> None:
        consumer = make_broker(by_proxy).consumer(["work"])
        assert claim(consumer) == []
        cut = InAMoment(proxy.cut)
        consumer.wait(10.0)
        assert cut.ago() < 1.0
        published = InAMoment(lambda: broker.publish([publish("1")]))
        assert wait_for(consumer).message.id == "1"
        published.ago()

    def test_publishing_goes_on_after_a_cut(
        self, make_broker: MakeBroker, by_proxy: str, proxy: Proxy
    ) -> None:
        broker = make_broker(by_proxy)
        broker.publish([publish("before")])
        proxy.cut()
        eventually(lambda: _published(broker, "after"))
        assert broker.sizes()["work"].ready in (2, 3)
        assert proxy.accepted == 2

    def test_nothing_is_lost_while_connections_are_cut(
        self, make_broker: MakeBroker, by_proxy: str, proxy: Proxy
    ) -> None:
        """What was acknowledged to the publisher is settled by a consumer, sooner or later."""
        ledger = Ledger()
        tasks = [partial(ledger.publish_on, make_broker(by_proxy))]
        tasks += [partial(ledger.work_on, make_broker(by_proxy)) for _ in range(2)]
        threads = [Thread(target=task) for task in tasks]
        for thread in threads:
            thread.start()
        try:
            for cuts in range(1, 9):
                eventually(partial(ledger.has_settled, 200 * cuts), 30.0)
                proxy.cut()
            ledger.sent.set()
            threads[0].join()
            assert ledger.acknowledged
            eventually(lambda: ledger.acknowledged <= ledger.settled, 30.0)
        finally:
            ledger.sent.set()
            ledger.over.set()
            for thread in threads:
                thread.join()

    def test_a_server_that_falls_silent(
        self, make_broker: MakeBroker, by_proxy: str, proxy: Proxy
    ) -> None:
        broker = make_broker(by_proxy, 0.5)
        broker.publish([publish("before")])
        proxy.stall()
        began = monotonic()
        with pytest.raises(OperationalError, match=r"did not answer within 0\.5 s"):
            broker.publish([publish("silence")])
        with pytest.raises(OperationalError, match=r"guest:\*\*@.* cannot be reached within"):
            broker.publish([publish("silence")])
        assert monotonic() - began < 3.0
        proxy.resume()
        eventually(lambda: _published(broker, "after"))

    @pytest.mark.follows("BROK-14")
    def test_heartbeats_find_a_server_that_falls_silent(
        self, make_broker: MakeBroker, by_proxy: str, proxy: Proxy
    ) -> None:
        consumer = make_broker(f"{by_proxy}?heartbeat=1").consumer(["work"])
        assert claim(consumer) == []
        proxy.stall()
        began = monotonic()
        consumer.wait(30.0)
        assert monotonic() - began < 15.0
        proxy.resume()

    def test_a_server_that_blocks_publishers(
        self, make_broker: MakeBroker, make_rabbit: MakeRabbit
    ) -> None:
        server = make_rabbit()
        broker = make_broker(server.url(), 1.0)
        broker.publish([publish("1")])
        server.ctl("set_vm_memory_high_watermark", "absolute", "1MB")
        with pytest.raises(OperationalError, match=r"blocks publishers.*free memory or disk"):
            # The alarm may be a moment late.
            eventually(lambda: not broker.publish([publish("2")]) and None)
        # It is about publishers: a consumer has a connection of its own with its worker.
        consumer = make_broker(server.url()).consumer(["work"])
        assert ids(claim(consumer, 1)) == ["1"]
        server.ctl("set_vm_memory_high_watermark", "absolute", "1GB")
        eventually(lambda: _published(broker, "4"))


class TestOrphans:
    """What was on trial with a worker that is lost: it may not wait behind all that came later."""

    def test_they_are_claimed_before_what_was_sent_later(
        self, make_broker: MakeBroker, broker: AmqpBroker
    ) -> None:
        leave_orphans(make_broker(), "first", "second")
        broker.publish(publishes(range(3)))
        consumer = broker.consumer(["work"])
        assert claim_one(consumer).message.id == "0"
        assert eventually(consumer.sweep) == 2
        assert claim_one(consumer).losses == 1
        rest = claim_when_ready(consumer)
        assert (rest.queue, rest.suspect, rest.losses) == ("work", True, 1)
        # Its second loss is counted as any.
        assert consumer.start([rest.receipt]) == set()
        assert ids(claim(consumer)) == ["1", "2"]
        die(consumer)
        other = make_broker().consumer(["work"])
        assert eventually(other.sweep) == 1
        assert {d.message.id: d.losses for d in claim(other)}[rest.message.id] == 2

    def test_who_waits_gets_them_at_once(self, make_broker: MakeBroker, broker: AmqpBroker) -> None:
        leave_orphans(make_broker(), "lost")
        consumer = broker.consumer(["work"])
        assert claim(consumer) == []
        sweeping = InAMoment(partial(eventually, consumer.sweep))
        assert wait_for(consumer).message.id == "lost"
        assert sweeping.ago() < 1.0

    def test_they_go_only_to_workers_of_their_queue(
        self, make_broker: MakeBroker, broker: AmqpBroker
    ) -> None:
        leave_orphans(make_broker(), "lost", queue="theirs")
        other, consumer = broker.consumer(["work"]), make_broker().consumer(["theirs"])
        assert eventually(other.sweep) == 1
        broker.publish([publish("mine")])
        assert ids(claim(other)) == ["mine"]
        assert consumer.sweep() == 0
        assert claim_one(consumer).message.id == "lost"

    def test_what_nobody_claims_goes_back_to_its_queue(
        self,
        make_broker: MakeBroker,
        broker: AmqpBroker,
        channel: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Those who look for it may be busy, or only workers of Celery may be left."""
        monkeypatch.setattr("celeriac.brokers.amqp.orphans.PATIENCE", 0.0)
        leave_orphans(make_broker(), "lost")
        consumer = broker.consumer(["other"])
        assert eventually(consumer.sweep) == 1
        assert channel.basic_get("work")[0] is None
        consumer.sweep()
        method, properties, _ = eventually(lambda: _got(channel, "work"))
        assert method.message_count == 0
        assert properties.correlation_id == "lost"

    def test_a_worker_that_stops_puts_them_back(
        self, make_broker: MakeBroker, broker: AmqpBroker, channel: Any
    ) -> None:
        """It may be the last one that knows of them."""
        leave_orphans(make_broker(), "first", "second")
        consumer = broker.consumer(["work"])
        assert eventually(consumer.sweep) == 2
        assert claim_one(consumer).losses == 1
        consumer.close()
        assert {_got(channel, "work")[1].correlation_id for _ in range(2)} == {"first", "second"}

    def test_a_run_gets_its_own_back(
        self, make_broker: MakeBroker, broker: AmqpBroker, by_proxy: str, proxy: Proxy
    ) -> None:
        """Its worker has only lost its connection: the run goes on, and is not run again."""
        consumer, other = make_broker(by_proxy).consumer(["work"]), broker.consumer(["theirs"])
        broker.publish([publish("1")])
        [held] = claim(consumer)
        assert consumer.start([held.receipt]) == set()
        proxy.refuse()
        proxy.cut()
        assert eventually(other.sweep) == 1
        proxy.accept()
        eventually(lambda: not missing(consumer) or consumer.renew([held.receipt]))
        assert make_broker().consumer(["work"]).sweep() == 0
        assert consumer.renew([held.receipt]) == set()
        # Given back unharmed after all it counts no loss.
        consumer.requeue([held.receipt])
        assert (again := claim_when_ready(broker.consumer(["work"]))).message.id == "1"
        assert again.losses == 0


def _got(channel: Any, queue: str) -> Any:
    """Get a message; None if there is none."""
    got = channel.basic_get(queue, auto_ack=True)
    return got if got[0] is not None else None


def _published(broker: AmqpBroker, id_: str) -> bool:
    try:
        broker.publish([publish(id_)])
    except OperationalError:
        return False
    return True


class TestAddresses:
    def test_nobody_there(self, make_broker: MakeBroker) -> None:
        broker = make_broker(f"amqp://guest:secret@127.0.0.1:{free_port()}//", 0.4)
        began = monotonic()
        with pytest.raises(OperationalError, match="Connection refused; check that RabbitMQ") as e:
            broker.publish([publish("1")])
        assert 0.3 < monotonic() - began < 2.0
        assert "secret" not in str(e.value)

    @pytest.mark.parametrize(
        ("change", "said"), [("wrong@", "Login was refused"), ("nowhere", "vhost nowhere")]
    )
    def test_a_refusal_is_told_at_once(
        self, make_broker: MakeBroker, rabbit_url: str, change: str, said: str
    ) -> None:
        url = rabbit_url.replace("guest@", change) if "@" in change else rabbit_url
        url = url if "@" in change else f"{url.rpartition('/')[0]}/{change}"
        began = monotonic()
        with pytest.raises(OperationalError, match=f"{said}.*check user, password and virtual"):
            make_broker(url, 20.0).publish([publish("1")])
        assert monotonic() - began < 10.0

    @pytest.mark.follows("BROK-10")
    def test_the_next_of_several_is_tried(
        self, make_broker: MakeBroker, rabbit_url: str, by_proxy: str, proxy: Proxy
    ) -> None:
        broker = make_broker(f"amqp://127.0.0.1:{free_port()}//;{by_proxy};{rabbit_url}")
        broker.publish([publish("1")])
        assert proxy.accepted == 1
        proxy.refuse()
        proxy.cut()
        eventually(lambda: _published(broker, "2"))
        assert broker.sizes()["work"].ready >= 2

    def test_tls(self, make_broker: MakeBroker, make_rabbit: MakeRabbit, tmp_path: Path) -> None:
        keys = server_keys(tmp_path)
        url = make_rabbit(tls=keys).url()
        assert url.startswith("amqps://")
        broker = make_broker(f"{url}?cacertfile={keys.ca}")
        broker.publish([publish("1")])
        assert ids(claim(broker.consumer(["work"]))) == ["1"]
        make_broker(url, ssl={"ca_certs": keys.ca}).publish([publish("2")])
        make_broker(url, ssl={"cert_reqs": ssl.CERT_NONE}).publish([publish("3")])
        with pytest.raises(OperationalError, match="certificate verify failed"):
            make_broker(url, 1.0).publish([publish("4")])
        with pytest.raises(ImproperlyConfigured, match="cannot be read"):
            make_broker(url, ssl={"ca_certs": str(tmp_path / "none")})
