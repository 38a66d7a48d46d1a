"""Messages on Redis: leases of workers that live, that stand still, and that are cut off."""

from pathlib import Path

import pytest

from tests.faults.chaos import LONG, chaos, many, show
from tests.faults.ledger import close
from tests.faults.rivals import Rivals, check_outcomes, finish
from tests.fixtures.ledger_site import Ground, Producer, Site, Worker
from tests.fixtures.ledger_tasks import HEALTHY
from tests.fixtures.ports import HOST
from tests.fixtures.servers import MakeProxy, MakeRedis
from tests.fixtures.waiting import eventually

pytestmark = chaos
LEASE = 1.5
TIMES = 10 if LONG else 1


def test_a_task_longer_than_its_lease_runs_once(home: Path, make_redis: MakeRedis) -> None:
    ground = Ground(broker=make_redis(durable=True).url())
    with Site(home / "ledger", LEASE, ground) as site:
        for _ in range(2):
            Worker(site, [], ["-c", "2"])
        producer = Producer(site)
        producer.publish(2 * TIMES, HEALTHY, 3 * LEASE)
        producer.publish(many(1000), HEALTHY, 0.001)
        eventually(site.settled, 60 * TIMES)
        report = close(site, 0, [])
        show(f"tasks of {3 * LEASE} s among others, leases of {LEASE} s", report)
        assert report.passed, f"\n{report}"
        assert (report.ok, report.repeated) == (report.attempted, 0)


def test_a_worker_that_stands_still_loses_its_tasks_and_its_outcomes(
    home: Path, make_redis: MakeRedis
) -> None:
    ground = Ground(broker=make_redis(durable=True).url())
    with Site(home / "ledger", LEASE, ground) as site:
        rivals = Rivals(site, 2 * LEASE)
        taken = 0
        for _ in range(TIMES):
            again = rivals.stop()
            taken += len(again)
            check_outcomes(site, rivals, again)
        assert taken, "the other worker ran nothing of what the stopped one had begun"
        finish(site, rivals, f"SIGSTOP of a worker for {2 * LEASE} s, leases of {LEASE} s")


@pytest.mark.skipif(not LONG, reason="make chaos runs it; the one above is much the same")
def test_a_worker_that_is_cut_off_loses_its_tasks_and_its_outcomes(
    home: Path, make_redis: MakeRedis, make_proxy: MakeProxy
) -> None:
    server = make_redis(durable=True)
    proxy = make_proxy(server.port)
    ground = Ground(broker=server.url(), worker_broker=f"redis://{HOST}:{proxy.port}/0")
    with Site(home / "ledger", LEASE, ground) as site:
        rivals = Rivals(site, 2 * LEASE)
        for _ in range(TIMES):
            again = rivals.outlast("cut off", proxy.stall, proxy.resume)
            check_outcomes(site, rivals, again)
        finish(site, rivals, f"one of two workers is cut off for {2 * LEASE} s")
