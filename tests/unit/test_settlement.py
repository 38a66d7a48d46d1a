"""The settlement table as a value: every ending, both columns, every option, the limit."""

from typing import Any

import pytest

from celeriac.completion import Settlement
from celeriac.outcome import Ending
from celeriac.worker.settlement import Decision, settle
from tests.fixtures.deliveries import options

ACK, REQUEUE, RETURN, LOSS, DEAD = (
    Settlement.ACK,
    Settlement.REQUEUE,
    Settlement.RETURN,
    Settlement.LOSS,
    Settlement.DEAD,
)
NOTHING = Decision(None)
LIMIT = 3

TABLE: dict[Ending, tuple[Decision, Decision]] = {
    Ending.SUCCEEDED: (NOTHING, Decision(ACK)),
    Ending.FAILED: (NOTHING, Decision(ACK)),
    Ending.RETRIED: (NOTHING, Decision(ACK)),
    Ending.IGNORED: (NOTHING, Decision(ACK)),
    Ending.REJECTED: (NOTHING, Decision(DEAD)),
    Ending.RETURNED: (NOTHING, Decision(RETURN)),
    Ending.TIMED_OUT: (Decision(None, fails=True), Decision(ACK, fails=True)),
    Ending.LOST: (Decision(None, fails=True), Decision(LOSS)),
    Ending.STOPPED: (NOTHING, Decision(REQUEUE)),
    Ending.EXPIRED: (Decision(ACK), Decision(ACK)),
    Ending.REVOKED: (Decision(ACK), Decision(ACK)),
    Ending.UNDECODABLE: (Decision(DEAD), Decision(DEAD)),
}


@pytest.mark.parametrize("ending", Ending)
def test_every_ending_under_either_policy(ending: Ending) -> None:
    early, late = TABLE[ending]
    assert settle(ending, options(acks_late=False), 0, LIMIT) == early
    assert settle(ending, options(acks_late=True), 0, LIMIT) == late


@pytest.mark.parametrize(
    ("changes", "ending", "decision"),
    [
        ({"acks_on_failure": False}, Ending.FAILED, Decision(DEAD)),
        ({"acks_on_timeout": False}, Ending.TIMED_OUT, Decision(LOSS)),
        ({"reject_on_worker_lost": False}, Ending.LOST, Decision(ACK, fails=True)),
    ],
    ids=str,
)
def test_options_change_one_ending_of_the_late_column_each(
    changes: dict[str, Any], ending: Ending, decision: Decision
) -> None:
    for other, (_, late) in TABLE.items():
        expected = decision if other is ending else late
        assert settle(other, options(**changes), 0, LIMIT) == expected


@pytest.mark.parametrize("ending", Ending)
def test_options_change_nothing_of_the_early_column(ending: Ending) -> None:
    task = options(
        acks_late=False, acks_on_failure=False, acks_on_timeout=False, reject_on_worker_lost=False
    )
    assert settle(ending, task, 0, LIMIT) == TABLE[ending][0]


@pytest.mark.parametrize(
    ("losses", "limit", "decision"),
    [
        (0, 3, Decision(LOSS)),
        (1, 3, Decision(LOSS)),
        (2, 3, Decision(DEAD, fails=True)),
        (5, 3, Decision(DEAD, fails=True)),
        (0, 1, Decision(DEAD, fails=True)),
    ],
)
def test_counted_losses_end_at_the_delivery_limit(
    losses: int, limit: int, decision: Decision
) -> None:
    assert settle(Ending.LOST, options(), losses, limit) == decision
    assert settle(Ending.TIMED_OUT, options(acks_on_timeout=False), losses, limit) == decision


@pytest.mark.parametrize("ending", [e for e in Ending if e not in (Ending.LOST, Ending.TIMED_OUT)])
def test_endings_that_count_nothing_know_no_limit(ending: Ending) -> None:
    assert settle(ending, options(), 100, LIMIT) == TABLE[ending][1]


@pytest.mark.parametrize("ending", [Ending.EXPIRED, Ending.REVOKED, Ending.UNDECODABLE])
def test_a_message_without_a_known_task_is_settled_all_the_same(ending: Ending) -> None:
    assert settle(ending, None, 0, LIMIT) == TABLE[ending][1]


@pytest.mark.follows("TASK-17")
@pytest.mark.parametrize(
    ("changes", "retries", "decision"),
    [
        ({}, 0, Decision(ACK, retries=True)),
        ({}, 2, Decision(ACK, retries=True)),
        ({}, 3, Decision(ACK, fails=True)),
        ({"max_retries": None}, 99, Decision(ACK, retries=True)),
        ({"reject_on_worker_lost": False}, 0, Decision(ACK, retries=True)),
        ({"acks_late": False}, 0, Decision(None, retries=True)),
        ({"acks_late": False}, 3, Decision(None, fails=True)),
    ],
    ids=str,
)
def test_a_run_that_died_may_be_retried_in_place_of_being_run_again(
    changes: dict[str, Any], retries: int, decision: Decision
) -> None:
    task = options(retry_on_worker_lost=True, **changes)
    assert settle(Ending.LOST, task, 0, LIMIT, retries) == decision
    assert settle(Ending.SUCCEEDED, task, 0, LIMIT, retries).retries is False
    assert settle(Ending.TIMED_OUT, task, 0, LIMIT, retries).retries is False
