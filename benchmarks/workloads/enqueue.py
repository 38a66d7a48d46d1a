"""How fast one client enqueues no-ops, one at a time and many in a call, while no worker runs.

Celery has no call for many tasks: there its fastest loop stands for it. On Redis the driver's own LPUSH
is timed beside it, with the same message.
"""

from benchmarks.stage import stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Metric, Workload

TASKS = 10_000
TASKS_IN_BATCHES = 20_000
BATCH = 1_000

ONE = Metric(name="one at a time", unit="tasks/s", better="higher", digits=0)
ONE_CPU = Metric(name="one at a time, client CPU", unit="us/task", digits=0)
SHARE = Metric(
    name="one at a time, of bare LPUSH", unit="", better="higher", digits=2, compare=False
)
MANY = Metric(name="1,000 in a call", unit="tasks/s", better="higher", digits=0)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Time both ways, each on an empty broker."""
    one, many = effort.times(TASKS), effort.times(TASKS_IN_BATCHES)
    with stage(system) as place:
        single = place.client("enqueue", one)
        bare = place.client("bare_lpush", one) if system.on_redis else None
    with stage(system) as place:
        batched = place.client("enqueue_many", many, BATCH)
    shares = {} if bare is None else {SHARE.name: bare["wall"] / single["wall"]}
    return shares | {
        ONE.name: one / single["wall"],
        ONE_CPU.name: single["cpu"] / one * 1e6,
        MANY.name: many / batched["wall"],
    }


WORKLOAD = Workload(
    name="enqueue",
    summary="enqueue no-ops from one client, no worker running",
    metrics=(ONE, SHARE, ONE_CPU, MANY),
    measure=measure,
)
