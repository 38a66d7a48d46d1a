"""A hundredth of all tasks kill the process that they run in: what does that cost the others?

By hand: ``python -m tests.faults.poison --broker redis://localhost/0 --tasks 20000``; what is in that
database is deleted.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import monotonic

import click
import redis
from msgspec import Struct

from tests.faults.ledger import close
from tests.fixtures.ledger import Begun, Ended
from tests.fixtures.ledger_report import Report
from tests.fixtures.ledger_site import Ground, Producer, Site, Worker
from tests.fixtures.ledger_tasks import HEALTHY, POISON
from tests.fixtures.ledger_views import View
from tests.fixtures.waiting import eventually

SECONDS = 0.02
"""How long a healthy task takes."""
SLOTS = 8
EVERY = 100
"""One task in so many is poison."""
LEASE = 5.0


class Figures(Struct, frozen=True, kw_only=True):
    """What came of two runs with the same healthy tasks, one of them with poison among them."""

    healthy: int
    poison: int
    clean_rate: float
    """Healthy tasks per second, without poison."""
    rate: float
    """The same with poison."""
    deaths: int
    respawn: float
    """Seconds from the death of a process until another was in its place, at the median."""
    share: float
    """Rate with poison over that without, the time taken off in which processes were missing."""
    burial: float
    """Seconds from the end of the last healthy task until the last poison was a dead letter."""
    clean: Report
    poisoned: Report

    def rows(self) -> dict[str, object]:
        return {
            "healthy": f"{self.healthy} tasks of {SECONDS * 1000:.0f} ms, {SLOTS} processes",
            "poison": self.poison,
            "dead-lettered": self.poisoned.buried,
            "without poison": f"{self.clean_rate:.0f} tasks/s",
            "with poison": f"{self.rate:.0f} tasks/s",
            "deaths": self.deaths,
            "time to respawn": f"{self.respawn * 1000:.0f} ms",
            "share": f"{self.share:.1%}, respawning taken off",
            "last burial": f"{self.burial:.1f} s after the last healthy task",
        }


class _Run(Struct, frozen=True):
    """One of the two."""

    report: Report
    seconds: float
    missing: list[float]
    """Seconds without each process that died."""
    burial: float


class Plot(Struct, frozen=True):
    """Where a run is done: nothing of another run is there."""

    ground: Ground
    view: View | None = None


def on_redis(broker: str) -> Callable[[], Plot]:
    """Return what empties the database at this URL before each run."""

    def plot() -> Plot:
        with redis.Redis.from_url(broker) as server:
            server.flushdb()
        return Plot(Ground(broker=broker))

    return plot


def measure(folder: Path, plot: Callable[[], Plot], tasks: int, longest: float = 100.0) -> Figures:
    """Do both runs, one after the other; each has a plot of its own."""
    healthy = tasks - tasks // EVERY
    clean = _run(folder / "clean", plot(), healthy, 0, longest)
    poisoned = _run(folder / "poisoned", plot(), healthy, tasks // EVERY, longest)
    there = poisoned.seconds - sum(poisoned.missing) / SLOTS
    return Figures(
        healthy=healthy,
        poison=tasks // EVERY,
        clean_rate=healthy / clean.seconds,
        rate=healthy / poisoned.seconds,
        deaths=poisoned.report.faults["poison"],
        respawn=median(poisoned.missing or [0.0]),
        share=clean.seconds / there,
        burial=poisoned.burial,
        clean=clean.report,
        poisoned=poisoned.report,
    )


def _run(folder: Path, plot: Plot, healthy: int, poison: int, longest: float) -> _Run:
    """Have a backlog worked off."""
    with Site(folder, LEASE, plot.ground, plot.view) as site:
        producer = Producer(site)
        for _ in range(poison):
            producer.publish(healthy // poison, HEALTHY, SECONDS)
            producer.publish(1, POISON, 0.0)
        producer.publish(healthy % poison if poison else healthy, HEALTHY, SECONDS)
        eventually(lambda: (site.look(), producer.idle)[1], longest)
        Worker(site, [], ["-c", str(SLOTS)])
        started = monotonic()
        eventually(site.settled, longest)
        settled = monotonic()
        report = close(site, settled - started, [])
        poisonous = {r.number for r in site.records if isinstance(r, Begun)} - site.ended
        runs = [r for r in site.records if isinstance(r, Begun) and r.number not in poisonous]
        ends = [record.at for record in site.records if isinstance(record, Ended)]
        took = max(ends) - min(run.at for run in runs)
        return _Run(report, took, _missing(site, max(ends)), settled - max(ends))


def _missing(site: Site, until: float) -> list[float]:
    """Return how long it took, for each process that died by then, until another was in its place."""
    deaths = sorted(fault.at for fault in site.faults)
    births = sorted(p.at for p in site.processes if p.role == "child")
    pairs = zip(deaths, births[SLOTS:], strict=False)
    return [birth - death for death, birth in pairs if death < until]


@click.command(help=__doc__)
@click.option("--broker", required=True, help="URL; its database is emptied.")
@click.option("--tasks", default=2000, show_default=True)
def main(broker: str, tasks: int) -> None:
    figures = measure(Path(tempfile.mkdtemp(prefix="poison-")), on_redis(broker), tasks, 1000.0)
    for name, value in figures.rows().items():
        click.echo(f"{name:>16}  {value}")
    click.echo(figures.poisoned)


if __name__ == "__main__":
    main()
