"""execution.py: what handlers, signals and logs are told of a run, and what their errors change."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celery, Task, mourning, signals
from celeriac.context import current
from celeriac.exceptions import (
    Ignore,
    Reject,
    Retry,
    TaskPredicate,
    TimeLimitExceeded,
)
from celeriac.outcome import Ending
from celeriac.wire.result import exception_document
from tests.fixtures.diary import Diary, diary_of_signals, noting
from tests.fixtures.runs import (
    HOST,
    HandPort,
    claim,
    document,
    headers,
    job,
    memory_app,
    run_sent,
)

TOLD = ("task_prerun", "task_postrun", "task_success", "task_retry", "task_failure")


@pytest.fixture
def app() -> Celery:
    return memory_app("proj")


@pytest.fixture
def diary() -> Iterator[Diary]:
    with diary_of_signals(*TOLD) as diary:
        yield diary


# -- handlers and signals


def check_common(diary: Diary, task: Task[Any, Any], state: str) -> Any:
    """Check what is told about every run; return the ``retval`` that was told."""
    before = diary.of("task_prerun")
    assert before.keys() == {"signal", "sender", "task_id", "task", "args", "kwargs"}
    assert before["sender"] is before["task"] is task
    assert (before["task_id"], before["args"], before["kwargs"]) == ("mine", [1], {"y": 2})
    assert diary.of("before_start") == ("mine", [1], {"y": 2})
    after = diary.of("task_postrun")
    common = {"task_id", "task", "args", "kwargs"}
    assert after.keys() == {"signal", "sender", *common, "retval", "state"}
    assert {name: after[name] for name in common} == {name: before[name] for name in common}
    assert after["sender"] is task
    assert after["state"] == state
    return after["retval"]


def told(app: Celery, diary: Diary, function: Any, **options: Any) -> Task[Any, Any]:
    task = app.task(name="told", base=noting(diary), **options)(function)
    run_sent(app, lambda: task.apply_async((1,), {"y": 2}, task_id="mine"))
    return task


@pytest.mark.follows("TASK-35")
def test_what_is_told_of_a_success(app: Celery, diary: Diary) -> None:
    task = told(app, diary, lambda x, y: x + y)
    assert diary.names == [
        *("task_prerun", "before_start", "on_success", "task_success", "after_return"),
        "task_postrun",
    ]
    assert check_common(diary, task, "SUCCESS") == 3
    assert diary.of("on_success") == (3, "mine", [1], {"y": 2})
    assert diary.of("after_return") == ("SUCCESS", 3, "mine", [1], {"y": 2}, None)
    success = diary.of("task_success")
    assert success.keys() == {"signal", "sender", "result", "runtime"}
    assert (success["sender"], success["result"]) == (task, 3)
    assert success["runtime"] >= 0


@pytest.mark.follows("TASK-35")
def test_what_is_told_of_a_failure(app: Celery, diary: Diary) -> None:
    error = KeyError("k")

    def fail(x: int, y: int) -> None:
        raise error

    task = told(app, diary, fail)
    assert diary.names == [
        *("task_prerun", "before_start", "on_failure", "task_failure", "after_return"),
        "task_postrun",
    ]
    assert check_common(diary, task, "FAILURE") is error
    exception, *call, einfo = diary.of("on_failure")
    assert (exception, call) == (error, ["mine", [1], {"y": 2}])
    assert (einfo.exception, einfo.type) == (error, KeyError)
    assert str(einfo) == einfo.traceback
    assert einfo.traceback.endswith("KeyError: 'k'\n")
    assert diary.of("after_return") == ("FAILURE", error, "mine", [1], {"y": 2}, einfo)
    failure = diary.of("task_failure")
    assert failure.keys() == {
        *("signal", "sender", "task_id", "exception", "args", "kwargs", "traceback", "einfo")
    }
    assert (failure["sender"], failure["task_id"], failure["exception"]) == (task, "mine", error)
    assert (failure["args"], failure["kwargs"], failure["einfo"]) == ([1], {"y": 2}, einfo)
    assert failure["traceback"].tb_frame.f_code is fail.__code__


@pytest.mark.follows("TASK-35")
def test_what_is_told_of_a_retry(app: Celery, diary: Diary) -> None:
    error = KeyError("k")

    def again(self: Any, x: int, y: int) -> None:
        self.retry(exc=error, countdown=3)

    task = told(app, diary, again, bind=True)
    assert diary.names == [
        *("task_prerun", "before_start", "on_retry", "task_retry", "task_postrun")
    ]
    retry = check_common(diary, task, "RETRY")
    assert isinstance(retry, Retry)
    exception, *call, einfo = diary.of("on_retry")
    assert (exception, call) == (error, ["mine", [1], {"y": 2}])
    said = diary.of("task_retry")
    assert said.keys() == {"signal", "sender", "request", "reason", "einfo"}
    assert (said["sender"], said["reason"], said["einfo"]) == (task, retry, einfo)
    assert said["request"].id == "mine"


@pytest.mark.follows("TASK-34")
@pytest.mark.parametrize(
    ("steering", "names", "state"),
    [
        (Ignore(), [], "IGNORED"),
        (Reject("no", requeue=True), [], "REJECTED"),
        (Reject("no", requeue=False), ["task_failure"], "FAILURE"),
    ],
)
def test_what_is_told_of_the_other_endings(
    steering: TaskPredicate, names: list[str], state: str, app: Celery, diary: Diary
) -> None:
    def steer(x: int, y: int) -> None:
        raise steering

    task = told(app, diary, steer)
    assert diary.names == ["task_prerun", "before_start", *names, "task_postrun"]
    assert check_common(diary, task, state) is steering


def test_handlers_and_receivers_run_within_the_run(app: Celery) -> None:
    seen: list[Any] = []

    class Looking(Task[Any, Any]):
        def on_success(self, *_: Any) -> None:
            seen.append(self.request.id)
            leaf.delay()

    def receiver(sender: Any, **_: Any) -> None:
        seen.append(sender.request.id)

    leaf = app.task(name="leaf")(lambda: None)
    look = app.task(name="look", base=Looking)(lambda: None)
    signals.task_postrun.connect(receiver)
    try:
        run_sent(app, lambda: look.apply_async(task_id="mine"))
    finally:
        signals.task_postrun.disconnect(receiver)
    assert seen == ["mine", "mine"]
    assert headers(claim(app)[0])["parent_id"] == "mine"


@pytest.mark.follows("TASK-35")
@pytest.mark.parametrize(
    ("handler", "ending"),
    [
        ("before_start", Ending.FAILED),
        ("on_success", Ending.SUCCEEDED),
        ("after_return", Ending.SUCCEEDED),
    ],
)
def test_an_error_in_a_handler_counts_before_the_function_only(
    handler: str, ending: Ending, app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Any, *_: Any) -> None:
        raise ZeroDivisionError

    base = type("Broken", (Task,), {handler: broken})
    with caplog.at_level(logging.ERROR, "celeriac.execution"):
        outcome = run_sent(app, app.task(name="x", base=base)(lambda: 5).delay)
    assert outcome.ending is ending
    if ending is Ending.SUCCEEDED:
        assert document(outcome).result == 5
        assert f"handler {handler} of task x failed" in caplog.text


@pytest.mark.parametrize("handler", ["on_failure", "on_retry", "after_return"])
def test_an_error_in_a_handler_hides_no_failure(handler: str, app: Celery) -> None:
    def broken(self: Any, *_: Any) -> None:
        raise ZeroDivisionError

    def fail(self: Any) -> None:
        if handler == "on_retry":
            self.retry(countdown=0)
        raise KeyError("k")

    base = type("Broken", (Task,), {handler: broken})
    outcome = run_sent(app, app.task(name="x", base=base, bind=True)(fail).delay)
    if handler == "on_retry":
        assert (outcome.ending, len(outcome.publishes)) == (Ending.RETRIED, 1)
    else:
        assert document(outcome).result["exc_type"] == "KeyError"


@pytest.mark.follows("SIG-02")
@pytest.mark.parametrize("name", ["task_prerun", "task_success", "task_postrun"])
def test_an_error_in_a_receiver_changes_nothing(
    name: str, app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(**_: Any) -> None:
        raise ZeroDivisionError

    signals.CATALOGUE[name].connect(broken)
    try:
        with caplog.at_level(logging.ERROR, "celeriac.signals"):
            outcome = run_sent(app, app.task(name="x")(lambda: 5).delay)
    finally:
        signals.CATALOGUE[name].disconnect(broken)
    assert document(outcome).result == 5
    assert f"of signal {name} failed" in caplog.text


# -- what a worker logs


@pytest.mark.follows("TASK-21", "TASK-41", "LOG-08")
@pytest.mark.parametrize(
    ("x", "level", "text"),
    [
        (1, "INFO", r"Task shown[mine] succeeded in {}s: 'fine'"),
        (0, "ERROR", "Task shown[mine] raised unexpected: ZeroDivisionError('division by zero')"),
        (-1, "INFO", "Task shown[mine] raised expected: KeyError('k')"),
        (-2, "INFO", "Task shown[mine] retry: Retry in 9s: ValueError('v')"),
        (-3, "INFO", "Task shown[mine] ignored"),
        (-4, "WARNING", "Task shown[mine] reject requeue=False: no"),
    ],
)
def test_log_lines_are_celerys(
    x: int, level: str, text: str, app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(name="x", bind=True, throws=(KeyError,))
    def go(self: Any) -> str:
        match x:
            case 0:
                return str(1 / x)
            case -1:
                raise KeyError("k")
            case -2:
                self.retry(exc=ValueError("v"), countdown=9)
            case -3:
                raise Ignore
            case -4:
                raise Reject("no")
        return "fine"

    with caplog.at_level(logging.INFO, "celeriac.execution"):
        outcome = run_sent(app, lambda: go.apply_async(task_id="mine", shadow="shown"))
    (record,) = caplog.records
    assert record.levelname == level
    assert record.getMessage().startswith(text.format(outcome.runtime))
    assert (record.exc_info is not None) == (level in {"ERROR", "WARNING"})


# -- what failed outside of the task


def test_a_fault_of_our_own_is_a_failure_too(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    ping = app.task(name="ping")(lambda: None)
    told_of: list[dict[str, Any]] = []

    def receiver(**arguments: Any) -> None:
        told_of.append(arguments)

    signals.task_internal_error.connect(receiver)
    try:
        ping.apply_async(task_id="mine")
        error = RuntimeError("ours")
        outcome = mourning.broken(app, job(claim(app)[0]), HandPort(), error)
    finally:
        signals.task_internal_error.disconnect(receiver)
    assert (outcome.ending, outcome.state) == (Ending.FAILED, "FAILURE")
    found = document(outcome)
    assert (found.task_id, found.result) == ("mine", exception_document(error))
    assert "Task ping[mine] INTERNAL ERROR: RuntimeError('ours')" in caplog.text
    (said,) = told_of
    assert said["exception"] is error
    assert said["sender"] is ping
    assert (said["request"].id, said["args"], said["kwargs"]) == ("mine", [], {})
    assert said.keys() == {
        *("signal", "sender", "task_id", "args", "kwargs", "request", "exception"),
        *("traceback", "einfo"),
    }


def test_a_killed_run_is_mourned_by_its_handlers(app: Celery, diary: Diary) -> None:
    task = app.task(name="killed", base=noting(diary))(lambda x, y: None)
    task.apply_async((1,), {"y": 2}, task_id="mine")
    (delivery,) = claim(app)
    error = TimeLimitExceeded(5)
    mourning.mourn(app, delivery.message, "task killed[mine] was lost", error, HOST)
    assert diary.names == ["on_failure", "task_failure", "after_return"]
    exception, *call, einfo = diary.of("on_failure")
    assert (exception, call) == (error, ["mine", [1], {"y": 2}])
    assert str(einfo) == "task killed[mine] was lost"
    assert diary.of("task_failure")["traceback"] == "task killed[mine] was lost"
    assert diary.of("after_return")[:2] == ("FAILURE", error)
    assert current.get() is None


@pytest.mark.follows("TASK-24")
def test_the_log_shows_as_much_of_a_result_as_the_task_says(
    app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    long = app.task(name="long", resultrepr_maxsize=20)(lambda: "x" * 100)
    with caplog.at_level("INFO"):
        run_sent(app, long.delay)
    (line,) = [one for one in caplog.messages if "succeeded" in one]
    assert line.endswith("s: 'xxxxxxxxxxxxxxxx...")
