"""How many messages a worker claims ahead."""

import pytest

from celeriac.worker.window import AHEAD, MOST, MOST_AHEAD, Window

SHORT, LONG = AHEAD / 10, AHEAD * 10


def window(slots: int = 2, **means: float) -> Window:
    """Return a window that has measured these tasks, each for a long time."""
    window = Window(slots)
    for task, seconds in means.items():
        for _ in range(50):
            window.learn(task, seconds)
    return window


def stayed(window: Window, task: str, offered: int, held: int = 0) -> int:
    """Offer messages of a task one after another; return how many may stay."""
    kept = 0
    for _ in range(offered):
        if window.admits(task, held + kept):
            window.enter(task)
            kept += 1
    return kept


class TestRoom:
    def test_nothing_measured_is_claimed_for_free_slots_only(self) -> None:
        assert [Window(2).room(held) for held in range(4)] == [2, 1, 0, 0]

    def test_long_tasks_are_claimed_for_free_slots_only(self) -> None:
        assert [window(a=LONG).room(held) for held in range(4)] == [2, 1, 0, 0]

    def test_short_tasks_are_claimed_ahead_as_far_as_their_time_allows(self) -> None:
        # 50 ms of work for each of two slots, at 5 ms: twenty ahead, and one for each slot.
        assert window(a=SHORT).room(0) == pytest.approx(22, abs=1)
        assert window(a=SHORT).room(20) == pytest.approx(2, abs=1)
        assert window(a=SHORT).room(100) == 0

    def test_the_shortest_tasks_are_claimed_up_to_the_most(self) -> None:
        assert window(a=0.0).room(0) == MOST
        assert window(a=0.0).room(MOST_AHEAD - 5) == 5
        assert window(a=0.0).room(MOST_AHEAD) == 0

    def test_more_slots_claim_more(self) -> None:
        assert window(8, a=SHORT).room(0) > window(2, a=SHORT).room(0)

    def test_it_turns_when_tasks_become_long(self) -> None:
        turned = window(a=SHORT)
        for _ in range(50):
            turned.learn("a", LONG)
        assert turned.room(2) == 0

    def test_a_multiplier_fixes_it(self) -> None:
        fixed = Window(4, 3)
        fixed.learn("a", LONG)
        assert [fixed.room(held) for held in (0, 10, 12, 20)] == [12, 2, 0, 0]

    def test_a_multiplier_of_zero_is_the_most(self) -> None:
        assert Window(4, 0).room(0) == MOST
        assert Window(4, 0).room(MOST_AHEAD) == 0


class TestAdmission:
    def test_whatever_it_is_a_free_slot_takes_it(self) -> None:
        for measured in (Window(2), window(a=LONG), window(a=SHORT)):
            assert stayed(measured, "a", 2) == 2

    def test_what_was_never_measured_waits_for_a_slot(self) -> None:
        assert stayed(window(b=SHORT), "a", 100) == 2

    def test_long_tasks_wait_for_a_slot(self) -> None:
        assert stayed(window(a=LONG), "a", 100) == 2

    def test_short_tasks_stay_up_to_their_time(self) -> None:
        assert stayed(window(a=SHORT), "a", 100) == pytest.approx(20, abs=2)

    def test_nothing_waits_behind_slots_that_are_all_taken_by_long_tasks(self) -> None:
        mixed = window(a=SHORT, b=LONG)
        mixed.enter("b")
        mixed.enter("b")
        assert stayed(mixed, "a", 100, held=2) == 0

    def test_one_long_task_leaves_the_other_slot_its_share(self) -> None:
        mixed = window(a=SHORT, b=LONG)
        mixed.enter("b")
        assert stayed(mixed, "a", 100, held=1) == pytest.approx(10, abs=2)

    def test_what_has_left_makes_room(self) -> None:
        full = window(a=SHORT)
        held = stayed(full, "a", 100)
        assert not full.admits("a", held)
        full.reset(["a", "a"])
        assert stayed(full, "a", 100, held=2) > 10

    def test_with_a_multiplier_everything_that_was_claimed_stays(self) -> None:
        assert stayed(Window(1, 4), "a", 4) == 4


class TestClaiming:
    def test_what_had_to_be_given_back_makes_the_next_claims_smaller_for_a_while(self) -> None:
        short = window(a=SHORT)
        before = short.room(0)
        short.overflowed(4)
        assert short.room(0) == 2
        for _ in range(8):
            short.fitted()
        assert short.room(0) == before

    def test_slots_that_are_busy_for_long_claim_nothing_ahead_until_a_run_has_ended(self) -> None:
        short = window(a=SHORT)
        before = short.room(0)
        short.clogged()
        assert (short.room(0), short.room(2)) == (2, 0)
        short.learn("a", SHORT)
        assert short.room(0) == pytest.approx(before, abs=1)

    def test_a_claim_is_worth_its_price_when_a_slot_is_free_or_half_is_gone(self) -> None:
        short = window(a=SHORT)
        held = short.room(0)
        assert not short.low(held)
        assert short.low(held // 2)
        assert short.low(1)
        assert not window(a=LONG).low(2)
