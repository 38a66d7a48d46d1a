"""eager.py: a task taken through all its steps here and now."""

import logging
from typing import Any

import pytest

from celeriac import Celery, Task, signals, states
from celeriac.exceptions import (
    AlwaysEagerIgnored,
    EncodeError,
    Ignore,
    MaxRetriesExceededError,
    Reject,
    Retry,
)
from celeriac.result import EagerResult
from tests.fixtures.runs import claim, memory_app


@pytest.fixture
def app() -> Celery:
    return memory_app()


@pytest.fixture
def always() -> Celery:
    return memory_app(task_always_eager=True)


def add_to(app: Celery) -> Task[..., int]:
    return app.task(name="sums.add")(lambda x, y=0: x + y)


# -- apply


@pytest.mark.follows("CALL-16", "RES-14")
def test_apply_runs_a_task_here(app: Celery) -> None:
    result = add_to(app).apply((1,), {"y": 2}, task_id="mine")
    assert isinstance(result, EagerResult)
    assert (result.id, result.state, result.get()) == ("mine", "SUCCESS", 3)
    assert claim(app) == []
    assert app.AsyncResult("mine").state == states.PENDING, "nothing is stored"


@pytest.mark.follows("CALL-16", "TASK-25")
def test_the_request_of_an_eager_run_is_that_of_a_run(app: Celery) -> None:
    seen: list[Any] = []

    @app.task(bind=True, time_limit=5, name="look")
    def look(self: Any, x: int) -> None:
        seen.append(self.request)

    look.apply((1,), headers={"a": 1}, queue="work", retries=2, priority=3)
    (request,) = seen
    assert (request.is_eager, request.called_directly, request.retries) == (True, False, 2)
    assert (request.args, request.kwargs, request.headers) == ((1,), {}, {"a": 1})
    assert request.delivery_info == {
        "is_eager": True, "exchange": None, "routing_key": "work", "priority": 3,
    }  # fmt: skip
    assert (request.time_limit, request.root_id, request.parent_id) == (5, request.id, None)


@pytest.mark.follows("CALL-16", "CALL-11")
def test_an_eager_run_inside_another_is_its_child(app: Celery) -> None:
    seen: list[Any] = []

    @app.task(bind=True, name="inner")
    def inner(self: Any) -> None:
        seen.append((self.request.root_id, self.request.parent_id))

    @app.task(name="outer")
    def outer() -> None:
        inner.apply()

    outer.apply(task_id="out")
    assert seen == [("out", "out")]


@pytest.mark.follows("CALL-15", "CALL-16")
def test_a_failure_is_told_or_raised(app: Celery) -> None:
    @app.task
    def fail() -> None:
        raise ValueError("no")

    result = fail.apply()
    assert (result.state, repr(result.result)) == ("FAILURE", "ValueError('no')")
    assert result.traceback is not None and "ValueError: no" in result.traceback
    with pytest.raises(ValueError, match="no"):
        result.get()
    with pytest.raises(ValueError, match="no") as caught:
        fail.apply(throw=True)
    assert caught.traceback[-1].name == "fail"
    assert caught.traceback[-1].locals == {}
    app.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="no"):
        fail.apply()
    assert fail.apply(throw=False).failed()


def test_who_looks_into_a_failure_finds_the_variables(app: Celery) -> None:
    """In a worker frames are cleared; a debugger in the caller wants to see them."""

    @app.task
    def fail(x: int) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no") as caught:
        fail.apply((5,), throw=True)
    assert caught.traceback[-1].locals == {"x": 5}


@pytest.mark.follows("CALL-16", "TASK-27", "TASK-28", "QUIRK-28")
def test_retries_follow_at_once(app: Celery) -> None:
    seen: list[Any] = []

    @app.task(bind=True, max_retries=2)
    def flaky(self: Any, x: int) -> int:
        seen.append((x, self.request.retries, self.request.id))
        if x < 5:
            raise self.retry(args=(x + 2,), countdown=3600)
        return x

    assert flaky.apply((1,), task_id="mine").get() == 5
    assert seen == [(1, 0, "mine"), (3, 1, "mine"), (5, 2, "mine")]
    assert isinstance(flaky.apply((-5,)).result, MaxRetriesExceededError)
    with pytest.raises(MaxRetriesExceededError):
        flaky.apply((-5,), throw=True)


@pytest.mark.follows("TASK-32", "CALL-16")
def test_retries_that_the_policy_asks_for_follow_too(app: Celery) -> None:
    runs: list[int] = []

    @app.task(autoretry_for=(KeyError,), max_retries=3, retry_backoff=True)
    def flaky() -> str:
        runs.append(1)
        if len(runs) < 3:
            raise KeyError("not yet")
        return "done"

    assert flaky.apply().get() == "done"
    assert len(runs) == 3


@pytest.mark.follows("TASK-33", "TASK-34", "CALL-16")
@pytest.mark.parametrize(
    ("steer", "state"),
    [(Ignore(), "IGNORED"), (Reject("no", requeue=True), "REJECTED"), (Reject("no"), "FAILURE")],
)
def test_steering_is_a_state(app: Celery, steer: Exception, state: str) -> None:
    @app.task
    def steered() -> None:
        raise steer

    assert steered.apply(throw=True).state == state


@pytest.mark.follows("CALL-15", "CALL-16")
@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)])
def test_what_ends_a_program_does_so(always: Celery, error: BaseException) -> None:
    @always.task
    def stop() -> None:
        raise error

    for run in (stop.delay, stop.apply):
        with pytest.raises(type(error)) as caught:
            run()
        assert caught.value is error


