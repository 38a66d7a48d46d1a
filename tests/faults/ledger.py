"""Fault runs that keep a ledger: work is done, things are broken meanwhile, and it is added up.

By hand::

    python -m tests.faults.ledger --tasks 5000 --kill parent --kill child --seed 3
    python -m tests.faults.ledger --at parent.commit.inside:5 --at template.fork.inside:2
    python -m tests.faults.ledger --kill parent --no-sweep
"""

import sys
import tempfile
from pathlib import Path
from time import monotonic, sleep

import click
from msgspec import Struct

from tests.faults.launch import POINTS
from tests.fixtures.ledger_report import Report, check
from tests.fixtures.ledger_site import Killer, Producer, Site, Worker
from tests.fixtures.ledger_tasks import DEADLY, HEALTHY

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
    at: tuple[str, ...] = ()
    """Faults at named points, as ``launch.py`` takes them."""
    kill: tuple[str, ...] = ()
    """Kills by timer: the roles of the victims, in any order."""
    deadly: int = 0
    """Tasks, among the first, that kill their worker."""
    producers_killed: int = 0
    """How often the producer is killed in the midst of publishing."""
    seed: int = 0
    concurrency: int = 2
    lease: float = 1.5
    sweep: bool = True
    options: tuple[str, ...] = ()
    """More options for the worker."""
    patience: float = 20.0
    """Seconds without any progress after which the run is given up."""
    longest: float = 100.0


def run(plan: Plan, folder: Path) -> Report:
    """Do a run, and add it up. Afterwards none of its processes is left."""
    with Site(folder, plan.lease) as site:
        started = monotonic()
        conduct(plan, site)
        seconds = monotonic() - started
        for worker in site.workers:
            worker.stop()
        left = [pid for pid in site.processes_left() if pid not in _producers(site)]
        report = check(site.records, site.evidence(), seconds)
        report.unexpected += [f"process {pid} outlived its worker" for pid in left]
        report.unexpected += [f"no process came to {p}" for p in _missing(plan, site)]
        return report


def conduct(plan: Plan, site: Site) -> None:
    """Have work published and done until there is none, all faults have struck, or nothing moves."""
    options = [word for point in plan.at for word in ("--at", point)]
    options += [] if plan.sweep else ["--no-sweep"]
    producer = Producer(site)
    Worker(site, options, ["-c", str(plan.concurrency), *plan.options])
    if plan.kill:
        Killer(site, plan.kill, plan.seed)
    if plan.deadly:
        producer.publish(plan.deadly, DEADLY, 0)
    moved = started = monotonic()
    kills_left = plan.producers_killed
    while monotonic() - started < plan.longest and monotonic() - moved < plan.patience:
        if site.look():
            moved = monotonic()
        producer.look()
        struck = _struck(plan, site)
        waiting = producer.asked - len(site.ended)
        if producer.idle and (producer.asked < plan.tasks or not struck) and waiting < plan.ahead:
            producer.publish(BITE, HEALTHY, plan.seconds)
            if kills_left:
                kills_left -= 1
                sleep(0.02)
                producer.kill()
        elif producer.idle and struck and producer.asked >= plan.tasks and site.empty():
            return
        sleep(0.005)


def _struck(plan: Plan, site: Site) -> bool:
    return all(killer.done for killer in site.killers) and not _missing(plan, site)


def _missing(plan: Plan, site: Site) -> list[str]:
    return [point for point in plan.at if not site.struck(point.partition(":")[0])]


def _producers(site: Site) -> set[int]:
    return {producer.pid for producer in site.producers}


@click.command(help=__doc__)
@click.option("--tasks", default=2000, show_default=True)
@click.option("--seconds", default=0.001, show_default=True, help="How long a task takes.")
@click.option("--ahead", default=1000, show_default=True, help="Tasks that are kept waiting.")
@click.option("--at", multiple=True, metavar="POINT:N", help=f"Points: {', '.join(POINTS)}.")
@click.option("--kill", multiple=True, type=click.Choice(["parent", "template", "child"]))
@click.option("--deadly", default=0, help="Tasks that kill their worker.")
@click.option("--producers-killed", default=0)
@click.option("--seed", default=0)
@click.option("--concurrency", "-c", default=2, show_default=True)
@click.option("--lease", default=1.5, show_default=True, help="Seconds.")
@click.option("--no-sweep", "sweep", flag_value=False, default=True)
@click.option("--option", "options", multiple=True, help="For the worker.")
@click.option("--folder", type=click.Path(path_type=Path), help="Kept; a new one if not given.")
def main(folder: Path | None, **fields: object) -> None:
    folder = folder or Path(tempfile.mkdtemp(prefix="ledger-"))
    report = run(Plan(**fields), folder)  # type: ignore[arg-type]
    click.echo(f"{report}\n{'folder':>16}  {folder}")
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
