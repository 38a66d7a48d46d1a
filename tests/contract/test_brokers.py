"""The contract of a broker, run on every adapter; and what one adapter alone promises."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from celeriac.brokers.base import Broker
from celeriac.brokers.memory import MemoryBroker
from celeriac.brokers.redis.broker import RedisBroker
from celeriac.brokers.sqlite.broker import SqliteBroker
from celeriac.completion import SETTLED, Completion, Put, Settlement
from celeriac.exceptions import OperationalError
from celeriac.message import ALL_DEAD, QueueSize
from celeriac.results.base import ResultStore
from celeriac.results.memory import MemoryStore
from celeriac.results.redis import RedisStore
from celeriac.results.sqlite import SqliteStore
from tests.contract import broker_contract as contract
from tests.contract import chord_contract as chord
from tests.contract import dead_letter_contract as dead_letters
from tests.contract import exchange_contract as exchanges
from tests.contract import lease_contract as leases
from tests.contract import settlement_contract as settlement
from tests.contract import shared_contract as shared
from tests.contract.broker_contract import Consume
from tests.contract.exchange_contract import join  # noqa: F401 (a fixture)
from tests.fixtures.messages import ANY_SIZE, publish
from tests.fixtures.waiting import InAMoment

ADAPTERS = {
    "memory": "in memory, committing in the order of the base class",
    "sqlite": "the embedded file, results in the same file: commits are one transaction",
    "sqlite-apart": "the embedded file, results elsewhere: the order of the base class",
    "redis": "Redis, results in another database of the same server: commits are one script",
    "redis-apart": "Redis, results elsewhere: the order of the base class",
    "amqp": "RabbitMQ, results elsewhere: the order of the base class",
}


REDIS = ("redis", "redis-apart")


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "app.db")


@pytest.fixture
def make_broker(adapter: str, path: str, request: pytest.FixtureRequest) -> Callable[[], Broker]:
    if adapter == "memory":
        server = MemoryBroker()
        return lambda: server
    if adapter in REDIS:
        return partial(RedisBroker, request.getfixturevalue("redis_url"))
    if adapter == "amqp":
        # Imported here: other adapters are tested without the driver, too.
        from tests.fixtures.rabbit_broker import make_rabbit_broker

        return partial(make_rabbit_broker, request.getfixturevalue("rabbit_url"))
    return partial(SqliteBroker, path)


@pytest.fixture
def broker(make_broker: Callable[[], Broker]) -> Iterator[Broker]:
    broker = make_broker()
    yield broker
    broker.close()


@pytest.fixture
def store(adapter: str, path: str, request: pytest.FixtureRequest) -> Iterator[ResultStore]:
    store: ResultStore
    if adapter == "redis":
        store = RedisStore(request.getfixturevalue("redis_server").url(14))
    else:
        store = SqliteStore(path) if adapter == "sqlite" else MemoryStore()
    yield store
    store.close()


class TestPublish(contract.PublishContract): ...


class TestClaim(contract.ClaimContract): ...


class TestWait(contract.WaitContract): ...


class TestLease(leases.LeaseContract): ...


class TestGivingBack(leases.GivingBackContract): ...


class TestInspection(contract.InspectionContract): ...


@pytest.mark.parametrize("adapter", ["redis", "redis-apart", "amqp"])
class TestExchanges(exchanges.ExchangeContract): ...


class TestDeadLetters(dead_letters.DeadLetterContract): ...


class TestSettlement(settlement.SettlementContract): ...


class TestFence(settlement.FenceContract): ...


class TestRefusal(settlement.RefusalContract): ...


class TestChord(chord.ChordContract): ...


@pytest.mark.parametrize("adapter", ["sqlite", "redis", "amqp"])
class TestShared(shared.SharedBrokerContract): ...


class TestMemory:
    """What only the broker in memory can do: sleep."""

    @pytest.fixture
    def broker(self) -> MemoryBroker:
        return MemoryBroker()

    def test_asleep_it_answers_nothing(self, broker: MemoryBroker, consume: Consume) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        [delivery] = consumer.claim(1, ANY_SIZE)
        done = Completion(receipt=delivery.receipt, settlement=Settlement.ACK)
        broker.sleep()
        for call in (
            lambda: broker.publish([publish("2")]),
            lambda: broker.consumer(["work"]),
            broker.sizes,
            lambda: broker.purge("work"),
            broker.dead,
            lambda: broker.revive(ALL_DEAD),
            lambda: broker.delete_dead(ALL_DEAD),
            broker.worker_seen,
            lambda: consumer.claim(1, ANY_SIZE),
            lambda: consumer.wait(10.0),
            lambda: consumer.renew([delivery.receipt]),
            lambda: consumer.start([delivery.receipt]),
            lambda: consumer.defer(delivery.receipt, 0.0),
            lambda: consumer.requeue([delivery.receipt]),
            consumer.sweep,
            lambda: consumer.commit([done], None),
            consumer.close,
        ):
            with pytest.raises(OperationalError, match="wake_up"):
                call()
        consumer.wake()
        broker.close()
        broker.wake_up()
        assert broker.sizes() == {"work": QueueSize(leased=1)}
        assert consumer.commit([done], None) == [SETTLED]

    def test_it_falls_asleep_under_those_who_wait(
        self, broker: MemoryBroker, consume: Consume
    ) -> None:
        consumer = consume()
        asleep = InAMoment(broker.sleep)
        with pytest.raises(OperationalError):
            consumer.wait(10.0)
        assert asleep.ago() < 1.0
        broker.wake_up()

    def test_two_brokers_are_two_servers(self, broker: MemoryBroker) -> None:
        broker.publish([publish("1")])
        assert MemoryBroker().sizes() == {}
        assert MemoryBroker().location != broker.location


@pytest.mark.parametrize("adapter", ["memory", "sqlite-apart", "redis-apart"])
class TestStoreAway:
    """In the order of the base class: publish, store, settle."""

    def test_what_could_not_be_stored_is_still_held(
        self, broker: Broker, store: MemoryStore, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        [delivery] = consumer.claim(1, ANY_SIZE)
        completion = Completion(
            receipt=delivery.receipt,
            settlement=Settlement.ACK,
            puts=(Put("document", b"value"),),
            publishes=(publish("follow-up", "next"),),
        )
        store.sleep()
        with pytest.raises(OperationalError, match="wake_up"):
            consumer.commit([completion], store)
        assert consumer.renew([delivery.receipt]) == set()
        store.wake_up()
        assert consumer.commit([completion], store) == [SETTLED]
        assert store.get(["document"]) == {"document": b"value"}
        # The same consumer has published it already.
        assert broker.sizes() == {"next": QueueSize(ready=1)}
