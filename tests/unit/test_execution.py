"""execution.py: one run, from a message to an outcome; every ending, handler and signal."""

import json
import logging
import os
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from time import time
from typing import Any

import pytest
from msgspec.structs import replace

from celeriac import Celery, Task, execution, signals
from celeriac.context import Context, current
from celeriac.exceptions import (
    EncodeError,
    Ignore,
    MaxRetriesExceededError,
    Reject,
    Retry,
    SoftTimeLimitExceeded,
    TaskPredicate,
    TimeLimitExceeded,
)
from celeriac.outcome import Ending
from celeriac.wire.result import exception_document
from tests.fixtures.runs import (
    HOST,
    HandPort,
    body,
    claim,
    document,
    headers,
    job,
    memory_app,
    run,
    run_sent,
)


@pytest.fixture
def app() -> Celery:
    return memory_app("proj")


TOLD = ("task_prerun", "task_postrun", "task_success", "task_retry", "task_failure")


class Diary:
    """What handlers and signals were told, in order."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Any]] = []

    def note(self, name: str, what: Any) -> None:
        self.entries.append((name, what))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.entries]

    def of(self, name: str) -> Any:
        (found,) = [what for entry, what in self.entries if entry == name]
        return found


@pytest.fixture
def diary() -> Iterator[Diary]:
    """Yield a diary in which the five signals of a run are noted."""
    diary = Diary()
    receivers = {}
    for name in TOLD:

        def receiver(name: str = name, **arguments: Any) -> None:
            diary.note(name, arguments)

        receivers[name] = receiver
        signals.CATALOGUE[name].connect(receiver)
    yield diary
    for name, receiver in receivers.items():
        signals.CATALOGUE[name].disconnect(receiver)


def noting(diary: Diary) -> type[Task[Any, Any]]:
    """Return a base class whose handlers note what they are told."""
    handlers = {}
    for name in ("before_start", "on_success", "on_failure", "on_retry", "after_return"):

        def handler(self: Any, *arguments: Any, name: str = name) -> None:
            diary.note(name, arguments)

        handlers[name] = handler
    return type("Noting", (Task,), handlers)


# -- what a task sees


def test_a_task_sees_its_request(app: Celery) -> None:
    seen: list[Any] = []

    @app.task(name="see", bind=True)
    def see(self: Any, *args: Any, **kwargs: Any) -> None:
        request = self.request
        assert current.get() is request
        seen.append(request)

    see.apply_async(
        (1,),
        {"y": 2},
        task_id="mine",
        headers={"trace": "abc"},
        queue="urgent",
        priority=7,
        time_limit=30,
        soft_time_limit=10,
        shadow="shown",
        reply_to="me",
        expires=60,
    )
    (delivery,) = claim(app, "urgent")
    execution.run(app, job(delivery, redelivered=True), HandPort())
    request: Context = seen[0]
    assert (request.id, request.task, request.args, request.kwargs) == (
        "mine",
        "see",
        [1],
        {"y": 2},
    )
    assert (request.root_id, request.parent_id, request.retries) == ("mine", None, 0)
    assert (request.time_limit, request.soft_time_limit) == (30, 10)
    assert (request.hostname, request.called_directly, request.is_eager) == (HOST, False, False)
    assert request.headers == {"trace": "abc"}
    assert request.get("trace") == "abc"
    assert request.delivery_info == {
        "exchange": "",
        "routing_key": "urgent",
        "priority": 7,
        "redelivered": True,
    }
    assert (request.reply_to, request.correlation_id, request.shadow) == ("me", "mine", "shown")
    assert request.expires is not None
    assert (request.callbacks, request.errbacks, request.chain, request.chord) == (None,) * 4
    assert request.ignore_result is False
    assert current.get() is None, "it is over"


def test_the_worker_decides_where_the_caller_left_it_open(app: Celery) -> None:
    app.task(name="quiet", ignore_result=True)(lambda: 1)
    sender = memory_app("that does not know the task")
    sender.send_task("quiet")
    sender.send_task("quiet", ignore_result=False)
    open_, decided = claim(sender)
    assert run(app, open_).document == b""
    assert document(run(app, decided)).result == 1


def test_headers_keep_their_types(app: Celery) -> None:
    seen: list[Any] = []
    when = datetime(2031, 7, 1, tzinfo=UTC)
    task = app.task(name="see", bind=True)(lambda self: seen.append(self.request.headers))
    run_sent(app, lambda: task.apply_async(headers={"when": when, "odd": "\ud800"}))
    assert seen == [{"when": when, "odd": "\ud800"}]


def test_a_class_that_overrides_call_is_called(app: Celery) -> None:
    class Timed(Task[Any, Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return "timed", self.request.id, super().__call__(*args, **kwargs)

    timed = app.task(name="timed", base=Timed)(lambda x: x + 1)
    outcome = run_sent(app, lambda: timed.apply_async((1,), task_id="mine"))
    assert document(outcome).result == ["timed", "mine", 2]


def test_a_class_based_task_runs(app: Celery) -> None:
    class Add(Task[[int, int], int]):
        name = "sums.add"

        def run(self, x: int, y: int) -> int:
            return x + y

    add = app.register_task(Add())
    assert document(run_sent(app, lambda: add.delay(1, 2))).result == 3


# -- success


def test_a_success_is_a_document_with_celerys_keys(app: Celery) -> None:
    add = app.task(name="sums.add")(lambda x, y: {"sum": x + y})
    before = time()
    outcome = run_sent(app, lambda: add.apply_async((1, 2), task_id="mine", parent_id="elder"))
    assert (outcome.ending, outcome.state) == (Ending.SUCCEEDED, "SUCCESS")
    assert (outcome.publishes, outcome.reason) == ((), "")
    assert outcome.runtime is not None
    assert 0 <= outcome.runtime <= time() - before
    said = json.loads(outcome.document)
    date_done = said.pop("date_done")
    assert date_done.endswith("+00:00")
    assert list(said.items()) == [
        ("status", "SUCCESS"),
        ("result", {"sum": 3}),
        ("traceback", None),
        ("children", []),
        ("parent_id", "elder"),
        ("name", "sums.add"),
        ("args", [1, 2]),
        ("kwargs", {}),
        ("worker", HOST),
        ("retries", 0),
        ("queue", "celery"),
        ("task_id", "mine"),
    ]


def test_without_the_extension_the_document_is_short() -> None:
    app = memory_app(result_extended=False)
    outcome = run_sent(app, app.task(name="ping")(lambda: None).delay)
    assert list(json.loads(outcome.document)) == [
        *("status", "result", "traceback", "children", "date_done", "task_id"),
    ]


def test_what_a_run_sends_is_among_its_children(app: Celery) -> None:
    leaf = app.task(name="leaf")(lambda: None)
    spread = app.task(name="spread")(lambda: [leaf.delay().id, leaf.delay().id])
    found = document(run_sent(app, spread.delay))
    assert found.children == [[[id_, None], None] for id_ in found.result]
    assert [headers(d)["parent_id"] for d in claim(app)] == [found.task_id] * 2


@pytest.mark.parametrize(
    ("value", "path"),
    [(object(), "result"), ({"rows": [1, {2}]}, r'result\["rows"\]\[1\]')],
)
def test_a_result_that_cannot_be_written_is_a_failure(
    value: Any, path: str, app: Celery, diary: Diary
) -> None:
    make = app.task(name="make", base=noting(diary))(lambda: value)
    outcome = run_sent(app, make.delay)
    assert (outcome.ending, outcome.state) == (Ending.FAILED, "FAILURE")
    with pytest.raises(EncodeError, match=f"cannot write {path} as JSON"):
        raise diary.of("on_failure")[0]
    assert document(outcome).result["exc_type"] == "EncodeError"
    assert "on_success" not in diary.names
    assert "task_success" not in diary.names


# -- failure


def test_a_failure_is_a_document_with_the_exception(app: Celery) -> None:
    @app.task(name="fail")
    def fail() -> None:
        raise KeyError("k", 5)

    outcome = run_sent(app, fail.delay)
    assert (outcome.ending, outcome.state) == (Ending.FAILED, "FAILURE")
    assert outcome.reason == "KeyError('k', 5)"
    found = document(outcome)
    assert found.result == exception_document(KeyError("k", 5))
    assert found.traceback is not None
    assert found.traceback.startswith("Traceback (most recent call last):\n")
    assert found.traceback.endswith("KeyError: ('k', 5)\n")
    assert found.traceback.count('File "') == 1, "the user's frames only"
    assert found.date_done is not None


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), SoftTimeLimitExceeded()]
)
def test_whatever_leaves_the_function_is_a_failure(error: BaseException, app: Celery) -> None:
    @app.task(name="fail")
    def fail() -> None:
        raise error

    outcome = run_sent(app, fail.delay)
    assert (outcome.ending, outcome.state) == (Ending.FAILED, "FAILURE")
    assert document(outcome).result["exc_type"] == type(error).__name__


def test_an_exception_that_cannot_show_itself_is_a_failure_like_others(
    app: Celery, diary: Diary
) -> None:
    class Shy(Exception):
        def __repr__(self) -> str:
            raise ZeroDivisionError

        __str__ = __repr__

    @app.task(name="fail", base=noting(diary))
    def fail() -> None:
        raise Shy

    outcome = run_sent(app, fail.delay)
    assert outcome.ending is Ending.FAILED
    assert document(outcome).result["exc_type"].endswith("Shy")
    assert "on_failure" in diary.names


def test_wrong_arguments_are_a_failure(app: Celery) -> None:
    app.task(name="sums.add")(lambda x, y: x + y)
    outcome = run_sent(app, lambda: app.send_task("sums.add", (1,)))
    assert document(outcome).result["exc_type"] == "TypeError"


def test_the_frames_of_a_failure_are_let_go(app: Celery) -> None:
    class Big: ...

    seen: list[Any] = []

    @app.task(name="fail")
    def fail() -> None:
        big = Big()
        seen.append(weakref.ref(big))
        raise ValueError

    run_sent(app, fail.delay)
    assert seen[0]() is None


# -- ignored results


def test_an_ignored_result_is_not_stored(app: Celery) -> None:
    quiet = app.task(name="quiet", ignore_result=True)(lambda x: 1 / x)
    for x, ending in ((1, Ending.SUCCEEDED), (0, Ending.FAILED)):
        outcome = run_sent(app, lambda x=x: quiet.delay(x))  # type: ignore[misc]
        assert (outcome.ending, outcome.document) == (ending, b"")


def test_its_errors_are_if_the_task_says_so(app: Celery) -> None:
    options: Any = {"ignore_result": True, "store_errors_even_if_ignored": True}
    quiet = app.task(name="quiet", **options)(lambda x: 1 / x)
    assert run_sent(app, lambda: quiet.delay(1)).document == b""
    outcome = run_sent(app, lambda: quiet.delay(0))
    assert document(outcome).result["exc_type"] == "ZeroDivisionError"


def test_an_ignored_result_need_not_be_writable(app: Celery) -> None:
    quiet = app.task(name="quiet", ignore_result=True)(object)
    assert run_sent(app, quiet.delay).ending is Ending.SUCCEEDED


# -- retry


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


def test_other_exceptions_are_failures(app: Celery) -> None:
    options: Any = {"autoretry_for": [Exception], "dont_autoretry_for": [KeyError]}

    @app.task(name="flaky", **options)
    def flaky() -> None:
        raise KeyError("k")

    assert run_sent(app, flaky.delay).ending is Ending.FAILED


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


# -- the other endings


def test_ignore_leaves_the_state_as_it_is(app: Celery) -> None:
    @app.task(name="skip")
    def skip() -> None:
        raise Ignore

    outcome = run_sent(app, skip.delay)
    assert (outcome.ending, outcome.state, outcome.document) == (Ending.IGNORED, "IGNORED", b"")


def test_reject_is_a_failure_whose_message_is_kept(app: Celery) -> None:
    @app.task(name="refuse")
    def refuse() -> None:
        raise Reject("no paper", requeue=False)

    outcome = run_sent(app, refuse.delay)
    assert (outcome.ending, outcome.state) == (Ending.REJECTED, "FAILURE")
    assert outcome.reason == "rejected: no paper"
    assert document(outcome).result == exception_document(Reject("no paper"))


def test_reject_with_requeue_gives_the_message_back(app: Celery) -> None:
    @app.task(name="refuse")
    def refuse() -> None:
        raise Reject("not now", requeue=True)

    outcome = run_sent(app, refuse.delay)
    assert (outcome.ending, outcome.state, outcome.document) == (Ending.RETURNED, "REJECTED", b"")


def test_an_unknown_task_is_undecodable_here(app: Celery) -> None:
    app.send_task("far.away")
    outcome = run(app, claim(app)[0])
    assert outcome.ending is Ending.UNDECODABLE
    assert "no task 'far.away' is registered here" in outcome.reason


def test_a_body_that_cannot_be_read_is_undecodable(app: Celery) -> None:
    ping = app.task(name="ping")(lambda: None)
    ping.delay()
    (delivery,) = claim(app)
    broken = replace(delivery, message=replace(delivery.message, body=b"[1, 2]"))
    outcome = run(app, broken)
    assert outcome.ending is Ending.UNDECODABLE
    assert "instead of [args, kwargs, embed]" in outcome.reason


# -- the beginning


def test_a_run_that_asks_begins_with_leave_only(app: Celery) -> None:
    ran: list[int] = []
    app.task(name="ping")(lambda: ran.append(1))
    app.send_task("ping")
    (delivery,) = claim(app)
    refusing = HandPort(allows=False)
    assert execution.run(app, job(delivery, number=5, asks=True), refusing) is None
    assert (refusing.asked, ran) == ([5], [])
    allowing = HandPort()
    assert execution.run(app, job(delivery, number=6, asks=True), allowing) is not None
    assert (allowing.asked, ran) == ([6], [1])
    execution.run(app, job(delivery), refusing)
    assert (refusing.asked, ran) == ([5], [1, 1]), "who does not ask just runs"


@pytest.mark.parametrize("extended", [True, False])
def test_the_start_is_told_if_asked_for(extended: bool) -> None:
    app = memory_app(result_extended=extended)
    port = HandPort()
    ping = app.task(name="ping")(lambda: [put.state for put in port.puts])
    ping.apply_async(task_id="mine")
    (delivery,) = claim(app)
    outcome = execution.run(app, job(delivery, tells=True), port)
    assert outcome is not None
    assert document(outcome).result == ["STARTED"], "before the function"
    (put,) = port.puts
    assert (put.key, put.ttl) == ("celery-task-meta-mine", app.settings.result_expires)
    said = json.loads(put.value)
    about_call = ["name", "args", "kwargs", "worker", "retries", "queue"] if extended else []
    assert list(said) == [
        *("status", "result", "traceback", "children", "date_done", *about_call, "task_id")
    ]
    assert said["result"] == {"pid": os.getpid(), "hostname": HOST}
    assert (said["children"], said["date_done"]) == ([], None)


def test_the_start_of_an_ignored_result_is_not_told(app: Celery) -> None:
    app.task(name="quiet", ignore_result=True)(lambda: None).delay()
    port = HandPort()
    execution.run(app, job(claim(app)[0], tells=True), port)
    assert port.puts == []


def test_a_soft_limit_may_come_in_user_code_only(app: Celery, diary: Diary) -> None:
    port = HandPort()
    inside: dict[str, bool] = {}

    class Watching(Task[Any, Any]):
        def before_start(self, *_: Any) -> None:
            inside["before_start"] = port.inside

        def on_success(self, *_: Any) -> None:
            inside["on_success"] = port.inside

        def on_failure(self, *_: Any) -> None:
            inside["on_failure"] = port.inside

        def after_return(self, *_: Any) -> None:
            inside["after_return"] = port.inside

    def work(x: int) -> float:
        inside["function"] = port.inside
        return 1 / x

    task = app.task(name="work", base=Watching)(work)
    for x in (1, 0):
        run_sent(app, lambda x=x: task.delay(x), port)  # type: ignore[misc]
    assert inside == {
        "before_start": True,
        "function": True,
        "on_success": False,
        "on_failure": False,
        "after_return": False,
    }
    assert port.inside is False


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


@pytest.mark.parametrize(
    ("x", "level", "text"),
    [
        (1, "INFO", r"Task shown[mine] succeeded in {}s: 'fine'"),
        (0, "ERROR", "Task shown[mine] raised unexpected: ZeroDivisionError('division by zero')"),
        (-1, "INFO", "Task shown[mine] raised expected: KeyError('k')"),
        (-2, "INFO", "Task shown[mine] retry: Retry in 9s: ValueError('v')"),
        (-3, "INFO", "Task shown[mine] ignored"),
        (-4, "WARNING", "Task shown[mine] rejected: ('no', False)"),
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
    assert ("Traceback" in record.getMessage()) == (level == "ERROR")


# -- what failed outside of the task


def test_a_fault_of_our_own_is_a_failure_too(app: Celery) -> None:
    ping = app.task(name="ping")(lambda: None)
    told_of: list[dict[str, Any]] = []

    def receiver(**arguments: Any) -> None:
        told_of.append(arguments)

    signals.task_internal_error.connect(receiver)
    try:
        ping.apply_async(task_id="mine")
        error = RuntimeError("ours")
        outcome = execution.broken(app, job(claim(app)[0]), HandPort(), error)
    finally:
        signals.task_internal_error.disconnect(receiver)
    assert (outcome.ending, outcome.state) == (Ending.FAILED, "FAILURE")
    found = document(outcome)
    assert (found.task_id, found.result) == ("mine", exception_document(error))
    (said,) = told_of
    assert said["exception"] is error
    assert said.keys() == {
        *("signal", "sender", "task_id", "args", "kwargs", "request", "exception"),
        *("traceback", "einfo"),
    }


def test_a_killed_run_is_mourned_by_its_handlers(app: Celery, diary: Diary) -> None:
    task = app.task(name="killed", base=noting(diary))(lambda x, y: None)
    task.apply_async((1,), {"y": 2}, task_id="mine")
    (delivery,) = claim(app)
    error = TimeLimitExceeded(5)
    execution.mourn(app, delivery.message, "task killed[mine] was lost", error, HOST)
    assert diary.names == ["on_failure", "task_failure", "after_return"]
    exception, *call, einfo = diary.of("on_failure")
    assert (exception, call) == (error, ["mine", [1], {"y": 2}])
    assert str(einfo) == "task killed[mine] was lost"
    assert diary.of("task_failure")["traceback"] == "task killed[mine] was lost"
    assert diary.of("after_return")[:2] == ("FAILURE", error)
    assert current.get() is None
