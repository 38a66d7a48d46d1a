"""listener.py: one watch for all who wait; who leads; what is left behind, which is nothing."""

import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from celeriac import AsyncResult, Celery
from celeriac.exceptions import OperationalError, TimeoutError
from celeriac.listener import Listener, Subscription
from celeriac.results.base import task_key
from celeriac.results.memory import MemoryStore
from tests.fixtures.coroutines import put, threads, watched
from tests.fixtures.runs import memory_app
from tests.fixtures.waiting import eventually

MANY = 10_000


@pytest.fixture
def app() -> Iterator[Celery]:
    app = memory_app()
    yield app
    app.close()


@pytest.fixture(params=["memory", "sqlite"])
def any_app(request: pytest.FixtureRequest, home: Path) -> Iterator[Celery]:
    backend = {"memory": "memory://", "sqlite": f"sqlite:///{home}/results.db"}[request.param]
    app = Celery("proj", broker="memory://", backend=backend)
    yield app
    app.close()


def memory(app: Celery) -> MemoryStore:
    assert isinstance(app.store, MemoryStore)
    return app.store


def in_threads(calls: list[Callable[[], object]]) -> list[threading.Thread]:
    started = [threading.Thread(target=call) for call in calls]
    for thread in started:
        thread.start()
    return started


def wait_for(app: Celery, id_: str, into: list[Any]) -> None:
    into.append(app.AsyncResult(id_).get(20))


def is_watched(app: Celery, id_: str) -> Callable[[], bool]:
    return lambda: task_key(id_) in watched(app)


def parties(app: Celery) -> list[Any]:
    """Return everything that a listener remembers of those who wait."""
    at = app.backend.listener
    return [at._waits, at._subscribers, at._sleepers, at._watched, at._left, watched(app)]


NOBODY: list[Any] = [{}, {}, {}, set(), set(), set()]


# -- many results (RES-26)


@pytest.mark.follows("RES-26")
def test_many_results_one_after_the_other_leave_nothing_behind(app: Celery) -> None:
    """Each is waited for in earnest: it is stored when its wait has begun."""
    asked = threading.Semaphore(0)

    def answer() -> None:
        for number in range(MANY):
            asked.acquire()
            eventually(is_watched(app, str(number)))
            put(app, str(number), "SUCCESS", number)

    (thread,) = in_threads([answer])
    before = threading.active_count()
    for number in range(MANY):
        asked.release()
        assert app.AsyncResult(str(number)).get(timeout=20) == number
    thread.join(20)
    assert parties(app) == NOBODY
    assert len(memory(app)._watches) == 1
    assert threading.active_count() == before - 1
    assert threads() == [], "who waits in a thread needs no other one"


@pytest.mark.follows("RES-26")
def test_many_results_in_many_threads_leave_nothing_behind(any_app: Celery) -> None:
    each, many = 25, 40
    got: list[int] = []

    def wait(first: int) -> None:
        for number in range(first, first + each):
            got.append(any_app.AsyncResult(str(number)).get(timeout=60))

    waits = in_threads([partial(wait, n * each) for n in range(many)])
    for number in range(each * many):
        put(any_app, str(number), "SUCCESS", number)
    for thread in waits:
        thread.join(60)
    assert sorted(got) == list(range(each * many))
    assert parties(any_app) == NOBODY
    assert threads() == []


@pytest.mark.follows("RES-26")
def test_descriptors_do_not_grow(home: Path) -> None:
    app = Celery("proj", broker="memory://", backend=f"sqlite:///{home}/results.db")

    def ask(number: int, timeout: float = 0.001) -> None:
        with pytest.raises(TimeoutError):
            app.AsyncResult(str(number)).get(timeout)

    ask(0, timeout=0.1)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(300):
        ask(number)
    assert len(os.listdir("/proc/self/fd")) == before
    assert parties(app) == NOBODY
    rows = app.store.database.read("SELECT count(*) FROM watch_bell")  # type: ignore[union-attr]
    assert rows[0][0] <= 100, "bells are taken down in batches"
    app.close()
    assert len(os.listdir("/proc/self/fd")) < before


@pytest.mark.follows("RES-26")
def test_a_wait_that_ended_keeps_no_result_alive(app: Celery) -> None:
    result: AsyncResult[Any] = app.AsyncResult("one")
    with pytest.raises(TimeoutError):
        result.get(timeout=0.01)
    gone = weakref.ref(result)
    del result
    gc.collect()
    assert gone() is None


# -- who leads


