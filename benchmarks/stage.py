"""One measurement's own world: an empty broker, a folder, a file of marks, clients and workers.

Everything in it is bounded in time, and gone when the stage is left. Knows nothing of what is
measured on it.
"""

import contextlib
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import marks, processes
from benchmarks.errors import BenchmarkError
from benchmarks.paths import ROOT
from benchmarks.systems import System

CLIENT_TIMEOUT = 300.0
START_TIMEOUT = 60.0
STOP_TIMEOUT = 15.0
_POLL = 0.02
_TAIL = 2_000


class Worker:
    """A running worker of the system under test."""

    def __init__(self, process: subprocess.Popen[bytes], spawned: int, stage: "Stage") -> None:
        self.pid = process.pid
        self.spawned = spawned
        """When it was spawned, in nanoseconds of the monotonic clock."""
        self._process = process
        self._stage = stage

    def wait_for_marks(self, count: int, timeout: float) -> list[tuple[int, int]]:
        """Wait until its tasks left `count` marks, and read them.

        Raises BenchmarkError when the worker ends or `timeout` seconds pass before that.
        """
        deadline = time.monotonic() + timeout
        while (seen := marks.count(self._stage.marks)) < count:
            if self._process.poll() is not None:
                raise self._failure(f"ended with status {self._process.returncode}", seen, count)
            if time.monotonic() > deadline:
                raise self._failure(f"was not done within {timeout:g} s", seen, count)
            time.sleep(_POLL)
        return marks.read(self._stage.marks)

    def _failure(self, what: str, seen: int, count: int) -> BenchmarkError:
        tail = self._stage.log.read_text(errors="replace")[-_TAIL:]
        name = self._stage.system.name
        return BenchmarkError(
            f"{name} worker {what}; {seen} of {count} tasks ran. It said:\n{tail}"
        )


class Stage:
    """Fresh state of one system under test; made by `stage()`."""

    def __init__(self, system: System, folder: Path, results: bool, waits: bool) -> None:
        self.system = system
        self.marks = str(folder / "marks")
        self.log = folder / "worker.log"
        self.broker = system.address(folder)
        self._environment = _environment(self.marks, folder) | {
            "BENCH_BROKER": self.broker,
            "BENCH_BACKEND": system.results(folder) if results else "",
            "BENCH_WAITS": "1" if waits else "",
        }

    def client(self, action: str, *arguments: object) -> dict[str, Any]:
        """Run one action of `benchmarks.client` and return its answer."""
        return self.answer(self.start_client(action, *arguments), action)

    def start_client(self, action: str, *arguments: object) -> "subprocess.Popen[str]":
        """Start an action, whose ``answer`` is to be fetched."""
        peer = self.system.peer
        command = [peer.python, "-m", "benchmarks.client", action, peer.module]
        return subprocess.Popen(
            [*command, *map(str, arguments)],
            cwd=ROOT,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answer(self, client: "subprocess.Popen[str]", action: str) -> dict[str, Any]:
        """Wait for an action, and return its answer. Raises BenchmarkError."""
        name = self.system.name
        try:
            out, err = client.communicate(timeout=CLIENT_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            message = f"{name} client: {action} took over {CLIENT_TIMEOUT:g} s"
            raise BenchmarkError(message) from error
        finally:
            client.kill()
            client.wait()
        if client.returncode:
            raise BenchmarkError(f"{name} client: {action} failed. It said:\n{err[-_TAIL:]}")
        answer: dict[str, Any] = json.loads(out)
        return answer

    @contextlib.contextmanager
    def worker(self, concurrency: int = 2) -> Iterator[Worker]:
        """Run a worker with so many processes; does not wait for it to be ready."""
        command = self.system.worker_command(concurrency, self.broker)
        with self.log.open("ab") as log:
            spawned = time.monotonic_ns()
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C reaches the suite alone, which ends the worker
            )
        try:
            yield Worker(process, spawned, self)
        finally:
            processes.end(process, STOP_TIMEOUT)

    @contextlib.contextmanager
    def ready_worker(self, concurrency: int = 2) -> Iterator[Worker]:
        """Run a worker that has run one task, enqueued before it was started."""
        self.client("fill", 1, 1)
        with self.worker(concurrency) as worker:
            worker.wait_for_marks(1, START_TIMEOUT)
            yield worker


def _environment(marks_file: str, folder: Path) -> dict[str, str]:
    """The environment of every process on the stage; what configures a library is left out."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CELERY", "CELERIAC", "PYTHON", "BENCH_"))
    }
    return kept | {marks.VARIABLE: marks_file, "CELERIAC_HOME": str(folder)}


@contextlib.contextmanager
def stage(system: System, *, results: bool = True, waits: bool = False) -> Iterator[Stage]:
    """An empty broker and an empty folder for one measurement, both gone afterwards.

    Without ``results`` none are kept; ``waits`` says that callers will wait for them.
    """
    system.reset()
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-") as folder:
        yield Stage(system, Path(folder), results, waits)
    system.reset()
