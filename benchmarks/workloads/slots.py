"""What more processes bring: the drain rate of one worker with 1 to 16, of no-ops.

The processes share the cores of the machine: beyond those the rate shows what each more of them costs.

"""

from benchmarks.stage import stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Metric, Workload
from benchmarks.workloads.drain import BATCH, drained

SLOTS = (1, 2, 4, 8, 16)
TASKS = 20_000

RATES = tuple(
    Metric(name=f"{slots} process{'es' * (slots > 1)}", unit="tasks/s", better="higher", digits=0)
    for slots in SLOTS
)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Drain a queue of no-ops with more and more processes."""
    tasks = system.tasks(effort.times(TASKS))
    found: dict[str, float] = {}
    for metric, slots in zip(RATES, SLOTS, strict=True):
        with stage(system) as place:
            place.client("fill", tasks, BATCH)
            found[metric.name] = drained(place, tasks, slots).rate
    return found


WORKLOAD = Workload(
    name="slots",
    summary="drain rate of no-ops with 1 to 16 processes",
    metrics=RATES,
    measure=measure,
    curve=len(RATES),
    rounds=1,
)
