"""Doorbells: a ring wakes the waiter, never blocks the ringer, and finds out who is gone."""

import resource
from collections.abc import Iterator
from time import monotonic

import pytest

from celeriac.embedded.doorbells import LONGEST, SUPPORTED, Doorbell, Ringer
from tests.fixtures.processes import Children, Line, Start
from tests.fixtures.waiting import InAMoment

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="this system has no abstract addresses")


@pytest.fixture
def bell() -> Iterator[Doorbell]:
    bell = Doorbell()
    yield bell
    bell.close()


@pytest.fixture
def ringer() -> Iterator[Ringer]:
    ringer = Ringer()
    yield ringer
    ringer.close()


@pytest.fixture
def start() -> Iterator[Start]:
    with Children() as start:
        yield start


def ring_from_another_process(line: Line, address: str, say: str) -> bool | None:
    return Ringer().ring(address, say)


def ring_without_descriptors(line: Line, address: str) -> tuple[bool | None, bool | None]:
    ringer = Ringer()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, most))
    without = ringer.ring(address)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return without, ringer.ring(address)


def test_a_ring_says_something(bell: Doorbell, ringer: Ringer) -> None:
    assert ringer.ring(bell.address, "schlüssel") is True
    assert bell.wait(10.0) == ["schlüssel"]


def test_rings_are_collected(bell: Doorbell, ringer: Ringer) -> None:
    for word in ("a", "b", ""):
        ringer.ring(bell.address, word)
    assert bell.wait(10.0) == ["a", "b", ""]
    assert bell.wait(0.0) == []


def test_a_ring_of_another_process(bell: Doorbell, start: Start) -> None:
    child = start(ring_from_another_process, bell.address, "hello")
    assert bell.wait(10.0) == ["hello"]
    assert child.hear() is True


def test_a_ring_ends_the_wait(bell: Doorbell, ringer: Ringer) -> None:
    rung = InAMoment(lambda: ringer.ring(bell.address, "now"))
    assert bell.wait(10.0) == ["now"]
    assert 0.0 < rung.ago() < 1.0


def test_without_a_ring_it_waits_as_long_as_told(bell: Doorbell) -> None:
    before = monotonic()
    assert bell.wait(0.05) == []
    assert monotonic() - before >= 0.049


def test_wake_says_nothing(bell: Doorbell, ringer: Ringer) -> None:
    bell.wake()
    assert bell.wait(10.0) == [""]
    bell.wake()
    ringer.ring(bell.address, "rung")
    assert sorted(bell.wait(10.0)) == ["", "rung"]


def test_a_full_bell_does_not_block(bell: Doorbell, ringer: Ringer) -> None:
    before = monotonic()
    answers = {ringer.ring(bell.address, "again") for _ in range(5000)}
    for _ in range(5000):
        bell.wake()
    assert monotonic() - before < 5.0
    assert answers == {True, None}
    assert set(bell.wait(10.0)) == {"again", ""}
    assert bell.wait(0.0) == []
    assert ringer.ring(bell.address, "once more") is True


def test_nobody_is_there_any_more(ringer: Ringer) -> None:
    gone = Doorbell()
    gone.close()
    assert ringer.ring(gone.address) is False
    assert ringer.ring("celeriac-0-never") is False


def test_two_bells_have_two_addresses(bell: Doorbell, ringer: Ringer) -> None:
    other = Doorbell()
    ringer.ring(other.address, "other")
    assert bell.wait(0.0) == []
    assert other.wait(10.0) == ["other"]
    other.close()


def test_long_words_are_cut_off(bell: Doorbell, ringer: Ringer) -> None:
    assert ringer.ring(bell.address, "x" * 2 * LONGEST) is True
    assert bell.wait(10.0) == ["x" * LONGEST]


@pytest.mark.parametrize("say", ["", "x" * 10_000_000], ids=["short", "longer than a datagram"])
def test_a_ring_never_raises(bell: Doorbell, ringer: Ringer, say: str) -> None:
    # Whoever rings has committed before; and "no answer" must not pass for "gone".
    assert ringer.ring(bell.address, say) is (True if not say else None)
    assert ringer.ring("x" * 1000) is None


def test_a_ring_without_descriptors_left(bell: Doorbell, start: Start) -> None:
    assert start(ring_without_descriptors, bell.address).hear() == (None, True)
    assert bell.wait(10.0) == [""]


def test_a_closed_ringer_opens_again(bell: Doorbell, ringer: Ringer) -> None:
    ringer.ring(bell.address)
    ringer.close()
    ringer.close()
    assert ringer.ring(bell.address) is True


def test_a_closed_bell_is_quiet(ringer: Ringer) -> None:
    bell = Doorbell()
    bell.close()
    bell.close()
    bell.wake()
