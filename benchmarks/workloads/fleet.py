"""What more workers bring, and what they cost the server: draining together, and waiting together.

Each has one process. All share the cores of one machine, so the rate says little; what the server spends
on a task, and on a worker that has nothing to do, is what the model in ``docs/explanation/scale.md`` is
checked against.
"""

import contextlib
import time
from collections.abc import Sequence

from benchmarks import marks
from benchmarks.processes import cpu_seconds, own_cpu_seconds
from benchmarks.stage import START_TIMEOUT, Stage, Worker, stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Metric, Workload
from benchmarks.workloads.drain import BATCH, TIMEOUT

WORKERS = (1, 2, 4, 8)
TASKS = 30_000
SETTLE = 8.0
"""Seconds until each has renewed once, and knows how many there are."""
SECONDS = 10.0
_NANOSECONDS = 1e9

RATES = tuple(
    Metric(name=f"{n} draining", unit="tasks/s", better="higher", digits=0) for n in WORKERS
)
COSTS = tuple(Metric(name=f"{n} draining, server", unit="ms/1,000", digits=0) for n in WORKERS)
PARENT_COSTS = tuple(
    Metric(name=f"{n} draining, parents", unit="ms/1,000", digits=0) for n in WORKERS
)
CHILD_COSTS = tuple(
    Metric(name=f"{n} draining, children", unit="ms/1,000", digits=0) for n in WORKERS
)
IDLE = tuple(Metric(name=f"{n} idle, server", unit="% of a core", digits=2) for n in WORKERS)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Drain a queue with more and more workers; then look at the server while they wait."""
    found: dict[str, float] = {}
    tasks = system.tasks(effort.times(TASKS))
    for n, number in enumerate(WORKERS):
        with stage(system) as place:
            place.client("fill", tasks, BATCH)
            with contextlib.ExitStack() as running:
                workers = [running.enter_context(place.worker(1)) for _ in range(number)]
                begun = len(workers[0].wait_for_marks(tasks // 3, START_TIMEOUT + TIMEOUT))
                before = _spent(place, workers)
                workers[0].wait_for_marks(tasks, TIMEOUT)
                spent = [
                    now - then for now, then in zip(_spent(place, workers), before, strict=True)
                ]
                found[IDLE[n].name] = _idle(place)
            times = sorted(when for when, _ in marks.read(place.marks))
        rest = tasks - begun
        found[RATES[n].name] = (rest - 1) * _NANOSECONDS / (times[-1] - times[begun])
        for costs, seconds in zip((COSTS, PARENT_COSTS, CHILD_COSTS), spent, strict=True):
            found[costs[n].name] = seconds / rest * 1e6
    return found


def _spent(place: Stage, workers: Sequence[Worker]) -> tuple[float, float, float]:
    """Return the CPU seconds so far of the server, the workers' main processes, and all others."""
    parents = sum(own_cpu_seconds(worker.pid) for worker in workers)
    everything = sum(cpu_seconds(worker.pid) for worker in workers)
    return place.system.server_cpu(), parents, everything - parents


def _idle(place: Stage) -> float:
    """Return the share of a core that the server spends on workers that wait, in per cent."""
    time.sleep(SETTLE)
    before = place.system.server_cpu()
    time.sleep(SECONDS)
    return (place.system.server_cpu() - before) / SECONDS * 100


WORKLOAD = Workload(
    name="fleet",
    summary="1 to 8 workers of one process each, draining together, then idle",
    metrics=(*RATES, *COSTS, *PARENT_COSTS, *CHILD_COSTS, *IDLE),
    measure=measure,
    curve=len(RATES),
    rounds=1,
)
