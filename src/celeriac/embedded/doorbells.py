"""Doorbells: AF_UNIX datagram sockets by which processes on one machine wake each other.

A waiter owns a bell and publishes its address as a row in the embedded file; whoever commits
something rings it afterwards, never blocking. A bell carries a hint, not data: rings may be lost or
come twice, so a waiter also polls the file now and then. Addresses are in Linux's abstract name
space, where a name vanishes with its owner; elsewhere bells are missing and waiters only poll.
"""

import os
import selectors
import socket
import sys

SUPPORTED = sys.platform == "linux"

LONGEST = 4096
"""Bytes of what a ring says; the rest is cut off."""

Rung = bool | None
"""True: rung. None: not rung, but somebody may be there. False: nobody is there any more."""


class Doorbell:
    """One waiter's bell. ``wait`` is for its owner's thread; ``ring`` and ``wake`` for any."""

    def __init__(self) -> None:
        self.address = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        if SUPPORTED:
            self.address = f"celeriac-{os.getpid()}-{os.urandom(6).hex()}"
            self._socket.bind("\0" + self.address)
        self._wake_in, self._wake_out = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(self._wake_out, selectors.EVENT_READ)

    def wait(self, timeout: float) -> list[str]:
        """Block until rung or woken, at most ``timeout`` seconds; return what the rings said.

        A wake-up without a ring is reported as one empty string.
        """
        said: list[str] = []
        for key, _ in self._selector.select(timeout):
            said.extend(_drained(key.fileobj))  # type: ignore[arg-type]
        return said

    def wake(self) -> None:
        """Make ``wait`` return, now or at its next call."""
        try:
            self._wake_in.send(b"")
        except OSError:
            pass  # Full, so it will wake; or closed, so nobody waits.

    def close(self) -> None:
        """Take the bell down. Idempotent."""
        self._selector.close()
        for end in (self._socket, self._wake_in, self._wake_out):
            end.close()


class Ringer:
    """Rings the bells of others. Thread-safe; opens its socket on first use and after a fork."""

    def __init__(self) -> None:
        self._pid = 0
        self._socket: socket.socket | None = None

    def ring(self, address: str, say: str = "") -> Rung:
        """Ring one bell. Never blocks, never raises: whoever rings has done his work before."""
        try:
            self._open().sendto(say.encode(), "\0" + address)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            # Its queue is full; or nothing is known about it, as when descriptors have run out.
            return None
        return True

    def _open(self) -> socket.socket:
        if self._socket is None or self._pid != os.getpid():
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
            self._pid = os.getpid()
        return self._socket

    def close(self) -> None:
        """Close the socket; ``ring`` opens another. Idempotent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _drained(end: socket.socket) -> list[str]:
    said = []
    try:
        while True:
            said.append(end.recv(LONGEST).decode(errors="replace"))
    except BlockingIOError:
        return said
