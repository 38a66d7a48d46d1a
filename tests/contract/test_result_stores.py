"""The contract of a result store, run on every adapter; and what one adapter alone promises."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from celeriac.results.base import ResultStore
from celeriac.results.memory import MemoryStore
from celeriac.results.sqlite import SqliteStore
from tests.contract import result_store_contract as contract
from tests.contract import shared_contract as shared


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
