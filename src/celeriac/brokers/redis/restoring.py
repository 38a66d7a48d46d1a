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

RESTORE = script("entries", "restore")
UNLOCK = script("unlock")

EVERY = 10.0
"""Seconds between two looks."""
MUTEX = 300_000
"""Milliseconds after which another worker may look, if this one does not come back."""
AT_MOST = 100
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
            return sum(self._restore(tag, score) for tag, score in self._lost())
        finally:
            self._link.run(UNLOCK, (mutex,), (token,))

    def _lost(self) -> list[tuple[str, bytes]]:
        until = time() - self._posting.visibility
        found = self._link.call(
            "ZRANGEBYSCORE",
            self._keys.unacked_index,
            "-inf",
            until,
            "WITHSCORES",
            "LIMIT",
            0,
            AT_MOST,
        )
        pairs = zip(found[::2], found[1::2], strict=True)
        return [(tag.decode(), score) for tag, score in pairs if tag.count(b":") < OURS]

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
