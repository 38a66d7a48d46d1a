"""A link to a Redis server: commands in, replies out, within a deadline; errors that say what to do.

Connections are kept for the next call, one for each thread that calls at the same time. One in error
is thrown away whole. After a fork both sides have connections of their own. Thread-safe.

What is called may have been done although its reply was lost; nothing is tried again here, because
only the caller knows what that would double.
"""

import os
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any, Concatenate, ParamSpec, TypeVar

from redis import exceptions as driver
from redis.connection import Connection

from celeriac.exceptions import OperationalError
from celeriac.redis.address import Address
from celeriac.redis.scripts import Script

Argument = str | bytes | int | float
Command = tuple[Argument, ...]
Answer = TypeVar("Answer")
P = ParamSpec("P")

IDLE = 0.25
"""Seconds after which a connection is looked at before it is used again: it may have been closed."""

_ADVICE: tuple[tuple[type[Exception], str], ...] = (
    (driver.AuthenticationError, "check user name and password in the URL"),
    (driver.NoPermissionError, "give this user the permission (ACL SETUSER)"),
    (driver.BusyLoadingError, "the server is reading its data from the disk; try again soon"),
    (
        driver.OutOfMemoryError,
        "the server is full; raise maxmemory, or let workers make room. What it has is not lost",
    ),
    (
        driver.ReadOnlyError,
        "it is a replica; give the URL of the master, or of the sentinels (sentinel://)",
    ),
    (
        driver.MovedError,
        "it is a node of a Redis Cluster, which cannot be used; use independent servers",
    ),
    (driver.ClusterDownError, "it is a node of a Redis Cluster, which cannot be used"),
    (driver.TimeoutError, "it did not answer in time; check that it is alive and not overloaded"),
    (driver.ConnectionError, "check that it runs and can be reached from here"),
)


class Link:
    """Connections of one process to one server: the first of these that can be reached."""

    def __init__(self, addresses: Sequence[Address]) -> None:
        self._addresses = deque(addresses)
        self.urls = ";".join(address.url for address in addresses)
        """As they may be printed."""
        self._free: list[tuple[Connection, float]] = []
        self._pid = os.getpid()
        self._server = ""

    @property
    def address(self) -> Address:
        """Where it is connected, or tries to connect first."""
        return self._addresses[0]

    def call(self, *command: Argument) -> Any:
        """Run one command and return its reply. Raises OperationalError."""
        return self.attempt(_exchange, command)

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands in one round trip, one by one; return their replies. Raises OperationalError."""
        if not commands:
            return []
        return self.attempt(_exchange_all, commands)

    def transaction(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands as one step; return their replies. Raises OperationalError."""
        replies = self.pipeline([("MULTI",), *commands, ("EXEC",)])
        results: list[Any] = replies[-1]
        for result in results:
            if isinstance(result, driver.ResponseError):
                raise self.failure(result) from result
        return results

    def run(
        self,
        script: Script,
        keys: Sequence[Argument],
        arguments: Iterable[Argument],
        before: Sequence[Command] = (),
    ) -> Any:
        """Run a script as one step; return what it returns. Raises OperationalError.

        What is to be done ``before`` goes out in the same round trip; whether it was, is for the script
        to find out.
        """
        parts = (len(keys), *keys, *arguments)
        return self.attempt(_evaluate, script, parts, before)

    def connect(self) -> Connection:
        """Return a connection of the caller's own, which gets pushed messages. Raises OperationalError."""
        try:
            return self._connected(protocol=3)
        except (driver.RedisError, OSError) as error:
            raise self.failure(error) from error

    def _connected(self, protocol: int = 2) -> Connection:
        """Connect to the first server that can be reached; raise what the last one said."""
        deadline = monotonic() + self.address.timeout
        for left in reversed(range(len(self._addresses))):
            connection = self.address.connection(protocol)
            try:
                connection.connect()
                return connection
            except (driver.ConnectionError, driver.TimeoutError, OSError):
                connection.disconnect()
                if not left or monotonic() > deadline:
                    raise
                self._addresses.rotate(-1)
            except BaseException:
                connection.disconnect()
                raise
        raise AssertionError("there is an address")

    @property
    def server(self) -> str:
        """What tells this server from all others, also from itself before it was restarted.

        Asked once, and again after every failure. Raises OperationalError.
        """
        if not self._server:
            told = self.call("INFO", "server")
            _, _, rest = told.partition(b"run_id:")
            self._server = rest.partition(b"\r\n")[0].decode() or self.address.url
        return self._server

    def close(self) -> None:
        """Close the connections that nobody is using. Others are opened when they are needed."""
        while self._free:
            self._free.pop()[0].disconnect()

    def attempt(
        self, work: Callable[Concatenate[Connection, P], Answer], *args: P.args, **kwargs: P.kwargs
    ) -> Answer:
        """Do something with a connection; return what that returns. Raises OperationalError."""
        connection = None
        try:
            connection = self._take()
            answer = work(connection, *args, **kwargs)
        except (driver.RedisError, OSError) as error:
            if connection is not None:
                self._give_up(connection, error)
            raise self.failure(error) from error
        except BaseException:
            # A soft time limit, or Ctrl-C: its reply may still be on the way.
            if connection is not None:
                connection.disconnect()
            raise
        self._free.append((connection, monotonic()))
        return answer

    def _take(self) -> Connection:
        if self._pid != os.getpid():
            # What was inherited over a fork belongs to the other side.
            self._pid, self._free = os.getpid(), []
        while self._free:
            try:
                connection, used = self._free.pop()
            except IndexError:
                break  # Another thread was quicker.
            if monotonic() - used < IDLE or _is_clean(connection):
                return connection
        return self._connected()

    def _give_up(self, connection: Connection, error: Exception) -> None:
        connection.disconnect()
        self._server = ""
        if isinstance(error, driver.ReadOnlyError | driver.ConnectionError | OSError):
            # The others lead to the same server, which is away or has become a replica.
            self.close()

    def failure(self, error: Exception) -> OperationalError:
        """Return the error that says where, what, and what to do next."""
        advice = next((text for kind, text in _ADVICE if isinstance(error, kind)), "")
        if isinstance(error, OSError):
            advice = "check that it runs and can be reached from here"
        cause = str(error).rstrip(".") or type(error).__name__
        return OperationalError(
            f"the Redis server at {self.address.url} cannot be used: {cause}"
            + (f"; {advice}" if advice else "")
        )


