"""What every broker promises about messages on their way in and out of the hands of workers.

An adapter runs these classes (see ``test_brokers.py``) with three fixtures: ``broker``, ``store`` (a
result store that its commits are given), and ``make_broker``, which returns another broker object for
the same server. Leases are in ``lease_contract.py``; what a commit promises is in
``settlement_contract.py`` and ``chord_contract.py``.
"""

from collections.abc import Callable
from functools import partial
from itertools import chain
from statistics import median
from threading import Event, Thread
from time import monotonic

import pytest
from msgspec.structs import replace

from celeriac.brokers.base import Broker, Consumer
from celeriac.clock import wall
from celeriac.message import Delivery, Message, Publish, QueueSize
from tests.fixtures.messages import ANY_SIZE, ids, publish, publishes
from tests.fixtures.waiting import InAMoment, eventually

Consume = Callable[..., Consumer]

QUICK = 0.05
"""Seconds: far below the 250 ms at which a look for lost wake-ups finds something."""


def claim(consumer: Consumer, count: int = 1000) -> list[Delivery]:
    return consumer.claim(count, ANY_SIZE)


def claim_one(consumer: Consumer) -> Delivery:
    [delivery] = claim(consumer, 1)
    return delivery


def claim_when_ready(consumer: Consumer) -> Delivery:
    """Claim again and again, without ``wait``, until there is something."""
    [delivery] = eventually(lambda: claim(consumer, 1))
    return delivery


def lose(consumer: Consumer) -> int:
    """Sweep until a lease has ended; return how many had."""
    return eventually(consumer.sweep)


class PublishContract:
    def test_a_message_comes_out_as_it_went_in(self, broker: Broker, consume: Consume) -> None:
        sent = Message(
            id="1",
            task="demo.täsk",
            headers=b'{"lang": "py", "task": "demo.t\\u00e4sk", "id": "1"}',
            body=bytes(range(256)),
            content_type="application/x-python-serialize",
            content_encoding="binary",
            priority=7,
            reply_to="answers",
        )
        broker.publish([Publish(queue="work", message=sent)])
        [delivery] = claim(consume())
        assert delivery.message == sent
        assert delivery.queue == "work"
        assert (delivery.claims, delivery.suspect, delivery.losses) == (1, False, 0)
        assert (delivery.parked, delivery.parkings) == (None, 0)

    def test_nothing_published_is_nothing_there(self, broker: Broker) -> None:
        broker.publish([])
        assert broker.sizes() == {}

    @pytest.mark.follows("ROUTE-08")
    def test_a_message_goes_to_each_of_its_queues(self, broker: Broker, consume: Consume) -> None:
        for name in "abc":
            assert claim(consume(name)) == []
        several = replace(publish("many", "a", priority=3), copies=("b", "c"))
        broker.publish([publish("one", "a"), several])
        assert [ids(claim(consume(name))) for name in "abc"] == [
            ["many", "one"],
            ["many"],
            ["many"],
        ]

    def test_a_batch_appears_all_at_once(self, broker: Broker, consume: Consume) -> None:
        consumer = consume()
        batches = [publishes(range(batch, batch + 10)) for batch in range(0, 300, 10)]
        publisher = Thread(target=lambda: [broker.publish(batch) for batch in batches])
        publisher.start()
        seen: list[int] = []
        eventually(lambda: seen.append(len(claim(consumer))) or sum(seen) >= 300)
        publisher.join()
        assert sum(seen) == 300
        assert [count % 10 for count in seen] == [0] * len(seen)

    def test_a_message_for_the_future_is_kept_until_then(
        self, broker: Broker, consume: Consume
    ) -> None:
        consumer = consume()
        assert claim(consumer) == []
        due = wall() + 0.15
        broker.publish([publish("later", due=due), publish("now")])
        assert ids(claim(consumer)) == ["now"]
        assert broker.sizes()["work"] == QueueSize(delayed=1, leased=1)
        later = claim_when_ready(consumer)
        assert wall() >= due
        assert later.message.id == "later"

    def test_delayed_messages_come_when_due_to_a_worker_that_never_waits(
        self, broker: Broker, consume: Consume
    ) -> None:
        consumer = consume()
        broker.publish(publishes(range(3)))
        claim(consumer, 1)
        broker.publish([publish("urgent", due=wall() + 0.05, priority=9)])
        claimed: list[str] = []
        # A busy worker: there is always something else to claim, so it does not call ``wait``.
        eventually(
            lambda: (
                broker.publish([publish("ordinary")])
                or claimed.extend(ids(claim(consumer, 1)))
                or "urgent" in claimed
            )
        )

    def test_a_time_in_the_past_is_now(self, broker: Broker, consume: Consume) -> None:
        broker.publish([publish("old", due=wall() - 100)])
        assert ids(claim(consume())) == ["old"]

    def test_many_delayed_messages_all_come(self, broker: Broker, consume: Consume) -> None:
        due = wall() + 0.05
        broker.publish([publish(str(number), due=due) for number in range(1200)])
        consumer = consume()
        got: set[str] = set()
        eventually(lambda: got.update(ids(claim(consumer))) or len(got) == 1200)

    def test_it_opens_again_after_close(self, broker: Broker, consume: Consume) -> None:
        broker.publish([publish("before")])
        broker.close()
        broker.publish([publish("after")])
        broker.close()
        assert ids(claim(consume())) == ["before", "after"]


