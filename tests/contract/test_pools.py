"""The contract of a pool, run on every pool. What one pool alone does is tested with its faults."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from celeriac.pools.base import ExecutorPool
from tests.contract import pool_contract as contract
from tests.fixtures.pool import ROOT, Bench, at_work, process_pool

POOLS: dict[str, Callable[[], ExecutorPool]] = {"processes": process_pool}


@pytest.fixture(params=POOLS)
def open_bench(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], Bench[Any]]]:
    """Return a function that opens a pool with so many slots; it is stopped at the end."""
    monkeypatch.setenv("PYTHONPATH", ROOT)
    with ExitStack() as opened:
        yield lambda slots: opened.enter_context(at_work(POOLS[request.param](), slots))


class TestSubmit(contract.SubmitContract): ...


class TestReport(contract.ReportContract): ...


class TestPermission(contract.PermissionContract): ...


class TestRecall(contract.RecallContract): ...


class TestCancel(contract.CancelContract): ...


class TestSlots(contract.SlotsContract): ...


class TestEnd(contract.EndContract): ...
