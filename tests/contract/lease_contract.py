"""What every broker promises about leases, and about deliveries that are given back.

The fixtures are those of ``broker_contract.py``.
"""

import pytest

from celeriac.brokers.base import Broker
from celeriac.clock import wall
from celeriac.completion import SETTLED, Completion, Settlement
from celeriac.message import QueueSize
from celeriac.results.base import ResultStore
from tests.contract.broker_contract import Consume, claim, claim_one, claim_when_ready, lose
from tests.fixtures.messages import ANY_SIZE, ids, publish, publishes
from tests.fixtures.waiting import eventually


class LeaseContract:
    def test_a_live_lease_is_not_swept(self, broker: Broker, consume: Consume) -> None:
        broker.publish([publish("1")])
        claim_one(consume(lease=20.0))
        assert consume().sweep() == 0
        assert broker.sizes()["work"] == QueueSize(leased=1)

    def test_what_is_not_renewed_goes_back(self, broker: Broker, consume: Consume) -> None:
        broker.publish(publishes(range(3)))
        claimed = claim(consume(lease=0.05), 2)
        other = consume()
        assert lose(other) == 2
        assert broker.sizes()["work"] == QueueSize(ready=3)
        again = claim(other)
        # To the place they were taken from, and marked.
        assert ids(again) == ["0", "1", "2"]
        assert [delivery.suspect for delivery in again] == [True, True, False]
        assert [delivery.claims for delivery in again] == [2, 2, 1]
        assert not {d.receipt for d in claimed} & {d.receipt for d in again}

    def test_renewal_extends_a_lease(self, broker: Broker, consume: Consume) -> None:
        if not broker.leases_lapse:
            pytest.skip("its leases end with the connection of their holder, all at once")
        broker.publish(publishes(["kept", "lost"]))
        consumer, other = consume(lease=0.2), consume()
        kept, lost = (delivery.receipt for delivery in claim(consumer))
        eventually(lambda: consumer.renew([kept]) or other.sweep())
        assert consumer.renew([kept, lost]) == {lost}
        assert ids(claim(other)) == ["lost"]

    def test_renewal_of_nothing(self, consume: Consume) -> None:
        assert consume().renew([]) == set()

    def test_renewal_does_not_recreate_a_lease(self, broker: Broker, consume: Consume) -> None:
        broker.publish([publish("1")])
        consumer, other = consume(lease=0.05), consume()
        receipt = claim_one(consumer).receipt
        assert lose(other) == 1
        assert consumer.renew([receipt]) == {receipt}
        assert broker.sizes()["work"] == QueueSize(ready=1)
        taken = claim_one(other)
        # Nor does it touch the lease of the one who has the message now.
        assert consumer.renew([receipt]) == {receipt}
        assert other.renew([taken.receipt]) == set()

    def test_a_started_run_counts_as_a_loss(self, broker: Broker, consume: Consume) -> None:
        broker.publish(publishes(["started", "waiting"]))
        consumer, other = consume(lease=0.05), consume()
        started, _ = claim(consumer)
        assert consumer.start([started.receipt]) == set()
        assert lose(other) == 2
        again = claim(other)
        assert {d.message.id: d.losses for d in again} == {"started": 1, "waiting": 0}
        assert [delivery.suspect for delivery in again] == [True, True]

    def test_losses_add_up(self, broker: Broker, consume: Consume) -> None:
        broker.publish([publish("1")])
        consumer = consume(lease=0.02)
        for losses in range(3):
            delivery = claim_one(consumer)
            assert delivery.losses == losses
            consumer.start([delivery.receipt])
            assert lose(consumer) == 1

    def test_a_start_does_not_outlive_its_delivery(self, broker: Broker, consume: Consume) -> None:
        broker.publish([publish("1")])
        consumer = consume(lease=0.02)
        delivery = claim_one(consumer)
        consumer.start([delivery.receipt])
        consumer.requeue([delivery.receipt])
        claim_one(consumer)
        lose(consumer)
        assert claim_one(consumer).losses == 0

    def test_start_names_the_stale(self, broker: Broker, consume: Consume) -> None:
        broker.publish(publishes(["1", "2"]))
        consumer = consume()
        lost, kept = (delivery.receipt for delivery in claim(consumer))
        consumer.requeue([lost])
        assert consumer.start([lost, kept]) == {lost}

    def test_a_stale_start_does_not_touch_the_new_holder(
        self, broker: Broker, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        loser, holder = consume(lease=0.02), consume(lease=0.02)
        stale = claim_one(loser).receipt
        lose(holder)
        claim_one(holder)
        assert loser.start([stale]) == {stale}
        lose(holder)
        assert claim_one(holder).losses == 0

    def test_close_gives_everything_back(self, broker: Broker, consume: Consume) -> None:
        broker.publish(publishes(range(4)))
        consumer, other = consume(), consume()
        first, *_ = claim(consumer, 2)
        consumer.start([first.receipt])
        claim(other, 1)
        consumer.close()
        consumer.close()
        assert broker.sizes()["work"] == QueueSize(ready=3, leased=1)
        again = claim(other)
        # Where what has started does not keep its place, it is the last.
        assert ids(again) == (["0", "1", "3"] if broker.leases_lapse else ["1", "3", "0"])
        assert [(d.suspect, d.losses) for d in again] == [(False, 0)] * 3
        assert other.renew([first.receipt]) == {first.receipt}


class GivingBackContract:
    def test_requeue_puts_it_where_it_was(self, broker: Broker, consume: Consume) -> None:
        broker.publish(publishes(range(4)))
        consumer = consume()
        first, second = claim(consumer, 2)
        consumer.requeue([second.receipt, first.receipt])
        again = claim(consumer)
        assert ids(again) == ["0", "1", "2", "3"]
        assert [(d.suspect, d.losses) for d in again] == [(False, 0)] * 4

    def test_suspicion_stays_whoever_gives_it_back(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume(lease=0.05)
        claim_one(consumer)
        lose(other := consume())

        def again() -> str:
            delivery = eventually(lambda: other.claim(1, ANY_SIZE))[0]
            assert delivery.suspect
            return delivery.receipt

        other.requeue([again()])
        other.defer(again(), wall())
        for settlement in (Settlement.REQUEUE, Settlement.RETURN, Settlement.LOSS):
            done = Completion(receipt=again(), settlement=settlement)
            assert other.commit([done], store) == [SETTLED]
        again()

    def test_requeue_skips_the_stale(self, broker: Broker, consume: Consume) -> None:
        broker.publish(publishes(["lost", "kept"]))
        consumer, other = consume(), consume()
        lost, kept = (delivery.receipt for delivery in claim(consumer))
        consumer.requeue([lost])
        claim_one(other)
        consumer.requeue([lost, kept])
        assert broker.sizes()["work"] == QueueSize(ready=1, leased=1)
        assert ids(claim(consumer)) == ["kept"]

    def test_defer_keeps_it_until_due_and_puts_it_last(
        self, broker: Broker, consume: Consume
    ) -> None:
        broker.publish(publishes(["1", "2", "3"]))
        consumer = consume()
        due = wall() + 0.1
        assert consumer.defer(claim_one(consumer).receipt, due)
        if broker.counts_delayed:
            assert broker.sizes()["work"] == QueueSize(ready=2, delayed=1)
        eventually(lambda: wall() > due)
        again = claim(consumer)
        assert ids(again) == ["2", "3", "1"]
        assert (again[2].claims, again[2].suspect, again[2].losses) == (2, False, 0)
        assert (again[2].parked, again[2].parkings) == (None, 0)

    def test_defer_with_a_stale_receipt_does_nothing(
        self, broker: Broker, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer, other = consume(lease=0.02), consume()
        receipt = claim_one(consumer).receipt
        lose(other)
        assert not consumer.defer(receipt, wall() + 100, unknown=True)
        taken = claim_one(other)
        assert not consumer.defer(receipt, wall() + 100, unknown=True)
        assert (taken.parked, broker.sizes()["work"]) == (None, QueueSize(leased=1))

    def test_unknown_tasks_are_parked_and_seen_by_name(
        self, broker: Broker, consume: Consume
    ) -> None:
        names = {"1": "lost.task", "2": "lost.task", "3": "other.task", "4": "known.task"}
        broker.publish([publish(id_, task=task) for id_, task in names.items()])
        consumer = consume()
        before = wall()
        for delivery in claim(consumer):
            known = delivery.message.task == "known.task"
            assert consumer.defer(delivery.receipt, wall() + 0.1, unknown=not known)
        if broker.counts_delayed:
            size = broker.sizes()["work"]
            assert size == QueueSize(delayed=4, unknown={"lost.task": 2, "other.task": 1})
        again = [claim_when_ready(consumer) for _ in names]
        assert broker.sizes()["work"].unknown == {}
        for delivery in again:
            if delivery.message.task == "known.task":
                assert (delivery.parked, delivery.parkings) == (None, 0)
            else:
                assert delivery.parked == pytest.approx(before, abs=5.0)
                assert delivery.parkings == 1

    def test_parking_remembers_the_first_time(self, broker: Broker, consume: Consume) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        consumer.defer(claim_one(consumer).receipt, wall(), unknown=True)
        first = claim_when_ready(consumer)
        parked = first.parked
        assert parked is not None
        eventually(lambda: wall() > parked)
        consumer.defer(first.receipt, wall(), unknown=True)
        second = claim_when_ready(consumer)
        assert (second.parked, second.parkings) == (parked, 2)
