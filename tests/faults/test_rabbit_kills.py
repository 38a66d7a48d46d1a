"""Messages on RabbitMQ: kill -9 of workers' processes and of producers, by timer and at named points."""

from pathlib import Path

import pytest

from celeriac.worker.window import MOST_AHEAD
from tests.faults.chaos import LONG, chaos, many, passed
from tests.faults.ledger import Plan
from tests.faults.rabbit import Place

pytestmark = chaos
TIMES = 5 if LONG else 1


def test_processes_of_all_kinds_are_killed(home: Path, place: Place) -> None:
    kills = (("parent", "template", "child", "child") * 2) * TIMES
    plan = Plan(
        tasks=many(2000),
        seconds=0.0005,
        kill=kills,
        producers_killed=2 * TIMES,
        seed=1,
        ground=place.ground(),
        view=place.view,
    )
    report = passed("kill -9 of parents, templates, children and producers", plan, home)
    assert sum(report.faults.values()) == len(kills)


@pytest.mark.skipif(not LONG, reason="make chaos runs it; the others are much the same")
def test_kills_of_the_parent_during_one_backlog_bury_no_task(home: Path, place: Place) -> None:
    kills = ("parent",) * (10 if LONG else 2)
    plan = Plan(
        tasks=many(1000),
        backlog=True,
        seconds=0.003,
        kill=kills,
        seed=2,
        ground=place.ground(),
        view=place.view,
    )
    report = passed("kill -9 of the parent, again and again, during one backlog", plan, home)
    assert report.faults == {"parent by timer": len(kills)}
    assert report.buried == 0


def test_a_parent_is_killed_at_each_point_of_its_road(home: Path, place: Place) -> None:
    points = (
        "parent.claim.after:5",
        "parent.submit.after:150",
        "parent.commit.before:9",
        "parent.settle.before:7",
        "parent.commit.after:7",
    )
    plan = Plan(tasks=many(2000), seconds=0, at=points, ground=place.ground(), view=place.view)
    report = passed("kill -9 of the parent at points of its road", plan, home)
    assert max(report.in_flight) <= MOST_AHEAD
