"""How much memory a worker uses that has run one task and waits, with two and eight processes.

PSS of the whole process tree: private memory, and of shared memory each process's part.
"""

import time

from benchmarks.processes import pss_mib
from benchmarks.stage import stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Goal, Metric, Workload

SETTLE = 1.5
"""Seconds after the first task, in which what was started is fully there."""

TWO = Metric(name="2 processes", unit="MiB PSS", digits=1, goal=Goal(of="value", bound=50))
EIGHT = Metric(name="8 processes", unit="MiB PSS", digits=1, goal=Goal(of="value", bound=90))


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Look at an idle worker of each size."""
    del effort
    return {TWO.name: _idle(system, 2), EIGHT.name: _idle(system, 8)}


def _idle(system: System, concurrency: int) -> float:
    with stage(system) as place, place.ready_worker(concurrency) as worker:
        time.sleep(SETTLE)
        return pss_mib(worker.pid)


WORKLOAD = Workload(
    name="idle_memory",
    summary="memory of an idle worker's process tree, 1.5 s after its first task",
    metrics=(TWO, EIGHT),
    measure=measure,
)
