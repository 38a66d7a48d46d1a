"""The spare child: forked when a chore comes, kept until the worker ends.

Chores have a time limit each; a spare child that hangs is killed, and its next chores go to a new
one.
"""

import itertools
import logging
import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import msgspec

from celeriac.pools import packets
from celeriac.pools.chores import CHORE_SECONDS, Chore
from celeriac.pools.nursery import Kin, Nursery
from celeriac.pools.slots import SPARE_SLOT

log = logging.getLogger("celeriac.pools")

_encode = msgspec.msgpack.Encoder().encode


class Spare:
    """Queues chores for the spare child. ``do`` may be called from any thread."""

    def __init__(self, nursery: Nursery) -> None:
        self._nursery = nursery
        self._ours, self._theirs = packets.pair()
        self._numbers = itertools.count(1)
        self._pending: dict[int, Chore] = {}
        self._sent: set[int] = set()
        self._since = 0.0
        self._kin: Kin | None = None
        self._closed = False
        # Guards all of the above between the supervising and the reporting thread.
        self._lock = threading.Lock()

    def do(self, make: Callable[..., Chore] = Chore, **fields: Any) -> None:
        """Queue a chore. Never blocks."""
        chore = make(number=next(self._numbers), **fields)
        with self._lock:
            self._pending[chore.number] = chore
        self._nursery.wake()

    def done(self, number: int) -> None:
        """A chore is done. The reporting thread."""
        with self._lock:
            self._pending.pop(number, None)
            self._sent.discard(number)
            self._since = monotonic()

    @property
    def busy(self) -> bool:
        """Whether a chore is not done yet."""
        return bool(self._pending)

    def born(self, kin: Kin) -> None:
        """The spare child has begun. The supervising thread."""
        with self._lock:
            self._kin = kin
            self._since = monotonic()

    def died(self, kin: Kin, number: int) -> None:
        """The spare child has ended, amid this chore (0 for none), which is given up.

        The reporting thread, when it has read all that the child wrote.
        """
        with self._lock:
            if (chore := self._pending.pop(number, None)) is not None:
                what = chore.signal or f"the handlers of {chore.message and chore.message.task}"
                log.error("%s did not come to an end: %s", what, kin.last_words())
            self._sent.clear()
            self._kin = None
            if not self._closed:
                self._ours.close()
                self._theirs.close()
                self._ours, self._theirs = packets.pair()
        self._nursery.wake()

    def enforce(self) -> float:
        """Fork, hand over, kill, as needed; return the seconds until the next look."""
        with self._lock:
            if not self._pending:
                return 60.0
            if self._kin is None:
                return self._fork()
            return self._hand_over(self._kin)

    def close(self) -> None:
        """Let go of the sockets, when no spare child lives any more."""
        with self._lock:
            self._closed = True
            self._ours.close()
            self._theirs.close()

    def _fork(self) -> float:
        if self._nursery.expects(SPARE_SLOT):
            return 60.0
        pause = self._nursery.can_fork()
        if not pause:
            self._nursery.fork(SPARE_SLOT, jobs=self._theirs)
        return pause or 60.0

    def _hand_over(self, kin: Kin) -> float:
        for number, chore in list(self._pending.items()):
            if number not in self._sent:
                if not self._sent:
                    self._since = monotonic()
                if not packets.send(self._ours, _encode(chore), block=False):
                    break  # It has enough to do.
                self._sent.add(number)
        left = self._since + CHORE_SECONDS - monotonic()
        if left <= 0:
            kin.kill()
            return 60.0
        return left if self._sent == self._pending.keys() else min(left, 0.05)
