"""Whether a task costs more when many others wait: the drain rate with 1,000 to 1,000,000 queued.

Each time the first tasks are timed, and the rest is thrown away with the queue.
"""

from benchmarks import marks
from benchmarks.stage import START_TIMEOUT, stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Metric, Workload
from benchmarks.workloads.drain import BATCH, TIMEOUT

QUEUED = (1_000, 10_000, 100_000, 1_000_000)
TIMED = 5_000
SLOW = 0.05
"""Of Celeriac's tasks: who is given less takes minutes to queue a million."""
_NANOSECONDS = 1e9

RATES = tuple(
    Metric(name=f"{queued:,} queued", unit="tasks/s", better="higher", digits=0)
    for queued in QUEUED
)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Queue more and more; where that takes long, 10,000 at most."""
    found: dict[str, float] = {}
    for metric, queued in zip(RATES, QUEUED, strict=True):
        count = effort.times(queued)
        if count > 10_000 and (not system.peer.bulk or system.peer.share < SLOW):
            break
        timed = min(count, system.tasks(TIMED))
        with stage(system) as place:
            place.client("fill", count, BATCH)
            with place.worker(2) as worker:
                worker.wait_for_marks(timed, START_TIMEOUT + TIMEOUT)
            times = sorted(when for when, _ in marks.read(place.marks))[:timed]
        found[metric.name] = (timed - 1) * _NANOSECONDS / (times[-1] - times[0])
    return found


WORKLOAD = Workload(
    name="growth",
    summary="drain rate of the first tasks of a long queue, 2 processes",
    metrics=RATES,
    measure=measure,
    curve=len(RATES),
    rounds=1,
)
