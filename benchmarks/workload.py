"""The words of the suite: what a workload is, what it measures, what it should reach.

Values only; `benchmarks.workloads` has the workloads themselves.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from benchmarks.systems import System

Direction = Literal["higher", "lower"]


class Goal(msgspec.Struct, frozen=True):
    """What Celeriac is to reach on Redis: a value, or a ratio to Celery."""

    of: Literal["value", "ratio"]
    bound: float


class Metric(msgspec.Struct, frozen=True, kw_only=True):
    """One number that a workload gives for a system."""

    name: str
    unit: str
    better: Direction = "lower"
    digits: int = 2
    """Digits after the point."""
    goal: Goal | None = None
    compare: bool = True
    """Whether a ratio of two systems means anything."""

    def ratio(self, celeriac: float, other: float) -> float:
        """How many times better Celeriac is; above 1 it is ahead, whatever the direction."""
        above, below = (celeriac, other) if self.better == "higher" else (other, celeriac)
        return above / below if below else math.inf

    def met(self, value: float) -> bool | None:
        """Whether a value, or a ratio if the goal is one, reaches the goal; None without a goal."""
        if self.goal is None:
            return None
        at_least = self.goal.of == "ratio" or self.better == "higher"
        return value >= self.goal.bound if at_least else value <= self.goal.bound


class NotSupported(Exception):
    """The system cannot do this: its column stays empty."""


class Effort(msgspec.Struct, frozen=True):
    """How much is done: everything, or a tenth of it to see that it works."""

    quick: bool = False

    def times(self, full: int) -> int:
        """How often something is done that is done `full` times in a full run."""
        return max(1, full // 10) if self.quick else full


class Workload(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is measured on each system in turn."""

    name: str
    summary: str
    metrics: tuple[Metric, ...]
    measure: Callable[[System, Effort], dict[str, float]]
    """Measures one system once; gives a number for each metric, by its name."""
    curve: int = 0
    """How many of the first metrics are one measure at growing sizes: they are drawn as a line."""
    rounds: int | None = None
    """The most rounds it is worth, for workloads that take long and vary little."""


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest of the values that at least `percent` of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
