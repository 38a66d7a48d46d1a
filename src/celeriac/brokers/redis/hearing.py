"""Hearing what Celery's callers say on the channels of fanout exchanges (celery-wire, 3).

They put such a message into no list: who does not listen when it is said never gets it. One thread of a
worker listens, and puts what it hears into the worker's queues, once for each queue; from there it is
claimed, leased and settled as any other message. What Celeriac's callers say is in the queues already.
"""

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from msgspec import Struct
from redis import exceptions as driver

from celeriac.backoff import exponential, spread
from celeriac.brokers.redis import envelope
from celeriac.brokers.redis.fanout import bindings
from celeriac.brokers.redis.posting import Posting, is_own, scripted
from celeriac.exceptions import OperationalError
from celeriac.queues import Queue
from celeriac.redis.feed import Feed
from celeriac.redis.link import Link
from celeriac.redis.scripts import script
from celeriac.service import Service

log = logging.getLogger("celeriac.broker")

HEAR = script("held", "entries", "hear")

REMEMBERED = 600
"""Seconds for which it is known that a message is in a queue already."""
SIGN_OF_LIFE = 10.0
"""Seconds of silence after which the server is asked whether it is still there."""
LONGEST_PAUSE = 2.0
"""Seconds between attempts to listen again."""


class _Properties(Struct, frozen=True):
    delivery_tag: str = ""


class _Said(Struct, frozen=True):
    properties: _Properties = _Properties()


_said = msgspec.json.Decoder(_Said).decode


class Hearing(Service):
    """Listens on behalf of one consumer."""

    name = "hearing"

    def __init__(self, link: Link, posting: Posting, queues: Sequence[Queue]) -> None:
        super().__init__()
        self._link = link
        self._keys = posting.keys
        self._scripted = scripted(posting.keys)
        self._queues: dict[str, list[str]] = {}
        """The queues that are bound by a channel, or by a pattern of channels."""
        for one, queue in bindings(queues):
            channel = posting.keys.channel(one.exchange.name, one.routing_key.replace("#", "*"))
            self._queues.setdefault(channel, []).append(queue.name)
        self._heard: deque[tuple[str, bytes]] = deque()
        """What was heard, by queue, and is not in it yet."""
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._listening = threading.Event()

    @property
    def needed(self) -> bool:
        """Whether there is anything to listen to."""
        return bool(self._queues)

    def listening(self, timeout: float) -> bool:
        """Wait until the server has it that somebody listens here; return whether it has."""
        return self._listening.wait(timeout)

    def wake(self) -> None:
        with suppress(OSError):
            os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """End the thread. Idempotent."""
        self.stop()
        if self.join(SIGN_OF_LIFE) and self._bell >= 0:
            bell, self._bell = self._bell, -1
            os.close(bell)

    def run(self) -> None:
        failures = 0
        while not self.stopping:
            try:
                self._deliver()
                self._listen()
                failures = 0
            except OperationalError as error:
                if failures == 0:
                    log.error(
                        "cannot hear what Celery's callers broadcast, trying again: %s", error
                    )
                self._wait(spread(exponential(failures, factor=0.1, maximum=LONGEST_PAUSE)))
                failures += 1

    def _listen(self) -> None:
        """Listen until told to stop. Raises OperationalError."""
        feed = Feed(self._link)
        try:
            feed.send("PSUBSCRIBE", *self._queues)
            asked = False
            while not self.stopping:
                if self._wait(SIGN_OF_LIFE, feed):
                    for reply in feed.receive():
                        self._take_in(reply)
                    self._deliver()
                    asked = False
                elif not self.stopping:
                    if asked:
                        raise driver.TimeoutError("the connection has gone silent")
                    feed.send("PING")
                    asked = True
        except (driver.RedisError, OSError) as error:
            raise self._link.failure(error) from error
        finally:
            self._listening.clear()
            feed.close()

    def _wait(self, timeout: float, feed: Feed | None = None) -> bool:
        """Wait that long for the feed, or until woken; return whether it has something."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        if feed is not None:
            poll.register(feed, select.POLLIN)
        ready = [descriptor for descriptor, _ in poll.poll(timeout * 1000)]
        if self._bell in ready:
            os.eventfd_read(self._bell)
        return any(descriptor != self._bell for descriptor in ready)

    def _take_in(self, reply: object) -> None:
        """Note a message for each of its queues."""
        if isinstance(reply, driver.ResponseError):
            raise reply
        match reply:
            case [b"psubscribe", *_, count] if count == len(self._queues):
                self._listening.set()
            case [b"pmessage", bytes(pattern), _, bytes(text)] if not is_own(_tag(text)):
                self._heard.extend((queue, text) for queue in self._queues[pattern.decode()])

    def _deliver(self) -> None:
        """Put what was heard into the queues. Raises OperationalError, and the rest is kept."""
        while self._heard:
            queue, text = self._heard[0]
            step = self._keys.step(envelope.wire_priority(text))
            # What bears no tag cannot be told from others like it: each is put in.
            tag = _tag(text) or os.urandom(16).hex()
            arguments = (*self._scripted.first, queue, step, tag, REMEMBERED, text)
            self._link.run(HEAR, self._scripted.keys, arguments)
            self._heard.popleft()


def _tag(text: bytes) -> str:
    try:
        return _said(text).properties.delivery_tag
    except (ValueError, RecursionError):
        return ""
