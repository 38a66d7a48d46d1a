"""Ledger runs in two forms: a bounded one among all other tests, and a long one for ``make chaos``.

The long form, which the environment variable ``CELERIAC_LONG_FAULTS`` asks for, does at least
``MANY`` tasks in each run and prints what every ledger adds up to.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from tests.faults.ledger import Plan, run
from tests.fixtures.ledger_report import Report

LONG = "CELERIAC_LONG_FAULTS" in os.environ
MANY = 20_000

chaos = [pytest.mark.chaos, pytest.mark.timeout(900 if LONG else 120)]
"""The marks of a module with such runs."""


def many(tasks: int, long: int = MANY) -> int:
    """Return how many tasks to do, where so many do among all other tests."""
    return long if LONG else tasks


def show(what: str, rows: Mapping[str, object] | Report) -> None:
    """Print what a run has come to; pytest hides it, unless it is told not to (``-s``)."""
    text = str(rows)
    if not isinstance(rows, Report):
        text = "\n".join(f"{name:>16}  {value}" for name, value in rows.items())
    print(f"\n\n{what}\n{text}", flush=True)  # noqa: T201 - what `make chaos` is for


def passed(what: str, plan: Plan, home: Path) -> Report:
    """Do a run, long or bounded; fail with its whole ledger if it does not pass."""
    if LONG:
        plan = msgspec.structs.replace(plan, patience=60.0, longest=600.0)
    report = run(plan, home / "ledger")
    show(what, report)
    log = (home / "ledger" / "log").read_text(errors="replace")[-3000:]
    assert report.passed, f"\n{report}\n{log}"
    return report
