"""What every broker promises about a commit: every settlement, the fence, refusals, follow-ups.

The fixtures are those of ``broker_contract.py``. Commits are given the fixture ``store``.
"""

from collections.abc import Callable
from functools import partial
from statistics import median

import pytest
from msgspec.structs import replace

from celeriac.brokers.base import Broker, Consumer
from celeriac.clock import wall
from celeriac.completion import SETTLED, STALE, Completion, Put, Settlement
from celeriac.message import QueueSize
from celeriac.results.base import ResultStore
from celeriac.states import STARTED, SUCCESS
from tests.contract.broker_contract import (
    QUICK,
    Consume,
    claim,
    claim_one,
    claim_when_ready,
    lose,
    wait_for,
)
from tests.fixtures.messages import ids, publish, publishes
from tests.fixtures.waiting import InAMoment, eventually

EVERY_SETTLEMENT = list(Settlement)
GIVING_BACK = [Settlement.REQUEUE, Settlement.RETURN, Settlement.LOSS]

Steal = Callable[[Consumer, Consumer], str]
"""Claims a message with one consumer and takes it away; returns the receipt that is stale now."""


def swept(loser: Consumer, other: Consumer) -> str:
    receipt = claim_one(loser).receipt
    lose(other)
    return receipt


def claimed_by_another(loser: Consumer, other: Consumer) -> str:
    receipt = swept(loser, other)
    claim_one(other)
    return receipt


def given_back(loser: Consumer, _: Consumer) -> str:
    receipt = claim_one(loser).receipt
    loser.requeue([receipt])
    return receipt


def settled_before(loser: Consumer, _: Consumer) -> str:
    receipt = claim_one(loser).receipt
    assert loser.commit([Completion(receipt=receipt, settlement=Settlement.ACK)], None) == [SETTLED]
    return receipt


EVERY_THEFT = [swept, claimed_by_another, given_back, settled_before]


def full(receipt: str, settlement: Settlement = Settlement.ACK, mark: str = "1") -> Completion:
    """Return a completion that does everything a completion can, but for a join."""
    return Completion(
        receipt=receipt,
        settlement=settlement,
        reason="last words",
        puts=(Put(f"document-{mark}", b"value"), Put(f"other-{mark}", b"value")),
        publishes=(publish(f"follow-up-{mark}", "next"),),
    )


