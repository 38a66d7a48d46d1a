"""The way of jobs, with children that the test plays: no job is lost on it, none runs twice."""

from collections.abc import Iterator

import msgspec
import pytest

from celeriac.pools import packets
from celeriac.pools.base import NO_LIMITS, Job, Limits
from celeriac.pools.slots import Slots
from celeriac.pools.way import Way
from tests.fixtures.deliveries import message


class Taker:
    """A child: takes packets and begins jobs, one step at a time."""

    def __init__(self, way: Way, slots: Slots, slot: int) -> None:
        self._receiver = packets.Receiver(way.exit)
        self._slots = slots
        self._slot = slot

    def take(self) -> tuple[int, Job]:
        packet = self._receiver.receive(block=False)
        assert packet is not None
        return msgspec.msgpack.decode(packet[0], type=tuple[int, Job])

    def begin(self, taken: tuple[int, Job]) -> bool:
        return self._slots.begin(self._slot, taken[1].number, taken[0])

    def run(self) -> int:
        """Take the next job, and begin and end it; return its number."""
        taken = self.take()
        assert self.begin(taken)
        self._slots.end(self._slot)
        return taken[1].number


@pytest.fixture
def slots() -> Iterator[Slots]:
    slots = Slots()
    yield slots
    slots.close()


@pytest.fixture
def way(slots: Slots) -> Iterator[Way]:
    way = Way(slots)
    yield way
    way.close()


@pytest.fixture
def one(way: Way, slots: Slots) -> Taker:
    return Taker(way, slots, 0)


@pytest.fixture
def other(way: Way, slots: Slots) -> Taker:
    return Taker(way, slots, 1)


def job(number: int) -> Job:
    return Job(number, message(), "celery")


def submit(way: Way, *numbers: int) -> None:
    for number in numbers:
        assert way.submit(job(number), NO_LIMITS)


def everything(taker: Taker) -> list[int]:
    """Run what there is."""
    ran = []
    try:
        while True:
            ran.append(taker.run())
    except BlockingIOError:
        return ran


def nothing() -> None:
    """There is no outcome to be read."""


def test_jobs_come_out_in_their_order(way: Way, one: Taker, other: Taker) -> None:
    submit(way, 1, 2, 3)
    assert [one.run(), other.run(), one.run()] == [1, 2, 3]


def test_what_is_known_of_a_job_is_forgotten_with_it(way: Way) -> None:
    assert way.submit(job(1), Limits(soft=1))
    assert (list(way.jobs), way.limits) == ([1], {1: Limits(soft=1)})
    assert way.forget(1) == job(1)
    assert way.forget(1) is None
    assert (way.jobs, way.limits) == ({}, {})


def test_a_full_way_knows_nothing_of_what_it_refused(way: Way, one: Taker) -> None:
    number = 1
    while way.submit(job(number), Limits(soft=1)):
        number += 1
    assert len(way.jobs) == len(way.limits) == number - 1
    assert one.run() == 1
    submit(way, number)
    assert everything(one) == list(range(2, number + 1))


