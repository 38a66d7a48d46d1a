"""AsyncResult.get with all that Celery's has: callbacks, parents, waiting inside tasks."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

import pytest

from celeriac import AsyncResult, Celery
from celeriac.context import Context, current
from celeriac.exceptions import TimeoutError
from celeriac.joining import allow_join_result, assert_will_not_block, denied_join_result
from celeriac.results.base import task_key
from celeriac.wire.result import exception_document
from tests.fixtures.coroutines import put, watched
from tests.fixtures.runs import memory_app
from tests.fixtures.waiting import InAMoment, eventually


@pytest.fixture
def app() -> Iterator[Celery]:
    app = memory_app()
    yield app
    app.close()


def later(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def is_watched(app: Celery, id_: str) -> Callable[[], bool]:
    return lambda: task_key(id_) in watched(app)


def _is_longer(seen: list[Any], number: int) -> bool:
    return len(seen) > number


# -- what is called (RES-02)


@pytest.mark.follows("RES-02")
def test_a_callback_is_given_id_and_value(app: Celery) -> None:
    put(app, "one", "SUCCESS", 5)
    told: list[Any] = []
    assert app.AsyncResult("one").get(callback=lambda *a: told.append(a)) == 5
    assert told == [("one", 5)]


@pytest.mark.follows("RES-02")
def test_a_callback_is_not_called_for_what_is_raised(app: Celery) -> None:
    put(app, "one", "FAILURE", exception_document(KeyError("k")))
    told: list[Any] = []
    with pytest.raises(KeyError):
        app.AsyncResult("one").get(callback=lambda *a: told.append(a))
    assert told == []
    error = app.AsyncResult("one").get(propagate=False, callback=lambda *a: told.append(a))
    assert [type(told[0][1]), type(error)] == [KeyError, KeyError]


@pytest.mark.follows("RES-02")
def test_each_state_that_is_seen_is_told(app: Celery) -> None:
    seen: list[dict[str, Any]] = []

    def play() -> None:
        for number, state in enumerate(["STARTED", "PROGRESS", "SUCCESS"]):
            put(app, "one", state, number)
            eventually(partial(_is_longer, seen, number))

    moment = InAMoment(play)
    assert app.AsyncResult("one").get(20, on_message=seen.append) == 2
    moment.ago()
    assert [meta["status"] for meta in seen] == ["STARTED", "PROGRESS", "SUCCESS"]
    assert seen[1] == {
        "status": "PROGRESS", "result": 1, "traceback": None, "children": [], "date_done": None,
        "task_id": "one",
    }  # fmt: skip


@pytest.mark.follows("RES-02")
def test_a_failure_is_told_as_its_exception(app: Celery) -> None:
    seen: list[dict[str, Any]] = []
    moment = InAMoment(
        lambda: put(app, "one", "FAILURE", exception_document(KeyError("k"))),
    )
    app.AsyncResult("one").get(20, propagate=False, on_message=seen.append)
    moment.ago()
    assert all(isinstance(meta["result"], KeyError) for meta in seen)


@pytest.mark.follows("RES-02")
def test_an_interval_is_told_while_nothing_comes(app: Celery) -> None:
    ticks: list[float] = []

    def tick() -> None:
        ticks.append(monotonic())
        if len(ticks) == 3:
            put(app, "one", "SUCCESS", 5)

    began = monotonic()
    assert app.AsyncResult("one").get(20, interval=0.05, on_interval=tick) == 5
    assert len(ticks) == 3
    assert [tick - began >= 0.05 * (n + 1) for n, tick in enumerate(ticks)] == [True] * 3


@pytest.mark.follows("RES-02")
def test_what_is_called_may_end_the_wait(app: Celery) -> None:
    def stop(*_: Any) -> None:
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError):
        app.AsyncResult("one").get(20, interval=0.01, on_interval=stop)
    assert watched(app) == set()


@pytest.mark.follows("RES-02")
def test_every_argument_of_celery_is_taken(app: Celery) -> None:
    put(app, "one", "SUCCESS", 5)
    more: Any = {"EXCEPTION_STATES": {"FAILURE"}, "PROPAGATE_STATES": {"FAILURE"}}
    assert app.AsyncResult("one").get(1, True, 0.5, True, True, None, None, None, True) == 5
    assert app.AsyncResult("one").wait(timeout=1, no_ack=False, **more) == 5


@pytest.mark.follows("RES-23")
def test_a_timeout_of_zero_is_one_look(app: Celery) -> None:
    ticks: list[int] = []
    with pytest.raises(TimeoutError):
        app.AsyncResult("one").get(timeout=0, on_interval=lambda: ticks.append(1))
    assert not app.backend._listeners, "nobody waited"
    put(app, "one", "SUCCESS", 5)
    assert app.AsyncResult("one").get(timeout=0) == 5


@pytest.mark.follows("RES-17")
def test_an_ignored_result_is_none_at_once(app: Celery) -> None:
    result = app.task(name="quiet", ignore_result=True)(lambda: 1).delay()
    assert result.ignored
    assert result.get() is None
    token = current.set(Context(task="outer", id="run", called_directly=False))
    try:
        assert result.get() is None, "inside of tasks too"
    finally:
        current.reset(token)
    loud = app.task(name="loud")(lambda: 1).delay()
    assert not loud.ignored
    loud.ignored = True
    assert loud.get() is None
    assert not app.AsyncResult("one").ignored


# -- raising what is known


@pytest.mark.follows("RES-05")
def test_maybe_throw_waits_for_nothing(app: Celery) -> None:
    result = app.AsyncResult("one")
    assert result.maybe_throw() is None
    put(app, "one", "PROGRESS", 50)
    assert result.maybe_throw() == 50
    put(app, "one", "FAILURE", exception_document(KeyError("k")))
    with pytest.raises(KeyError):
        result.maybe_throw()
    told: list[Any] = []
    error = result.maybe_reraise(propagate=False, callback=lambda *a: told.append(a))
    assert isinstance(error, KeyError)
    assert told == [("one", error)]


@pytest.mark.follows("RES-05")
def test_throw_throws(app: Celery) -> None:
    with pytest.raises(LookupError, match="mine"):
        app.AsyncResult("one").throw(LookupError("mine"))
    try:
        raise ValueError("elsewhere")
    except ValueError as error:
        frames = error.__traceback__
    with pytest.raises(LookupError) as caught:
        app.AsyncResult("one").throw(LookupError("mine"), frames)
    assert caught.traceback[-1].name == "test_throw_throws"


# -- parents (RES-03)


def chained(app: Celery, *ids: str) -> AsyncResult[Any]:
    """Return the result of the last of some steps."""
    result: AsyncResult[Any] | None = None
    for id_ in ids:
        result = AsyncResult(id_, app=app, parent=result)
    assert result is not None
    return result


@pytest.mark.follows("RES-03")
def test_the_error_of_an_earlier_step_is_raised(app: Celery) -> None:
    put(app, "a", "FAILURE", exception_document(KeyError("a")))
    put(app, "b", "FAILURE", exception_document(ValueError("b")))
    last = chained(app, "a", "b", "c")
    with pytest.raises(KeyError, match="a"):
        last.get(20)
    with pytest.raises(KeyError, match="a"):
        asyncio.run(last.aget(20))
    put(app, "c", "SUCCESS", 5)
    assert last.get(20, follow_parents=False) == 5
    assert asyncio.run(last.aget(20, follow_parents=False)) == 5
    with pytest.raises(KeyError, match="a"):
        last.get(20)
    assert last.get(20, propagate=False) == 5


@pytest.mark.follows("RES-03")
def test_also_if_it_comes_while_one_waits(app: Celery) -> None:
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            chained(app, "a", "b", "c").get(20)
        except KeyError as error:
            caught.append(error)

    thread = later(wait)
    eventually(lambda: len(watched(app)) == 3)
    put(app, "a", "SUCCESS", 1)
    put(app, "b", "FAILURE", exception_document(KeyError("b")))
    thread.join(20)
    assert [error.args for error in caught] == [("b",)]
    assert watched(app) == set()


@pytest.mark.follows("RES-03")
def test_steps_that_went_well_are_no_obstacle(app: Celery) -> None:
    got: list[int] = []
    thread = later(lambda: got.append(chained(app, "a", "b").get(20)))
    eventually(lambda: len(watched(app)) == 2)
    put(app, "a", "SUCCESS", 1)
    put(app, "b", "SUCCESS", 2)
    thread.join(20)
    assert got == [2]


# -- inside a task (TASK-45)


@pytest.fixture
def inside() -> Iterator[None]:
    token = current.set(Context(task="outer", id="run", called_directly=False))
    yield
    current.reset(token)


@pytest.mark.follows("TASK-45")
def test_a_task_may_wait_if_somebody_says_so(app: Celery, inside: None) -> None:
    put(app, "one", "SUCCESS", 5)
    result = app.AsyncResult("one")
    assert result.get(disable_sync_subtasks=False) == 5
    assert asyncio.run(result.aget(disable_sync_subtasks=False)) == 5
    with allow_join_result():
        assert result.get() == 5
        assert asyncio.run(result.aget()) == 5
        with denied_join_result(), pytest.raises(RuntimeError):
            result.get()
        assert_will_not_block()
    with pytest.raises(RuntimeError, match=r"with allow_join_result\(\)"):
        result.get()
    with pytest.raises(RuntimeError):
        assert_will_not_block()


@pytest.mark.follows("TASK-45")
def test_waiting_may_be_denied_outside_of_tasks_too(app: Celery) -> None:
    put(app, "one", "SUCCESS", 5)
    with denied_join_result():
        with pytest.raises(RuntimeError, match="waits for the result of another task"):
            app.AsyncResult("one").get()
        with allow_join_result():
            assert app.AsyncResult("one").get() == 5
    assert app.AsyncResult("one").get() == 5
