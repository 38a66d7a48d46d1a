"""How fast a worker with two processes empties a queue of tasks with large arguments and results.

As `drain`, but for the payload: the same text in and out.
"""

from functools import partial

from benchmarks.stage import stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Goal, Metric, NotSupported, Workload
from benchmarks.workloads.drain import drained


def _measure(name: str, size: int, full: int, system: System, effort: Effort) -> dict[str, float]:
    """Fill the queue, run a worker until it is empty, check a result."""
    if not system.peer.stores:
        raise NotSupported
    tasks = system.tasks(effort.times(full))
    with stage(system) as place:
        last = place.client("fill_payload", tasks, size)["handles"][-1]
        found = drained(place, tasks)
        place.client("check_payload", last, size)
    return {name: found.rate}


def _workload(
    name: str, what: str, size: int, full: int, goal: Goal | None = None, rounds: int | None = None
) -> Workload:
    rate = Metric(name=f"drain, {what}", unit="tasks/s", better="higher", digits=0, goal=goal)
    return Workload(
        name=name,
        summary=f"empty a queue of tasks with {what} in and out, 2 processes, results stored",
        metrics=(rate,),
        measure=partial(_measure, rate.name, size, full),
        rounds=rounds,
    )


WORKLOAD = _workload("payload", "10 KB", 10_000, 8_000, Goal(of="ratio", bound=12))
LARGE = _workload("large", "1 MB", 1_000_000, 200, rounds=1)
