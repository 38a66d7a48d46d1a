"""How long an idle worker needs to notice a task: from the send to the first line of the function.

Sends come about every 20 ms, so each finds the worker asleep. The time from the call includes the
sending; the time from its return does not, and may be below zero where the task was faster.
"""

from benchmarks.stage import stage
from benchmarks.systems import System
from benchmarks.workload import Effort, Goal, Metric, Workload, percentile

SENDS = 500
INTERVAL = 0.02
TIMEOUT = 30.0

CALL_P50 = Metric(name="from the call, p50", unit="ms")
CALL_P99 = Metric(name="from the call, p99", unit="ms")
RETURN_P50 = Metric(
    name="from the return, p50", unit="ms", goal=Goal(of="value", bound=1), compare=False
)
RETURN_P99 = Metric(
    name="from the return, p99", unit="ms", goal=Goal(of="value", bound=5), compare=False
)


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Send to a worker with two processes, and compare its marks with the times of sending."""
    with stage(system) as place, place.ready_worker(2) as worker:
        sent = place.client("doorbell", effort.times(SENDS), INTERVAL)
        # the first mark is that of the task which showed that the worker was ready
        found = worker.wait_for_marks(1 + len(sent["called"]), TIMEOUT)[1:]
    arrived = {number: when for when, number in found}
    from_call = _latencies(sent["called"], arrived, sent["skip"])
    from_return = _latencies(sent["returned"], arrived, sent["skip"])
    return {
        CALL_P50.name: percentile(from_call, 50),
        CALL_P99.name: percentile(from_call, 99),
        RETURN_P50.name: percentile(from_return, 50),
        RETURN_P99.name: percentile(from_return, 99),
    }


def _latencies(sent: list[int], arrived: dict[int, int], skip: int) -> list[float]:
    """Milliseconds that each send took, without the first `skip`, which warm up."""
    return [(arrived[number] - when) / 1e6 for number, when in enumerate(sent)][skip:]


WORKLOAD = Workload(
    name="doorbell",
    summary="from sending to the task's first line, idle worker with 2 processes",
    metrics=(CALL_P50, CALL_P99, RETURN_P50, RETURN_P99),
    measure=measure,
    rounds=1,
)
