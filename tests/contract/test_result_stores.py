"""The contract of a result store, run on every adapter; and what one adapter alone promises."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from celeriac.completion import Put
from celeriac.exceptions import OperationalError
from celeriac.results.base import ResultStore
from celeriac.results.memory import MemoryStore
from celeriac.results.redis import RedisStore
from celeriac.results.sqlite import MOST_DROPPED, SqliteStore
from tests.contract import result_store_contract as contract
from tests.contract import shared_contract as shared
from tests.fixtures.waiting import InAMoment


@pytest.fixture(params=["memory", "sqlite", "redis"])
def adapter(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_store(
    adapter: str, tmp_path: Path, request: pytest.FixtureRequest
) -> Callable[[], ResultStore]:
    if adapter == "memory":
        server = MemoryStore()
        return lambda: server
    if adapter == "redis":
        return partial(RedisStore, request.getfixturevalue("redis_url"))
    return partial(SqliteStore, str(tmp_path / "state" / "app.db"))


@pytest.fixture
def store(make_store: Callable[[], ResultStore]) -> Iterator[ResultStore]:
    store = make_store()
    yield store
    store.close()


class TestDocuments(contract.DocumentContract): ...


class TestExpiry(contract.ExpiryContract): ...


@pytest.mark.parametrize("adapter", ["memory", "sqlite"])
class TestClearance(contract.ClearanceContract): ...


class TestWatch(contract.WatchContract): ...


@pytest.mark.parametrize("adapter", ["sqlite", "redis"])
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


class TestSqlite:
    """What the embedded file alone has: a row for each bell."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[SqliteStore]:
        store = SqliteStore(str(tmp_path / "app.db"))
        yield store
        store.close()

    @staticmethod
    def bells(store: SqliteStore) -> set[str]:
        return {row[0] for row in store.database.read("SELECT key FROM watch_bell")}

    def test_bells_are_taken_down_with_the_next_that_are_put_up(self, store: SqliteStore) -> None:
        watch = store.watch()
        watch.add(["a", "b"])
        watch.discard(["a", "b"])
        assert self.bells(store) == {"a", "b"}, "that alone is not worth a write"
        watch.add(["b", "c"])
        assert self.bells(store) == {"b", "c"}
        watch.close()
        assert self.bells(store) == set()

    def test_or_when_they_are_many(self, store: SqliteStore) -> None:
        watch = store.watch()
        keys = [f"key-{number}" for number in range(MOST_DROPPED)]
        watch.add(keys)
        watch.discard(keys[1:])
        assert len(self.bells(store)) == MOST_DROPPED
        watch.discard(keys[:1])
        assert self.bells(store) == set()
        watch.close()

    def test_or_at_the_end(self, store: SqliteStore) -> None:
        watch = store.watch()
        watch.add(["a"])
        watch.discard(["a"])
        watch.close()
        assert self.bells(store) == set()

    def test_many_bells_are_put_up_in_one_write(self, store: SqliteStore) -> None:
        other = SqliteStore(store.database.path)
        before = other.database.version()[1]
        watch = store.watch()
        watch.add([f"key-{number}" for number in range(500)])
        assert other.database.version()[1] - before <= 2  # the tables, and the bells
        assert len(self.bells(store)) == 500
        watch.close()
        other.close()
