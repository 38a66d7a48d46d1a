"""abortable.py: tasks that are asked to end (RES-25)."""

from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celery
from celeriac.abortable import ABORTED, AbortableAsyncResult, AbortableTask
from celeriac.context import Context, current
from celeriac.states import READY_STATES
from tests.fixtures.runs import memory_app, work

pytestmark = pytest.mark.follows("RES-25")


@pytest.fixture
def app() -> Iterator[Celery]:
    app = memory_app()
    yield app
    app.close()


def test_calls_give_results_that_can_be_aborted(app: Celery) -> None:
    task = app.task(name="long", bind=True, base=AbortableTask)(lambda self: 1)
    results = [task.delay(), task.apply_async(), *task.delay_many([(), ()]), task.AsyncResult("x")]
    assert [type(result) for result in results] == [AbortableAsyncResult] * 5


def test_a_task_sees_that_it_was_aborted(app: Celery) -> None:
    @app.task(name="long", bind=True, base=AbortableTask)
    def long(self: Any) -> list[bool]:
        before = self.is_aborted()
        self.AsyncResult(self.request.id).abort()
        inside = self.is_aborted()  # what a run says of itself is stored with its outcome
        app.backend.store.put(current.get().port.puts)  # type: ignore[union-attr]
        return [before, inside, self.is_aborted(), self.is_aborted(task_id="another")]

    result = long.delay()
    work(app)
    assert result.get(20) == [False, False, True, False]


def test_to_abort_is_to_ask(app: Celery) -> None:
    @app.task(name="long", bind=True, base=AbortableTask)
    def long(self: Any) -> str:
        return "stopped" if self.is_aborted() else "done"

    result = long.delay()
    assert not result.is_aborted()  # type: ignore[attr-defined]
    result.abort()  # type: ignore[attr-defined]
    assert result.is_aborted()  # type: ignore[attr-defined]
    assert (result.state, result.result, result.ready()) == (ABORTED, None, False)
    work(app)
    assert result.get(20) == "stopped", "the task has the last word"
    result.abort()  # type: ignore[attr-defined]
    assert app.AsyncResult(result.id).state == "SUCCESS"
    assert ABORTED not in READY_STATES


def test_in_a_direct_call_nobody_can_ask(app: Celery) -> None:
    task = app.task(name="long", bind=True, base=AbortableTask)(lambda self: self.is_aborted())
    assert task() is False


def test_an_ordinary_result_tells_the_state(app: Celery) -> None:
    AbortableAsyncResult[Any]("one", app=app).abort()
    assert app.AsyncResult("one").state == ABORTED
    token = current.set(Context(task="t", id="one", called_directly=False))
    try:
        assert app.AsyncResult("one").state == ABORTED
    finally:
        current.reset(token)
