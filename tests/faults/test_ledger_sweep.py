"""The ledger sees it when nobody takes back what a dead worker held."""

from pathlib import Path

from tests.faults.ledger import Plan, run


def test_without_the_lease_sweep_tasks_are_lost(home: Path) -> None:
    plan = Plan(tasks=300, at=("parent.commit.before:5",), sweep=False, patience=4)
    report = run(plan, home / "ledger")
    assert report.lost
    assert not report.passed


def test_with_it_none_is(home: Path) -> None:
    report = run(Plan(tasks=300, at=("parent.commit.before:5",), patience=4), home / "ledger")
    assert not report.lost
    assert report.passed, f"\n{report}"
