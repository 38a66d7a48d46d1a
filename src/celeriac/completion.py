"""Completions: what is to become true about a delivery, in one commit.

A completion joins everything that follows from one outcome (messages to publish, documents to
store, the settlement of the delivery, a chord member to count), so that a broker can make it true
in one transaction. Broker and store meet only in these values. Who decides on a settlement is the
worker's settlement table, not this module.
"""

from enum import StrEnum

from msgspec import Struct

from celeriac.message import Publish


class Put(Struct, frozen=True):
    """A document for the result store."""

    key: str
    value: bytes
    ttl: float | None = None
    """Seconds until it may be forgotten; None keeps it."""
    state: str = ""
    """The task state that the document tells. A stored SUCCESS is never overwritten (RES-20)."""
    reply_to: str | None = None
    """The queue that somebody waits at, for stores that send documents (``rpc``)."""


class Settlement(StrEnum):
    """What becomes of a delivery."""

    ACK = "ack"
    """Done with: the message is gone."""
    REQUEUE = "requeue"
    """Given back unharmed, to the place it was taken from. No attempt is counted."""
    RETURN = "return"
    """Given back to the tail of its queue. No attempt is counted."""
    LOSS = "loss"
    """Given back to the tail; a started run was lost, and the attempt is counted."""
    DEAD = "dead"
    """Moved to the dead-letter set, with ``reason`` as its last words."""
    KEEP = "keep"
    """Still held under its lease; only the documents are stored."""


class Join(Struct, frozen=True, kw_only=True):
    """One member of a chord's header reports in.

    Counted once per index however often it is committed. The commit that completes the set is
    answered ``held``; the worker then commits again with ``token`` and the chord body among the
    publishes.
    """

    group: str
    index: int
    member: bytes
    size: int
    token: str | None = None


class Completion(Struct, frozen=True, kw_only=True):
    """Everything that one outcome makes true, all or nothing."""

    receipt: str
    settlement: Settlement
    reason: str = ""
    """The last words, for DEAD."""
    puts: tuple[Put, ...] = ()
    publishes: tuple[Publish, ...] = ()
    join: Join | None = None


class Verdict(Struct, frozen=True, kw_only=True):
    """The broker's answer to one completion."""

    kind: str
    """``settled``, ``stale``, ``held``, ``refused`` or ``away``."""
    error: str = ""
    """For ``refused``: what the store will never take, and why."""
    members: tuple[bytes, ...] = ()
    """For ``held``: the members of the chord, in order of their index."""
    token: str = ""
    """For ``held``: the claim to this chord, to be given back with the body."""


SETTLED = Verdict(kind="settled")
"""All of the completion is true now."""
STALE = Verdict(kind="stale")
"""The receipt holds no lease any more. Nothing was done: no document, no message."""
AWAY = Verdict(kind="away")
"""The message is on its way back after the connection was lost. Nothing was done; to be tried again."""


def refused(error: str) -> Verdict:
    """Answer that the store will never take this document, or that no queue gets one of the messages;
    nothing was done.
    """
    return Verdict(kind="refused", error=error)


def held(members: tuple[bytes, ...], token: str) -> Verdict:
    """Answer that the chord is complete and waits for its body.

    All of the completion is true but its settlement: the second commit brings the body and settles.
    """
    return Verdict(kind="held", members=members, token=token)
