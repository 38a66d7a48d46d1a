"""Messages on RabbitMQ: what is held for long, and by workers that stand still."""

from pathlib import Path

from tests.faults.chaos import LONG, chaos, many, show
from tests.faults.ledger import close
from tests.faults.rabbit import HEARTBEAT, Place
from tests.faults.rivals import Rivals, check_outcomes, finish
from tests.fixtures.ledger_site import Producer, Site, Worker
from tests.fixtures.ledger_tasks import HEALTHY
from tests.fixtures.waiting import eventually

pytestmark = chaos
LEASE = 1.5
TIMES = 10 if LONG else 1
SUFFERED = 10.0 if LONG else 2.0
"""Seconds after which the server closes a channel on which something is unsettled."""
FRESH = SUFFERED / 4
"""Seconds after which workers of these tests hold what they hold anew."""


def test_a_task_longer_than_the_server_suffers_runs_once(home: Path, frail_place: Place) -> None:
    place = frail_place
    place.server.ctl(
        "eval",
        f"application:set_env(rabbit, consumer_timeout, {SUFFERED * 1000:.0f}), "
        "application:set_env(rabbit, channel_tick_interval, 250).",
    )
    with Site(home / "ledger", LEASE, place.ground(), place.view) as site:
        for _ in range(2):
            Worker(site, ["--fresh", str(FRESH)], ["-c", "2"])
        producer = Producer(site)
        producer.publish(2, HEALTHY, 2.5 * SUFFERED)
        producer.publish(many(1000), HEALTHY, 0.001)
        eventually(site.settled, 60.0)
        report = close(site, 0, [])
        show(f"tasks of {2.5 * SUFFERED} s, of which the server suffers {SUFFERED} s", report)
        assert report.passed, f"\n{report}"
        assert (report.ok, report.repeated) == (report.attempted, 0)
    place.server.ctl(
        "eval",
        "application:set_env(rabbit, consumer_timeout, 1800000), "
        "application:set_env(rabbit, channel_tick_interval, 60000).",
    )


def test_a_worker_that_stands_still_loses_its_tasks_and_its_outcomes(
    home: Path, place: Place
) -> None:
    with Site(home / "ledger", LEASE, place.ground(), place.view) as site:
        rivals = Rivals(site, 3.0 * HEARTBEAT)
        taken = 0
        for _ in range(TIMES):
            again = rivals.stop()
            taken += len(again)
            check_outcomes(site, rivals, again)
        assert taken, "the other worker ran nothing of what the stopped one had begun"
        finish(site, rivals, f"SIGSTOP of a worker, heartbeats of {HEARTBEAT} s")
