"""What 20,000 tasks that are due in an hour cost in the memory of an idle worker.

Own memory only, without libraries: how much of those is charged to the worker changes by several
MiB with every other Python program that starts or ends, which would drown the answer.
"""

import time

from benchmarks.processes import own_mib
from benchmarks.stage import stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Goal, Metric, NotSupported, Workload
from benchmarks.workloads.idle_memory import SETTLE

TASKS = 20_000
DUE = 3_600
WAIT = 10.0
"""Seconds after the last was enqueued, in which a worker takes what it wants to hold."""

UNCHANGED = 1.0
"""MiB; memory of a running process moves by less than this without a reason."""

BEFORE = Metric(name="before", unit="MiB", digits=1, compare=False)
AFTER = Metric(name="after", unit="MiB", digits=1, compare=False)
GROWTH = Metric(
    name="growth",
    unit="MiB",
    digits=1,
    goal=Goal(of="value", bound=UNCHANGED),
    compare=False,
)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Look at an idle worker before and after the tasks were enqueued."""
    if not system.peer.delays:
        raise NotSupported
    with stage(system) as place, place.ready_worker(2) as worker:
        time.sleep(SETTLE)
        before = own_mib(worker.pid)
        place.client("countdown", effort.times(TASKS), DUE)
        time.sleep(WAIT)
        after = own_mib(worker.pid)
    return {BEFORE.name: before, AFTER.name: after, GROWTH.name: after - before}


WORKLOAD = Workload(
    name="countdown",
    summary="worker memory while 20,000 tasks wait that are due in an hour",
    metrics=(BEFORE, AFTER, GROWTH),
    measure=measure,
    rounds=1,
)