class TestAudit:
    def test_what_a_dead_child_took_is_sent_again_first(
        self, way: Way, one: Taker, other: Taker
    ) -> None:
        submit(way, 1, 2, 3)
        one.take()
        way.audit(nothing)
        assert everything(other) == [1, 2, 3]

    def test_what_runs_is_left_alone(self, way: Way, one: Taker, other: Taker) -> None:
        submit(way, 1, 2)
        assert one.begin(one.take())
        way.audit(nothing)
        assert everything(other) == [2]

    def test_what_has_ended_is_left_alone(self, way: Way, one: Taker, other: Taker) -> None:
        submit(way, 1, 2)
        one.run()
        way.audit(lambda: (way.forget(1), None)[1])
        assert everything(other) == [2]

    def test_what_ends_meanwhile_is_left_alone(
        self, way: Way, one: Taker, other: Taker, slots: Slots
    ) -> None:
        submit(way, 1)
        assert one.begin(one.take())
        # Its outcome comes when all that was there has been read.
        way.audit(lambda: slots.end(0))
        assert everything(other) == []

    def test_a_child_that_lives_after_all_does_not_run_it_a_second_time(
        self, way: Way, one: Taker, other: Taker
    ) -> None:
        submit(way, 1)
        late = one.take()
        way.audit(nothing)
        assert other.begin(other.take())
        assert not one.begin(late)
        way.voided(1, late[0])
        way.audit(nothing)
        assert everything(one) == []

    def test_nor_when_it_is_the_first_to_come(self, way: Way, one: Taker, other: Taker) -> None:
        submit(way, 1)
        late = one.take()
        way.audit(nothing)
        assert not one.begin(late)
        way.voided(1, late[0])
        assert everything(other) == [1]

    def test_nor_when_there_was_no_room_for_it(self, way: Way, one: Taker, other: Taker) -> None:
        submit(way, 1)
        late = one.take()
        number = 2
        while way.submit(job(number), NO_LIMITS):
            number += 1
        way.audit(nothing)
        assert not one.begin(late)
        way.voided(1, late[0])
        ran = everything(other)
        way.flush()
        assert sorted(ran + everything(other)) == list(range(1, number))

    def test_a_job_that_is_not_known_any_more_is_not_sent(self, way: Way, one: Taker) -> None:
        submit(way, 1, 2, 3)
        one.take()
        way.forget(1)
        way.forget(2)
        way.audit(nothing)
        assert everything(one) == [3]


class TestVoid:
    def test_what_is_taken_and_not_begun_will_never_begin(
        self, way: Way, one: Taker, other: Taker
    ) -> None:
        submit(way, 1, 2)
        late = one.take()
        way.forget(1)
        way.void()
        assert not one.begin(late)
        way.voided(1, late[0])
        assert everything(other) == [2]

    def test_others_that_it_hits_are_sent_again(self, way: Way, one: Taker, other: Taker) -> None:
        submit(way, 1, 2)
        late = one.take()
        way.forget(2)
        way.void()
        assert not one.begin(late)
        way.voided(1, late[0])
        assert everything(other) == [1]

    def test_what_has_begun_goes_on(self, way: Way, one: Taker, slots: Slots) -> None:
        submit(way, 1)
        assert one.begin(one.take())
        way.void()
        assert slots.job(0) == 1


class TestRecall:
    def test_what_waits_comes_back(self, way: Way, one: Taker) -> None:
        submit(way, 1, 2, 3)
        late = one.take()
        assert way.recall() == [2, 3]
        assert one.begin(late)
        assert way.jobs.keys() == {1}

    def test_what_found_no_room_comes_back(self, way: Way, one: Taker) -> None:
        submit(way, 1)
        one.take()
        number = 2
        while way.submit(job(number), NO_LIMITS):
            number += 1
        way.audit(nothing)
        assert not way.submit(job(number), NO_LIMITS)
        assert way.recall() == list(range(1, number))
        submit(way, number)
        assert everything(one) == [number]


class TestShut:
    def test_what_is_in_a_drained_way_can_be_taken(self, way: Way, one: Taker) -> None:
        submit(way, 1, 2)
        way.drain()
        way.drain()
        assert not way.submit(job(3), NO_LIMITS)
        assert [one.run(), one.run()] == [1, 2]

    def test_what_would_be_sent_again_is_named(self, way: Way, one: Taker) -> None:
        submit(way, 1, 2, 3)
        one.take()
        way.drain()
        way.audit(nothing)
        assert list(way.unrun) == [1, 2, 3]

    def test_a_closed_way_takes_no_harm(self, way: Way) -> None:
        submit(way, 1, 2)
        way.close()
        way.close()
        way.void()
        way.flush()
        assert not way.submit(job(3), NO_LIMITS)
        assert way.recall() == []
