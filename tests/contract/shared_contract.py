"""What brokers and stores promise to several processes that share a server.

Fixtures as in ``broker_contract.py`` and ``result_store_contract.py``; here ``make_broker`` and
``make_store`` can also be sent to another process.
"""

from itertools import chain
from statistics import median

import pytest

from celeriac.brokers.base import Broker
from celeriac.clock import wall
from celeriac.completion import SETTLED, Put
from celeriac.message import QueueSize
from celeriac.results.base import ResultStore
from celeriac.results.memory import MemoryStore
from tests.contract.broker_contract import QUICK, Consume, claim, claim_one, lose, wait_for
from tests.contract.chord_contract import commit_one, member, with_body
from tests.contract.result_store_contract import collect
from tests.fixtures import embedded as other_process
from tests.fixtures.embedded import MakeBroker, MakeStore
from tests.fixtures.messages import ids, publishes
from tests.fixtures.processes import Start


class SharedBrokerContract:
    def test_each_message_goes_to_one_of_many_processes(
        self, broker: Broker, make_broker: MakeBroker, start: Start
    ) -> None:
        broker.publish(publishes(range(600)))
        children = [start(other_process.claim_all, make_broker) for _ in range(3)]
        for child in children:
            child.hear()
        for child in children:
            child.say("go")
        claimed = [child.hear() for child in children]
        assert sorted(chain(*claimed)) == sorted(str(number) for number in range(600))

    def test_a_message_of_another_process_wakes_it_quickly(
        self, make_broker: MakeBroker, consume: Consume, start: Start
    ) -> None:
        consumer = consume()
        publisher = start(other_process.publish_when_told, make_broker)
        publisher.hear()
        delays = []
        for number in range(15):
            publisher.say(str(number))
            delays.append(-float(wait_for(consumer).message.body) + wall())
        assert median(delays) < QUICK
        assert max(delays) < 1.0

    def test_what_a_killed_process_held_comes_back(
        self, broker: Broker, make_broker: MakeBroker, consume: Consume, start: Start
    ) -> None:
        broker.publish(publishes(["1", "2"]))
        child = start(other_process.hold, make_broker, 0.1)
        receipt = child.hear()
        child.kill()
        consumer = consume()
        assert lose(consumer) == 1
        assert consumer.renew([receipt]) == {receipt}
        again = claim(consumer)
        assert {d.message.id: (d.suspect, d.losses) for d in again} == {
            "1": (True, 1),
            "2": (False, 0),
        }
        assert ids(again) == ["1", "2"]

    def test_a_worker_killed_between_the_two_commits_of_a_chord(
        self,
        broker: Broker,
        store: ResultStore,
        make_broker: MakeBroker,
        consume: Consume,
        start: Start,
    ) -> None:
        if isinstance(store, MemoryStore):
            pytest.skip(
                "members are counted in the result store, which no other process shares here"
            )
        broker.publish(publishes(range(3)))
        child = start(other_process.complete_a_chord, make_broker, 3, 0.1)
        assert child.hear() == ["settled", "settled", "held"]
        child.kill()
        consumer = consume()
        assert lose(consumer) == 1
        delivery = claim_one(consumer)
        held = commit_one(consumer, member(delivery, 2, 3), store)
        assert held.members == (b"member 0", b"member 1", b"member 2")
        assert commit_one(consumer, with_body(delivery, 2, 3, held.token), store) == SETTLED
        assert broker.sizes() == {"bodies": QueueSize(ready=1)}

    def test_both_sides_of_a_fork_publish_on_their_own(
        self, make_broker: MakeBroker, consume: Consume, start: Start
    ) -> None:
        # No other connection is open meanwhile, so that the parent's close is the last that counts.
        start(other_process.publish_on_both_sides_of_a_fork, make_broker).hear()
        claimed = ids(claim(consume()))
        child = {"child", *(f"child {number}" for number in range(20))}
        assert sorted(claimed) == sorted({"before the fork", "parent", *child})

    def test_the_first_publish_imports_nothing(self, make_broker: MakeBroker, start: Start) -> None:
        """A child that is forked while another thread imports a module waits for it for ever."""
        assert start(other_process.modules_of_the_first_publish, make_broker).hear() == []

    def test_a_fork_while_another_thread_publishes(
        self, make_broker: MakeBroker, consume: Consume, start: Start
    ) -> None:
        by_thread = start(other_process.fork_amid_publishing, make_broker, 10).hear()
        claimed = ids(claim(consume(), 100_000))
        expected = {f"thread {number}" for number in range(by_thread)}
        expected |= {f"child {number}" for number in range(10)}
        assert sorted(claimed) == sorted(expected)


class SharedStoreContract:
    def test_a_document_of_another_process_is_reported_quickly(
        self, store: ResultStore, make_store: MakeStore, start: Start
    ) -> None:
        putter = start(other_process.put_when_told, make_store)
        putter.hear()
        watch = store.watch()
        delays = []
        for number in range(15):
            key = f"key-{number}"
            watch.add([key])
            putter.say(key)
            delays.append(wall() - float(collect(watch, {key})[key]))
        watch.close()
        assert median(delays) < QUICK
        assert max(delays) < 1.0

    def test_both_sides_of_a_fork_put_on_their_own(
        self, make_store: MakeStore, store: ResultStore, start: Start
    ) -> None:
        start(other_process.put_after_a_fork, make_store).hear()
        keys = ["before", "parent", *(f"child-{number}" for number in range(20))]
        assert sorted(store.get(keys)) == sorted(keys)

    def test_two_objects_for_one_server(self, store: ResultStore, make_store: MakeStore) -> None:
        other = make_store()
        watch = other.watch()
        watch.add(["a"])
        store.put([Put("a", b"1")])
        assert collect(watch, {"a"}) == {"a": b"1"}
        watch.close()
        other.close()