class ClaimContract:
    def test_nothing_there_is_an_empty_list(self, broker: Broker, consume: Consume) -> None:
        broker.publish([publish("other", "elsewhere")])
        before = monotonic()
        assert claim(consume("work")) == []
        assert monotonic() - before < 1.0

    def test_oldest_first(self, broker: Broker, consume: Consume) -> None:
        for batch in (range(4), range(4, 5), range(5, 20)):
            broker.publish(publishes(batch))
        consumer = consume()
        assert ids(claim(consumer, 7)) == [str(number) for number in range(7)]
        assert ids(claim(consumer)) == [str(number) for number in range(7, 20)]

    def test_higher_priority_first_then_oldest(self, broker: Broker, consume: Consume) -> None:
        priorities = {"a": 0, "b": 9, "c": 5, "d": 9, "e": 255, "f": 0}
        broker.publish([publish(id_, priority=p) for id_, p in priorities.items()])
        assert ids(claim(consume())) == ["e", "b", "d", "c", "a", "f"]

    def test_at_most_so_many_messages(self, broker: Broker, consume: Consume) -> None:
        broker.publish(publishes(range(5)))
        consumer = consume()
        assert [len(claim(consumer, 2)) for _ in range(4)] == [2, 2, 1, 0]

    def test_at_most_so_many_bytes(self, broker: Broker, consume: Consume) -> None:
        broker.publish([publish(str(number), body=b"x" * 100) for number in range(5)])
        consumer = consume()
        assert ids(consumer.claim(100, 250)) == ["0", "1"]
        assert ids(consumer.claim(100, 100)) == ["2"]
        assert broker.sizes()["work"] == QueueSize(ready=2, leased=3)

    def test_a_larger_message_goes_alone(self, broker: Broker, consume: Consume) -> None:
        lengths = {"small": 100, "large": 1000, "tiny": 1}
        broker.publish([publish(id_, body=b"x" * n) for id_, n in lengths.items()])
        consumer = consume()
        # The limit ends a claim: what is behind the large message does not overtake it.
        assert [ids(consumer.claim(100, 250)) for _ in range(3)] == [["small"], ["large"], ["tiny"]]

    def test_queues_take_turns(self, broker: Broker, consume: Consume) -> None:
        for queue in ("a", "b", "c"):
            broker.publish(publishes(range(20), queue))
        consumer = consume("a", "b", "c")
        order = [claim_one(consumer).queue for _ in range(12)]
        for turn in range(0, 12, 3):
            assert sorted(order[turn : turn + 3]) == ["a", "b", "c"]

    @pytest.mark.follows("ROUTE-16")
    def test_or_the_first_goes_first(self, broker: Broker) -> None:
        for queue in "abc":
            broker.publish(publishes(range(2), queue))
        consumer = broker.consumer(["b", "c", "a"], turns=False)
        order = [claim_one(consumer).queue for _ in range(5)]
        broker.publish([publish("late", "b")])
        assert [*order, claim_one(consumer).queue] == ["b", "b", "c", "c", "a", "b"]
        consumer.close()

    def test_one_claim_fills_up_from_all_queues(self, broker: Broker, consume: Consume) -> None:
        broker.publish([publish("1", "a"), publish("2", "b"), publish("3", "b")])
        assert sorted(ids(claim(consume("a", "b"), 3))) == ["1", "2", "3"]

    def test_every_receipt_is_new(self, broker: Broker, consume: Consume) -> None:
        broker.publish(publishes(range(3)))
        one, other = consume(), consume()
        receipts: list[str] = []
        for consumer in (one, other, one):
            deliveries = claim(consumer)
            receipts += [delivery.receipt for delivery in deliveries]
            consumer.requeue([delivery.receipt for delivery in deliveries])
        assert len(set(receipts)) == 9

    def test_claims_are_counted(self, broker: Broker, consume: Consume) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        for count in (1, 2, 3):
            delivery = claim_one(consumer)
            assert delivery.claims == count
            consumer.requeue([delivery.receipt])

    def test_each_message_goes_to_one_of_many_threads(
        self, broker: Broker, consume: Consume
    ) -> None:
        broker.publish(publishes(range(400)))
        claimed: list[list[str]] = [[] for _ in range(4)]
        consumers = [consume() for _ in claimed]
        go = Event()

        def work(consumer: Consumer, mine: list[str]) -> None:
            go.wait()
            while batch := ids(claim(consumer, 3)):
                mine.extend(batch)

        threads = [Thread(target=work, args=pair) for pair in zip(consumers, claimed, strict=True)]
        for thread in threads:
            thread.start()
        go.set()
        for thread in threads:
            thread.join()
        assert sorted(chain(*claimed)) == sorted(str(number) for number in range(400))


