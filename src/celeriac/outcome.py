"""How one run ended: eleven endings, one value, no flags.

Made by ``execution`` in the child for runs that came to an end there, and by the worker's parent
for those that did not. What an ending means for the message is decided in ``worker/settlement.py``.
"""

from enum import StrEnum

from msgspec import Struct

from celeriac.message import Publish


class Ending(StrEnum):
    """The ways in which a run, or a delivery that never ran, can end."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """An exception left the function (the soft limit included), or its result cannot be encoded."""
    RETRIED = "retried"
    IGNORED = "ignored"
    REJECTED = "rejected"
    """``Reject(requeue=False)``."""
    RETURNED = "returned"
    """``Reject(requeue=True)``."""
    TIMED_OUT = "timed out"
    """The hard limit passed and the child was killed."""
    LOST = "lost"
    """The child died during the run."""
    STOPPED = "stopped"
    """The worker stopped before the run ended, or before it began."""
    EXPIRED = "expired"
    """``expires`` had passed before the run could start."""
    REVOKED = "revoked"
    UNDECODABLE = "undecodable"
    """Headers or body cannot be read, or are of a content type that is not accepted."""


class Outcome(Struct, frozen=True, array_like=True, kw_only=True):
    """How one run ended, with everything that follows from it already encoded."""

    ending: Ending
    state: str = ""
    """The state that ``document`` tells; empty if there is nothing to store."""
    document: bytes = b""
    """The result document; empty if there is nothing to store (ignored results)."""
    publishes: tuple[Publish, ...] = ()
    """Messages that follow from this run: the next run of a retry."""
    reason: str = ""
    """What went wrong, in one line; the last words if the message is dead-lettered."""
    runtime: float | None = None
    """Seconds in the task's function, monotonic; None if it was never called."""
