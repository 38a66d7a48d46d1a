"""The job queue, with children that the test plays: no job is lost in it, none runs twice."""

from collections.abc import Iterator

import msgspec
import pytest

from celeriac.pools import packets
from celeriac.pools.base import NO_LIMITS, Job, Limits
from celeriac.pools.job_queue import JobQueue
from celeriac.pools.slots import Slots
from tests.fixtures.deliveries import message


class Taker:
    """A child: takes packets and begins jobs, one step at a time."""

    def __init__(self, queue: JobQueue, slots: Slots, slot: int) -> None:
        self._receiver = packets.Receiver(queue.exit)
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
def queue(slots: Slots) -> Iterator[JobQueue]:
    queue = JobQueue(slots)
    yield queue
    queue.close()


@pytest.fixture
def one(queue: JobQueue, slots: Slots) -> Taker:
    return Taker(queue, slots, 0)


@pytest.fixture
def other(queue: JobQueue, slots: Slots) -> Taker:
    return Taker(queue, slots, 1)


def job(number: int) -> Job:
    return Job(number, message(), "celery")


def submit(queue: JobQueue, *numbers: int) -> None:
    for number in numbers:
        assert queue.submit(job(number), NO_LIMITS)


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


def test_jobs_come_out_in_their_order(queue: JobQueue, one: Taker, other: Taker) -> None:
    submit(queue, 1, 2, 3)
    assert [one.run(), other.run(), one.run()] == [1, 2, 3]


def test_what_is_known_of_a_job_is_forgotten_with_it(queue: JobQueue) -> None:
    assert queue.submit(job(1), Limits(soft=1))
    assert (list(queue.jobs), queue.limits) == ([1], {1: Limits(soft=1)})
    assert queue.forget(1) == job(1)
    assert queue.forget(1) is None
    assert (queue.jobs, queue.limits) == ({}, {})


def test_a_full_queue_knows_nothing_of_what_it_refused(queue: JobQueue, one: Taker) -> None:
    number = 1
    while queue.submit(job(number), Limits(soft=1)):
        number += 1
    assert len(queue.jobs) == len(queue.limits) == number - 1
    assert one.run() == 1
    queue.flush()
    submit(queue, number)
    assert all_of(queue, one) == list(range(2, number + 1))


def test_who_sends_the_rest_is_told_when_the_socket_is_full(queue: JobQueue, one: Taker) -> None:
    told: list[int] = []
    queue.on_full = lambda: told.append(len(queue.jobs))
    number = 0
    while not told:
        number += 1
        submit(queue, number)
    submit(queue, *range(number + 1, number + 11))
    told.clear()
    assert everything(one) == list(range(1, number))
    queue.flush()
    assert everything(one) == list(range(number, number + 11))
    # Nothing is left that somebody would have to be told of.
    assert told == []


def all_of(queue: JobQueue, taker: Taker) -> list[int]:
    """Run all jobs, those that wait for room too."""
    ran: list[int] = []
    while some := everything(taker):
        ran += some
        queue.flush()
    return ran