def _is_clean(connection: Connection) -> bool:
    """Whether it is open, and nothing has come that nobody asked for."""
    try:
        if not connection.can_read(0):
            return True
    except (driver.RedisError, OSError):
        pass
    connection.disconnect()
    return False


def _exchange(connection: Connection, command: Sequence[Argument]) -> Any:
    connection.send_packed_command(connection.pack_command(*command), check_health=False)
    return connection.read_response()


def _exchange_all(connection: Connection, commands: Sequence[Command]) -> list[Any]:
    """Send all, then read all, so that the connection is left clean; raise the first error."""
    replies = _replies(connection, commands)
    for reply in replies:
        if isinstance(reply, driver.ResponseError):
            raise reply
    return replies


def _replies(connection: Connection, commands: Sequence[Command]) -> list[Any]:
    """Send all, then read all; errors are among the replies."""
    # In one piece, and large words copied once: the driver sends each large one for itself, and waits
    # before each (22 us for 20 KB, against 5).
    packed = b"".join(piece for command in commands for piece in _pieces(command))
    connection.send_packed_command([packed], check_health=False)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(connection.read_response())
        except driver.ResponseError as refused:
            replies.append(refused)
    return replies


def _pieces(command: Command) -> list[bytes]:
    """Return a command as it goes over the wire."""
    pieces = [b"*%d\r\n" % len(command)]
    for word in command:
        data = word if isinstance(word, bytes) else str(word).encode()
        pieces += (b"$%d\r\n" % len(data), data, b"\r\n")
    return pieces


def _evaluate(
    connection: Connection, script: Script, parts: Sequence[Argument], before: Sequence[Command]
) -> Any:
    try:
        if not before:
            return _exchange(connection, ("EVALSHA", script.sha, *parts))
        commands = [*before, ("EVALSHA", script.sha, *parts)]
        *_, last = _replies(connection, commands)
        if isinstance(last, driver.ResponseError):
            raise last
        return last
    except driver.NoScriptError:
        # The server is new, or has forgotten it: whatever it did not know it did not run.
        return _exchange(connection, ("EVAL", script.text, *parts))


def socket_of(connection: Connection) -> socket.socket:
    """Return the socket of a connection, to wait at together with others."""
    found: socket.socket | None = connection._sock
    if found is None:
        raise driver.ConnectionError("the connection is closed")
    return found
