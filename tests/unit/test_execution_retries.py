"""execution.py: runs that end with another run, asked for or by policy."""

from time import time
from typing import Any

import pytest

from celeriac import Celery
from celeriac.exceptions import (
    Ignore,
    MaxRetriesExceededError,
    Reject,
    TaskPredicate,
)
from celeriac.outcome import Ending
from celeriac.wire.result import exception_document
from tests.fixtures.runs import (
    body,
    document,
    headers,
    memory_app,
    run,
    run_sent,
)


@pytest.fixture
def app() -> Celery:
    return memory_app("proj")


# -- retry


@pytest.mark.follows("TASK-27", "QUIRK-06")
def test_a_retry_brings_its_next_run(app: Celery) -> None:
    @app.task(name="flaky", bind=True)
    def flaky(self: Any, x: int) -> None:
        try:
            raise ValueError(x)
        except ValueError as error:
            raise self.retry(exc=error, countdown=60) from error

    outcome = run_sent(app, lambda: flaky.apply_async((7,), task_id="mine", priority=3))
    assert (outcome.ending, outcome.state) == (Ending.RETRIED, "RETRY")
    assert outcome.reason == "Retry in 60s: ValueError(7)"
    (publish,) = outcome.publishes
    assert (publish.message.id, publish.message.priority, publish.queue) == ("mine", 3, "celery")
    assert body(publish)[0] == [7]
    assert publish.due == pytest.approx(time() + 60, abs=5)
    assert headers(publish)["retries"] == 1
    found = document(outcome)
    assert found.result == exception_document(ValueError(7))
    assert found.children == [[["mine", None], None]], "as Celery stores it (QUIRK-06)"
    assert found.date_done is None
    assert found.traceback is not None
    assert "ValueError: 7" in found.traceback


def test_a_retry_without_a_cause_has_none(app: Celery) -> None:
    flaky = app.task(name="flaky", bind=True)(lambda self: self.retry(countdown=0))
    outcome = run_sent(app, flaky.delay)
    assert outcome.ending is Ending.RETRIED
    assert document(outcome).result is None


@pytest.mark.follows("TASK-28")
def test_the_next_run_counts_and_the_last_one_fails(app: Celery) -> None:
    flaky = app.task(name="flaky", bind=True, max_retries=2)(lambda self: self.retry(countdown=0))
    outcome = run_sent(app, flaky.delay)
    counted = []
    while outcome.ending is Ending.RETRIED:
        (publish,) = outcome.publishes
        counted.append(headers(publish)["retries"])
        outcome = run(app, publish)
    assert counted == [1, 2]
    assert outcome.ending is Ending.FAILED
    assert document(outcome).result["exc_type"] == MaxRetriesExceededError.__name__
    assert outcome.publishes == ()


def test_a_retry_that_is_not_raised_goes_out_with_the_result(app: Celery) -> None:
    def go_on(self: Any) -> str:
        self.retry(throw=False, countdown=0)
        return "done"

    outcome = run_sent(app, app.task(name="flaky", bind=True)(go_on).delay)
    assert (outcome.ending, document(outcome).result) == (Ending.SUCCEEDED, "done")
    assert len(outcome.publishes) == 1


# -- autoretry


@pytest.mark.follows("TASK-32")
def test_a_listed_exception_is_retried_without_asking(app: Celery) -> None:
    @app.task(name="flaky", autoretry_for=(OSError,), default_retry_delay=30, max_retries=1)
    def flaky() -> None:
        raise ConnectionError("away")

    outcome = run_sent(app, flaky.delay)
    assert outcome.ending is Ending.RETRIED
    (publish,) = outcome.publishes
    assert publish.due == pytest.approx(time() + 30, abs=5)
    outcome = run(app, publish)
    assert outcome.ending is Ending.FAILED
    found = document(outcome)
    assert found.result == exception_document(ConnectionError("away")), "not MaxRetriesExceeded"
    assert found.traceback is not None
    assert "in flaky" in found.traceback


@pytest.mark.follows("TASK-32")
def test_other_exceptions_are_failures(app: Celery) -> None:
    options: Any = {"autoretry_for": [Exception], "dont_autoretry_for": [KeyError]}

    @app.task(name="flaky", **options)
    def flaky() -> None:
        raise KeyError("k")

    assert run_sent(app, flaky.delay).ending is Ending.FAILED


@pytest.mark.follows("TASK-32")
def test_backoff_doubles_from_run_to_run(app: Celery) -> None:
    options: Any = {"retry_backoff": 10, "retry_jitter": False, "retry_backoff_max": 35}

    @app.task(name="flaky", autoretry_for=(OSError,), max_retries=None, **options)
    def flaky() -> None:
        raise OSError

    outcome = run_sent(app, flaky.delay)
    delays = []
    for _ in range(4):
        (publish,) = outcome.publishes
        assert publish.due is not None
        delays.append(round(publish.due - time()))
        outcome = run(app, publish)
    assert delays == [10, 20, 35, 35]


@pytest.mark.follows("TASK-32")
def test_retry_kwargs_are_passed_on(app: Celery) -> None:
    options: Any = {"retry_kwargs": {"max_retries": 1, "countdown": 5, "queue": "slow"}}

    @app.task(name="flaky", autoretry_for=(OSError,), **options)
    def flaky() -> None:
        raise OSError

    (publish,) = run_sent(app, flaky.delay).publishes
    assert publish.queue == "slow"
    assert publish.due == pytest.approx(time() + 5, abs=3)
    assert run(app, publish).ending is Ending.FAILED


@pytest.mark.parametrize("steering", [Ignore(), Reject("no")])
def test_what_steers_a_run_is_no_failure_to_be_retried(
    steering: TaskPredicate, app: Celery
) -> None:
    @app.task(name="flaky", autoretry_for=(Exception,))
    def flaky() -> None:
        raise steering

    assert run_sent(app, flaky.delay).publishes == ()
