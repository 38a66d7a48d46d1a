"""What every broker promises about dead letters: found, put back to work, deleted.

The fixtures are those of ``broker_contract.py``.
"""

from threading import Event, Thread
from typing import Any

import pytest

from celeriac.brokers.base import Broker
from celeriac.clock import wall
from celeriac.completion import SETTLED, Completion, Settlement
from celeriac.message import ALL_DEAD, DeadSelection, Message, Publish, QueueSize
from tests.contract.broker_contract import Consume, claim, claim_one, lose, wait_for
from tests.fixtures.messages import ids, publish
from tests.fixtures.waiting import InAMoment

NOBODY = DeadSelection(task="nobody.knows")


def bury(broker: Broker, consume: Consume, *publishes: Publish, reason: str = "last words") -> None:
    """Have these messages die, one after the other."""
    consumer = consume(*sorted({one.queue for one in publishes}))
    for one in publishes:
        broker.publish([one])
        receipt = claim_one(consumer).receipt
        done = Completion(receipt=receipt, settlement=Settlement.DEAD, reason=reason)
        assert consumer.commit([done], None) == [SETTLED]


def dead(broker: Broker, **which: Any) -> list[str]:
    """Return the ids of the tasks in these letters."""
    return [letter.message.id for letter in broker.dead(100, DeadSelection(**which))]


class DeadLetterContract:
    def test_there_are_none(self, broker: Broker) -> None:
        assert broker.dead() == []
        assert broker.revive(ALL_DEAD) == 0
        assert broker.delete_dead(ALL_DEAD) == 0
        assert broker.sizes() == {}

    def test_each_condition_selects(self, broker: Broker, consume: Consume) -> None:
        bury(broker, consume, publish("1", "a", task="x"), publish("2", "b", task="x"))
        bury(broker, consume, publish("3", "a", task="y"), publish("1", "b", task="y"))
        newest, *_, oldest = broker.dead()
        assert dead(broker) == ["1", "3", "2", "1"]
        assert dead(broker, task="x") == ["2", "1"]
        assert dead(broker, queue="a") == ["3", "1"]
        assert dead(broker, queue="a", task="y") == ["3"]
        assert dead(broker, ids=(newest.id,)) == ["1"]
        assert broker.dead(100, DeadSelection(ids=(oldest.id,))) == [oldest]
        assert dead(broker, ids=(newest.id, oldest.id)) == ["1", "1"]
        assert dead(broker, task_ids=("2", "3")) == ["3", "2"]
        assert broker.dead(100, DeadSelection(task_ids=("1",), queue="b")) == [newest]
        assert dead(broker, ids=(newest.id,), task_ids=("2",)) == []
        assert dead(broker, ids=()) == dead(broker, task_ids=()) == []
        assert dead(broker, task="z") == []
        assert [letter.message.id for letter in broker.dead(1, DeadSelection(task="x"))] == ["2"]

    def test_every_id_is_new(self, broker: Broker, consume: Consume) -> None:
        seen = []
        # Also after the newest has gone, and after all have.
        for selection in (None, ALL_DEAD, DeadSelection(task="demo.task")):
            bury(broker, consume, publish("1"), publish("2"))
            seen += [letter.id for letter in broker.dead()]
            if selection is None:
                broker.delete_dead(DeadSelection(ids=(broker.dead()[0].id,)))
                seen.remove(broker.dead()[0].id)
            else:
                broker.revive(selection)
                broker.purge("work")
        assert len(set(seen)) == len(seen)

    def test_a_revived_message_is_as_it_was_and_new(self, broker: Broker, consume: Consume) -> None:
        sent = Message(
            id="1",
            task="demo.täsk",
            headers=b'{"task": "demo.t\\u00e4sk", "id": "1", "retries": 2}',
            body=bytes(range(256)),
            content_type="application/x-python-serialize",
            content_encoding="binary",
            priority=7,
            reply_to="answers",
        )
        broker.publish([Publish(queue="work", message=sent)])
        lost = consume(lease=0.01)
        lost.start([claim_one(lost).receipt])
        consumer = consume()
        lose(consumer)
        receipt = claim_one(consumer).receipt
        consumer.defer(receipt, wall(), unknown=True)
        receipt = wait_for(consumer).receipt
        consumer.commit([Completion(receipt=receipt, settlement=Settlement.DEAD)], None)
        assert broker.dead()[0].losses == 1
        assert broker.revive(ALL_DEAD) == 1
        assert broker.dead() == []
        delivery = claim_one(consumer)
        assert delivery.message == sent
        assert delivery.queue == "work"
        assert (delivery.claims, delivery.suspect, delivery.losses) == (1, False, 0)
        assert (delivery.parked, delivery.parkings) == (None, 0)

    def test_they_come_back_behind_what_waits_in_their_order(
        self, broker: Broker, consume: Consume
    ) -> None:
        bury(broker, consume, publish("1"), publish("2"), publish("3", "other"), publish("4"))
        broker.publish([publish("waiting"), publish("urgent", priority=9)])
        assert broker.revive(DeadSelection(queue="work")) == 3
        broker.publish([publish("later")])
        assert dead(broker) == ["3"]
        assert ids(claim(consume())) == ["urgent", "waiting", "1", "2", "4", "later"]

    def test_a_revived_message_wakes_a_worker(self, broker: Broker, consume: Consume) -> None:
        bury(broker, consume, publish("1"))
        consumer = consume()
        revived = InAMoment(lambda: broker.revive(ALL_DEAD))
        assert wait_for(consumer).message.id == "1"
        assert revived.ago() < 1.0

    def test_only_what_is_selected_is_touched(self, broker: Broker, consume: Consume) -> None:
        bury(
            broker, consume, publish("1", task="x"), publish("2", task="y"), publish("3", task="x")
        )
        before = broker.dead()
        assert broker.revive(NOBODY) == broker.delete_dead(NOBODY) == 0
        assert broker.dead() == before
        assert broker.delete_dead(DeadSelection(task="x", task_ids=("1", "2"))) == 1
        assert broker.sizes() == {}
        assert broker.revive(DeadSelection(task_ids=("3", "3", "no such id"))) == 1
        assert broker.dead() == before[1:2]
        assert ids(claim(consume())) == ["3"]

    def test_many(self, broker: Broker, consume: Consume) -> None:
        sent = [publish(str(number)) for number in range(1203)]
        broker.publish(sent)
        consumer = consume()
        consumer.commit(
            [
                Completion(receipt=delivery.receipt, settlement=Settlement.DEAD)
                for delivery in claim(consumer, 2000)
            ],
            None,
        )
        assert broker.revive(ALL_DEAD) == 1203
        assert ids(claim(consumer, 2000)) == [one.message.id for one in sent]

    @pytest.mark.parametrize("end", ["revive", "delete_dead"])
    def test_one_of_many_threads_gets_each(
        self, broker: Broker, consume: Consume, end: str
    ) -> None:
        bury(broker, consume, *(publish(str(number)) for number in range(30)))
        go, counts = Event(), []

        def work() -> None:
            go.wait()
            for number in range(30):
                counts.append(getattr(broker, end)(DeadSelection(task_ids=(str(number),))))

        threads = [Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        go.set()
        for thread in threads:
            thread.join()
        assert sorted(counts) == [0] * 60 + [1] * 30
        assert broker.sizes() == ({"work": QueueSize(ready=30)} if end == "revive" else {})
