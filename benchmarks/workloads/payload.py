"""How fast a worker with two processes empties a queue of tasks with 10 KB in and 10 KB out.

As `drain`, but for the payload: the rate is taken between the first and the last task.
"""

from benchmarks import marks
from benchmarks.errors import BenchmarkError
from benchmarks.stage import START_TIMEOUT, stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Metric, Workload

TASKS = 4_000
SIZE = 10_000
TIMEOUT = 120.0

RATE = Metric(name="drain, 10 KB", unit="tasks/s", better="higher", digits=0)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Fill the queue, run a worker until it is empty, check a result."""
    tasks = effort.times(TASKS)
    with stage(system) as place:
        last = place.client("fill_payload", tasks, SIZE)["ids"][-1]
        with place.worker(2) as worker:
            worker.wait_for_marks(tasks, START_TIMEOUT + TIMEOUT)
            place.client("check_payload", last, SIZE)
        times = [when for when, _ in marks.read(place.marks)]
    if len(times) != tasks:
        raise BenchmarkError(f"{tasks} tasks ran {len(times)} times, though nothing failed")
    return {RATE.name: (len(times) - 1) * 1e9 / (max(times) - min(times))}


WORKLOAD = Workload(
    name="payload",
    summary="empty a queue of tasks with 10 KB in and out, 2 processes, results stored",
    metrics=(RATE,),
    measure=measure,
)
