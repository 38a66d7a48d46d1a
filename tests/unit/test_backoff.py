"""backoff.py: growing and random delays."""

from itertools import pairwise

import pytest

from celeriac.backoff import exponential, full_jitter, spread

TIMES = 200


def test_a_delay_doubles_up_to_the_maximum() -> None:
    delays = [exponential(attempt, factor=0.5, maximum=5.0) for attempt in range(6)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_defaults_are_one_second_and_ten_minutes() -> None:
    assert [exponential(attempt) for attempt in (0, 1, 9, 10)] == [1.0, 2.0, 512.0, 600.0]


@pytest.mark.parametrize("attempt", [61, 1024, 10**9])
def test_no_number_of_attempts_overflows(attempt: int) -> None:
    assert exponential(attempt) == 600.0
    assert exponential(attempt, factor=1e-300) < 600.0


def test_an_attempt_below_zero_is_the_first() -> None:
    assert exponential(-3) == exponential(0)


def test_full_jitter_draws_from_the_whole_range() -> None:
    drawn = sorted(full_jitter(10.0) for _ in range(TIMES))
    assert 0.0 <= drawn[0] < 2.0
    assert 8.0 < drawn[-1] <= 10.0
    assert max(b - a for a, b in pairwise(drawn)) < 2.0


def test_spread_stays_within_a_quarter() -> None:
    drawn = [spread(4.0) for _ in range(TIMES)]
    assert 3.0 <= min(drawn) < 3.4
    assert 4.6 < max(drawn) <= 5.0


def test_no_delay_stays_no_delay() -> None:
    assert (full_jitter(0.0), spread(0.0), exponential(3, factor=0.0)) == (0.0, 0.0, 0.0)
