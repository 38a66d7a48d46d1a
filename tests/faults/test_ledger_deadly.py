"""Tasks that kill their whole worker (parent, template and themselves) are buried after the limit plus
one runs; their neighbours come to no harm.
"""

from pathlib import Path

from tests.faults.ledger import Plan, close, run
from tests.fixtures.ledger import Begun
from tests.fixtures.ledger_site import Producer, Site, Worker
from tests.fixtures.ledger_tasks import DEADLY, HEALTHY
from tests.fixtures.waiting import eventually

LIMIT = 3
"""``task_delivery_limit``, as it is by default."""


def test_a_task_that_kills_its_worker_is_buried_after_the_limit_plus_one_runs(home: Path) -> None:
    with Site(home / "ledger") as site:
        producer = Producer(site)
        producer.publish(1, DEADLY, 0)
        producer.publish(400, HEALTHY, 0.002)
        Worker(site, [], ["-c", "2"])
        eventually(site.settled, 30)
        deadly = [run for run in site.records if isinstance(run, Begun) and run.number == 0]
        assert len(deadly) == LIMIT + 1
        [letter] = site.broker.dead()
        assert (letter.message.id, letter.losses) == (deadly[0].task_id, LIMIT)
        report = close(site, 0, [])
        assert report.passed, f"\n{report}"
        assert (report.ok, report.buried) == (400, 1)


def test_a_long_task_that_always_runs_beside_a_deadly_one_is_not_buried_with_it(home: Path) -> None:
    plan = Plan(tasks=1, seconds=1.0, deadly=1, deadly_seconds=0.2)
    report = run(plan, home / "ledger")
    assert report.passed, f"\n{report}"
    assert (report.ok, report.buried) == (1, 1)
