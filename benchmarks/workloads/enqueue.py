"""How fast one client enqueues no-ops while no worker runs: one at a time, many, and from coroutines.

Where a library has no call for many tasks, its fastest loop stands for it. On Redis the driver's own
LPUSH is timed beside Celeriac and Celery, with the same message.
"""

from benchmarks.stage import stage
from benchmarks.systems import CELERIAC, CELERY, System
from benchmarks.workload import Effort, Goal, Metric, Workload

TASKS = 10_000
MANY_TASKS = 20_000
BATCH = 1_000
WIDTH = 50

ONE = Metric(name="one at a time", unit="tasks/s", better="higher", digits=0)
SHARE = Metric(
    name="of bare LPUSH",
    unit="",
    better="higher",
    compare=False,
    goal=Goal(of="value", bound=0.75),
)
CPU = Metric(name="client CPU", unit="ms/1,000", digits=0)
MANY = Metric(
    name="1,000 in a call",
    unit="tasks/s",
    better="higher",
    digits=0,
    goal=Goal(of="value", bound=60_000),
)
TOGETHER = Metric(name="50 coroutines", unit="tasks/s", better="higher", digits=0)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Time each way on an empty broker."""
    # Sending differs less than running: a fifth of it is enough for the slowest.
    one, many = (
        effort.times(full) if system.name == CELERIAC else effort.times(full) // 4
        for full in (TASKS, MANY_TASKS)
    )
    found: dict[str, float] = {}
    with stage(system) as place:
        single = place.client("enqueue", one)
        found[ONE.name] = one / single["wall"]
        found[CPU.name] = single["cpu"] / one * 1e6
        if system.kind == "redis" and system.name in (CELERIAC, CELERY):
            found[SHARE.name] = place.client("bare_lpush", one)["wall"] / single["wall"]
    with stage(system) as place:
        found[MANY.name] = many / place.client("enqueue_many", many, BATCH)["wall"]
    if system.peer.awaits:
        with stage(system) as place:
            found[TOGETHER.name] = one / place.client("enqueue_together", one, WIDTH)["wall"]
    return found


WORKLOAD = Workload(
    name="enqueue",
    summary="enqueue no-ops from one client, no worker running",
    metrics=(ONE, SHARE, CPU, MANY, TOGETHER),
    measure=measure,
)
