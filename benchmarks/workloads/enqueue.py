"""How fast one client enqueues no-ops, one at a time and many in a call, while no worker runs.

Celery has no call for many tasks: there its fastest loop stands for it.
"""

from benchmarks.stage import stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Metric, Workload

TASKS = 10_000
TASKS_IN_BATCHES = 20_000
BATCH = 1_000

ONE = Metric(name="one at a time", unit="tasks/s", better="higher", digits=0)
ONE_CPU = Metric(name="one at a time, client CPU", unit="us/task", digits=0)
MANY = Metric(name="1,000 in a call", unit="tasks/s", better="higher", digits=0)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Time both ways, each on an empty broker."""
    one, many = effort.times(TASKS), effort.times(TASKS_IN_BATCHES)
    with stage(system) as place:
        single = place.client("enqueue", one)
    with stage(system) as place:
        batched = place.client("enqueue_many", many, BATCH)
    return {
        ONE.name: one / single["wall"],
        ONE_CPU.name: single["cpu"] / one * 1e6,
        MANY.name: many / batched["wall"],
    }


WORKLOAD = Workload(
    name="enqueue",
    summary="enqueue no-ops from one client, no worker running",
    metrics=(ONE, ONE_CPU, MANY),
    measure=measure,
)
