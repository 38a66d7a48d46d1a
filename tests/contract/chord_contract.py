"""What every broker promises about chords: members are counted once, the body is brought once.

The fixtures are those of ``broker_contract.py``. A member is one message here; its completion reports
in with a join. The completion that makes the chord complete is answered ``held``, and is committed
again with the token and the body.
"""

from collections.abc import Sequence

import pytest

from celeriac.brokers.base import Broker, Consumer
from celeriac.completion import SETTLED, STALE, Completion, Join, Put, Settlement, Verdict
from celeriac.message import Delivery, QueueSize
from celeriac.results.base import ResultStore
from tests.contract.broker_contract import Consume, claim, claim_one, lose
from tests.fixtures.messages import ids, publish, publishes

BODY = publish("body", "bodies")


def member(delivery: Delivery, index: int, size: int, group: str = "group") -> Completion:
    """Return the completion of a chord member."""
    return Completion(
        receipt=delivery.receipt,
        settlement=Settlement.ACK,
        puts=(Put(f"document-{index}", b"value"),),
        join=Join(group=group, index=index, member=b"member %d" % index, size=size),
    )


def with_body(
    delivery: Delivery, index: int, size: int, token: str, group: str = "group"
) -> Completion:
    """Return the second completion of the member that was answered ``held``."""
    return Completion(
        receipt=delivery.receipt,
        settlement=Settlement.ACK,
        publishes=(BODY,),
        join=Join(group=group, index=index, member=b"member %d" % index, size=size, token=token),
    )


def commit_one(consumer: Consumer, completion: Completion, store: ResultStore) -> Verdict:
    [verdict] = consumer.commit([completion], store)
    return verdict


def commit_members(
    consumer: Consumer, deliveries: Sequence[Delivery], store: ResultStore
) -> Verdict:
    """Report all members in, one after the other; return the verdict on the last, who is held."""
    size = len(deliveries)
    *others, last = [member(delivery, n, size) for n, delivery in enumerate(deliveries)]
    for other in others:
        assert commit_one(consumer, other, store) == SETTLED
    verdict = commit_one(consumer, last, store)
    assert verdict.kind == "held"
    return verdict


