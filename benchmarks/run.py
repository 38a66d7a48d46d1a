"""Runs workloads on the systems in turn, A B C A B C, and keeps every number.

A workload that fails on one system is noted and not tried again on it; the rest goes on.
"""

import sys
from collections.abc import Iterator, Sequence

import msgspec

from benchmarks.errors import BenchmarkError
from benchmarks.systems import System
from benchmarks.workload import Effort, NotSupported, Workload

Samples = dict[str, dict[str, list[float]]]
"""Numbers in the order of rounds, by metric and system."""


class Series(msgspec.Struct, frozen=True):
    """All that was measured for one workload."""

    workload: Workload
    samples: Samples
    failures: dict[str, str]
    """What went wrong, by system."""
    unable: set[str]
    """Systems that cannot do it."""


def run(workload: Workload, systems: Sequence[System], rounds: int, effort: Effort) -> Series:
    """Measure a workload; never raises BenchmarkError."""
    series = Series(workload, {metric.name: {} for metric in workload.metrics}, {}, set())
    for number, system in _turns(workload, systems, rounds):
        if system.name in series.failures or system.name in series.unable:
            continue
        print(f"{workload.name}, round {number}: {system.name}", file=sys.stderr, flush=True)
        try:
            numbers = workload.measure(system, effort)
        except NotSupported:
            series.unable.add(system.name)
            continue
        except BenchmarkError as error:
            series.failures[system.name] = str(error)
            continue
        for metric, value in numbers.items():
            series.samples[metric].setdefault(system.name, []).append(value)
    return series


def _turns(
    workload: Workload, systems: Sequence[System], rounds: int
) -> Iterator[tuple[int, System]]:
    """Every round of every system, systems alternating."""
    limit = rounds if workload.rounds is None else min(rounds, workload.rounds)
    for number in range(1, limit + 1):
        for system in systems:
            yield number, system