@pytest.mark.follows("TASK-35", "CALL-16")
def test_handlers_and_signals_are_called_and_may_fail(app: Celery) -> None:
    heard: list[str] = []

    class Loud(Task[Any, Any]):
        def before_start(self, *_: Any) -> None:
            heard.append("before_start")

        def on_success(self, *_: Any) -> None:
            heard.append("on_success")
            raise KeyError("handler")

    def prerun(**_: Any) -> None:
        heard.append("prerun")

    add = app.task(base=Loud)(lambda x: x)
    signals.task_prerun.connect(prerun)
    try:
        with pytest.raises(KeyError, match="handler"):
            add.apply((1,))
    finally:
        signals.task_prerun.disconnect(prerun)
    assert heard == ["prerun", "before_start", "on_success"]


@pytest.mark.follows("CALL-09", "CALL-10", "CALL-16")
def test_links_of_an_eager_run(
    app: Celery, always: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    add_to(app).apply((1,), link=app.signature("sums.add", (10,)))
    (sent,) = claim(app)
    assert sent.message.body.startswith(b"[[1, 10], {}")

    seen: list[Any] = []
    note: Any = always.task(name="note")(seen.append)
    told: Any = always.task(name="told")(lambda request, exc, text: seen.append(repr(exc)))
    bad: Any = always.task(name="bad")(lambda a, b, c: 1 / 0)
    add_to(always).delay(1).get()
    add_to(always).apply_async((1,), link=note.s())

    @always.task
    def fail() -> None:
        raise ValueError("no")

    with caplog.at_level(logging.ERROR):
        fail.apply_async(link_error=[bad.s(), note.s(), told.s()], task_id="mine")
    assert seen == [1, "mine", "ValueError('no')"]
    assert "errback bad of task" in caplog.text


# -- always


@pytest.mark.follows("CALL-15", "TESTH-07")
def test_always_eager_runs_in_place_of_sending(always: Celery) -> None:
    add = add_to(always)
    assert isinstance(add.delay(1, 2), EagerResult)
    assert add.apply_async((1,), {"y": 2}).get() == 3
    assert [result.get() for result in add.delay_many([(1,), {"x": 4}])] == [1, 4]
    assert add.s(5).delay(y=1).get() == 6
    assert claim(always) == []


@pytest.mark.follows("CALL-15")
def test_arguments_are_as_they_would_arrive(always: Celery) -> None:
    same = always.task(name="same")(lambda x: x)
    assert same.delay((1, 2)).get() == [1, 2]
    with pytest.raises(EncodeError, match=r"args\[0\]"):
        same.delay(object())
    assert same.apply(((1, 2),)).get() == (1, 2)


@pytest.mark.follows("CALL-15")
def test_what_a_task_raises_may_reach_the_caller(always: Celery) -> None:
    @always.task
    def fail() -> None:
        raise ValueError("no")

    assert fail.delay().failed()
    always.conf.task_eager_propagates = True
    with pytest.raises(ValueError, match="no"):
        fail.delay()


@pytest.mark.follows("APP-20", "CALL-15")
def test_sending_by_name_sends_all_the_same(always: Celery) -> None:
    with pytest.warns(AlwaysEagerIgnored, match="no effect on send_task"):
        always.send_task("far.away")
    assert len(claim(always)) == 1


@pytest.mark.follows("TASK-22", "CALL-15")
def test_options_and_arguments_are_checked(always: Celery) -> None:
    add = add_to(always)
    with pytest.raises(TypeError, match="missing"):
        add.delay()
    with pytest.raises(ValueError, match="soft_time_limit"):
        add.apply_async((1,), time_limit=1, soft_time_limit=2)


@pytest.mark.follows("TASK-41")
def test_a_shadow_name_is_shown(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    def shadow(self: Any, args: Any, kwargs: Any, options: Any) -> str:
        return f"add {args[0]}"

    add: Any = app.task(name="add", shadow_name=shadow)(lambda x: x)
    add.delay(7)
    (sent,) = claim(app)
    assert b'"shadow": "add 7"' in sent.message.headers.replace(b'":"', b'": "')
    add.apply_async((7,), shadow="mine")
    (sent,) = claim(app)
    assert b"mine" in sent.message.headers


# -- the store


@pytest.mark.follows("CALL-17")
def test_results_may_be_kept(app: Celery) -> None:
    add = add_to(app)
    app.conf.task_store_eager_result = True
    add.apply((1,), task_id="kept")
    assert app.AsyncResult("kept").get() == 1
    add.apply((1,), task_id="ignored", ignore_result=True)
    assert app.AsyncResult("ignored").state == states.PENDING

    @app.task(bind=True, store_eager_result=True, track_started=True)
    def busy(self: Any) -> list[str]:
        began = app.AsyncResult(self.request.id).state
        self.update_state(state="HALF", meta={"done": 1})
        return [began, app.AsyncResult(self.request.id).state]

    assert busy.apply(task_id="busy").get() == ["STARTED", "HALF"]
    assert app.AsyncResult("busy").get() == ["STARTED", "HALF"]


@pytest.mark.follows("CALL-17", "SER-07")
def test_only_what_is_kept_must_be_writable(app: Celery) -> None:
    what = app.task(name="what")(lambda: {1})
    assert what.apply().get() == {1}
    app.conf.task_store_eager_result = True
    assert isinstance(what.apply().result, EncodeError)


@pytest.mark.follows("TASK-29")
def test_a_direct_call_is_no_eager_run(app: Celery) -> None:
    @app.task(bind=True)
    def flaky(self: Any) -> None:
        raise self.retry()

    with pytest.raises(Retry):
        flaky()
