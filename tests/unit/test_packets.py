"""Packets with descriptors beside them, and frames cut out of a stream."""

import errno
import os
import socket
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from celeriac.pools import packets
from celeriac.pools.packets import INLINE, FrameReader, Receiver, frame

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    ours, theirs = packets.pair()
    with ours, theirs:
        yield ours, theirs


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class TestPackets:
    @pytest.mark.parametrize("size", [0, 1, INLINE - 1, INLINE, INLINE + 1, 5_000_000])
    def test_any_size_is_one_packet(self, ends: Ends, size: int) -> None:
        receiver = Receiver(ends[1])
        data = os.urandom(size)
        before = open_descriptors()
        assert packets.send(ends[0], data)
        assert packets.send(ends[0], b"next")
        assert receiver.receive() == (data, [])
        assert receiver.receive() == (b"next", [])
        assert open_descriptors() == before

    @pytest.mark.parametrize("size", [0, 100, INLINE + 1])
    def test_descriptors_travel_beside(self, ends: Ends, size: int) -> None:
        inward, outward = os.pipe()
        packets.send(ends[0], b"x" * size, [inward, outward])
        packet = Receiver(ends[1]).receive()
        assert packet is not None
        data, (their_inward, their_outward) = packet
        assert data == b"x" * size
        os.write(their_outward, b"hello")
        assert os.read(inward, 10) == b"hello"
        assert not os.get_inheritable(their_inward)
        for descriptor in (inward, outward, their_inward, their_outward):
            os.close(descriptor)

    def test_two_receivers_each_take_whole_packets(self, ends: Ends) -> None:
        for data in (b"one", b"x" * (INLINE + 1), b"three"):
            packets.send(ends[0], data)
        other = Receiver(ends[1])
        assert Receiver(ends[1]).receive() == (b"one", [])
        assert other.receive() == (b"x" * (INLINE + 1), [])
        assert Receiver(ends[1]).receive() == (b"three", [])

    def test_nothing_there(self, ends: Ends) -> None:
        with pytest.raises(BlockingIOError):
            Receiver(ends[1]).receive(block=False)

    @pytest.mark.parametrize("size", [10, INLINE, INLINE + 1])
    def test_a_full_socket_refuses_at_once(self, ends: Ends, size: int) -> None:
        before = open_descriptors()
        sent = 0
        while packets.send(ends[0], b"x" * size, block=False):
            sent += 1
            assert sent < 10_000
        receiver = Receiver(ends[1])
        assert [receiver.receive() for _ in range(sent)] == [(b"x" * size, [])] * sent
        assert packets.send(ends[0], b"room", block=False)
        assert open_descriptors() == before

    def test_so_many_descriptors_on_their_way_that_there_is_no_room(
        self, ends: Ends, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # The system sets that limit for ordinary users only; the test may run as root.
        class Crowded:
            def sendmsg(self, *_: Any) -> int:
                raise OSError(errno.ETOOMANYREFS, "Too many references: cannot splice")

        crowded: Any = Crowded()
        assert not packets.send(crowded, b"x" * (INLINE + 1), block=False)
        with pytest.raises(OSError, match="Too many references"):
            packets.send(crowded, b"x" * (INLINE + 1))

    def test_the_end(self, ends: Ends) -> None:
        packets.send(ends[0], b"last words")
        ends[0].close()
        receiver = Receiver(ends[1])
        assert [receiver.receive(), receiver.receive()] == [(b"last words", []), None]

    def test_the_end_with_something_of_ours_unread(self, ends: Ends) -> None:
        packets.send(ends[1], b"unread")
        packets.send(ends[0], b"last words")
        ends[0].close()
        receiver = Receiver(ends[1])
        assert [receiver.receive(), receiver.receive()] == [(b"last words", []), None]

    def test_nobody_there(self, ends: Ends) -> None:
        ends[1].close()
        with pytest.raises(BrokenPipeError):
            packets.send(ends[0], b"hello")


class TestFrames:
    @given(
        some.lists(some.tuples(some.integers(0, 255), some.integers(0, 2**64 - 1), some.binary())),
        some.lists(some.integers(0, 2000)),
    )
    def test_however_a_stream_is_cut(
        self, frames: list[tuple[int, int, bytes]], cuts: list[int]
    ) -> None:
        stream = b"".join(frame(*one) for one in frames)
        reader = FrameReader()
        places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
        read = [one for a, b in pairwise(places) for one in reader.feed(stream[a:b])]
        assert read == frames

    def test_a_frame_without_payload(self) -> None:
        assert FrameReader().feed(frame(packets.ASK, 7)) == [(packets.ASK, 7, b"")]

    def test_nothing_comes_before_all_of_it_is_there(self) -> None:
        reader = FrameReader()
        whole = frame(packets.OUTCOME, 7, b"x" * 1_000_000)
        assert reader.feed(whole[:-1]) == []
        assert reader.feed(whole[-1:]) == [(packets.OUTCOME, 7, b"x" * 1_000_000)]
