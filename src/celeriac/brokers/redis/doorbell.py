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
from redis.connection import Connection

from celeriac.clock import wall
from celeriac.redis.keys import Keys
from celeriac.redis.link import Command, Link, socket_of

POLL = 0.25
"""Seconds between looks while the server is to tell."""
POLL_UNTOLD = 0.02
"""Seconds between looks where it may not."""
SPREAD = 0.0001
"""Seconds for each other worker, within which idle ones that are woken together are spread."""
MOST_SPREAD = 0.02


class Doorbell:
    """Waits for messages in some queues."""

    def __init__(self, link: Link, keys: Keys, queues: Sequence[str]) -> None:
        self._link = link
        self._lengths: list[Command] = []
        for queue in queues:
            self._lengths += [("LLEN", key) for key in keys.lanes(queue)]
            self._lengths.append(("ZCARD", keys.express(queue)))
        self._firsts: list[Command] = [
            ("ZRANGE", keys.delayed(queue), 0, 0, "WITHSCORES") for queue in queues
        ]
        self._connection: Connection | None = None
        self._told = False
        self._changed = False
        """Whether the server has told of a change since the lists were looked at last."""
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
            connection = self._connected()
            while True:
                due = self._look(connection)
                if due is None:
                    return
                pause = min(POLL if self._told else POLL_UNTOLD, deadline - monotonic())
                if self._listens(connection, min(pause, due - wall())) or monotonic() >= deadline:
                    return
        except (driver.RedisError, OSError) as error:
            self.hang_up()
            raise self._link.failure(error) from error
        except BaseException:
            self.hang_up()
            raise

    def _connected(self) -> Connection:
        if self._connection is None:
            connection = self._link.connect()
            self._connection = connection
            try:
                connection.send_command("CLIENT", "TRACKING", "ON")
                connection.read_response(disconnect_on_error=False)
                self._told = True
                # News may come between the answers of one look, too.
                connection._parser.set_invalidation_push_handler(self._on_change)
            except driver.ResponseError:
                self._told = False
            self._poll.register(socket_of(connection), select.POLLIN)
        return self._connection

    def _look(self, connection: Connection) -> float | None:
        """Return when the next delayed message is due; None if there is something now."""
        self._changed = False
        commands = [*self._lengths, *self._firsts]
        connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies = []
        for _ in commands:
            try:
                replies.append(connection.read_response(disconnect_on_error=False))
            except driver.ResponseError:
                replies.append(0)  # A key of another kind: ``claim`` leaves it alone, too.
        count = len(self._lengths)
        if self._changed or any(replies[:count]):
            return None
        dues = [_score(reply) for reply in replies[count:] if reply]
        due = min(dues, default=float("inf"))
        return None if due <= wall() else due

    def _listens(self, connection: Connection, pause: float) -> bool:
        """Wait that long for a ring or for news; return whether there was any."""
        # What came together with the last answer is in the driver's hands, not in the socket.
        pause = 0.0 if connection.can_read(0) else max(0.0, pause)
        rung = any(descriptor == self._bell for descriptor, _ in self._poll.poll(pause * 1000))
        if rung:
            os.eventfd_read(self._bell)
        while connection.can_read(0):
            connection.read_response(push_request=True, disconnect_on_error=False)
            self._changed = True
        if self._changed and self.company > 1:
            # All who are idle are told at once: they come one after the other, as in a queue.
            sleep(uniform(0.0, min(MOST_SPREAD, SPREAD * (self.company - 1))))
        return rung or self._changed

    def _on_change(self, _: object) -> None:
        self._changed = True

    def hang_up(self) -> None:
        """Let go of the connection; the next wait makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(KeyError, OSError, ValueError, driver.RedisError):
                self._poll.unregister(socket_of(connection))
            connection.disconnect()

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
