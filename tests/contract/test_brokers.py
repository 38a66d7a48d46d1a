"""The contract of a broker, run on every adapter; and what one adapter alone promises."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from celeriac.brokers.base import Broker
from celeriac.brokers.memory import MemoryBroker
from celeriac.brokers.sqlite.broker import SqliteBroker
from celeriac.results.base import ResultStore
from celeriac.results.memory import MemoryStore
from celeriac.results.sqlite import SqliteStore
from tests.contract import broker_contract as contract
from tests.contract import chord_contract as chord
from tests.contract import settlement_contract as settlement
from tests.contract import shared_contract as shared

ADAPTERS = {
    "memory": "in memory, committing in the order of the base class",
    "sqlite": "the embedded file, results in the same file: commits are one transaction",
    "sqlite-apart": "the embedded file, results elsewhere: the order of the base class",
}


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "app.db")


@pytest.fixture
def make_broker(adapter: str, path: str) -> Callable[[], Broker]:
    if adapter == "memory":
        server = MemoryBroker()
        return lambda: server
    return partial(SqliteBroker, path)


@pytest.fixture
def broker(make_broker: Callable[[], Broker]) -> Iterator[Broker]:
    broker = make_broker()
    yield broker
    broker.close()


@pytest.fixture
def store(adapter: str, path: str) -> Iterator[ResultStore]:
    store = SqliteStore(path) if adapter == "sqlite" else MemoryStore()
    yield store
    store.close()


class TestPublish(contract.PublishContract): ...


class TestClaim(contract.ClaimContract): ...


class TestWait(contract.WaitContract): ...


class TestLease(contract.LeaseContract): ...


class TestGivingBack(contract.GivingBackContract): ...


class TestInspection(contract.InspectionContract): ...


class TestSettlement(settlement.SettlementContract): ...


class TestFence(settlement.FenceContract): ...


class TestRefusal(settlement.RefusalContract): ...


class TestChord(chord.ChordContract): ...


@pytest.mark.parametrize("adapter", ["sqlite"])
class TestShared(shared.SharedBrokerContract): ...
