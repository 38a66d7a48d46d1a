"""The settlement table: what an ending means for the message. The one place that decides it.

Two columns, by the task's ack policy. With *early* acks the message was acknowledged when its run
started, so that afterwards nothing is left to settle; with *late* acks it is settled with the
outcome. An ending before the start (expired, undecodable ...) finds the message unsettled under
either policy.
"""

from msgspec import Struct

from celeriac.completion import Settlement
from celeriac.outcome import Ending
from celeriac.pools.manifest import TaskOptions

ACK, REQUEUE, RETURN, LOSS, DEAD = (
    Settlement.ACK,
    Settlement.REQUEUE,
    Settlement.RETURN,
    Settlement.LOSS,
    Settlement.DEAD,
)


class Decision(Struct, frozen=True):
    """What is to become of a message, and whether its task ends as a failure because of it."""

    settlement: Settlement | None
    """None: it was acknowledged before; there is nothing to settle."""
    fails: bool = False
    """The run has no document of its own, and a FAILURE is stored in its place."""
    retries: bool = False
    """The run is retried in its task's name: the message of the next one goes out with this."""


_TABLE: dict[Ending, tuple[Settlement | None, Settlement]] = {
    # ending: (acks early, acks late)
    Ending.SUCCEEDED: (None, ACK),
    Ending.FAILED: (None, ACK),
    Ending.RETRIED: (None, ACK),
    Ending.IGNORED: (None, ACK),
    Ending.REJECTED: (None, DEAD),
    Ending.RETURNED: (None, RETURN),
    Ending.TIMED_OUT: (None, ACK),
    Ending.LOST: (None, LOSS),
    Ending.STOPPED: (None, REQUEUE),
    # Before the start, the policy has had no say yet.
    Ending.EXPIRED: (ACK, ACK),
    Ending.REVOKED: (ACK, ACK),
    Ending.UNDECODABLE: (DEAD, DEAD),
}

_OPTIONAL = (Ending.FAILED, Ending.TIMED_OUT, Ending.LOST)
"""Endings of which the options of a task decide as well."""
_DECIDED = {
    ending: (Decision(early), Decision(late))
    for ending, (early, late) in _TABLE.items()
    if ending not in _OPTIONAL
}


def settle(
    ending: Ending, task: TaskOptions | None, losses: int, limit: int, retries: int = 0
) -> Decision:
    """Decide on a message.

    ``task`` is None if the message names none that is known. ``losses`` are the attempts counted so
    far, ``limit`` is ``task_delivery_limit``; ``retries`` are those that the task has had.
    """
    if decided := _DECIDED.get(ending):
        return decided[task is not None and task.acks_late]
    early, late = _TABLE[ending]
    killed = ending in (Ending.LOST, Ending.TIMED_OUT)
    if ending is Ending.LOST and task is not None and task.retry_on_worker_lost:
        again = task.max_retries is None or retries < task.max_retries
        return Decision(ACK if task.acks_late else early, fails=not again, retries=again)
    if task is None or not task.acks_late:
        return Decision(early, fails=killed)
    settlement = _by_policy(ending, task, late)
    if settlement is LOSS and losses + 1 >= limit:
        settlement = DEAD
    return Decision(settlement, fails=killed and settlement is not LOSS)


def _by_policy(ending: Ending, task: TaskOptions, settlement: Settlement) -> Settlement:
    """Apply the options of a task that change the late column."""
    if ending is Ending.FAILED and not task.acks_on_failure:
        return DEAD
    if ending is Ending.TIMED_OUT and not task.acks_on_timeout:
        return LOSS
    if ending is Ending.LOST and not task.reject_on_worker_lost:
        return ACK
    return settlement
