"""How fast a worker with two processes empties a full queue of no-ops, results stored.

The queue is filled while no worker runs. The rate is taken between the first and the last task, so
starting the worker is not in it. Afterwards about 200 results are fetched, to see that they are
there; and a task that ran twice fails the measurement.
"""

from benchmarks import marks
from benchmarks.errors import BenchmarkError
from benchmarks.stage import START_TIMEOUT, stage
from benchmarks.systems import CELERIAC, System
from benchmarks.workload import Effort, Goal, Metric, Workload

TASKS = {CELERIAC: 20_000}
TASKS_OTHERWISE = 10_000
BATCH = 1_000
TIMEOUT = 120.0
_NANOSECONDS = 1e9

RATE = Metric(
    name="drain", unit="tasks/s", better="higher", digits=0, goal=Goal(of="ratio", bound=4)
)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Fill the queue, run a worker until it is empty, check results."""
    tasks = effort.times(TASKS.get(system.name, TASKS_OTHERWISE))
    with stage(system) as place:
        sample = place.client("fill", tasks, BATCH)["ids"]
        with place.worker(2) as worker:
            worker.wait_for_marks(tasks, START_TIMEOUT + TIMEOUT)
            place.client("check", *sample)
        times = [when for when, _ in marks.read(place.marks)]
    if len(times) != tasks:
        raise BenchmarkError(f"{tasks} tasks ran {len(times)} times, though nothing failed")
    return {RATE.name: (len(times) - 1) * _NANOSECONDS / (max(times) - min(times))}


WORKLOAD = Workload(
    name="drain",
    summary="empty a full queue of no-ops with 2 processes, results stored",
    metrics=(RATE,),
    measure=measure,
)
