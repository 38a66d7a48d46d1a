"""The proxy of ``tests/fixtures/proxy.py`` does to connections what it says, and nothing else."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from time import monotonic

import pytest

from tests.fixtures.proxy import Proxy
from tests.fixtures.waiting import eventually

STEP = 0.05


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5.0)
        yield server


@pytest.fixture
def proxy(server: socket.socket) -> Iterator[Proxy]:
    with closing(Proxy(server.getsockname()[1])) as proxy:
        yield proxy


class Pair:
    """Both ends of connections through the proxy."""

    def __init__(self, proxy: Proxy, server: socket.socket) -> None:
        self._proxy, self._server = proxy, server
        self._stack = ExitStack()

    def client(self) -> socket.socket:
        side = socket.create_connection(("127.0.0.1", self._proxy.port), 5.0)
        return self._stack.enter_context(side)

    def connect(self) -> tuple[socket.socket, socket.socket]:
        near = self.client()
        far = self._stack.enter_context(self._server.accept()[0])
        far.settimeout(5.0)
        return near, far

    def close(self) -> None:
        self._stack.close()


@pytest.fixture
def ends(proxy: Proxy, server: socket.socket) -> Iterator[Pair]:
    with closing(Pair(proxy, server)) as pair:
        yield pair


def whole(side: socket.socket, size: int) -> bytes:
    return side.makefile("rb").read(size)


def test_bytes_go_both_ways_as_they_are(ends: Pair) -> None:
    near, far = ends.connect()
    sent = bytes(range(256)) * 20_000
    threading.Thread(target=near.sendall, args=(sent,)).start()
    assert whole(far, len(sent)) == sent
    far.sendall(b"answer")
    assert near.recv(100) == b"answer"


def test_an_end_is_handed_on_and_the_other_way_stays_open(ends: Pair, proxy: Proxy) -> None:
    near, far = ends.connect()
    near.sendall(b"last words")
    near.shutdown(socket.SHUT_WR)
    assert far.makefile("rb").read() == b"last words"
    far.sendall(b"heard")
    far.close()
    assert near.makefile("rb").read() == b"heard"
    eventually(lambda: proxy.connections == 0)
    assert proxy.accepted == 1


def test_a_cut_resets_both_ends_and_lets_new_ones_in(ends: Pair, proxy: Proxy) -> None:
    near, far = ends.connect()
    assert proxy.connections == 1
    proxy.cut()
    for side in (near, far):
        with pytest.raises(ConnectionResetError):
            side.recv(1)
    assert proxy.connections == 0
    near, far = ends.connect()
    near.sendall(b"again")
    assert far.recv(100) == b"again"


def test_who_has_just_connected_is_cut_too(ends: Pair, proxy: Proxy) -> None:
    for _ in range(20):
        near = ends.client()
        proxy.cut()
        with pytest.raises(ConnectionResetError):
            near.recv(1)


def test_refusing_keeps_what_is_open(ends: Pair, proxy: Proxy) -> None:
    near, far = ends.connect()
    proxy.refuse()
    with pytest.raises(ConnectionRefusedError):
        ends.client()
    near.sendall(b"still here")
    assert far.recv(100) == b"still here"
    proxy.accept()
    near, far = ends.connect()
    near.sendall(b"back")
    assert far.recv(100) == b"back"


def test_nothing_passes_while_it_is_stalled_and_nothing_is_lost(ends: Pair, proxy: Proxy) -> None:
    near, far = ends.connect()
    proxy.stall()
    near.sendall(b"held back")
    far.settimeout(STEP)
    with pytest.raises(TimeoutError):
        far.recv(100)
    assert proxy.connections == 1
    proxy.resume()
    far.settimeout(5.0)
    assert far.recv(100) == b"held back"


def test_a_cut_of_a_stalled_connection(ends: Pair, proxy: Proxy) -> None:
    near, _ = ends.connect()
    proxy.stall()
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        near.recv(1)


def test_a_delay_counts_each_way_and_once(ends: Pair, proxy: Proxy) -> None:
    near, far = ends.connect()
    proxy.delay(STEP)
    begin = monotonic()
    for part in (b"a", b"b", b"c"):
        near.sendall(part)
    assert whole(far, 3) == b"abc"
    far.sendall(b"answer")
    near.recv(100)
    assert 2 * STEP <= monotonic() - begin < 6 * STEP
    proxy.delay(0.0)
    begin = monotonic()
    near.sendall(b"at once")
    assert far.recv(100) == b"at once"
    assert monotonic() - begin < STEP


def test_a_reply_is_cut_in_its_middle_and_the_next_one_is_whole(ends: Pair, proxy: Proxy) -> None:
    near, far = ends.connect()
    proxy.cut_after(4)
    near.sendall(b"a long question")
    assert far.recv(100) == b"a long question"
    far.sendall(b"half")
    assert whole(near, 4) == b"half"
    with pytest.raises(ConnectionResetError):
        near.recv(1)
    near, far = ends.connect()
    far.sendall(b"whole reply")
    assert near.recv(100) == b"whole reply"


def test_no_more_than_asked_for_is_let_through(ends: Pair, proxy: Proxy) -> None:
    near, far = ends.connect()
    proxy.cut_after(4)
    far.sendall(b"halfway")
    assert near.recv(100) == b"half"
    with pytest.raises(ConnectionResetError):
        near.recv(100)


def test_a_client_is_reset_where_no_server_is(ends: Pair, server: socket.socket) -> None:
    server.close()
    with pytest.raises(ConnectionResetError):
        ends.client().recv(1)


def test_it_is_closed_twice(proxy: Proxy, ends: Pair) -> None:
    near, _ = ends.connect()
    proxy.close()
    proxy.close()
    with pytest.raises(ConnectionResetError):
        near.recv(1)
    with pytest.raises(ConnectionRefusedError):
        ends.client()
