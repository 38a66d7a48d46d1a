"""The workloads, one module for each kind, in the order in which they run."""

from benchmarks.workload import Workload
from benchmarks.workloads import (
    countdown,
    doorbell,
    drain,
    enqueue,
    fleet,
    growth,
    idle_cpu,
    idle_memory,
    imports,
    payload,
    round_trip,
    slots,
    startup,
)

WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        drain.WORKLOAD,
        drain.BARE,
        payload.WORKLOAD,
        payload.LARGE,
        enqueue.WORKLOAD,
        round_trip.WORKLOAD,
        round_trip.HALF,
        startup.WORKLOAD,
        idle_memory.WORKLOAD,
        imports.WORKLOAD,
        countdown.WORKLOAD,
        idle_cpu.WORKLOAD,
        doorbell.WORKLOAD,
        growth.WORKLOAD,
        slots.WORKLOAD,
        fleet.WORKLOAD,
    )
}
SHORT = ("drain", "payload", "enqueue", "round_trip", "startup")
"""What is measured unless told otherwise: the whole takes an hour."""
