"""Messages on Redis: kill -9 of workers' processes and of producers, by timer and at named points."""

from pathlib import Path

from celeriac.worker.window import MOST_AHEAD
from tests.faults.chaos import LONG, chaos, many, passed
from tests.faults.ledger import Plan
from tests.fixtures.ledger_site import Ground
from tests.fixtures.servers import MakeRedis

pytestmark = chaos
TIMES = 5 if LONG else 1


def test_processes_of_all_kinds_are_killed(home: Path, make_redis: MakeRedis) -> None:
    kills = (("parent", "template", "child", "child") * 2) * TIMES
    ground = Ground(broker=make_redis(durable=True).url())
    plan = Plan(
        tasks=many(3000),
        seconds=0.0005,
        kill=kills,
        producers_killed=2 * TIMES,
        seed=1,
        ground=ground,
    )
    report = passed("kill -9 of parents, templates, children and producers", plan, home)
    assert sum(report.faults.values()) == len(kills)


def test_kills_of_the_parent_during_one_backlog_bury_no_task(
    home: Path, make_redis: MakeRedis
) -> None:
    kills = ("parent",) * (10 if LONG else 2)
    ground = Ground(broker=make_redis(durable=True).url())
    plan = Plan(tasks=many(2000), backlog=True, seconds=0.003, kill=kills, seed=2, ground=ground)
    report = passed("kill -9 of the parent, again and again, during one backlog", plan, home)
    assert report.faults == {"parent by timer": len(kills)}
    assert report.buried == 0


def test_a_parent_is_killed_at_each_point_of_its_road(home: Path, make_redis: MakeRedis) -> None:
    points = (
        "parent.claim.after:5",
        "parent.submit.after:150",
        "parent.commit.before:9",
        "parent.commit.after:7",
    )
    ground = Ground(broker=make_redis(durable=True).url())
    plan = Plan(tasks=many(3000), seconds=0, at=points, ground=ground)
    report = passed("kill -9 of the parent at points of its road", plan, home)
    assert max(report.in_flight) <= MOST_AHEAD


def test_a_parent_is_killed_between_storing_and_settling(home: Path, make_redis: MakeRedis) -> None:
    server, results = make_redis(durable=True), make_redis(durable=True)
    points = tuple(f"parent.settle.before:{n}" for n in ((3, 8, 15, 40, 80) if LONG else (3,)))
    ground = Ground(broker=server.url(), results=results.url())
    plan = Plan(tasks=many(1000), at=points, ground=ground)
    passed("kill -9 of the parent between storing and settling, on two servers", plan, home)
