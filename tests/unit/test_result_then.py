"""AsyncResult.then: callbacks when a result is there (RES-05)."""

import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from celeriac import AsyncResult, Celery
from celeriac.completion import Put
from celeriac.results.base import task_key
from celeriac.wire.result import exception_document
from tests.fixtures.coroutines import put, threads, watched
from tests.fixtures.runs import memory_app
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.follows("RES-05")


@pytest.fixture
def app() -> Iterator[Celery]:
    app = memory_app()
    yield app
    app.close()


def test_it_is_called_when_the_result_comes(app: Celery) -> None:
    got: list[Any] = []
    result = app.AsyncResult("one")
    assert result.then(got.append) is result
    put(app, "one", "STARTED")
    put(app, "one", "SUCCESS", 5)
    eventually(lambda: got)
    assert got == [result]
    assert got[0] is result
    assert result.result == 5
    eventually(lambda: not watched(app))


def test_it_is_called_for_what_is_there(app: Celery) -> None:
    put(app, "one", "SUCCESS", 5)
    got: list[Any] = []
    result = app.AsyncResult("one")
    result.then(got.append)
    eventually(lambda: got == [result])
    result.then(got.append)
    assert got == [result, result], "at once, now that it is known"


def test_a_failure_is_a_result_too(app: Celery) -> None:
    got: list[Any] = []
    wrong: list[Any] = []
    app.AsyncResult("one").then(got.append, on_error=wrong.append)
    put(app, "one", "FAILURE", exception_document(KeyError("k")))
    eventually(lambda: got)
    assert (got[0].state, wrong) == ("FAILURE", [])


def _note(got: list[int], number: int, result: AsyncResult[Any]) -> None:
    got.append(number)


def test_each_of_several_is_called_once(app: Celery) -> None:
    got: list[int] = []
    result = app.AsyncResult("one")
    for number in range(3):
        result.then(partial(_note, got, number))
    put(app, "one", "SUCCESS", 5)
    assert result.get(20) == 5
    eventually(lambda: len(got) == 3)
    assert got == [0, 1, 2]


def test_whoever_sees_it_first_calls(app: Celery) -> None:
    got: list[str] = []
    put(app, "one", "SUCCESS", 5)
    result = app.AsyncResult("one")
    result._callbacks.append((lambda _: got.append(threading.current_thread().name), None))
    assert result.ready()
    assert got == [threading.current_thread().name]


def test_what_it_raises_goes_to_on_error(app: Celery) -> None:
    wrong: list[Any] = []

    def broken(result: AsyncResult[Any]) -> None:
        raise ValueError("in the callback")

    app.AsyncResult("one").then(broken, on_error=wrong.append)
    put(app, "one", "SUCCESS")
    eventually(lambda: wrong)
    assert [str(error) for error in wrong] == ["in the callback"]


def test_or_into_the_log(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    def broken(result: AsyncResult[Any]) -> None:
        raise ValueError("in the callback")

    got: list[Any] = []
    app.AsyncResult("one").then(broken).then(got.append)
    put(app, "one", "SUCCESS")
    eventually(lambda: got)
    assert "in the callback" in caplog.text
    assert caplog.records[0].levelno == logging.ERROR
    assert threads() == ["celeriac-listener"], "and the thread goes on"


def test_a_document_that_cannot_be_read_is_an_error(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    wrong: list[Any] = []
    app.AsyncResult("one").then(wrong.append, on_error=wrong.append)
    app.AsyncResult("one").then(wrong.append)
    assert app.store is not None
    app.store.put([Put(task_key("one"), b"no json", None, "SUCCESS")])
    eventually(lambda: "cannot tell when the result one is there" in caplog.text)
    assert ["cannot read" in str(error) for error in wrong] == [True]


@pytest.mark.follows("RES-26")
def test_a_result_is_kept_while_somebody_is_to_be_called(app: Celery) -> None:
    got: list[int] = []
    app.AsyncResult("one").then(lambda result: got.append(result.get()))
    gc.collect()
    put(app, "one", "SUCCESS", 5)
    eventually(lambda: got == [5])


@pytest.mark.follows("RES-26")
def test_a_weak_one_is_freed_with_the_result(app: Celery) -> None:
    got: list[Any] = []
    kept = app.AsyncResult("kept")
    dropped = app.AsyncResult("dropped")
    kept.then(got.append, weak=True)
    dropped.then(got.append, weak=True)
    eventually(lambda: len(watched(app)) == 2)
    gone = weakref.ref(dropped)
    del dropped
    gc.collect()
    assert gone() is None
    put(app, "kept", "SUCCESS", 5)
    eventually(lambda: got == [kept])
    # What was dropped is tidied up by the next one who comes.
    app.AsyncResult("next").then(got.append)
    eventually(lambda: watched(app) == {task_key("next")})
    put(app, "dropped", "SUCCESS", 5)
    put(app, "next", "SUCCESS", 5)
    eventually(lambda: len(got) == 2)
