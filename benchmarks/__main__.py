"""The command: `python -m benchmarks [WORKLOAD ...]`.

Prints progress to standard error and tables to standard output. The exit status is 1 when something
could not be measured; a missed goal is a result like any other.
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
from benchmarks.run import Series, run
from benchmarks.servers import Servers
from benchmarks.systems import PEERS, System
from benchmarks.workload import Effort, Workload
from benchmarks.workloads import SHORT, WORKLOADS

ROUNDS = 3
KINDS = ("redis", "amqp", "sqlite")


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
        description="Measure Celeriac beside other task queues.",
        epilog=f"workloads, `all` for every one; without any, {', '.join(SHORT)}:\n{names}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help="what to measure")
    parser.add_argument(
        "--broker", choices=KINDS, default=KINDS[0], help="on what (default %(default)s)"
    )
    parser.add_argument(
        "--systems",
        nargs="+",
        choices=tuple(PEERS),
        default=(),
        help="measure these; by default all that know the broker, and Celery on Redis",
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="one round of a tenth, for a look")
    parser.add_argument(
        "--report", action="store_true", help="write tables and plots into docs/benchmarks, too"
    )
    return parser


def _measure(options: argparse.Namespace, cleanup: contextlib.ExitStack) -> int:
    """Prepare, run all workloads, print, and write the report if wanted."""
    chosen = _workloads(options.workloads)
    effort = Effort(quick=options.quick)
    under_test = _systems(options.systems, options.broker, Servers(cleanup))
    rounds = 1 if options.quick else options.rounds
    known = facts.gather(under_test)
    known["effort"] = "quick: a tenth" if effort.quick else f"full, {rounds} rounds"
    series = [run(workload, under_test, rounds, effort) for workload in chosen]
    known["load after"] = facts.load()
    return _show(series, known, options)


def _workloads(names: Sequence[str]) -> list[Workload]:
    if "all" in names:
        return list(WORKLOADS.values())
    unknown = [name for name in names if name not in WORKLOADS]
    if unknown:
        raise BenchmarkError(
            f"no workload is called {unknown[0]!r}; there are: {', '.join(WORKLOADS)}"
        )
    return [WORKLOADS[name] for name in names or SHORT]


def _systems(names: Sequence[str], kind: systems.Kind, servers: Servers) -> list[System]:
    """The systems by name, ready to be measured, always in the same order."""
    found = systems.chosen(names, kind, servers)
    for each in found:
        environment.ensure_peer(each.name, each.peer.requirements)
    return found


def _show(series: Sequence[Series], known: dict[str, str], options: argparse.Namespace) -> int:
    """Print tables and failures; returns the exit status."""
    print(report.text(series, options.broker))
    problems = report.failures(series)
    for problem in problems:
        print(f"\nfailed: {problem}", file=sys.stderr)
    if options.report:
        for path in report.write(REPORTS, options.broker, known, series):
            print(f"wrote {path.relative_to(ROOT)}", file=sys.stderr)
    return 1 if problems else 0


def _terminated(number: int, frame: FrameType | None) -> None:
    """Leave by an exception, so that everything that was started is ended on the way out."""
    del frame
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
