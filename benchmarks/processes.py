"""Looks at process trees through /proc, and ends them by pid. Linux only.

A process is known by pid and start time together, so a reused pid is never mistaken for it.
Starts nothing itself.
"""

import contextlib
import os
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")
_KIB_PER_MIB = 1024
_TICKS = os.sysconf("SC_CLK_TCK")


class Process(NamedTuple):
    """One process; its start is in clock ticks since boot."""

    pid: int
    started: int
    parent: int
    session: int


def _look(pid: int) -> Process | None:
    """The process, or None if it is gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return Process(pid, int(fields[19]), int(fields[1]), int(fields[3]))


def tree(root: int) -> list[Process]:
    """The process `root`, its descendants, and who else is left in the session that it leads.

    The session finds those whose parent has died: what we start leads a session of its own.
    """
    everyone = [_look(int(entry.name)) for entry in _PROC.iterdir() if entry.name.isdigit()]
    living = [process for process in everyone if process]
    found = {each.pid: each for each in living if root in (each.pid, each.session)}
    waiting = list(found)
    while waiting:
        parent = waiting.pop()
        born = {each.pid: each for each in living if each.parent == parent}
        waiting += born.keys() - found.keys()
        found |= born
    return list(found.values())


def pss_mib(root: int) -> float:
    """Proportional set size of a whole tree in MiB: shared pages are counted once, in parts.

    Pages of libraries are shared with strangers too: it falls when another Python program starts.
    """
    return _memory_mib(root, "Pss:")


def own_mib(root: int) -> float:
    """The part of a tree's memory in MiB that no stranger shares: anonymous and shared memory.

    For comparing two moments; mapped files, libraries above all, are not in it.
    """
    return _memory_mib(root, "Pss_Anon:", "Pss_Shmem:")


def _memory_mib(root: int, *keys: str) -> float:
    """The sum of these lines of `smaps_rollup`, over a whole tree."""
    total = 0
    for process in tree(root):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            rollup = (_PROC / str(process.pid) / "smaps_rollup").read_text()
            total += sum(int(x.split()[1]) for x in rollup.splitlines() if x.startswith(keys))
    return total / _KIB_PER_MIB


def cpu_seconds(root: int) -> float:
    """CPU seconds that a tree has used, with what those have used that its processes have waited for.

    To 10 ms for each process.
    """
    return sum(_cpu_ticks(process.pid, 4) for process in tree(root)) / _TICKS


def own_cpu_seconds(pid: int) -> float:
    """CPU seconds that a process has used itself, to 10 ms."""
    return _cpu_ticks(pid, 2) / _TICKS


def _cpu_ticks(pid: int, fields: int) -> int:
    """The sum of user and system time, and of those of its children; 0 if it has gone."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, text.rpartition(")")[2].split()[11 : 11 + fields]))


def end(process: subprocess.Popen[bytes], patience: float) -> None:
    """End a process and its tree: TERM to the root, then KILL by pid to what is left of it."""
    known = tree(process.pid)
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(patience)
    for each in known:
        current = _look(each.pid)
        if current and current.started == each.started:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each.pid, signal.SIGKILL)
    process.wait(patience)