def test_all_threads_share_one_watch(app: Celery) -> None:
    got: list[int] = []
    waits = in_threads([partial(wait_for, app, str(n), got) for n in range(20)])
    eventually(lambda: len(watched(app)) == 20)
    assert len(memory(app)._watches) == 1
    for n in reversed(range(20)):
        put(app, str(n), "SUCCESS", n)
        eventually(partial(got.__contains__, n))
    for thread in waits:
        thread.join(20)


def test_the_lead_passes_on_when_the_leader_is_served(any_app: Celery) -> None:
    got: list[str] = []

    def wait(id_: str) -> None:
        any_app.AsyncResult(id_).get(20)
        got.append(id_)

    first = in_threads([lambda: wait("first")])
    eventually(lambda: any_app.backend.listener._leader)
    rest = in_threads([partial(wait, str(n)) for n in range(5)])
    eventually(lambda: len(watched(any_app)) == 6)
    for id_ in ("first", *"01234"):
        put(any_app, id_, "SUCCESS")
        eventually(partial(got.__contains__, id_))
    for thread in first + rest:
        thread.join(20)


def test_the_lead_passes_on_when_the_time_of_the_leader_is_up(any_app: Celery) -> None:
    late: list[bool] = []
    got: list[int] = []

    def hurry() -> None:
        with pytest.raises(TimeoutError):
            any_app.AsyncResult("never").get(0.1)
        late.append(True)

    waits = in_threads([hurry])
    eventually(lambda: any_app.backend.listener._leader)
    waits += in_threads([lambda: got.append(any_app.AsyncResult("one").get(20))])
    eventually(lambda: late)
    put(any_app, "one", "SUCCESS", 5)
    eventually(lambda: got == [5])
    for thread in waits:
        thread.join(20)


def test_who_is_busy_in_between_does_not_keep_the_lead(app: Celery) -> None:
    """``on_interval`` of one wait may itself need the result of another."""
    got: list[int] = []
    busy = threading.Event()

    def interval() -> None:
        busy.set()
        eventually(lambda: got == [1])

    def wait() -> None:
        app.AsyncResult("two").get(20, on_interval=interval, interval=0.3)

    waits = in_threads([wait])
    eventually(lambda: app.backend.listener._leader)
    waits += in_threads([partial(wait_for, app, "one", got)])
    eventually(is_watched(app, "one"))
    assert busy.wait(20)
    put(app, "one", "SUCCESS", 1)
    eventually(lambda: got)
    put(app, "two", "SUCCESS", 2)
    for thread in waits:
        thread.join(20)
        assert not thread.is_alive()


def test_whoever_is_called_to_lead_and_has_no_time_calls_the_next(app: Celery) -> None:
    listener = app.backend.listener
    got: list[Any] = []
    with listener._lock:
        assert listener._take_lead()
    with listener.wait([task_key("hurried")]) as hurried:
        (thread,) = in_threads([partial(wait_for, app, "one", got)])
        eventually(lambda: len(listener._sleepers) == 2)
        put(app, "one", "SUCCESS", 1)
        # As if its time had passed in the moment in which the lead was handed to it.
        listener._leader = None
        assert hurried.next(timeout=0) == []
        eventually(lambda: got == [1])
    thread.join(20)


def test_a_leading_thread_leaves_subscribers_to_the_listener(app: Celery) -> None:
    listener = app.backend.listener
    got: list[Any] = []
    with listener._lock:
        assert listener._take_lead()
    with listener.wait([task_key("one")]):
        listener.subscribe(Subscription(task_key("two"), got.extend, "token", once=True))
        listener._round(0)
        listener._hand_over()
        eventually(lambda: got)
    assert [(token, type(answer)) for token, answer in got] == [("token", TimeoutError)]


def test_a_subscriber_is_heard_after_a_wait_that_came_to_nothing(app: Celery) -> None:
    """The thread sleeps; what a wait has left behind must not keep it from being woken."""
    got: list[Any] = []
    app.AsyncResult("first").then(got.append)
    put(app, "first", "SUCCESS")
    eventually(lambda: parties(app) == NOBODY)
    listener = app.backend.listener
    with listener.wait([task_key("nothing")]):
        pass
    app.AsyncResult("second").then(got.append)
    put(app, "second", "SUCCESS")
    eventually(lambda: len(got) == 2)


def test_each_outage_has_as_many_attempts(app: Celery) -> None:
    tried: list[int] = []

    def pause(failures: int) -> float | None:
        tried.append(failures)
        return 0.001 if failures < 2 else None

    memory(app).sleep()
    listener = Listener(memory(app), lambda data: True, pause)
    for _ in range(2):
        with listener.wait(["key"]) as wait, pytest.raises(OperationalError):
            wait.next(20)
    assert tried == [0, 1, 2] * 2
    listener.close()


