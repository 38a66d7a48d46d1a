"""Marks that a task leaves in a file outside the system under test: 16 bytes, when and what.

Written by tasks (in either environment), read by the suite. A mark is one `write` to a file opened
with O_APPEND, so marks of several processes never mix. Times are CLOCK_MONOTONIC, which all
processes of one machine share. Knows no queue, and says nothing about results being stored.
Imported by the workers that are measured, so it does without pathlib.
"""

import os
import struct
import time
from functools import cache

VARIABLE = "BENCH_MARKS"
"""Environment variable with the path of the file that tasks mark."""

_MARK = struct.Struct("<qq")


@cache
def _descriptor() -> int:
    """Open the file on first use, which is after the fork: importing the app opens nothing."""
    return os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)


def mark(number: int) -> None:
    """Note that `number` is running now."""
    now = time.monotonic_ns()
    os.write(_descriptor(), _MARK.pack(now, number))


def count(path: str) -> int:
    """How many marks the file holds so far; 0 while there is no file."""
    try:
        return os.stat(path).st_size // _MARK.size
    except FileNotFoundError:
        return 0


def read(path: str) -> list[tuple[int, int]]:
    """All marks in the order of writing: nanoseconds of the monotonic clock, and the number."""
    with open(path, "rb") as file:
        return list(_MARK.iter_unpack(file.read()))
