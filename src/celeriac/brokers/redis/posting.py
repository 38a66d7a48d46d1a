"""Where messages go in Redis: which key, in which form, under which tag.

Ready messages lie on Celery's lists. What is for later, or goes before all lists, is an entry in
``unacked`` that kombu restores when its time has come: nothing is left behind by a fleet that goes back
to Celery. What is sent here, ``send.lua`` puts there.
"""

import os
import secrets
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

from msgspec import Struct

from celeriac.brokers.base import spread
from celeriac.brokers.redis import envelope
from celeriac.clock import wall
from celeriac.exceptions import ImproperlyConfigured
from celeriac.message import Publish
from celeriac.redis.keys import Keys
from celeriac.redis.link import Argument

VISIBILITY = 3600.0
"""Seconds after which Celery gives up on a message that was not acknowledged."""
SHORTEST_VISIBILITY = 30.0
PATIENCE = 10.0
"""Seconds after which Celery workers too may take what goes before all lists, when they look for it."""
LEVEL = 1 << 44
"""Scores of one priority in the index of what goes before all lists."""
HIGHEST = 255
SENT = 7
"""Arguments of ``send.lua`` for one message."""
DIRECTIONS = {"higher": envelope.same, "lower": envelope.opposite}
FANOUT = "fanout"
OWNER = ":"
"""Stands behind the owner in a tag of ours; those of Celery have none."""


def is_own(tag: str) -> bool:
    """Whether an envelope with this tag is one of ours."""
    return OWNER in tag


class Posting:
    """Turns messages into what is sent, under one set of transport options. Thread-safe."""

    def __init__(self, options: Mapping[str, Any], database: int = 0) -> None:
        self.keys = Keys(options, database)
        self.visibility = float(options.get("visibility_timeout") or VISIBILITY)
        if self.visibility < SHORTEST_VISIBILITY:
            raise ImproperlyConfigured(
                f"visibility_timeout in broker_transport_options is {self.visibility:g} s, and others "
                "would take messages away from workers that are alive; write "
                f"{SHORTEST_VISIBILITY:g} or more"
            )
        direction = options.get("priority_direction", "higher")
        if direction not in DIRECTIONS:
            raise ImproperlyConfigured(
                f"priority_direction in broker_transport_options is {direction!r}; write "
                f"{' or '.join(DIRECTIONS)}"
            )
        self.turned = DIRECTIONS[direction]
        self._pid = 0
        self._owner = ""
        self._numbers = count(1)

    def tag(self) -> str:
        """Return what no other envelope of any process is called."""
        if self._pid != os.getpid():
            self._pid, self._owner, self._numbers = os.getpid(), secrets.token_hex(6), count(1)
        return f"{self._owner}{OWNER}{next(self._numbers)}"

    def ordinary(self, publish: Publish) -> bytes:
        """Return the envelope of a message that is ready and has no priority."""
        return envelope.written(publish, self.tag(), 0)

    def sent(self, publishes: Sequence[Publish]) -> list[Argument]:
        """Return the arguments of ``send.lua`` for these messages, and for their copies."""
        arguments: list[Argument] = []
        for publish in publishes:
            if publish.exchange_type == FANOUT:
                arguments += self._fanned_out(publish)
            else:
                for one in spread((publish,)):
                    arguments += self._one(one)
        return arguments

    def _fanned_out(self, publish: Publish) -> tuple[Argument, ...]:
        """Return a message to a fanout exchange; which queues that leads to, the script finds out."""
        known = filter(None, (publish.queue, *publish.copies))
        channel = self.keys.channel(publish.exchange, publish.routing_key)
        where = self.keys.separator.join((publish.exchange, channel, *known))
        placed = self._placed(publish)
        return (
            f"{FANOUT}-{placed.kind}",
            where,
            placed.place,
            placed.tag,
            placed.text,
            placed.score,
            placed.due,
        )

    def _one(self, publish: Publish) -> tuple[Argument, ...]:
        placed, queue = self._placed(publish), publish.queue
        if placed.kind == "list":
            return placed.kind, queue, placed.place, "", placed.text, "", ""
        tag = f"{placed.tag}:{placed.place}:{queue}"
        text = envelope.entry(placed.text, queue)
        return placed.kind, queue, placed.place, tag, text, placed.score, placed.due

    def _placed(self, publish: Publish) -> "_Placed":
        priority = self.turned(publish.message.priority)
        tag, now = self.tag(), wall()
        if priority > 0:
            priority = min(priority, HIGHEST)
            text = envelope.written(publish, tag, 0, priority)
            place = f"x{(HIGHEST - priority) * LEVEL}"
        else:
            text = envelope.written(publish, tag, min(-priority, 9))
            place = str(self.keys.step(-priority))
        if publish.due is not None and publish.due > now:
            score = publish.due - self.visibility
            return _Placed("delayed", place, tag, text, score, publish.due)
        if priority > 0:
            return _Placed("express", place, tag, text, now - self.visibility + PATIENCE)
        return _Placed("list", place, tag, text)


class _Placed(Struct, frozen=True):
    """An envelope, and the kind of place it goes to in any queue."""

    kind: str
    place: str
    tag: str
    """Without place and queue."""
    text: bytes
    score: float | str = ""
    due: float | str = ""


class Scripted(Struct, frozen=True):
    """The keys and the first arguments that every script of the broker gets."""

    keys: tuple[str, str, str, str]
    first: tuple[str, str]


def scripted(keys: Keys) -> Scripted:
    """Return what the scripts get under these names of keys."""
    return Scripted(
        (keys.unacked, keys.unacked_index, keys.leases, keys.started),
        (keys.prefix, keys.separator),
    )
