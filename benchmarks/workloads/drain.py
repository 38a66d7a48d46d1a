"""How fast a worker with two processes empties a full queue of no-ops, results stored.

The queue is filled while no worker runs. The rate is taken between the first and the last task, so
starting the worker is not in it; CPU time between a twentieth of them and the end. Afterwards about 200
results are fetched, to see that they are there; and a task that ran twice fails the measurement.
"""

import msgspec

from benchmarks import marks
from benchmarks.errors import BenchmarkError
from benchmarks.processes import cpu_seconds
from benchmarks.stage import START_TIMEOUT, Stage, stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Goal, Metric, NotSupported, Workload

TASKS = 20_000
BATCH = 1_000
TIMEOUT = 120.0
_NANOSECONDS = 1e9

RATE = Metric(
    name="drain", unit="tasks/s", better="higher", digits=0, goal=Goal(of="ratio", bound=20)
)
BARE_RATE = Metric(name="drain, no results", unit="tasks/s", better="higher", digits=0)
WORKER_CPU = Metric(name="worker CPU", unit="ms/1,000", digits=0)
SERVER_CPU = Metric(name="servers' CPU", unit="ms/1,000", digits=0)


class Drained(msgspec.Struct):
    """What emptying a queue came to."""

    rate: float
    worker_cpu: float
    """Milliseconds for 1,000 tasks."""
    server_cpu: float


def drained(place: Stage, tasks: int, processes: int = 2) -> Drained:
    """Run a worker until the queue is empty. Raises BenchmarkError if a task runs twice."""
    with place.worker(processes) as worker:
        begun = len(worker.wait_for_marks(max(1, tasks // 20), START_TIMEOUT))
        cpu, server = cpu_seconds(worker.pid), place.system.server_cpu()
        worker.wait_for_marks(tasks, TIMEOUT)
        cpu, server = cpu_seconds(worker.pid) - cpu, place.system.server_cpu() - server
    times = [when for when, _ in marks.read(place.marks)]
    if len(times) != tasks:
        raise BenchmarkError(f"{tasks} tasks ran {len(times)} times, though nothing failed")
    rate = (tasks - 1) * _NANOSECONDS / (max(times) - min(times))
    rest = max(1, tasks - begun)
    return Drained(rate, cpu / rest * 1e6, server / rest * 1e6)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Fill the queue, run a worker until it is empty, check results."""
    tasks = system.tasks(effort.times(TASKS))
    with stage(system) as place:
        sample = place.client("fill", tasks, BATCH)["handles"]
        found = drained(place, tasks)
        if system.peer.stores:
            place.client("check", *sample)
    return {
        RATE.name: found.rate,
        WORKER_CPU.name: found.worker_cpu,
        SERVER_CPU.name: found.server_cpu,
    }


def measure_bare(system: System, effort: Effort) -> dict[str, float]:
    """The same without results."""
    if not system.peer.stores:
        raise NotSupported
    tasks = system.tasks(effort.times(TASKS))
    with stage(system, results=False) as place:
        place.client("fill", tasks, BATCH)
        return {BARE_RATE.name: drained(place, tasks).rate}


WORKLOAD = Workload(
    name="drain",
    summary="empty a full queue of no-ops with 2 processes, results stored",
    metrics=(RATE, WORKER_CPU, SERVER_CPU),
    measure=measure,
)
BARE = Workload(
    name="drain_bare",
    summary="the same, results not stored",
    metrics=(BARE_RATE,),
    measure=measure_bare,
)