class WaitContract:
    def test_it_returns_when_something_is_ready(self, broker: Broker, consume: Consume) -> None:
        consumer = consume()
        broker.publish([publish("1")])
        assert _took(lambda: consumer.wait(10.0)) < 1.0

    def test_it_returns_after_the_timeout(self, consume: Consume) -> None:
        consumer = consume()
        assert _took(lambda: consumer.wait(0.05)) < 1.0
        assert _took(lambda: consumer.wait(0.0)) < 1.0

    def test_a_message_wakes_it_quickly(self, broker: Broker, consume: Consume) -> None:
        consumer = consume()
        delays = []
        for number in range(15):
            publication = publish(str(number))
            published = InAMoment(partial(broker.publish, [publication]))
            assert wait_for(consumer).message == publication.message
            delays.append(published.ago())
        assert median(delays) < QUICK
        assert max(delays) < 1.0

    def test_a_message_given_back_wakes_it(self, broker: Broker, consume: Consume) -> None:
        sleeper, worker = consume(), consume()
        broker.publish([publish("1")])
        delays = []
        for _ in range(5):
            given_back = InAMoment(partial(worker.requeue, [claim_one(worker).receipt]))
            delivery = wait_for(sleeper)
            delays.append(given_back.ago())
            sleeper.requeue([delivery.receipt])
        assert median(delays) < QUICK

    def test_a_due_time_wakes_it(self, broker: Broker, consume: Consume) -> None:
        consumer = consume()
        due = wall() + 0.15
        broker.publish([publish("1", due=due)])
        wait_for(consumer)
        assert 0.0 <= wall() - due < 0.3

    def test_a_sooner_due_time_wakes_it_while_it_waits(
        self, broker: Broker, consume: Consume
    ) -> None:
        consumer = consume()
        broker.publish([publish("late", due=wall() + 60)])
        due = wall() + 0.35
        published = InAMoment(lambda: broker.publish([publish("soon", due=due)]))
        assert wait_for(consumer).message.id == "soon"
        assert wall() - due < 0.3
        published.ago()

    def test_wake_ends_it(self, consume: Consume) -> None:
        consumer = consume()
        woken = InAMoment(consumer.wake)
        consumer.wait(10.0)
        assert woken.ago() < 1.0

    def test_wake_is_not_lost_before_it(self, consume: Consume) -> None:
        consumer = consume()
        consumer.wake()
        consumer.wake()
        assert _took(lambda: consumer.wait(10.0)) < 1.0

    def test_messages_of_other_queues_are_no_cause(self, broker: Broker, consume: Consume) -> None:
        consumer = consume("work")
        broker.publish([publish("1", "elsewhere")])
        consumer.wait(0.05)
        assert claim(consumer) == []


