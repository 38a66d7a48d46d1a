"""result.py: what a caller reads of a task, and how it waits."""

import asyncio
import builtins
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from celeriac import AsyncResult, Celery, remote_traceback
from celeriac.completion import Put
from celeriac.context import Context, current
from celeriac.exceptions import (
    DecodeError,
    Ignore,
    ImproperlyConfigured,
    OperationalError,
    RemoteTraceback,
    SecurityError,
    TaskError,
    TaskRevokedError,
    TimeoutError,
)
from celeriac.results.base import task_key
from celeriac.results.memory import MemoryStore
from celeriac.wire.result import ResultDocument, encode, exception_document
from tests.fixtures.runs import HOST, memory_app, work
from tests.fixtures.waiting import eventually


class ShopError(Exception):
    """An exception of the user's own, with more than a text."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code, reason)
        self.code = code


@pytest.fixture
def app() -> Celery:
    return memory_app()


@pytest.fixture(params=["memory", "sqlite"])
def any_app(request: pytest.FixtureRequest, home: Path) -> Iterator[Celery]:
    backend = {"memory": "memory://", "sqlite": f"sqlite:///{home}/results.db"}[request.param]
    app = Celery("proj", broker="memory://", backend=backend)
    yield app
    app.close()


def store(app: Celery, id_: str, status: str, result: Any = None, **more: Any) -> None:
    assert app.store is not None
    document = encode(ResultDocument(status=status, task_id=id_, result=result, **more), True)
    app.store.put([Put(task_key(id_), document, None, status)])


def failure(app: Celery, id_: str, error: BaseException, status: str = "FAILURE") -> None:
    store(app, id_, status, exception_document(error), traceback="Traceback ...\nOops\n")


# -- what is there


@pytest.mark.follows("RES-01", "QUIRK-29")
def test_nothing_is_known_of_an_unknown_id(app: Celery) -> None:
    result = app.AsyncResult("nowhere")
    assert (result.state, result.status) == ("PENDING", "PENDING")
    assert (result.result, result.info, result.traceback) == (None, None, None)
    assert (result.date_done, result.name, result.args, result.retries) == (None,) * 4
    assert not result.ready()
    assert not result.successful()
    assert not result.failed()


@pytest.mark.follows("RES-04")
def test_a_success_is_read_from_the_store(app: Celery) -> None:
    @app.task(name="sums.add")
    def add(x: int, y: int) -> int:
        return x + y

    result = add.delay(1, 2)
    work(app)
    assert (result.state, result.result, result.get()) == ("SUCCESS", 3, 3)
    assert result.ready()
    assert result.successful()
    assert not result.failed()
    assert (result.traceback, result.children) == (None, [])
    assert result.date_done is not None
    assert datetime.now(UTC) - result.date_done < timedelta(seconds=20)


@pytest.mark.follows("RES-04")
def test_what_a_task_was_called_with_is_stored_too(app: Celery) -> None:
    add = app.task(name="sums.add", bind=True)(lambda self, x, y: x + y)
    result = add.apply_async((1,), {"y": 2}, queue="urgent")
    work(app, "urgent")
    assert (result.name, result.args, result.kwargs) == ("sums.add", [1], {"y": 2})
    assert (result.worker, result.retries, result.queue) == (HOST, 0, "urgent")


@pytest.mark.follows("RES-04")
def test_or_not_if_the_settings_say_so() -> None:
    app = memory_app(result_extended=False)
    result = app.task(name="ping")(lambda: None).delay()
    work(app)
    assert result.successful()
    assert (result.name, result.args, result.worker, result.queue) == (None,) * 4


@pytest.mark.follows("RES-01")
def test_a_state_of_the_users_own_shows_its_meta(app: Celery) -> None:
    store(app, "one", "PROGRESS", {"done": 1})
    result = app.AsyncResult("one")
    assert (result.state, result.info) == ("PROGRESS", {"done": 1})
    assert not result.ready()
    store(app, "one", "PROGRESS", {"done": 2})
    assert result.info == {"done": 2}, "it is read anew"


def test_a_final_result_is_read_once(app: Celery) -> None:
    store(app, "one", "SUCCESS", 5)
    result = app.AsyncResult("one")
    assert result.result == 5
    assert isinstance(app.store, MemoryStore)
    app.store.sleep()
    assert (result.state, result.get()) == ("SUCCESS", 5)
    assert asyncio.run(result.aget()) == 5


@pytest.mark.follows("RES-06")
def test_what_is_forgotten_is_unknown(app: Celery) -> None:
    store(app, "one", "SUCCESS", 5)
    result = app.AsyncResult("one")
    assert result.get() == 5
    result.forget()
    assert result.state == "PENDING"
    assert app.AsyncResult("one").state == "PENDING"


def test_a_result_is_its_id(app: Celery) -> None:
    one = app.AsyncResult("one")
    assert one == app.AsyncResult("one")
    assert one != app.AsyncResult("two")
    assert one == "one"
    assert len({one, app.AsyncResult("one")}) == 1
    assert (str(one), repr(one)) == ("one", "<AsyncResult: one>")


# -- failures


@pytest.mark.follows("RES-02", "RES-15", "RES-16")
def test_a_failure_is_the_original_exception(app: Celery) -> None:
    @app.task(name="buy")
    def buy() -> None:
        raise ShopError(7, "sold out")

    result = buy.delay()
    work(app)
    assert result.failed()
    assert (result.state, result.ready(), result.successful()) == ("FAILURE", True, False)
    with pytest.raises(ShopError, match="sold out") as caught:
        result.get()
    assert (caught.value.args, caught.value.code) == ((7, "sold out"), 7)
    cause = caught.value.__cause__
    assert isinstance(cause, RemoteTraceback)
    assert "raised in the worker:\nTraceback (most recent call last)" in str(cause)
    assert 'raise ShopError(7, "sold out")' in str(cause)
    assert str(cause).count('File "') == 1, "no frames of ours"
    assert result.traceback is not None
    assert result.traceback in str(cause) + "\n"


@pytest.mark.follows("RES-02")
def test_a_failure_may_be_returned(app: Celery) -> None:
    failure(app, "one", ShopError(7, "sold out"))
    result = app.AsyncResult("one")
    for error in (result.get(propagate=False), result.result):
        assert isinstance(error, ShopError)
        assert error.code == 7


def test_a_failure_may_be_asked_for_again_and_again(app: Celery) -> None:
    failure(app, "one", KeyError("k"))
    result = app.AsyncResult("one")
    for _ in range(3):
        with pytest.raises(KeyError, match="k"):
            result.get()


@pytest.mark.follows("RES-16")
def test_a_class_that_is_not_loaded_is_made_up(app: Celery) -> None:
    store(app, "one", "FAILURE", {"exc_type": "Far", "exc_message": ["x"], "exc_module": "a.b"})
    with pytest.raises(Exception, match="x") as caught:
        app.AsyncResult("one").get()
    assert (type(caught.value).__module__, type(caught.value).__name__) == ("a.b", "Far")
    assert caught.value.__cause__ is None, "there was no traceback"


@pytest.mark.follows("RES-01")
def test_a_revoked_task_raises(app: Celery) -> None:
    failure(app, "one", TaskRevokedError("expired"), "REVOKED")
    with pytest.raises(TaskRevokedError, match="expired"):
        app.AsyncResult("one").get()


@pytest.mark.follows("RES-01")
def test_a_retry_is_no_failure_yet(app: Celery) -> None:
    failure(app, "one", KeyError("k"), "RETRY")
    result = app.AsyncResult("one")
    assert isinstance(result.result, KeyError)
    assert not result.ready()
    with pytest.raises(TimeoutError):
        result.get(timeout=0)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
def test_what_ended_a_task_does_not_end_its_caller(error: BaseException, app: Celery) -> None:
    failure(app, "one", error)
    with pytest.raises(TaskError, match=type(error).__name__) as caught:
        app.AsyncResult("one").get()
    assert isinstance(caught.value.__cause__, RemoteTraceback)


def test_a_failure_of_the_users_own_without_an_exception_is_told(app: Celery) -> None:
    store(app, "one", "FAILURE", {"reason": "none"})
    with pytest.raises(DecodeError, match="raise an exception instead"):
        app.AsyncResult("one").get()


@pytest.mark.follows("RES-15")
def test_frames_are_rebuilt_if_the_settings_say_so(app: Celery) -> None:
    app.conf.task_remote_tracebacks = True
    text = 'Traceback (most recent call last):\n  File "far.py", line 7, in away\nKeyError: 1\n'
    store(app, "one", "FAILURE", exception_document(KeyError(1)), traceback=text)
    with pytest.raises(KeyError) as caught:
        app.AsyncResult("one").get()
    assert (caught.traceback[-1].name, caught.traceback[-1].lineno) == ("away", 6)
    store(app, "odd", "FAILURE", exception_document(KeyError(1)), traceback="no traceback at all")
    with pytest.raises(KeyError):
        app.AsyncResult("odd").get()


@pytest.mark.follows("RES-15")
def test_without_tblib_the_text_remains(
    app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app.conf.task_remote_tracebacks = True
    monkeypatch.setattr(remote_traceback, "Traceback", None)
    remote_traceback._say_what_is_missing.cache_clear()
    failure(app, "one", KeyError("k"))
    for _ in range(2):
        with pytest.raises(KeyError) as caught:
            app.AsyncResult("one").get()
        assert isinstance(caught.value.__cause__, RemoteTraceback)
    assert caplog.text.count("install celeriac[tblib]") == 1


@pytest.mark.follows("RES-16")
def test_a_payload_that_names_no_exception_is_refused(app: Celery) -> None:
    store(app, "one", "FAILURE", {"exc_type": "system", "exc_message": ["x"], "exc_module": "os"})
    with pytest.raises(SecurityError, match=r"'os\.system' is no exception class"):
        app.AsyncResult("one").get()


# -- waiting


@pytest.mark.follows("RES-02")
def test_waiting_ends_with_the_result(any_app: Celery) -> None:
    result: AsyncResult[int] = any_app.AsyncResult("one")
    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(result.get(timeout=20)))
    thread.start()
    store(any_app, "one", "STARTED")
    store(any_app, "one", "PROGRESS", 50)
    assert got == []
    store(any_app, "one", "SUCCESS", 100)
    thread.join(20)
    assert got == [100]


def test_one_result_may_be_waited_for_by_many(any_app: Celery) -> None:
    result: AsyncResult[int] = any_app.AsyncResult("one")
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(result.get(20))) for _ in range(5)]
    for thread in threads:
        thread.start()
    store(any_app, "one", "SUCCESS", 5)
    for thread in threads:
        thread.join(20)
    assert got == [5] * 5


@pytest.mark.follows("RES-02")
def test_waiting_ends_with_its_time(any_app: Celery) -> None:
    store(any_app, "one", "STARTED")
    result = any_app.AsyncResult("one")
    before = monotonic()
    text = r"task one has no result after 0.05 s \(state STARTED\); is a worker running"
    with pytest.raises(TimeoutError, match=text) as caught:
        result.get(timeout=0.05)
    assert monotonic() - before >= 0.05
    assert isinstance(caught.value, builtins.TimeoutError)


@pytest.mark.follows("RES-23")
@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_is_one_look(timeout: float, any_app: Celery) -> None:
    result = any_app.AsyncResult("one")
    with pytest.raises(TimeoutError):
        result.get(timeout=timeout)
    store(any_app, "one", "SUCCESS", 5)
    assert result.get(timeout=timeout) == 5


def test_a_store_that_is_away_is_told(app: Celery) -> None:
    assert isinstance(app.store, MemoryStore)
    app.store.sleep()
    result = app.AsyncResult("one")
    with pytest.raises(OperationalError):
        _ = result.state
    with pytest.raises(OperationalError):
        result.get(timeout=1)


def test_a_store_that_goes_away_ends_the_wait(app: Celery) -> None:
    sleeper = app.store
    assert isinstance(sleeper, MemoryStore)
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            app.AsyncResult("one").get(timeout=20)
        except OperationalError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: sleeper._watches)
    sleeper.sleep()
    thread.join(20)
    assert len(caught) == 1


@pytest.mark.follows("RES-17")
def test_nobody_waits_for_what_is_ignored() -> None:
    app = Celery("x", broker="memory://", backend="disabled://")
    quiet = app.task(name="quiet", ignore_result=True)(lambda: None)
    result = quiet.delay()
    assert result.get() is None
    assert asyncio.run(result.aget()) is None


def test_disabled_results_are_told() -> None:
    result = Celery("x", broker="memory://", backend="disabled://").AsyncResult("one")
    text = "results are disabled .* set result_backend"
    for ask in (lambda: result.state, result.get, result.forget):
        with pytest.raises(ImproperlyConfigured, match=text):
            ask()
    with pytest.raises(ImproperlyConfigured, match=text):
        asyncio.run(result.aget())


# -- inside a task


@pytest.mark.follows("TASK-45")
def test_a_task_does_not_wait_for_another(app: Celery) -> None:
    store(app, "one", "SUCCESS", 5)
    result = app.AsyncResult("one")
    token = current.set(Context(task="outer", id="run", called_directly=False))
    try:
        with pytest.raises(RuntimeError, match="task outer waits for the result of another"):
            result.get()
        with pytest.raises(RuntimeError, match="task outer waits for the result of another"):
            asyncio.run(result.aget())
        assert result.state == "SUCCESS", "to look is allowed"
    finally:
        current.reset(token)
    assert result.get() == 5


@pytest.mark.follows("TASK-45")
def test_nor_does_a_task_that_it_calls_directly(app: Celery) -> None:
    store(app, "one", "SUCCESS", 5)
    inner = app.task(name="inner")(app.AsyncResult("one").get)
    token = current.set(Context(task="outer", id="run", called_directly=False))
    try:
        with pytest.raises(RuntimeError, match="task outer waits"):
            inner()
    finally:
        current.reset(token)


def test_a_task_that_is_called_directly_may_wait(app: Celery) -> None:
    store(app, "one", "SUCCESS", 5)
    inner = app.task(name="inner")(app.AsyncResult("one").get)
    assert inner() == 5


@pytest.mark.follows("TASK-33")
def test_an_ignored_task_leaves_no_result(app: Celery) -> None:
    @app.task(name="ignored")
    def ignored() -> None:
        raise Ignore

    result = ignored.delay()
    work(app)
    assert result.state == "PENDING"