class ChordContract:
    def test_the_last_member_is_held_and_brings_the_body(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(3)))
        consumer = consume()
        deliveries = claim(consumer)
        held = commit_members(consumer, deliveries, store)
        assert held.members == (b"member 0", b"member 1", b"member 2")
        assert held.token
        # All of it is true but the settlement: its document is there, its delivery still held.
        assert len(store.get([f"document-{number}" for number in range(3)])) == 3
        assert broker.sizes() == {"work": QueueSize(leased=1)}
        assert consumer.renew([deliveries[2].receipt]) == set()
        assert commit_one(consumer, with_body(deliveries[2], 2, 3, held.token), store) == SETTLED
        assert broker.sizes() == {"bodies": QueueSize(ready=1)}
        assert ids(claim(consume("bodies"))) == ["body"]

    def test_members_come_in_the_order_of_their_index(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(12)))
        consumer = consume()
        numbered = list(enumerate(claim(consumer)))
        held = [
            commit_one(consumer, member(delivery, index, 12), store)
            for index, delivery in reversed(numbered)
        ][-1]
        assert held.members == tuple(b"member %d" % index for index in range(12))

    def test_members_in_one_batch(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(4)))
        consumer = consume()
        one, two, three, four = claim(consumer)
        verdicts = consumer.commit(
            [
                member(one, 0, 2, "a"),
                member(two, 0, 2, "b"),
                member(three, 1, 2, "a"),
                member(four, 1, 2, "b"),
            ],
            store,
        )
        assert [verdict.kind for verdict in verdicts] == ["settled", "settled", "held", "held"]
        tokens = [verdict.token for verdict in verdicts[2:]]
        bodies = [
            with_body(three, 1, 2, tokens[0], "a"),
            with_body(four, 1, 2, tokens[1], "b"),
        ]
        assert consumer.commit(bodies, store) == [SETTLED, SETTLED]
        assert broker.sizes() == {"bodies": QueueSize(ready=2)}

    def test_a_chord_of_one(self, broker: Broker, store: ResultStore, consume: Consume) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        delivery = claim_one(consumer)
        held = commit_members(consumer, [delivery], store)
        assert commit_one(consumer, with_body(delivery, 0, 1, held.token), store) == SETTLED
        assert broker.sizes() == {"bodies": QueueSize(ready=1)}

    def test_a_member_counts_once_however_often_it_reports(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(4)))
        consumer = consume()
        first, again, third, last = claim(consumer)
        for delivery in (first, again):
            assert commit_one(consumer, member(delivery, 0, 3), store) == SETTLED
        assert commit_one(consumer, member(third, 1, 3), store) == SETTLED
        held = commit_one(consumer, member(last, 2, 3), store)
        assert held.members == (b"member 0", b"member 1", b"member 2")

    def test_a_stale_member_is_not_counted(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(2)))
        consumer = consume()
        lost, kept = claim(consumer)
        consumer.requeue([lost.receipt])
        assert commit_one(consumer, member(lost, 0, 2), store) == STALE
        assert commit_one(consumer, member(kept, 1, 2), store) == SETTLED

    def test_while_one_is_held_no_other_is(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(3)))
        consumer = consume()
        *members, redelivered = claim(consumer)
        held = commit_members(consumer, members, store)
        assert commit_one(consumer, member(redelivered, 0, 2), store) == SETTLED
        assert commit_one(consumer, with_body(members[1], 1, 2, held.token), store) == SETTLED

    def test_the_held_one_may_ask_again(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(2)))
        consumer = consume()
        deliveries = claim(consumer)
        first = commit_members(consumer, deliveries, store)
        # The answer was lost on its way; the same commit is made again.
        assert commit_one(consumer, member(deliveries[1], 1, 2), store) == first

    def test_a_crash_between_the_two_commits(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(3)))
        first, second = consume(lease=0.05), consume()
        deliveries = claim(first)
        held = commit_members(first, deliveries, store)
        assert lose(second) == 1
        redelivered = claim_one(second)
        assert redelivered.suspect
        again = commit_one(second, member(redelivered, 2, 3), store)
        assert (again.kind, again.members) == ("held", held.members)
        # The first holder comes back to life: too late, and its body goes nowhere.
        late = with_body(deliveries[2], 2, 3, held.token)
        assert commit_one(first, late, store) == STALE
        assert broker.sizes() == {"work": QueueSize(leased=1)}
        body = with_body(redelivered, 2, 3, again.token)
        assert commit_one(second, body, store) == SETTLED
        assert commit_one(first, late, store) == STALE
        assert broker.sizes() == {"bodies": QueueSize(ready=1)}

    def test_the_claim_passes_to_another_member_when_its_holder_is_gone(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        if not broker.leases_lapse:
            pytest.skip("nobody knows who is gone: the member that was held brings the body itself")
        broker.publish(publishes(range(2)))
        first, second = consume(lease=0.05), consume()
        deliveries = claim(first)
        commit_members(first, deliveries, store)
        broker.publish([publish("redelivered member", "redelivered")])
        lose(second)
        # Member 0 was settled before, but comes once more.
        another = consume("redelivered")
        delivery = claim_one(another)
        held = commit_one(another, member(delivery, 0, 2), store)
        assert (held.kind, held.members) == ("held", (b"member 0", b"member 1"))
        assert commit_one(another, with_body(delivery, 0, 2, held.token), store) == SETTLED
        # And the one that lost it has nothing to bring any more.
        last = claim_one(second)
        assert commit_one(second, member(last, 1, 2), store) == SETTLED
        assert broker.sizes() == {"bodies": QueueSize(ready=1)}

    def test_once_done_nobody_is_held(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(4)))
        consumer = consume()
        *members, late, later = claim(consumer)
        held = commit_members(consumer, members, store)
        commit_one(consumer, with_body(members[1], 1, 2, held.token), store)
        assert commit_one(consumer, member(late, 0, 2), store) == SETTLED
        assert commit_one(consumer, member(later, 1, 2), store) == SETTLED
        assert broker.sizes() == {"bodies": QueueSize(ready=1)}

    def test_a_token_serves_once(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(3)))
        consumer = consume()
        *members, other = claim(consumer)
        held = commit_members(consumer, members, store)
        assert commit_one(consumer, with_body(members[1], 1, 2, held.token), store) == SETTLED
        assert commit_one(consumer, with_body(other, 0, 2, held.token), store) == STALE
        assert consumer.renew([other.receipt]) == set()

    def test_close_gives_back_the_held(
        self, broker: Broker, store: ResultStore, consume: Consume
    ) -> None:
        broker.publish(publishes(range(2)))
        consumer = consume()
        commit_members(consumer, claim(consumer), store)
        consumer.close()
        assert broker.sizes() == {"work": QueueSize(ready=1)}

    @pytest.mark.parametrize("settlement", [Settlement.DEAD, Settlement.LOSS, Settlement.KEEP])
    def test_the_second_commit_may_settle_in_any_way(
        self, broker: Broker, store: ResultStore, consume: Consume, settlement: Settlement
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        delivery = claim_one(consumer)
        join = Join(group="group", index=0, member=b"", size=1)
        first = Completion(receipt=delivery.receipt, settlement=settlement, join=join)
        held = commit_one(consumer, first, store)
        assert held.kind == "held"
        assert broker.sizes() == {"work": QueueSize(leased=1)}
        assert broker.dead() == []
        join = Join(group="group", index=0, member=b"", size=1, token=held.token)
        second = Completion(receipt=delivery.receipt, settlement=settlement, join=join)
        assert commit_one(consumer, second, store) == SETTLED
        assert (broker.sizes() == {"work": QueueSize(ready=1)}) == (settlement is Settlement.LOSS)
        assert len(broker.dead()) == (settlement is Settlement.DEAD)