class InspectionContract:
    def test_sizes_by_queue_and_place(self, broker: Broker, consume: Consume) -> None:
        assert broker.sizes() == {}
        broker.publish(publishes(range(5), "a"))
        broker.publish([publish("x", "a", due=wall() + 60), publish("y", "b", due=wall() + 60)])
        consumer = consume("a")
        claim(consumer, 2)
        if broker.counts_delayed:
            delayed = {"a": QueueSize(ready=3, delayed=1, leased=2), "b": QueueSize(delayed=1)}
            assert broker.sizes() == delayed
        else:
            assert broker.sizes() == {"a": QueueSize(ready=3, leased=2)}

    def test_purge_removes_what_nobody_holds(self, broker: Broker, consume: Consume) -> None:
        broker.publish(publishes(range(3)))
        broker.publish([publish("later", due=wall() + 60), publish("other", "elsewhere")])
        consumer = consume()
        held = claim_one(consumer)
        # What is delayed counts, where it can be seen at all.
        assert broker.purge("work") == 2 + broker.counts_delayed
        assert broker.purge("work") == 0
        assert broker.purge("no such queue") == 0
        assert broker.sizes() == {"work": QueueSize(leased=1), "elsewhere": QueueSize(ready=1)}
        consumer.requeue([held.receipt])
        assert ids(claim(consumer)) == [held.message.id]

    def test_release_has_delayed_messages_come_at_once(
        self, broker: Broker, consume: Consume
    ) -> None:
        if not broker.counts_delayed:
            pytest.skip("what is delayed there cannot be seen, nor be had before its time")
        later = [publish(str(n), due=wall() + 60 - n) for n in range(3)]
        broker.publish([*later, publish("now"), publish("other", "elsewhere", due=wall() + 60)])
        consumer = consume()
        parked = claim_one(consumer)
        consumer.defer(parked.receipt, wall() + 5, unknown=True)
        assert broker.release("work") == 4
        assert broker.release("work") == 0
        assert broker.release("no such queue") == 0
        assert broker.sizes() == {
            "work": QueueSize(ready=4),
            "elsewhere": QueueSize(delayed=1),
        }
        assert ids(claim(consumer)) == ["now", "2", "1", "0"]

    def test_release_wakes_a_worker(self, broker: Broker, consume: Consume) -> None:
        if not broker.counts_delayed:
            pytest.skip("what is delayed there cannot be seen, nor be had before its time")
        broker.publish([publish("1", due=wall() + 60)])
        consumer = consume()
        released = InAMoment(lambda: broker.release("work"))
        assert wait_for(consumer).message.id == "1"
        assert released.ago() < 1.0

    def test_workers_are_seen(self, broker: Broker, consume: Consume) -> None:
        assert broker.worker_seen() is None
        broker.publish([publish("1")])
        assert broker.worker_seen() is None
        before = wall()
        consume()
        seen = broker.worker_seen()
        assert seen is not None
        assert before <= seen <= wall()

    def test_no_dead_letters(self, broker: Broker) -> None:
        assert broker.dead() == []


def wait_for(consumer: Consumer) -> Delivery:
    """Wait and claim, as a worker does, until there is a message."""
    deadline = monotonic() + 10
    while not (claimed := claim(consumer, 1)):
        assert monotonic() < deadline, "no message within 10 s"
        consumer.wait(10.0)
    return claimed[0]


def _took(action: Callable[[], object]) -> float:
    before = monotonic()
    action()
    return monotonic() - before
