"""The command: `python -m benchmarks [WORKLOAD ...]`.

Prints progress to standard error and the table to standard output. The exit status is 1 when
something could not be measured; a missed goal is a result like any other.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from benchmarks import environment, facts, report, systems
from benchmarks.errors import BenchmarkError
from benchmarks.paths import REPORTS, ROOT
from benchmarks.redis_server import RedisServer, redis_server
from benchmarks.run import Series, run
from benchmarks.systems import CELERIAC, CELERY, System
from benchmarks.workload import Effort, Workload
from benchmarks.workloads import WORKLOADS

ROUNDS = 3
BROKERS = ("sqlite", "redis", "amqp")


def main(arguments: Sequence[str]) -> int:
    """Measure what was asked for; returns the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _terminated)
    try:
        with contextlib.ExitStack() as cleanup:
            return _measure(options, cleanup)
    except BenchmarkError as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(f"  {each.name:12} {each.summary}" for each in WORKLOADS.values())
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure Celeriac, on SQLite or Redis, beside Celery on Redis.",
        epilog=f"workloads, all by default:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="what to measure")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth, for a look")
    parser.add_argument("--report", action="store_true", help="write a dated report as well")
    parser.add_argument(
        "--systems", nargs="+", choices=systems.NAMES, default=systems.NAMES, help="measure these"
    )
    parser.add_argument(
        "--broker",
        choices=BROKERS,
        default=BROKERS[0],
        help="of Celeriac (default %(default)s); amqp is that of both, with results in Redis",
    )
    parser.add_argument(
        "--rabbit", metavar="URL", help="of a RabbitMQ server, and an empty virtual host, for amqp"
    )
    return parser


def _measure(options: argparse.Namespace, cleanup: contextlib.ExitStack) -> int:
    """Prepare, run all workloads, print, and write the report if wanted."""
    chosen = [_workload(name) for name in options.workloads] or list(WORKLOADS.values())
    effort = Effort(quick=options.quick)
    on_servers = options.broker != "sqlite"
    if options.broker == "amqp" and not options.rabbit:
        raise BenchmarkError(
            "--broker amqp needs the URL of a RabbitMQ server: --rabbit amqp://..."
        )
    rabbit = options.rabbit if options.broker == "amqp" else None
    needed = on_servers or CELERY in options.systems
    redis_program = environment.ensure_redis() if needed else None
    server = redis_program and cleanup.enter_context(redis_server(redis_program))
    under_test = _systems(options.systems, server or None, on_servers, rabbit)
    rounds = 1 if options.quick else options.rounds
    known = facts.gather(under_test, redis_program)
    known["broker of celeriac"] = options.broker
    known["effort"] = "quick: a tenth" if effort.quick else f"full, {rounds} rounds"
    series = [run(workload, under_test, rounds, effort) for workload in chosen]
    return _show(series, known, write=options.report)


def _workload(name: str) -> Workload:
    if name in WORKLOADS:
        return WORKLOADS[name]
    raise BenchmarkError(f"no workload is called {name!r}; there are: {', '.join(WORKLOADS)}")


def _systems(
    names: Sequence[str], redis: RedisServer | None, on_servers: bool, rabbit: str | None
) -> list[System]:
    """The systems by name, ready to be measured, always in the same order."""
    found: list[System] = []
    if CELERIAC in names:
        environment.require_celeriac()
        found.append(systems.celeriac(redis if on_servers else None, rabbit))
    if CELERY in names and redis is not None:
        environment.ensure_celery()
        found.append(systems.celery(redis, rabbit))
    return found


def _show(series: Sequence[Series], known: dict[str, str], *, write: bool) -> int:
    """Print the table and the failures; returns the exit status."""
    print(report.table(report.rows(series)))
    problems = report.failures(series)
    for problem in problems:
        print(f"\nfailed: {problem}", file=sys.stderr)
    if write:
        for path in report.write(REPORTS, known, series):
            print(f"wrote {path.relative_to(ROOT)}", file=sys.stderr)
    return 1 if problems else 0


def _terminated(number: int, frame: FrameType | None) -> None:
    """Leave by an exception, so that everything that was started is ended on the way out."""
    del frame
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
