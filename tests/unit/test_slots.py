"""The shared memory of a pool: what one side writes, the other reads."""

import os
from collections.abc import Iterator

import pytest

from celeriac.pools.slots import CAPACITY, UNFENCED, Slots
from tests.fixtures.waiting import eventually

LAST = CAPACITY - 1


@pytest.fixture
def slots() -> Iterator[Slots]:
    slots = Slots()
    yield slots
    slots.close()


@pytest.fixture
def theirs(slots: Slots) -> Iterator[Slots]:
    """The same memory, as another process sees it."""
    theirs = Slots(os.dup(slots.descriptor))
    yield theirs
    theirs.close()


@pytest.mark.parametrize("slot", [0, 1, LAST])
def test_the_other_side_sees_what_runs(slots: Slots, theirs: Slots, slot: int) -> None:
    assert (slots.job(slot), slots.used(slot)) == (0, False)
    assert theirs.begin(slot, 2**40, 1)
    assert (slots.job(slot), slots.used(slot), slots.waits(slot)) == (2**40, True, False)
    theirs.end(slot)
    assert (slots.job(slot), slots.used(slot)) == (0, True)


def test_slots_do_not_touch_each_other(slots: Slots) -> None:
    for slot in range(CAPACITY):
        assert slots.begin(slot, slot + 1, 1)
        slots.want(slot, slot + 10_000)
    assert slots.jobs() == list(range(1, CAPACITY)), "chores are no jobs"
    slots.clear(7)
    slots.end(9)
    assert [slot for slot, job in enumerate(slots.jobs()) if not job] == [7, 9]
    assert [slot for slot in range(CAPACITY) if slots.wanted(slot) != slot + 10_000] == [7]
    # The fence lies behind the last of them.
    assert slots.begin(LAST, 5, 1)
    slots.fence(2**62)
    assert slots.begin(LAST, 5, UNFENCED)


def test_seconds_count_from_the_start(slots: Slots) -> None:
    slots.begin(3, 1, 1)
    first = slots.seconds(3)
    assert 0 <= first < 5
    assert eventually(lambda: slots.seconds(3) > first)


def test_a_job_on_hold_has_not_run(slots: Slots) -> None:
    slots.begin(3, 1, 1)
    eventually(lambda: slots.seconds(3) > 0.01)
    slots.hold(3)
    assert (slots.job(3), slots.waits(3), slots.seconds(3)) == (1, True, 0.0)
    slots.resume(3)
    assert (slots.waits(3), slots.seconds(3) < 5) == (False, True)


def test_an_empty_slot_waits_for_nothing(slots: Slots) -> None:
    assert not slots.waits(3)
    slots.begin(3, 1, 1)
    slots.end(3)
    slots.hold(3)
    assert not slots.waits(3)


def test_a_new_child_finds_its_slot_empty(slots: Slots) -> None:
    slots.begin(3, 1, 1)
    slots.want(3, 1)
    slots.clear(3)
    assert (slots.job(3), slots.used(3), slots.wanted(3), slots.seconds(3)) == (0, False, 0, 0.0)


def test_no_job_begins_behind_the_fence(slots: Slots, theirs: Slots) -> None:
    assert theirs.begin(3, 1, 5)
    slots.fence(5)
    assert slots.job(3) == 1, "what has begun goes on"
    assert not theirs.begin(4, 2, 4)
    assert not theirs.begin(4, 2, 5)
    assert slots.job(4) == 0
    assert theirs.begin(4, 2, 6)
    assert slots.job(4) == 2


def test_close_lets_go_of_all_descriptors() -> None:
    before = os.listdir("/proc/self/fd")
    slots = Slots()
    slots.close()
    slots.close()
    assert os.listdir("/proc/self/fd") == before
