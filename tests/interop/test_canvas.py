"""Chains, groups and chords of Celery's, sent to queues where Celeriac works, too.

Celeriac follows chains of single tasks. What it cannot follow it leaves to Celery's workers, and loses
nothing of it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.fleet import BROKERS, OURS, RABBIT, REDIS, Fleet, fleet, rabbit
from tests.fixtures.waiting import eventually

only_on_redis = pytest.mark.parametrize("both", [REDIS], indirect=True)


@pytest.fixture(params=BROKERS)
def both(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Fleet]:
    server = rabbit(request, request.param)
    with fleet(tmp_path, rabbit=server, task_default_queue=OURS) as both:
        yield both


def step(name: str, *args: Any) -> dict[str, Any]:
    """Return the signature of a task."""
    return {
        "task": f"interop.{name}",
        "args": list(args),
        "kwargs": {},
        "options": {"queue": OURS},
        "subtask_type": None,
        "immutable": False,
    }


def canvas(kind: str, **kwargs: Any) -> dict[str, Any]:
    """Return the signature of a chain, a group or a chord."""
    return {
        "task": f"celery.{kind}",
        "args": [],
        "kwargs": kwargs,
        "options": {},
        "subtask_type": kind,
        "immutable": False,
    }


def id_of(result: Any) -> str:
    """Return the id of the last step, from the tuple of a result."""
    return str(result[0][0])


@pytest.mark.follows("CANVAS-04")
def test_a_chain_of_single_tasks_is_followed(both: Fleet) -> None:
    both.celeriac.worker("-Q", OURS).wait_ready()
    steps = [step("add", 1, 2), step("mul", 10), step("add", 5)]
    result = both.celery.producer.apply_signature(canvas("chain", tasks=steps))
    assert both.celery.producer.get(id_of(result)) == 35
    eventually(lambda: both.empty(OURS))


@only_on_redis
def test_a_group_is_run(both: Fleet) -> None:
    both.celeriac.worker("-Q", OURS).wait_ready()
    members = [step("add", number, 1) for number in range(5)]
    result = both.celery.producer.apply_signature(canvas("group", tasks=members))
    ids = [member[0][0] for member in result[1]]
    assert [both.celery.producer.get(id_) for id_ in ids] == [1, 2, 3, 4, 5]


def test_a_chord_is_left_to_celery(both: Fleet) -> None:
    ours = both.celeriac.worker("-Q", OURS)
    ours.wait_ready()
    header = [step("add", number, 1) for number in range(4)]
    result = both.celery.producer.apply_signature(
        canvas("chord", header=canvas("group", tasks=header), body=step("total"))
    )
    ours.wait_for("cannot be followed here .it is a member of a chord.")
    both.celery.worker("-Q", OURS, "-c", "2").wait_ready()
    if both.broker == RABBIT:
        # There each comes to it at every other time, and in the end after minutes.
        ours.terminate()
    assert both.celery.producer.get(id_of(result), timeout=60.0) == 10
    eventually(lambda: both.empty(OURS))


@only_on_redis
def test_a_chain_that_goes_on_with_a_group_is_left_to_celery(both: Fleet) -> None:
    ours = both.celeriac.worker("-Q", OURS)
    ours.wait_ready()
    group = canvas("group", tasks=[step("add", 1), step("add", 2)])
    result = both.celery.producer.apply_signature(
        canvas("chain", tasks=[step("add", 1, 1), step("mul", 3), group])
    )
    ours.wait_for("cannot be followed here .a group is among its chain.")
    both.celery.worker("-Q", OURS, "-c", "2").wait_ready()
    ids = [member[0][0] for member in result[1]]
    assert [both.celery.producer.get(id_, timeout=60.0) for id_ in ids] == [7, 8]
