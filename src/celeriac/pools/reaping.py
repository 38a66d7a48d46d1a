"""Reaping: who gets the orphans of the processes below this one, and clears them away.

A task may start processes and leave them behind. They become children of the nearest process above
that is a subreaper, which must wait for them, or they stay in the process table for ever.
"""

import ctypes
import os
from collections.abc import Container

_PR_SET_CHILD_SUBREAPER = 36


def become_subreaper() -> None:
    """Have orphans of the processes below this one handed to it."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_strangers(own: Container[int]) -> None:
    """Clear away dead children that are not among ``own``, those that were handed to this process."""
    try:
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if dead.si_pid in own:
                return  # Its turn comes; the strangers behind it wait until then.
            os.waitid(os.P_PID, dead.si_pid, os.WEXITED)
    except ChildProcessError:
        pass  # There is no child at all.
