"""A feed: a connection of one's own, on which the server also tells what nobody has asked for.

Reads from the socket itself, with the parser of the driver's C library: the driver would look four times
whether something is there before it read it. What is pushed is a ``Push``; everything else answers what
was sent, in order. One thread reads; another may send.
"""

from collections.abc import Sequence
from typing import Any

import hiredis
from hiredis import PushNotification as Push
from redis import exceptions as driver

from celeriac.redis.link import Argument, Command, Link, socket_of

__all__ = ["Feed", "Push"]

_AT_ONCE = 65536
_NOTHING = object()


class Feed:
    """What comes over one connection. Errors are those of the driver, and OSError."""

    def __init__(self, link: Link) -> None:
        """Connect. Raises OperationalError."""
        self._connection = link.connect()
        self._socket = socket_of(self._connection)
        self._reader = hiredis.Reader(
            replyError=self._connection._parser.parse_error, notEnoughData=_NOTHING
        )

    def fileno(self) -> int:
        """Return the descriptor at which to wait for something to ``receive``."""
        return self._socket.fileno()

    def send(self, *command: Argument) -> None:
        """Send a command."""
        self.send_all([command])

    def send_all(self, commands: Sequence[Command]) -> None:
        """Send commands, in one go."""
        packed = self._connection.pack_commands(commands)
        self._connection.send_packed_command(packed, check_health=False)

    def receive(self) -> list[Any]:
        """Return what has come since, answers and pushes in order; wait until there is something.

        Answers that are errors are among them. Raises TimeoutError of the driver, or ConnectionError.
        """
        found: list[Any] = []
        while not found:
            self._take_in()
            while (one := self._reader.gets()) is not _NOTHING:
                found.append(one)
        return found

    def _take_in(self) -> None:
        try:
            data = self._socket.recv(_AT_ONCE)
        except TimeoutError:
            raise driver.TimeoutError("the server did not answer in time") from None
        if not data:
            raise driver.ConnectionError("the server closed the connection")
        self._reader.feed(data)
        # What TLS has deciphered already cannot be waited for at the socket.
        while (pending := getattr(self._socket, "pending", None)) is not None and pending():
            self._reader.feed(self._socket.recv(_AT_ONCE))

    def close(self) -> None:
        """Let go of the connection."""
        self._connection.disconnect()
