"""Packets: whole messages over AF_UNIX SOCK_SEQPACKET sockets, with descriptors beside them.

A body above 64 KiB travels as a memory file beside an empty packet, so that any size is one packet.
Also frames, the byte format of a child's own stream to the parent.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence

INLINE = 64 * 1024
_LARGE = 2048
"""Bytes that are not copied to stand behind one more."""
_FD = struct.calcsize("i")
_MOST_DESCRIPTORS = 8
_ANCILLARY = socket.CMSG_SPACE(_MOST_DESCRIPTORS * _FD)
_INLINE, _BESIDE = b"\0", b"\1"

# As plain numbers: to join members of an enumeration takes as long as to receive a packet.
_ALONE = int(socket.MSG_CMSG_CLOEXEC)
_DONTWAIT = int(socket.MSG_DONTWAIT)
_AT_ONCE = _ALONE | _DONTWAIT

_FRAME = struct.Struct("<IBQ")
ASK, STORE, OUTCOME, DONE, VOID = range(5)
"""Kinds of frames: a start that waits for permission, a document, an outcome, a chore is done, a job
was not begun because its packet is void.
"""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two ends of a packet connection."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def send(
    end: socket.socket, data: bytes, descriptors: Sequence[int] = (), *, block: bool = True
) -> bool:
    """Send one packet; False if ``block`` is off and there is no room. Raises OSError."""
    flags = 0 if block else _DONTWAIT
    beside = -1
    try:
        if len(data) <= _LARGE and not descriptors:
            end.send(_INLINE + data, flags)
            return True
        if len(data) > INLINE:
            beside = _memory_file(data)
            descriptors = [*descriptors, beside]
            data = b""
        flag = _INLINE if beside < 0 else _BESIDE
        if descriptors:
            # Not socket.send_fds: it takes flags and leaves them aside.
            rights = struct.pack(f"{len(descriptors)}i", *descriptors)
            end.sendmsg([flag, data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], flags)
        else:
            end.sendmsg([flag, data], (), flags)
    except BlockingIOError:
        return False
    except OSError as error:
        # So many descriptors are on their way that the system lends no more: as good as full.
        if block or error.errno != errno.ETOOMANYREFS:
            raise
        return False
    finally:
        if beside >= 0:
            os.close(beside)
    return True


class Receiver:
    """Receives packets from one socket, through one buffer. One thread."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._buffer = bytearray(INLINE + 1)
        self._view = memoryview(self._buffer)

    def receive(self, *, block: bool = True) -> tuple[bytes, list[int]] | None:
        """Return a packet and the descriptors beside it; None when the other side has closed.

        With ``block`` off, BlockingIOError says that nothing is there.
        """
        flags = _ALONE if block else _AT_ONCE
        try:
            size, ancillary, _, _ = self._end.recvmsg_into([self._buffer], _ANCILLARY, flags)
        except ConnectionResetError:
            # It closed while something of ours lay unread. That is told once; what it sent before
            # is still there to be read.
            size, ancillary, _, _ = self._end.recvmsg_into([self._buffer], _ANCILLARY, flags)
        if size == 0:
            return None
        data = bytes(self._view[1:size])
        if not ancillary:
            return data, []
        descriptors = list(_descriptors(ancillary))
        if self._buffer[0] == 1:
            data = _read_memory_file(descriptors.pop())
        return data, descriptors


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> Iterator[int]:
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            yield from struct.unpack(f"{len(data) // _FD}i", data[: len(data) // _FD * _FD])


def _memory_file(data: bytes) -> int:
    descriptor = os.memfd_create("celeriac-packet", os.MFD_CLOEXEC)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(data)
    return descriptor


def _read_memory_file(descriptor: int) -> bytes:
    with open(descriptor, "rb") as file:
        file.seek(0)
        return file.read()


def frame(kind: int, number: int, payload: bytes = b"") -> bytes:
    """Return one frame of a child's stream."""
    return _FRAME.pack(len(payload), kind, number) + payload


class FrameReader:
    """Cuts a stream into frames. Fed with whatever has arrived; one thread."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._needed = 0
        """Bytes of the frame that has begun, its head included, as far as that is known."""

    def feed(self, data: bytes) -> list[tuple[int, int, bytes]]:
        """Take in bytes; return the frames that are complete now, as (kind, number, payload)."""
        if self._pending:
            self._pending += data
            if len(self._pending) < self._needed:
                return []
            data = bytes(self._pending)
            self._pending.clear()
        frames = []
        start, needed, length = 0, _FRAME.size, len(data)
        while start + _FRAME.size <= length:
            size, kind, number = _FRAME.unpack_from(data, start)
            first = start + _FRAME.size
            end = first + size
            if end > length:
                needed = end - start
                break
            frames.append((kind, number, data[first:end]))
            start = end
        if start < length:
            # Looked at again when there is a whole one: the parts of a large one are copied once.
            self._pending += data[start:]
            self._needed = needed
        return frames
