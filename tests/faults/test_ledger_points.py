"""Kill -9 at named points of a task's road, in the parent, the template and the children."""

from pathlib import Path

from celeriac.worker.window import MOST_AHEAD
from tests.faults.ledger import Plan, run
from tests.fixtures.ledger_report import Report


def passed(plan: Plan, home: Path) -> Report:
    """Do a run; fail with its whole ledger if it does not pass, or if a point was never reached."""
    report = run(plan, home / "ledger")
    assert report.passed, f"\n{report}"
    return report


def test_a_parent_is_killed_at_each_point_of_its_road(home: Path) -> None:
    points = (
        "parent.fork.after:2",
        "parent.claim.before:9",
        "parent.claim.inside:7",
        "parent.claim.after:5",
        "parent.submit.after:150",
        "parent.commit.before:9",
        "parent.commit.inside:8",
        "parent.commit.after:7",
        "parent.ring.before:5",
        "parent.renew.before:2",
        "parent.renew.after:2",
        "parent.sweep.after:5",
    )
    report = passed(Plan(tasks=5000, seconds=0, at=points), home)
    assert max(report.in_flight) <= MOST_AHEAD


def test_a_parent_is_killed_around_the_recorded_start_of_a_suspect_run(home: Path) -> None:
    # The first kill makes what was in flight suspect; only then do runs have their start recorded.
    points = ("parent.commit.before:5", "parent.start.after:1", "parent.permit.before:1")
    passed(Plan(tasks=500, at=points), home)


def test_children_are_killed_at_each_point_of_their_road(home: Path) -> None:
    points = (
        "child.take.after:50",
        "child.begin.after:31",
        "child.run.before:5",
        "child.call.after:7",
        "child.run.after:99",
        "child.send.inside:40",
        "child.end.before:80",
        "child.end.after:77",
        "parent.bury.before:5",
    )
    passed(Plan(tasks=4000, seconds=0, at=points), home)


def test_a_template_is_killed_while_it_forks_and_reaps(home: Path) -> None:
    points = (
        "template.fork.before:4",
        "template.fork.inside:2",
        "template.fork.after:3",
        "template.reap.before:1",
        "template.reap.inside:2",
        "template.reap.after:1",
    )
    # Children that are replaced all the time give the template something to do.
    options = ("--max-tasks-per-child", "150")
    passed(Plan(tasks=4000, seconds=0, at=points, options=options), home)


def test_children_that_are_replaced_all_the_time_run_nothing_twice(home: Path) -> None:
    report = passed(Plan(tasks=4000, seconds=0, options=("--max-tasks-per-child", "50")), home)
    assert report.repeated == 0


def test_a_template_is_killed_over_the_death_of_a_child_that_ran_a_task(home: Path) -> None:
    for place in ("fork.inside:3", "reap.before:1", "reap.inside:1", "reap.after:1"):
        points = ("child.call.after:50", f"template.{place}")
        passed(Plan(tasks=300, at=points, patience=5), home / place)
