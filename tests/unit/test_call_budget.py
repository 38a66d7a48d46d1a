"""How many functions of ours a task costs, and how many instructions of Python: nothing slips in unseen.

When a count changes, look at where it comes from (``-s`` prints it), and if it is worth it write the new
number into ``PINNED``. The limits are promises, and do not move. ``tests/integration/test_cost.py`` does
the same on Redis.
"""

import sys
from pathlib import Path

import pytest

from tests.fixtures.road import CALLS, INSTRUCTIONS, SEND, WORK, measured

LIMITS = {SEND: 40, WORK: 80}
PINNED = {
    (SEND, CALLS): 35,
    (WORK, CALLS): 74.24,
    (SEND, INSTRUCTIONS): 1110,
    (WORK, INSTRUCTIONS): 2386.52,
}
NEARLY = 0.02
"""Of the instructions: which way a loop takes may hang on what is ready."""


@pytest.mark.parametrize("road", [SEND, WORK])
def test_calls_for_one_task(road: str, home: Path) -> None:
    calls = measured(f"sqlite:///{home}/tasks.db", road, CALLS)
    assert calls <= LIMITS[road]
    if sys.version_info[:2] == (3, 11):
        # Newer versions inline comprehensions, and count fewer calls.
        assert calls == PINNED[road, CALLS]


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="each version of Python has its own")
@pytest.mark.parametrize("road", [SEND, WORK])
def test_instructions_for_one_task(road: str, home: Path) -> None:
    found = measured(f"sqlite:///{home}/tasks.db", road, INSTRUCTIONS)
    assert found == pytest.approx(PINNED[road, INSTRUCTIONS], rel=NEARLY)