@pytest.mark.follows("RES-05")
def test_threads_and_callbacks_are_served_side_by_side(any_app: Celery) -> None:
    got: list[Any] = []
    in_thread: list[str] = []
    waits = in_threads([lambda: got.append(any_app.AsyncResult("one").get(20))])
    eventually(lambda: any_app.backend.listener._leader)

    def called(result: AsyncResult[Any]) -> None:
        got.append(result.result)
        in_thread.append(threading.current_thread().name)

    any_app.AsyncResult("two").then(called)
    put(any_app, "two", "SUCCESS", 2)
    eventually(lambda: got == [2])
    put(any_app, "one", "SUCCESS", 1)
    eventually(lambda: got == [2, 1])
    waits[0].join(20)
    assert in_thread == ["celeriac-listener"]
    eventually(lambda: parties(any_app) == NOBODY)


class Interrupted(BaseException):
    """Stands for what a signal raises between any two steps."""


@pytest.mark.parametrize("step", ["_take_lead", "_round_or_pause", "_next_bell", "_tidy", "enter"])
def test_a_wait_that_is_interrupted_anywhere_keeps_no_lead(
    app: Celery, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    listener = app.backend.listener
    real = getattr(listener, step)

    def interrupted(*arguments: Any) -> Any:
        monkeypatch.setattr(listener, step, real)
        real(*arguments)
        raise Interrupted

    monkeypatch.setattr(listener, step, interrupted)
    with pytest.raises(Interrupted):
        app.AsyncResult("one").get(timeout=0.05)
    monkeypatch.undo()
    assert listener._leader is None
    assert parties(app) == NOBODY
    got: list[Any] = []
    (thread,) = in_threads([partial(wait_for, app, "two", got)])
    eventually(is_watched(app, "two"))
    put(app, "two", "SUCCESS", 2)
    thread.join(20)
    assert got == [2]


# -- the end, and a store that is away


def test_close_ends_every_wait(app: Celery) -> None:
    caught: list[BaseException] = []

    def wait(id_: str) -> None:
        try:
            app.AsyncResult(id_).get(20)
        except OperationalError as error:
            caught.append(error)

    waits = in_threads([partial(wait, str(n)) for n in range(5)])
    eventually(lambda: len(watched(app)) == 5)
    store = memory(app)
    app.close()
    for thread in waits:
        thread.join(20)
    assert ["the app was closed before this came" in str(error) for error in caught] == [True] * 5
    assert store._watches == set()
    assert app.AsyncResult("0").state == "PENDING", "it opens again"


@pytest.mark.follows("RES-22")
def test_a_wait_outlives_an_outage(app: Celery) -> None:
    app.conf.update(
        result_backend_always_retry=True, result_backend_max_sleep_between_retries_ms=20
    )
    store = memory(app)
    got: list[int] = []
    waits = in_threads([partial(wait_for, app, str(n), got) for n in range(3)])
    eventually(lambda: len(watched(app)) == 3)
    store.sleep()
    eventually(lambda: app.backend.listener._failures >= 2)
    store.wake_up()
    for n in range(3):
        put(app, str(n), "SUCCESS", n)
    for thread in waits:
        thread.join(20)
    assert sorted(got) == [0, 1, 2]


@pytest.mark.follows("RES-22")
def test_but_not_more_attempts_than_were_allowed(app: Celery) -> None:
    app.conf.update(
        result_backend_always_retry=True,
        result_backend_max_retries=3,
        result_backend_max_sleep_between_retries_ms=5,
    )
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            app.AsyncResult("one").get(20)
        except OperationalError as error:
            caught.append(error)

    for _ in range(2):  # the next one has as many
        memory(app).wake_up()
        (thread,) = in_threads([wait])
        eventually(lambda: watched(app))
        memory(app).sleep()
        thread.join(20)
    assert len(caught) == 2


def test_an_outage_ends_with_the_time_of_the_wait(app: Celery) -> None:
    app.conf.update(result_backend_always_retry=True)
    memory(app).sleep()
    before = monotonic()
    with pytest.raises(OperationalError):
        app.AsyncResult("one").get(timeout=0.05)
    assert monotonic() - before < 10


@pytest.mark.follows("RES-05")
def test_a_callback_outlives_any_outage(app: Celery) -> None:
    got: list[int] = []
    app.AsyncResult("one").then(lambda result: got.append(result.get()))
    eventually(lambda: watched(app))
    memory(app).sleep()
    eventually(lambda: app.backend.listener._failures >= 1)
    memory(app).wake_up()
    put(app, "one", "SUCCESS", 1)
    eventually(lambda: got == [1])
