"""How long one task takes from delay() to its value, one at a time, with an idle worker."""

from benchmarks.stage import stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Goal, Metric, Workload, percentile

TRIPS = 1_000

P50 = Metric(name="p50", unit="ms", goal=Goal(of="value", bound=5))
P95 = Metric(name="p95", unit="ms")
P99 = Metric(name="p99", unit="ms")


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Make the trips against a worker with two processes."""
    with stage(system) as place, place.ready_worker(2):
        seconds = place.client("round_trip", effort.times(TRIPS))["seconds"]
    return {
        P50.name: percentile(seconds, 50) * 1e3,
        P95.name: percentile(seconds, 95) * 1e3,
        P99.name: percentile(seconds, 99) * 1e3,
    }


WORKLOAD = Workload(
    name="round_trip",
    summary="delay().get(), one at a time, worker with 2 processes",
    metrics=(P50, P95, P99),
    measure=measure,
)
