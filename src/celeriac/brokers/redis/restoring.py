"""Putting back what Celery workers have lost, as they would do it themselves.

Entries of ``unacked`` without a lease of ours belong to Celery workers. When they have not been
acknowledged for the visibility timeout, any worker puts them back, one worker at a time. So a fleet
that consists of Celeriac alone leaves nothing behind of the Celery workers that were there before.
"""

import secrets
from time import monotonic, time

from celeriac.brokers.redis import envelope
from celeriac.brokers.redis.bindings import queues_of
from celeriac.brokers.redis.posting import Posting, scripted
from celeriac.redis.link import Link
from celeriac.redis.scripts import script

RESTORE = script("held", "entries", "restore")
UNLOCK = script("unlock")

EVERY = 10.0
"""Seconds between two looks."""
MUTEX = 300_000
"""Milliseconds after which another worker may look, if this one does not come back."""
AT_MOST = 1000
"""Messages that are put back before the thread has to see to something else; the rest follows soon."""
PAGE = 200
"""Entries that are read in one round trip."""
OURS = 3
"""Colons in the tags of our own entries; Celery's have none."""


class Restoring:
    """Looks for lost messages of Celery workers. One thread."""

    def __init__(self, link: Link, posting: Posting) -> None:
        self._link = link
        self._posting = posting
        self._keys = posting.keys
        self._scripted = scripted(posting.keys)
        self._looked = float("-inf")

    def step(self) -> int:
        """Put back what is lost, unless it was looked for just now; return how many messages."""
        if monotonic() - self._looked < EVERY:
            return 0
        self._looked = monotonic()
        token = secrets.token_hex(8)
        mutex = self._keys.unacked_mutex
        if not self._link.call("SET", mutex, token, "NX", "PX", MUTEX):
            return 0
        try:
            restored = self._restore_all()
        finally:
            self._link.run(UNLOCK, (mutex,), (token,))
        if restored >= AT_MOST:
            self._looked = float("-inf")
        return restored

    def _restore_all(self) -> int:
        """Put back what is lost, whatever lies before it: messages of ours, and what cannot go back."""
        until = time() - self._posting.visibility
        restored = stayed = 0
        while restored < AT_MOST and (page := self._page(until, stayed)):
            back = sum(self._restore(tag, score) for tag, score in page if tag.count(":") < OURS)
            restored += back
            stayed += len(page) - back
        return restored

    def _page(self, until: float, first: int) -> list[tuple[str, bytes]]:
        """Return some of the entries that are that old, and their scores as the server writes them."""
        found = self._link.call(
            "ZRANGEBYSCORE",
            self._keys.unacked_index,
            "-inf",
            until,
            "WITHSCORES",
            "LIMIT",
            first,
            PAGE,
        )
        pairs = zip(found[::2], found[1::2], strict=True)
        return [(tag.decode(errors="replace"), score) for tag, score in pairs]

    def _restore(self, tag: str, score: bytes) -> int:
        entry = self._link.call("HGET", self._keys.unacked, tag)
        back = entry and envelope.redelivered(entry)
        if not back:
            return 0
        text, exchange, key = back
        step = self._keys.step(envelope.wire_priority(text))
        queues = queues_of(self._link, self._keys, exchange, key)
        lists = [self._keys.lane(queue, step) for queue in queues]
        if not lists:
            return 0  # kombu drops it; here it waits until somebody binds a queue.
        arguments = (*self._scripted.first, tag, score, entry, text, *lists)
        restored: int = self._link.run(RESTORE, self._scripted.keys, arguments)
        return restored
