"""The command `python -m benchmarks.profile`: where the time of caller, parent and child goes.

Draws three flame graphs while Celeriac does a workload: of the caller that fills the queue, of the
worker's parent, and of one of its children. py-spy takes the samples, from outside; it has to be
allowed to look into other processes (as root, or where `kernel.yama.ptrace_scope` is 0).
"""

import argparse
import contextlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import processes, systems
from benchmarks.errors import BenchmarkError
from benchmarks.paths import ROOT
from benchmarks.servers import Servers
from benchmarks.stage import START_TIMEOUT, Stage, stage
from benchmarks.systems import CELERIAC, PEERS

TASKS = 60_000
PAYLOADS = 15_000
SIZE = 10_000
BATCH = 1_000
TIMEOUT = 300.0
FOLDER = ROOT / "build" / "profile"


def main(arguments: Sequence[str]) -> int:
    """Profile as asked; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        with contextlib.ExitStack() as cleanup:
            system = systems.system(PEERS[CELERIAC], options.broker, Servers(cleanup))
            with stage(system) as place:
                _profile(place, options)
    except BenchmarkError as error:
        print(f"profile: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.profile",
        description="Draw flame graphs of a caller, a worker's parent and a child.",
    )
    parser.add_argument("--broker", choices=("redis", "amqp", "sqlite"), default="redis")
    parser.add_argument("--payload", action="store_true", help="10 KB in and out, not no-ops")
    parser.add_argument(
        "--seconds", type=int, default=3, help="of each graph (default %(default)s)"
    )
    parser.add_argument("--rate", type=int, default=500, help="samples a second")
    parser.add_argument("--native", action="store_true", help="show functions of C libraries, too")
    return parser


def _profile(place: Stage, options: argparse.Namespace) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    # One at a time is what a caller does; the rest is put there faster, so that there is enough to do.
    caller = place.start_client("enqueue", TASKS // 4)
    _record("caller", caller.pid, options).wait()
    place.answer(caller, "enqueue")
    if options.payload:
        place.client("fill_payload", PAYLOADS, SIZE)
    else:
        place.client("fill", TASKS, BATCH)
    with place.worker(2) as worker:
        worker.wait_for_marks(100, START_TIMEOUT)
        pids = {"parent": worker.pid, "child": _a_child(worker.pid)}
        recorders = [_record(name, pid, options) for name, pid in pids.items()]
        for recorder in recorders:
            recorder.wait(TIMEOUT)


def _a_child(parent: int) -> int:
    """Return a process that runs tasks: one that the template has forked, and the last."""
    found = processes.tree(parent)
    templates = [process.pid for process in found if process.parent == parent]
    children = [process.pid for process in found if process.parent in templates]
    if not children:
        raise BenchmarkError("the worker has no children; run it by hand and look at what it says")
    return max(children)


def _record(name: str, pid: int, options: argparse.Namespace) -> "subprocess.Popen[bytes]":
    """Begin to draw the flame graph of a process."""
    beside = Path(sys.executable).with_name("py-spy")
    program = str(beside) if beside.exists() else shutil.which("py-spy")
    if program is None:
        raise BenchmarkError(
            "py-spy is not installed; install the extra: pip install -e '.[bench]'"
        )
    path = FOLDER / f"{name}.svg"
    command = [
        program,
        "record",
        "--pid",
        str(pid),
        "--output",
        str(path),
        "--format",
        "flamegraph",
    ]
    command += ["--duration", str(options.seconds), "--rate", str(options.rate)]
    command += ["--native"] if options.native else []
    print(f"{name}: {path.relative_to(ROOT)}", file=sys.stderr)
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
