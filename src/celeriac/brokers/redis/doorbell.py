"""How an idle worker learns that there is something to claim, without a message being moved.

It reads the lengths of its lists on a connection of its own, and the server tells on that connection
when one of them changes (CLIENT TRACKING). Every quarter of a second it looks again: that is the net
under it, and finds a connection that is dead without a word. Where tracking is not allowed it looks
more often. One waiting thread; ``ring`` from any.
"""

import os
import select
from collections.abc import Sequence
from contextlib import suppress
from random import uniform
from time import monotonic, sleep
from typing import Any

from redis import exceptions as driver

from celeriac.clock import wall
from celeriac.redis.feed import Feed, Push
from celeriac.redis.keys import Keys
from celeriac.redis.link import Command, Link

POLL = 0.25
"""Seconds between looks while the server is to tell."""
POLL_UNTOLD = 0.02
"""Seconds between looks where it may not."""
SPREAD = 0.0001
"""Seconds for each other worker, within which idle ones that are woken together are spread."""
MOST_SPREAD = 0.02
HERD = 8
"""Workers: where there are more, a look comes before each claim. Most find that somebody was quicker, and
a look costs the server a tenth of a claim.
"""

_CHANGED = object()
"""Stands for the first answer where the server has told of a change."""


class Doorbell:
    """Waits for messages in some queues."""

    def __init__(self, link: Link, keys: Keys, queues: Sequence[str]) -> None:
        self._link = link
        self._lengths: list[Command] = []
        for queue in queues:
            self._lengths += [("LLEN", key) for key in keys.lanes(queue)]
            self._lengths.append(("ZCARD", keys.express(queue)))
        # All at once: with what is empty in nearly all cases, one word is better than five.
        self._any: Command = ("EXISTS", *(key for _, key in self._lengths))
        self._firsts: list[Command] = [
            ("ZRANGE", keys.delayed(queue), 0, 0, "WITHSCORES") for queue in queues
        ]
        self._feed: Feed | None = None
        self._told = False
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._bell, select.POLLIN)
        self.company = 1
        """How many workers there are, this one included."""

    def ring(self) -> None:
        """Make ``wait`` return, now or at its next call."""
        with suppress(OSError):
            os.eventfd_write(self._bell, 1)

    def wait(self, timeout: float) -> None:
        """Block until a claim may find something, it is rung, or the time is over.

        Raises OperationalError; the connection is then thrown away, and the next call makes another.
        """
        deadline = monotonic() + timeout
        try:
            feed = self._connected()
            while True:
                due = self._look(feed)
                if due is None:
                    return
                pause = min(POLL if self._told else POLL_UNTOLD, deadline - monotonic())
                if self._listens(min(pause, due - wall())) or monotonic() >= deadline:
                    return
        except (driver.RedisError, OSError) as error:
            self.hang_up()
            raise self._link.failure(error) from error
        except BaseException:
            self.hang_up()
            raise

    def _connected(self) -> Feed:
        if self._feed is None:
            self._feed = feed = Feed(self._link)
            feed.send("CLIENT", "TRACKING", "ON")
            self._told = not isinstance(feed.receive()[0], driver.ResponseError)
            self._poll.register(feed, select.POLLIN)
        return self._feed

    def _look(self, feed: Feed) -> float | None:
        """Return when the next delayed message is due; None if there is something now."""
        first, *replies = self._answers(feed, [self._any, *self._firsts])
        # Only a key of the right kind counts: ``claim`` leaves others alone, too.
        if first is _CHANGED or (first and any(self._answers(feed, self._lengths))):
            return None
        dues = [_score(reply) for reply in replies if reply]
        due = min(dues, default=float("inf"))
        return None if due <= wall() else due

    def _answers(self, feed: Feed, commands: Sequence[Command]) -> list[Any]:
        """Return the answers; if the server tells of a change among them, that is the first."""
        feed.send_all(commands)
        replies: list[Any] = []
        changed = False
        while len(replies) < len(commands):
            for reply in feed.receive():
                if isinstance(reply, Push):
                    # One that is there before the answers is of what was read before.
                    changed = changed or bool(replies)
                else:
                    replies.append(0 if isinstance(reply, driver.ResponseError) else reply)
        return [_CHANGED, *replies[1:]] if changed else replies

    def _listens(self, pause: float) -> bool:
        """Wait that long for a ring or for news; return whether to claim without another look.

        The news themselves are read at the next look: whoever waits for the claim does not wait for that.
        """
        come = [descriptor for descriptor, _ in self._poll.poll(max(0.0, pause) * 1000)]
        rung = self._bell in come
        if rung:
            os.eventfd_read(self._bell)
        told = len(come) > rung
        if told and self.company > 1:
            # All who are idle are told at once: they come one after the other, as in a queue.
            sleep(uniform(0.0, min(MOST_SPREAD, SPREAD * (self.company - 1))))
        return rung or (told and self.company <= HERD)

    def hang_up(self) -> None:
        """Let go of the connection; the next wait makes another."""
        feed, self._feed = self._feed, None
        if feed is not None:
            with suppress(KeyError, OSError, ValueError):
                self._poll.unregister(feed)
            feed.close()

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        self.hang_up()
        if self._bell >= 0:
            bell, self._bell = self._bell, -1
            os.close(bell)


def _score(reply: list[Any]) -> float:
    """Return the score of the first member, in the form of either protocol."""
    first = reply[0]
    return float(first[1] if isinstance(first, list | tuple) else reply[1])
