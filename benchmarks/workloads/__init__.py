"""The workloads, one module each, in the order in which they run."""

from benchmarks.workload import Workload
from benchmarks.workloads import (
    countdown,
    doorbell,
    drain,
    enqueue,
    idle_cpu,
    idle_memory,
    imports,
    payload,
    round_trip,
    startup,
)

WORKLOADS: dict[str, Workload] = {
    module.WORKLOAD.name: module.WORKLOAD
    for module in (
        drain,
        payload,
        enqueue,
        round_trip,
        startup,
        idle_memory,
        imports,
        countdown,
        idle_cpu,
        doorbell,
    )
}
