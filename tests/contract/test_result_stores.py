"""The contract of a result store, run on every adapter; and what one adapter alone promises."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from celeriac.results.base import ResultStore
from celeriac.results.memory import MemoryStore
from celeriac.results.sqlite import SqliteStore
from tests.contract import result_store_contract as contract


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], ResultStore]:
    if request.param == "memory":
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
