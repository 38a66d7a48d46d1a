"""retry.py: whether and when a failed run is tried again."""

import pytest

from celeriac.retry import RetryPolicy

TIMES = 200


def test_a_policy_covers_nothing_unless_told() -> None:
    assert not RetryPolicy().covers(ValueError())


def test_a_policy_covers_its_exceptions_and_their_children() -> None:
    policy = RetryPolicy(autoretry_for=(OSError, KeyError))
    assert policy.covers(ConnectionError())
    assert policy.covers(KeyError())
    assert not policy.covers(ValueError())


@pytest.mark.follows("TASK-32")
def test_exceptions_may_be_left_out() -> None:
    policy = RetryPolicy(autoretry_for=(Exception,), dont_autoretry_for=(LookupError,))
    assert policy.covers(ValueError())
    assert not policy.covers(KeyError())


def test_without_backoff_the_options_are_those_that_were_given() -> None:
    given = {"max_retries": 7, "countdown": 5}
    policy = RetryPolicy(retry_kwargs=given)
    options = policy.options(3)
    assert options == given
    options["countdown"] = 0
    assert policy.options(3) == given


@pytest.mark.follows("TASK-32")
def test_backoff_doubles_and_ends_at_its_maximum() -> None:
    policy = RetryPolicy(backoff=2.0, backoff_max=10.0, jitter=False)
    assert [policy.options(n)["countdown"] for n in range(5)] == [2.0, 4.0, 8.0, 10.0, 10.0]


def test_backoff_counts_more_than_a_given_countdown() -> None:
    policy = RetryPolicy(retry_kwargs={"countdown": 99}, backoff=1.0, jitter=False)
    assert policy.options(0) == {"countdown": 1.0}


@pytest.mark.follows("TASK-32")
@pytest.mark.parametrize("retries", [0, 3])
def test_jitter_draws_from_zero_up_to_the_delay(retries: int) -> None:
    policy = RetryPolicy(backoff=1.0)
    most = 2.0**retries
    drawn = [policy.options(retries)["countdown"] for _ in range(TIMES)]
    assert 0.0 <= min(drawn) < most * 0.2
    assert most * 0.8 < max(drawn) <= most
