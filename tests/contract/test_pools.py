"""The contract of a pool, run on every pool. What one pool alone does is tested with its faults."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from celeriac.pools.base import ExecutorPool
from tests.contract import pool_contract as contract
from tests.fixtures.pool import ROOT, Bench, at_work, inline_pool, process_pool

POOLS: dict[str, Callable[[], ExecutorPool]] = {"processes": process_pool, "inline": inline_pool}

ONE_SLOT = "it has one slot: the thread that supervises it"
NO_SHELTER = "a thread cannot be ended from outside: what runs comes to its end"

EXEMPT = {
    "inline": {
        "test_none_waits_behind_a_running_one": ONE_SLOT,
        "test_so_many_jobs_run_at_a_time": ONE_SLOT,
        "test_others_are_left_alone": ONE_SLOT,
        "test_more_slots": ONE_SLOT,
        "test_fewer_slots_end_after_their_job": ONE_SLOT,
        "test_fewer_and_more_again": ONE_SLOT,
        "test_a_drained_pool_finishes_what_runs": ONE_SLOT,
        "test_a_running_job_is_ended": NO_SHELTER,
        "test_what_a_halted_pool_ran_is_not_reported": NO_SHELTER,
        "test_a_stopped_pool_names_what_has_not_finished": NO_SHELTER,
    }
}
"""Tests of the contract that a pool cannot pass, by pool and name, with the reason."""


@pytest.fixture(params=POOLS)
def open_bench(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], Bench[Any]]]:
    """Return a function that opens a pool with so many slots; it is stopped at the end."""
    if reason := EXEMPT.get(request.param, {}).get(request.node.originalname):
        pytest.skip(reason)
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


def test_what_a_pool_is_exempt_from_is_in_the_contract() -> None:
    kinds = [kind for name, kind in vars(contract).items() if name.endswith("Contract")]
    names = {name for kind in kinds for name in vars(kind)}
    for exempt in EXEMPT.values():
        assert exempt.keys() <= names