class TestAudit:
    def test_what_a_dead_child_took_is_sent_again_first(
        self, queue: JobQueue, one: Taker, other: Taker
    ) -> None:
        submit(queue, 1, 2, 3)
        one.take()
        queue.audit(nothing)
        assert everything(other) == [1, 2, 3]

    def test_what_runs_is_left_alone(self, queue: JobQueue, one: Taker, other: Taker) -> None:
        submit(queue, 1, 2)
        assert one.begin(one.take())
        queue.audit(nothing)
        assert everything(other) == [2]

    def test_what_has_ended_is_left_alone(self, queue: JobQueue, one: Taker, other: Taker) -> None:
        submit(queue, 1, 2)
        one.run()
        queue.audit(lambda: (queue.forget(1), None)[1])
        assert everything(other) == [2]

    def test_what_ends_meanwhile_is_left_alone(
        self, queue: JobQueue, one: Taker, other: Taker, slots: Slots
    ) -> None:
        submit(queue, 1)
        assert one.begin(one.take())
        # Its outcome comes when all that was there has been read.
        queue.audit(lambda: slots.end(0))
        assert everything(other) == []

    def test_a_child_that_lives_after_all_does_not_run_it_a_second_time(
        self, queue: JobQueue, one: Taker, other: Taker
    ) -> None:
        submit(queue, 1)
        late = one.take()
        queue.audit(nothing)
        assert other.begin(other.take())
        assert not one.begin(late)
        queue.voided(1, late[0])
        queue.audit(nothing)
        assert everything(one) == []

    def test_nor_when_it_is_the_first_to_come(
        self, queue: JobQueue, one: Taker, other: Taker
    ) -> None:
        submit(queue, 1)
        late = one.take()
        queue.audit(nothing)
        assert not one.begin(late)
        queue.voided(1, late[0])
        assert everything(other) == [1]

    def test_nor_when_there_was_no_room_for_it(
        self, queue: JobQueue, one: Taker, other: Taker
    ) -> None:
        submit(queue, 1)
        late = one.take()
        number = 2
        while queue.submit(job(number), NO_LIMITS):
            number += 1
        queue.audit(nothing)
        assert not one.begin(late)
        queue.voided(1, late[0])
        ran = everything(other)
        queue.flush()
        assert sorted(ran + everything(other)) == list(range(1, number))

    def test_a_job_that_is_not_known_any_more_is_not_sent(
        self, queue: JobQueue, one: Taker
    ) -> None:
        submit(queue, 1, 2, 3)
        one.take()
        queue.forget(1)
        queue.forget(2)
        queue.audit(nothing)
        assert everything(one) == [3]


class TestVoid:
    def test_what_is_taken_and_not_begun_will_never_begin(
        self, queue: JobQueue, one: Taker, other: Taker
    ) -> None:
        submit(queue, 1, 2)
        late = one.take()
        queue.forget(1)
        queue.void()
        assert not one.begin(late)
        queue.voided(1, late[0])
        assert everything(other) == [2]

    def test_others_that_it_hits_are_sent_again(
        self, queue: JobQueue, one: Taker, other: Taker
    ) -> None:
        submit(queue, 1, 2)
        late = one.take()
        queue.forget(2)
        queue.void()
        assert not one.begin(late)
        queue.voided(1, late[0])
        assert everything(other) == [1]

    def test_what_has_begun_goes_on(self, queue: JobQueue, one: Taker, slots: Slots) -> None:
        submit(queue, 1)
        assert one.begin(one.take())
        queue.void()
        assert slots.job(0) == 1


class TestRecall:
    def test_what_waits_comes_back(self, queue: JobQueue, one: Taker) -> None:
        submit(queue, 1, 2, 3)
        late = one.take()
        assert queue.recall() == [2, 3]
        assert one.begin(late)
        assert queue.jobs.keys() == {1}

    def test_what_found_no_room_comes_back(self, queue: JobQueue, one: Taker) -> None:
        submit(queue, 1)
        one.take()
        number = 2
        while queue.submit(job(number), NO_LIMITS):
            number += 1
        queue.audit(nothing)
        assert not queue.submit(job(number), NO_LIMITS)
        assert queue.recall() == list(range(1, number))
        submit(queue, number)
        assert everything(one) == [number]


class TestShut:
    def test_what_is_in_a_drained_way_can_be_taken(self, queue: JobQueue, one: Taker) -> None:
        submit(queue, 1, 2)
        queue.drain()
        queue.drain()
        assert not queue.submit(job(3), NO_LIMITS)
        assert [one.run(), one.run()] == [1, 2]

    def test_what_would_be_sent_again_is_named(self, queue: JobQueue, one: Taker) -> None:
        submit(queue, 1, 2, 3)
        one.take()
        queue.drain()
        queue.audit(nothing)
        assert list(queue.unrun) == [1, 2, 3]

    def test_a_closed_way_takes_no_harm(self, queue: JobQueue) -> None:
        submit(queue, 1, 2)
        queue.close()
        queue.close()
        queue.void()
        queue.flush()
        assert not queue.submit(job(3), NO_LIMITS)
        assert queue.recall() == []
