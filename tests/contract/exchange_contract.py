"""What a broker promises whose server resolves exchanges (``Broker.routes``).

Fixtures as in ``broker_contract.py``. Each member of a test has a broker of its own: nobody knows what
another one has declared.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from msgspec.structs import replace

from celeriac.brokers.base import Broker, Consumer
from celeriac.completion import SETTLED, Completion, Settlement
from celeriac.exceptions import QueueNotFound
from celeriac.message import Delivery, Publish
from celeriac.queues import Broadcast, Exchange, Queue
from celeriac.results.base import ResultStore
from tests.contract.broker_contract import claim, claim_one
from tests.fixtures.messages import ids, publish
from tests.fixtures.waiting import eventually

MEDIA = Exchange("media", "topic")
NEWS = Exchange("news", "fanout")

Join = Callable[..., Consumer]
"""Returns the consumer of a queue that a broker of its own has declared."""


@pytest.fixture
def join(make_broker: Callable[[], Broker]) -> Iterator[Join]:
    with ExitStack() as at_the_end:

        def join(*queues: Queue) -> Consumer:
            broker = make_broker()
            at_the_end.callback(broker.close)
            broker.queues = {queue.name: queue for queue in queues}
            consumer = broker.consumer(list(broker.queues))
            at_the_end.callback(consumer.close)
            return consumer

        yield join


def take(consumer: Consumer, count: int) -> list[str]:
    """Claim so many messages, however many claims that takes; return their ids."""
    taken: list[str] = []
    eventually(lambda: taken.extend(ids(claim(consumer))) or len(taken) >= count)
    return taken


def everyone(name: str = "everyone") -> Queue:
    return Broadcast(name, routing_key="key")


def to_everyone(id_: str, name: str = "everyone") -> Publish:
    """Return a message to all, as one sends it who has a queue of his own that nobody consumes."""
    return replace(
        publish(id_, ""),
        exchange=name,
        exchange_type="fanout",
        routing_key="key",
        broadcast=True,
        declarations=(everyone(name),),
    )


def through(exchange: Exchange, key: str, id_: str = "1", queue: str = "") -> Publish:
    where = {"exchange": exchange.name, "exchange_type": exchange.type, "routing_key": key}
    return replace(publish(id_, queue), **where)


class ExchangeContract:
    @pytest.mark.follows("ROUTE-09")
    def test_a_broadcast_reaches_all_who_listen_once(self, broker: Broker, join: Join) -> None:
        listeners = [join(everyone()) for _ in range(3)]
        broker.publish([to_everyone("1"), to_everyone("2")])
        assert [take(one, 2) for one in listeners] == [["1", "2"]] * 3
        broker.publish([to_everyone("3")])
        assert [take(one, 1) for one in listeners] == [["3"]] * 3

    @pytest.mark.follows("ROUTE-09")
    def test_who_comes_later_has_missed_it(self, broker: Broker, join: Join) -> None:
        broker.publish([to_everyone("1")])
        listener = join(everyone())
        broker.publish([to_everyone("2")])
        assert take(listener, 1) == ["2"]

    def test_it_comes_with_others_in_one_batch(self, broker: Broker, join: Join) -> None:
        listener, worker = join(everyone()), join(Queue("work"))
        broker.publish([publish("1"), to_everyone("2"), publish("3", priority=5)])
        assert take(listener, 1) == ["2"]
        assert sorted(ids(claim(worker))) == ["1", "3"]

    @pytest.mark.follows("ROUTE-14")
    def test_it_may_have_a_priority(self, broker: Broker, join: Join) -> None:
        # RabbitMQ has priorities for queues that say so.
        queue = replace(everyone(), max_priority=10)
        listener = join(queue)
        urgent = to_everyone("urgent")
        urgent = replace(urgent, message=replace(urgent.message, priority=9))
        broker.publish([to_everyone("1"), to_everyone("2"), urgent])
        deliveries: list[Delivery] = []
        eventually(lambda: deliveries.extend(claim(listener)) or len(deliveries) == 3)
        assert sorted(ids(deliveries)) == ["1", "2", "urgent"]
        assert {d.message.id: d.message.priority for d in deliveries}["urgent"] == 9

    def test_its_queue_ends_with_who_listens(
        self, broker: Broker, make_broker: Callable[[], Broker]
    ) -> None:
        queue = everyone()
        broker.queues = {queue.name: queue}
        listener = broker.consumer([queue.name])
        broker.publish([to_everyone("1"), to_everyone("2")])
        claim_one(listener)
        listener.close()
        broker.publish([to_everyone("3")])
        assert broker.sizes() == {}
        again = broker.consumer([queue.name])
        assert claim(again) == []
        again.close()

    @pytest.mark.follows("ROUTE-08")
    def test_a_queue_gets_a_message_once_however_many_consume_it(
        self, broker: Broker, join: Join
    ) -> None:
        shared, other = Queue("a", NEWS, "key"), Queue("b", NEWS, "key")
        one, another, third = join(shared), join(shared), join(other)
        broker.publish([through(NEWS, "key")])
        assert sorted([*ids(claim(one)), *ids(claim(another))]) == ["1"]
        assert ids(claim(third)) == ["1"]

    @pytest.mark.follows("ROUTE-08")
    def test_queues_that_others_have_bound(self, broker: Broker, join: Join) -> None:
        video, audit = join(Queue("video", MEDIA, "video.#")), join(Queue("audit", MEDIA, "#"))
        broker.publish([through(MEDIA, "video.new", "1"), through(MEDIA, "audio.new", "2")])
        assert ids(claim(video)) == ["1"]
        assert ids(claim(audit)) == ["1", "2"]

    @pytest.mark.follows("ROUTE-20")
    def test_what_the_sender_declares_is_there_before(self, broker: Broker, join: Join) -> None:
        declared = Queue("mine", MEDIA, "mine.*")
        sent = replace(through(MEDIA, "mine.one", queue="mine"), declarations=(declared,))
        broker.publish([sent])
        assert ids(claim(join(declared))) == ["1"]

    @pytest.mark.follows("ROUTE-08")
    def test_what_leads_nowhere_is_refused(self, broker: Broker, join: Join) -> None:
        video = join(Queue("video", MEDIA, "video.#"))
        with pytest.raises(QueueNotFound, match=r"'media' with routing key 'audio\.new'"):
            broker.publish([through(MEDIA, "audio.new")])
        with pytest.raises(QueueNotFound, match="exchange 'nobody'"):
            broker.publish([through(Exchange("nobody"), "key")])
        broker.publish([through(MEDIA, "video.new")])
        assert ids(claim(video)) == ["1"]

    def test_follow_ups_go_through_exchanges_too(
        self, broker: Broker, join: Join, store: ResultStore
    ) -> None:
        video, listener = join(Queue("video", MEDIA, "video.#")), join(everyone())
        worker = join(Queue("work"))
        broker.publish([publish("1"), publish("2")])
        one, other = claim(worker)
        done = Completion(
            receipt=one.receipt,
            settlement=Settlement.ACK,
            publishes=(through(MEDIA, "video.new", "follow-up"), to_everyone("said to all")),
        )
        astray = Completion(
            receipt=other.receipt,
            settlement=Settlement.ACK,
            publishes=(through(MEDIA, "audio.new", "astray"),),
        )
        settled, refusal = worker.commit([done, astray], store)
        assert settled is SETTLED
        assert refusal.kind == "refused"
        assert "'media' with routing key 'audio.new'" in refusal.error
        assert ids(claim(video)) == ["follow-up"]
        assert take(listener, 1) == ["said to all"]
        # What was refused is still held.
        assert worker.renew([one.receipt, other.receipt]) == {one.receipt}

    def test_a_queue_of_the_auto_delete_kind_keeps_what_comes_between_claims(
        self, broker: Broker, join: Join
    ) -> None:
        queue = Queue("brief", Exchange("brief"), "brief", auto_delete=True)
        worker = join(queue)
        broker.queues = {"brief": queue}
        for number in range(3):
            worker.wait(0.05)
            broker.publish([publish(f"{number}", "brief"), publish(f"{number}+", "brief")])
            # The first is taken and not settled; the next one comes none the less.
            assert claim_one(worker).message.id == f"{number}"
            assert ids(eventually(lambda: worker.wait(1.0) or claim(worker))) == [f"{number}+"]
