"""Fault runs that keep a ledger: work is done, things are broken meanwhile, and it is added up.

By hand::

    python -m tests.faults.ledger --tasks 5000 --kill parent --kill child --seed 3
    python -m tests.faults.ledger --at parent.commit.inside:5 --at template.fork.inside:2
    python -m tests.faults.ledger --kill parent --no-sweep
"""

import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from time import monotonic, sleep

import click
from msgspec import Struct

from tests.faults.launch import POINTS, parse
from tests.fixtures.ledger_report import Report, check
from tests.fixtures.ledger_site import Ground, Producer, Site, Worker
from tests.fixtures.ledger_tasks import DEADLY, HEALTHY
from tests.fixtures.ledger_troubles import Killer
from tests.fixtures.waiting import eventually

BITE = 500
"""Tasks that are asked of the producer at a time."""


class Plan(Struct, frozen=True, kw_only=True):
    """One run."""

    tasks: int = 1000
    """At least so many are published, and more until all faults have struck."""
    seconds: float = 0.001
    """How long a task takes."""
    ahead: int = 1000
    """How many tasks are kept waiting."""
    backlog: bool = False
    """All tasks are published before the worker starts, and none later."""
    at: tuple[str, ...] = ()
    """Faults at named points, as ``launch.py`` takes them."""
    kill: tuple[str, ...] = ()
    """Kills by timer: the roles of the victims, in any order."""
    deadly: int = 0
    """Tasks, among the first, that kill their worker."""
    deadly_seconds: float = 0.0
    """How long these wait before they do."""
    producers_killed: int = 0
    """How often the producer is killed in the midst of publishing; what it had not attempted by then
    is replaced by other tasks.
    """
    seed: int = 0
    concurrency: int = 2
    lease: float = 1.5
    sweep: bool = True
    options: tuple[str, ...] = ()
    """More options for the worker."""
    ground: Ground = Ground()
    """Where messages and results are."""
    workers: int = 1
    trouble: Callable[[Site], object] | None = None
    """Adds more troubles to the site, before the first task."""
    patience: float = 20.0
    """Seconds without any progress after which the run is given up."""
    longest: float = 100.0


def run(plan: Plan, folder: Path) -> Report:
    """Do a run, and add it up. Afterwards none of its processes is left."""
    with Site(folder, plan.lease, plan.ground) as site:
        started = monotonic()
        work = Work(plan, site)
        while not work.over():
            sleep(0.005)
        seconds = monotonic() - started
        unexpected = [f"no process came to {what}" for what in work.to_come()]
        return close(site, seconds, unexpected)


def close(site: Site, seconds: float, unexpected: list[str]) -> Report:
    """Stop the workers and add the ledger up; what is unexpected already is added to the rest."""
    hanging = [worker.pid for worker in site.workers if not worker.stop()]
    unexpected = unexpected + [f"worker {pid} did not stop" for pid in hanging]
    producers = {producer.pid for producer in site.producers}
    outliving = set(site.survivors)
    if not hanging:
        outliving.update(set(site.processes_left()) - producers)
    report = check(site.records, site.evidence(), seconds)
    report.unexpected += unexpected
    report.unexpected += [f"process {pid} outlived its worker" for pid in sorted(outliving)]
    return report


class Work:
    """A run in progress: tasks are published and done until all faults have struck."""

    def __init__(self, plan: Plan, site: Site) -> None:
        self._plan = plan
        self._site = site
        self._random = Random(plan.seed)
        self._wanted = plan.tasks + plan.deadly
        self._producers_to_kill = plan.producers_killed
        self._producer = Producer(site)
        if plan.backlog:
            self._publish(plan.tasks, HEALTHY)
            eventually(lambda: (site.look(), self._producer.idle)[1])
        options = [word for point in plan.at for word in ("--at", point)]
        options += [] if plan.sweep else ["--no-sweep"]
        for _ in range(plan.workers):
            Worker(site, options, ["-c", str(plan.concurrency), *plan.options])
        if plan.kill:
            Killer(site, plan.kill, plan.seed)
        if plan.trouble is not None:
            plan.trouble(site)
        if plan.deadly:
            self._publish(plan.deadly, DEADLY)
        self._started = self._moved = monotonic()

    def over(self) -> bool:
        """Look after everything; return whether all is done, or nothing moves any more."""
        if self._site.look():
            self._moved = monotonic()
        published = self._producer.idle
        done = self._site.tried >= self._wanted and not self.to_come()
        if published and done and self._site.empty():
            return True
        waiting = self._site.tried - len(self._site.ended)
        if published and not done and not self._plan.backlog and waiting < self._plan.ahead:
            missing = self._wanted - self._site.tried
            self._publish(min(BITE, missing) if missing > 0 else BITE, HEALTHY)
        now = monotonic()
        return now - self._moved > self._plan.patience or now - self._started > self._plan.longest

    def to_come(self) -> list[str]:
        """Return the faults that have not struck yet."""
        # Not as the ledger says: a process may be struck by another fault before it can write.
        home = self._site.home
        points = [text for text in self._plan.at if not os.path.exists(parse(text).marker(home))]
        return points + [left for trouble in self._site.troubles if (left := trouble.to_come())]

    def _publish(self, count: int, name: str) -> None:
        seconds = self._plan.deadly_seconds if name == DEADLY else self._plan.seconds
        kill_after = None
        if self._producers_to_kill and name == HEALTHY:
            self._producers_to_kill -= 1
            kill_after = self._random.randrange(count)
        self._producer.publish(count, name, seconds, kill_after)


@click.command(help=__doc__.replace("::\n\n", ":\n\n\b\n"))
@click.option("--tasks", default=2000, show_default=True)
@click.option("--seconds", default=0.001, show_default=True, help="How long a task takes.")
@click.option("--ahead", default=1000, show_default=True, help="Tasks that are kept waiting.")
@click.option("--backlog", is_flag=True, help="Publish everything first.")
@click.option("--at", multiple=True, metavar="POINT:N", help=f"Points: {', '.join(POINTS)}.")
@click.option("--kill", multiple=True, type=click.Choice(["parent", "template", "child"]))
@click.option("--deadly", default=0, help="Tasks that kill their worker.")
@click.option("--deadly-seconds", default=0.0, help="How long these wait before they do.")
@click.option("--producers-killed", default=0)
@click.option("--seed", default=0)
@click.option("--concurrency", "-c", default=2, show_default=True)
@click.option("--lease", default=1.5, show_default=True, help="Seconds.")
@click.option("--no-sweep", "sweep", flag_value=False, default=True)
@click.option("--workers", default=1, show_default=True)
@click.option("--broker", help="URL; a file in the folder if not given.")
@click.option("--results", help="URL; where the messages are if not given.")
@click.option("--option", "options", multiple=True, help="For the worker.")
@click.option("--folder", type=click.Path(path_type=Path), help="Kept; a new one if not given.")
def main(folder: Path | None, broker: str | None, results: str | None, **fields: object) -> None:
    folder = folder or Path(tempfile.mkdtemp(prefix="ledger-"))
    ground = Ground(broker=broker, results=results)
    report = run(Plan(ground=ground, **fields), folder)  # type: ignore[arg-type]
    click.echo(f"{report}\n{'folder':>16}  {folder}")
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
