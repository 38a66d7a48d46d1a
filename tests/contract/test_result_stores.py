"""The contract of a result store, run on every adapter; and what one adapter alone promises."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from celeriac.completion import Put
from celeriac.exceptions import OperationalError
from celeriac.results.base import ResultStore
from celeriac.results.memory import MemoryStore
from celeriac.results.sqlite import SqliteStore
from tests.contract import result_store_contract as contract
from tests.contract import shared_contract as shared
from tests.fixtures.waiting import InAMoment


@pytest.fixture(params=["memory", "sqlite"])
def adapter(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_store(adapter: str, tmp_path: Path) -> Callable[[], ResultStore]:
    if adapter == "memory":
        server = MemoryStore()
        return lambda: server
    return partial(SqliteStore, str(tmp_path / "state" / "app.db"))


@pytest.fixture
def store(make_store: Callable[[], ResultStore]) -> Iterator[ResultStore]:
    store = make_store()
    yield store
    store.close()


class TestDocuments(contract.DocumentContract): ...


class TestExpiry(contract.ExpiryContract): ...


class TestWatch(contract.WatchContract): ...


@pytest.mark.parametrize("adapter", ["sqlite"])
class TestShared(shared.SharedStoreContract): ...


class TestMemory:
    """What only the store in memory can do: sleep."""

    def test_asleep_it_answers_nothing(self) -> None:
        store = MemoryStore()
        store.put([Put("a", b"1")])
        watch = store.watch()
        store.sleep()
        for call in (
            lambda: store.put([Put("a", b"2")]),
            lambda: store.get(["a"]),
            lambda: store.forget(["a"]),
            store.watch,
            store.expire,
            lambda: watch.add(["a"]),
            lambda: watch.discard(["a"]),
            lambda: watch.wait(10.0),
        ):
            with pytest.raises(OperationalError, match="wake_up"):
                call()
        watch.wake()
        watch.close()
        store.close()
        store.wake_up()
        assert store.get(["a"]) == {"a": b"1"}

    def test_it_falls_asleep_under_those_who_wait(self) -> None:
        store = MemoryStore()
        watch = store.watch()
        asleep = InAMoment(store.sleep)
        with pytest.raises(OperationalError):
            watch.wait(None)
        assert asleep.ago() < 1.0
