"""How much of a core the processes of an idle worker use. A server beside it is not counted."""

import time

from benchmarks.processes import cpu_seconds
from benchmarks.stage import stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Goal, Metric, Workload
from benchmarks.workloads.idle_memory import SETTLE

SECONDS = 20

SHARE = Metric(name="of one core", unit="%", digits=2, goal=Goal(of="value", bound=1))


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Look at the CPU time of an idle worker's tree twice."""
    seconds = effort.times(SECONDS)
    with stage(system) as place, place.ready_worker(2) as worker:
        time.sleep(SETTLE)
        start, before = time.monotonic(), cpu_seconds(worker.pid)
        time.sleep(seconds)
        end, after = time.monotonic(), cpu_seconds(worker.pid)
    return {SHARE.name: (after - before) / (end - start) * 100}


WORKLOAD = Workload(
    name="idle_cpu",
    summary="CPU time of an idle worker's process tree, 2 processes",
    metrics=(SHARE,),
    measure=measure,
    rounds=1,
)
