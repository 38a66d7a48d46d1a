"""How long a caller waits for the result of a no-op: on an idle worker, and on one that is half busy.

One trip at a time. Half busy: another client enqueues no-ops at half the rate that the worker drained
just before.
"""

from benchmarks.errors import BenchmarkError
from benchmarks.stage import stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Goal, Metric, NotSupported, Workload, percentile
from benchmarks.workloads.drain import BATCH, drained

TRIPS = 1_000
LOAD_TASKS = 10_000
LOAD_SECONDS = 8.0

P50 = Metric(name="p50", unit="ms", goal=Goal(of="value", bound=0.45))
P95 = Metric(name="p95", unit="ms")
P99 = Metric(name="p99", unit="ms")
HALF_P50 = Metric(name="half load, p50", unit="ms")
HALF_P99 = Metric(name="half load, p99", unit="ms", goal=Goal(of="value", bound=5))
HALF_RATE = Metric(name="the load", unit="tasks/s", digits=0, compare=False)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Make the trips against a worker with two processes."""
    if not system.peer.stores:
        raise NotSupported
    trips = max(20, round(effort.times(TRIPS) * min(1.0, system.peer.share * 5)))
    with stage(system, waits=True) as place, place.ready_worker(2):
        seconds = place.client("round_trip", trips)["seconds"]
    return {
        P50.name: percentile(seconds, 50) * 1e3,
        P95.name: percentile(seconds, 95) * 1e3,
        P99.name: percentile(seconds, 99) * 1e3,
    }


def measure_half(system: System, effort: Effort) -> dict[str, float]:
    """Find out the full rate, then make trips beside half of it."""
    if not system.peer.stores:
        raise NotSupported
    tasks = system.tasks(effort.times(LOAD_TASKS))
    with stage(system, waits=True) as place:
        place.client("fill", tasks, BATCH)
        full = drained(place, tasks).rate
    with stage(system, waits=True) as place, place.ready_worker(2):
        load = place.start_client("load", full / 2, LOAD_SECONDS)
        seconds = place.client("round_trip", max(20, system.tasks(effort.times(TRIPS) * 2)))[
            "seconds"
        ]
        if load.poll() is not None:
            raise BenchmarkError("the trips took longer than the load that was to be beside them")
        sent = place.answer(load, "load")["sent"]
    return {
        HALF_P50.name: percentile(seconds, 50) * 1e3,
        HALF_P99.name: percentile(seconds, 99) * 1e3,
        HALF_RATE.name: sent / LOAD_SECONDS,
    }


WORKLOAD = Workload(
    name="round_trip",
    summary="enqueue and wait for the result, one at a time, worker with 2 processes",
    metrics=(P50, P95, P99),
    measure=measure,
)
HALF = Workload(
    name="half_load",
    summary="the same, while another client keeps the worker half busy",
    metrics=(HALF_P50, HALF_P99, HALF_RATE),
    measure=measure_half,
)