class SettlementContract:
    @pytest.mark.parametrize("settlement", EVERY_SETTLEMENT)
    def test_documents_and_follow_ups_come_with_every_settlement(
        self, broker: Broker, store: ResultStore, consume: Consume, settlement: Settlement
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        receipt = claim_one(consumer).receipt
        assert consumer.commit([full(receipt, settlement)], store) == [SETTLED]
        assert store.get(["document-1", "other-1"]) == {"document-1": b"value", "other-1": b"value"}
        assert ids(claim(consume("next"))) == ["follow-up-1"]

    @pytest.mark.parametrize(
        ("settlement", "order", "losses"),
        [
            (Settlement.ACK, ["2", "3"], None),
            (Settlement.DEAD, ["2", "3"], None),
            (Settlement.KEEP, ["2", "3"], None),
            (Settlement.REQUEUE, ["1", "2", "3"], 0),
            (Settlement.RETURN, ["2", "3", "1"], 0),
            (Settlement.LOSS, ["2", "3", "1"], 1),
        ],
    )
    def test_where_the_message_is_afterwards(
        self,
        broker: Broker,
        store: ResultStore,
        consume: Consume,
        settlement: Settlement,
        order: list[str],
        losses: int | None,
    ) -> None:
        broker.publish(publishes(["1", "2", "3"]))
        consumer = consume()
        receipt = claim_one(consumer).receipt
        completion = Completion(receipt=receipt, settlement=settlement)
        assert consumer.commit([completion], store) == [SETTLED]
        assert consumer.renew([receipt]) == (set() if settlement is Settlement.KEEP else {receipt})
        rest = claim(consumer)
        assert ids(rest) == order
        told = {d.message.id: (d.claims, d.suspect, d.losses) for d in rest}
        assert told.get("1") == (None if losses is None else (2, False, losses))

    def test_dead_keeps_it_with_its_last_words(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish([publish("1", body=b"the body", priority=3), publish("2"), publish("3")])
        consumer = consume()
        before = wall()
        for number in range(2):
            delivery = claim_one(consumer)
            last_words = Completion(
                receipt=delivery.receipt, settlement=Settlement.DEAD, reason=f"reason {number}"
            )
            assert consumer.commit([last_words], store) == [SETTLED]
        newest, oldest = broker.dead()
        assert [newest.message.id, oldest.message.id] == ["2", "1"]
        assert [newest.reason, oldest.reason] == ["reason 1", "reason 0"]
        assert oldest.message == publish("1", body=b"the body", priority=3).message
        assert (oldest.queue, oldest.losses) == ("work", 0)
        assert before <= oldest.died <= newest.died <= wall()
        assert broker.dead(limit=1) == [newest]
        assert broker.sizes() == {"work": QueueSize(ready=1)}

    def test_dead_letters_remember_losses(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        for settlement in (Settlement.LOSS, Settlement.LOSS, Settlement.DEAD):
            receipt = claim_one(consumer).receipt
            consumer.commit([Completion(receipt=receipt, settlement=settlement)], store)
        assert [letter.losses for letter in broker.dead()] == [2]

    def test_keep_stores_and_holds_on(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        receipt = claim_one(consumer).receipt
        started = Put("document", b"started", state=STARTED)
        done = Put("document", b"done", state=SUCCESS)
        keep = Completion(receipt=receipt, settlement=Settlement.KEEP, puts=(started,))
        assert consumer.commit([keep], store) == [SETTLED]
        assert consumer.renew([receipt]) == set()
        assert store.get(["document"]) == {"document": b"started"}
        end = Completion(receipt=receipt, settlement=Settlement.ACK, puts=(done,))
        assert consumer.commit([end], store) == [SETTLED]
        assert store.get(["document"]) == {"document": b"done"}
        assert broker.sizes() == {}

    @pytest.mark.parametrize("settlement", GIVING_BACK)
    def test_a_recorded_start_ends_with_the_delivery(
        self, broker: Broker, store: ResultStore, consume: Consume, settlement: Settlement
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume(lease=0.02)
        receipt = claim_one(consumer).receipt
        consumer.start([receipt])
        consumer.commit([Completion(receipt=receipt, settlement=settlement)], store)
        claim_one(consumer)
        lose(consumer)
        assert claim_one(consumer).losses == (settlement is Settlement.LOSS)

    def test_nothing_to_commit(self, store: ResultStore, consume: Consume) -> None:
        assert consume().commit([], store) == []

    def test_without_a_store_documents_are_dropped(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        assert consumer.commit([full(claim_one(consumer).receipt)], None) == [SETTLED]
        assert store.get(["document-1", "other-1"]) == {}
        assert broker.sizes() == {"next": QueueSize(ready=1)}

    @pytest.mark.follows("RES-20")
    def test_a_success_is_not_overwritten(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        store.put([Put("document", b"the first", state=SUCCESS)])
        broker.publish([publish("1")])
        consumer = consume()
        late = Put("document", b"the second", state=SUCCESS)
        completion = Completion(
            receipt=claim_one(consumer).receipt, settlement=Settlement.ACK, puts=(late,)
        )
        assert consumer.commit([completion], store) == [SETTLED]
        assert store.get(["document"]) == {"document": b"the first"}

    def test_documents_live_as_long_as_they_should(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        puts = (Put("short", b"1", ttl=0.05), Put("long", b"1", ttl=60.0), Put("ever", b"1"))
        completion = Completion(
            receipt=claim_one(consumer).receipt, settlement=Settlement.ACK, puts=puts
        )
        assert consumer.commit([completion], store) == [SETTLED]
        eventually(lambda: not store.get(["short"]))
        assert set(store.get(["short", "long", "ever"])) == {"long", "ever"}

    def test_follow_ups_may_be_for_later(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        due = wall() + 0.15
        retry = Completion(
            receipt=claim_one(consumer).receipt,
            settlement=Settlement.ACK,
            publishes=(publish("retry", due=due), publish("now")),
        )
        assert consumer.commit([retry], store) == [SETTLED]
        if broker.counts_delayed:
            assert broker.sizes()["work"] == QueueSize(ready=1, delayed=1)
        assert claim_one(consumer).message.id == "now"
        assert claim_when_ready(consumer).message.id == "retry"
        assert wall() >= due

    @pytest.mark.follows("ROUTE-08")
    def test_follow_ups_go_to_each_of_their_queues(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        completion = Completion(
            receipt=claim_one(consumer).receipt,
            settlement=Settlement.ACK,
            publishes=(replace(publish("2", "a"), copies=("b",)),),
        )
        assert consumer.commit([completion], store) == [SETTLED]
        assert [ids(claim(consume(name))) for name in "ab"] == [["2"], ["2"]]

    def test_follow_ups_wake_workers_of_their_queue(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(5)))
        consumer, sleeper = consume(), consume("next")
        delays = []
        for number, delivery in enumerate(claim(consumer)):
            completion = full(delivery.receipt, mark=str(number))
            committed = InAMoment(partial(consumer.commit, [completion], store))
            assert wait_for(sleeper).message.id == f"follow-up-{number}"
            delays.append(committed.ago())
        assert median(delays) < QUICK

    def test_documents_wake_watchers(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(5)))
        consumer, watch = consume(), store.watch()
        delays = []
        for number, delivery in enumerate(claim(consumer)):
            watch.add([f"document-{number}"])
            completion = full(delivery.receipt, mark=str(number))
            committed = InAMoment(partial(consumer.commit, [completion], store))
            assert watch.wait(10.0) == {f"document-{number}": b"value"}
            delays.append(committed.ago())
            watch.discard([f"document-{number}"])
        watch.close()
        assert median(delays) < QUICK


class FenceContract:
    @pytest.mark.parametrize("steal", EVERY_THEFT)
    @pytest.mark.parametrize("settlement", EVERY_SETTLEMENT)
    def test_a_stale_receipt_does_nothing(
        self,
        broker: Broker,
        store: ResultStore,
        consume: Consume,
        settlement: Settlement,
        steal: Steal,
    ) -> None:
        broker.publish([publish("1")])
        loser, other = consume(lease=0.01), consume()
        receipt = steal(loser, other)
        before = broker.sizes()
        assert loser.commit([full(receipt, settlement)], store) == [STALE]
        assert broker.sizes() == before
        assert broker.dead() == []
        assert store.get(["document-1", "other-1"]) == {}

    def test_the_new_holder_is_not_disturbed(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        loser, other = consume(lease=0.01), consume()
        stale = swept(loser, other)
        receipt = claim_one(other).receipt
        for settlement in EVERY_SETTLEMENT:
            assert loser.commit([full(stale, settlement)], store) == [STALE]
        loser.requeue([stale])
        loser.close()
        assert other.renew([receipt]) == set()
        assert other.commit([full(receipt, mark="2")], store) == [SETTLED]
        assert store.get(["document-1", "document-2"]) == {"document-2": b"value"}

    def test_the_stale_do_not_hold_back_the_others(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(4)))
        consumer = consume()
        receipts = [delivery.receipt for delivery in claim(consumer)]
        consumer.requeue([receipts[1], receipts[2]])
        completions = [full(receipt, mark=str(n)) for n, receipt in enumerate(receipts)]
        assert consumer.commit(completions, store) == [SETTLED, STALE, STALE, SETTLED]
        documents = store.get([f"document-{number}" for number in range(4)])
        assert set(documents) == {"document-0", "document-3"}
        assert broker.sizes() == {"work": QueueSize(ready=2), "next": QueueSize(ready=2)}

    def test_of_two_completions_of_one_delivery_the_second_is_stale(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        receipt = claim_one(consumer).receipt
        twice = [
            Completion(receipt=receipt, settlement=Settlement.ACK),
            Completion(receipt=receipt, settlement=Settlement.LOSS),
        ]
        assert consumer.commit(twice, store) == [SETTLED, STALE]
        assert broker.sizes() == {}

    def test_a_lease_that_ended_holds_until_it_is_swept(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume(lease=0.0)
        assert consumer.commit([full(claim_one(consumer).receipt)], store) == [SETTLED]
        assert consumer.sweep() == 0


class RefusalContract:
    def test_what_the_store_never_takes_is_refused_alone(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        store.max_bytes = 100
        broker.publish(publishes(range(3)))
        consumer = consume()
        receipts = [delivery.receipt for delivery in claim(consumer)]
        large = Completion(
            receipt=receipts[1],
            settlement=Settlement.ACK,
            puts=(Put("fits", b"x" * 100), Put("does not", b"x" * 101)),
            publishes=(publish("never", "next"),),
        )
        completions = [full(receipts[0], mark="0"), large, full(receipts[2], mark="2")]
        first, refused, third = consumer.commit(completions, store)
        assert (first, refused.kind, third) == (SETTLED, "refused", SETTLED)
        assert "101 bytes" in refused.error
        # Nothing of it was done, and the delivery is still held.
        assert store.get(["fits", "does not"]) == {}
        assert broker.sizes() == {"work": QueueSize(leased=1), "next": QueueSize(ready=2)}
        failure = Completion(
            receipt=receipts[1], settlement=Settlement.ACK, puts=(Put("does not", b"too large"),)
        )
        assert consumer.commit([failure], store) == [SETTLED]
        assert store.get(["does not"]) == {"does not": b"too large"}

    def test_close_gives_back_what_was_refused(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        store.max_bytes = 100
        broker.publish([publish("1")])
        consumer = consume()
        large = Completion(
            receipt=claim_one(consumer).receipt,
            settlement=Settlement.ACK,
            puts=(Put("large", b"x" * 101),),
        )
        [verdict] = consumer.commit([large], store)
        assert verdict.kind == "refused"
        consumer.close()
        assert broker.sizes() == {"work": QueueSize(ready=1)}
