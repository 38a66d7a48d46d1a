"""Kill -9 at random moments (seeded) while work goes on."""

import os
from pathlib import Path

import pytest

from tests.faults.ledger import Plan, run


def test_processes_of_all_kinds_are_killed(home: Path) -> None:
    kills = ("parent",) * 4 + ("template",) * 4 + ("child",) * 8
    plan = Plan(tasks=4000, seconds=0.0005, kill=kills, producers_killed=2, seed=1)
    report = run(plan, home / "ledger")
    assert report.passed, f"\n{report}"
    assert sum(report.faults.values()) == len(kills)


def test_ten_kills_of_the_parent_during_one_backlog_bury_no_task(home: Path) -> None:
    plan = Plan(tasks=5000, backlog=True, kill=("parent",) * 10, seed=2)
    report = run(plan, home / "ledger")
    assert report.passed, f"\n{report}"
    assert report.faults == {"parent by timer": 10}
    assert (report.ok, report.buried) == (5000, 0)


@pytest.mark.skipif(
    "CELERIAC_LONG_FAULTS" not in os.environ,
    reason="set CELERIAC_LONG_FAULTS to run it; it takes 30 s",
)
def test_recovery_with_the_lease_that_workers_have_by_default(home: Path) -> None:
    report = run(Plan(tasks=3000, kill=("parent",) * 2, lease=20, patience=40), home / "ledger")
    assert report.passed, f"\n{report}"
    assert 10 < report.recovery < 30
