"""How long it takes from spawning a worker until a task that was already waiting runs."""

from benchmarks.stage import START_TIMEOUT, stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Goal, Metric, Workload

STARTS = 3
_NANOSECONDS = 1e9

START = Metric(name="first task", unit="s", digits=3, goal=Goal(of="value", bound=0.3))


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Start a worker a few times, each on an empty broker; the middle time counts."""
    starts = 1 if effort.quick else STARTS
    times = sorted(_start(system) for _ in range(starts))
    return {START.name: times[starts // 2]}


def _start(system: System) -> float:
    with stage(system) as place, place.ready_worker(2) as worker:
        [(when, _)] = worker.wait_for_marks(1, START_TIMEOUT)
        return (when - worker.spawned) / _NANOSECONDS


WORKLOAD = Workload(
    name="startup",
    summary="spawn a worker until an already enqueued task runs",
    metrics=(START,),
    measure=measure,
)
