"""How long a program takes that imports the library and defines one task, over an empty program.

Both programs run in the same interpreter and environment, in turn; the page cache is warm.
"""

import statistics
import subprocess
import time

from benchmarks.paths import ROOT
from benchmarks.systems import System
from benchmarks.workload import Effort, Goal, Metric, Workload

SAMPLES = 15
TIMEOUT = 60.0

OVER_BARE = Metric(name="over bare Python", unit="ms", digits=1, goal=Goal(of="value", bound=60))


def measure(system: System, effort: Effort) -> dict[str, float]:
    """Take the median of each program, and the difference."""
    samples = 3 if effort.quick else SAMPLES
    _run(system, system.peer.definition)  # compiles what is not compiled yet
    times = [(_run(system, "pass"), _run(system, system.peer.definition)) for _ in range(samples)]
    bare, defined = (statistics.median(column) for column in zip(*times, strict=True))
    return {OVER_BARE.name: (defined - bare) * 1e3}


def _run(system: System, source: str) -> float:
    start = time.perf_counter()
    subprocess.run([system.peer.python, "-c", source], cwd=ROOT, timeout=TIMEOUT, check=True)
    return time.perf_counter() - start


WORKLOAD = Workload(
    name="imports",
    summary="import the library and define a task",
    metrics=(OVER_BARE,),
    measure=measure,
)
