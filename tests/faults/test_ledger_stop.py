"""A worker whose parent stands still past its leases: others take over, and it comes too late."""

import re
import signal
from pathlib import Path
from time import monotonic

import pytest

from celeriac.worker.window import MOST_AHEAD
from tests.faults.ledger import close
from tests.fixtures.ledger import Begun, Fault
from tests.fixtures.ledger_site import Producer, Site, Worker, kill
from tests.fixtures.ledger_tasks import HEALTHY
from tests.fixtures.waiting import eventually

DROPPED = re.compile(r"\[([-0-9a-f]{36})\]: its lease was lost, its outcome is dropped")


@pytest.mark.parametrize("point", ["parent.commit.before", "parent.claim.after"])
def test_the_late_commit_of_a_stopped_parent_is_refused(point: str, home: Path) -> None:
    with Site(home / "ledger") as site:
        producer = Producer(site)
        producer.publish(300, HEALTHY, 0.002)
        stopped = Worker(site, ["--at", f"{point}:5:stop"], ["-n", "stopped@here"])
        eventually(lambda: (site.look(), site.struck(point))[1])
        site.hold(stopped.pid)
        other = Worker(site, [], ["-n", "other@here"])
        eventually(site.settled, 20)
        before = site.evidence().documents
        kill(stopped.pid, signal.SIGCONT)
        if point == "parent.commit.before":
            dropped = set(eventually(lambda: DROPPED.findall(site.log.read_text())))
            runs = [run for run in site.records if isinstance(run, Begun)]
            assert dropped <= {run.task_id for run in runs if run.parent == stopped.pid}
            assert {before[task_id].worker for task_id in dropped} == {"other@here"}
        # The resumed one is as good as new: it does all that comes now.
        other.stop()
        producer.publish(100, HEALTHY, 0)
        eventually(site.settled, 20)
        after = site.evidence().documents
        assert {task_id: after[task_id] for task_id in before} == before
        fresh = [document.worker for task_id, document in after.items() if task_id not in before]
        assert fresh == ["stopped@here"] * 100
        report = close(site, 0, [])
        assert report.passed, f"\n{report}"


def test_a_parent_that_stands_still_inside_a_commit_holds_up_the_others_and_nothing_is_lost(
    home: Path,
) -> None:
    # It holds the lock of the embedded file all the while: nobody can claim, renew or take over.
    point = "parent.commit.inside"
    with Site(home / "ledger") as site:
        producer = Producer(site)
        other = Worker(site, [], [])
        stopped = Worker(site, ["--at", f"{point}:5:stop"], [])
        eventually(lambda: site.settled() and site.workers_ready() == 2)
        producer.publish(600, HEALTHY, 0.005)
        eventually(lambda: (site.look(), site.struck(point))[1], 20)
        for worker in (stopped, other):
            site.hold(worker.pid)
        # The leases of the other one, too, end while it waits.
        site.book.write(Fault("parent", "held up", other.pid, monotonic(), stopped=True))
        resume_at = monotonic() + 2.5
        eventually(lambda: (site.look(), monotonic() > resume_at)[1])
        done = len(site.ended)
        kill(stopped.pid, signal.SIGCONT)
        eventually(site.settled, 20)
        assert done < 600
        report = close(site, 0, [])
        assert report.passed, f"\n{report}"
        assert max(report.in_flight) <= MOST_AHEAD
