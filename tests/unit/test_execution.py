"""execution.py: one run, from a message to an outcome and its document; all endings but retries."""

import json
import os
import weakref
from collections.abc import Iterator
from datetime import UTC, datetime
from time import time
from typing import Any

import pytest
from msgspec.structs import replace

from celeriac import Celery, Task, execution
from celeriac.context import Context, current
from celeriac.exceptions import (
    EncodeError,
    Ignore,
    Reject,
    SoftTimeLimitExceeded,
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
    run,
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


# -- what a task sees


@pytest.mark.follows("TASK-25", "CALL-14")
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


@pytest.mark.follows("TASK-10", "QUIRK-35")
def test_the_worker_decides_where_the_caller_left_it_open(app: Celery) -> None:
    app.task(name="quiet", ignore_result=True)(lambda: 1)
    sender = memory_app("that does not know the task")
    sender.send_task("quiet")
    sender.send_task("quiet", ignore_result=False)
    open_, decided = claim(sender)
    assert run(app, open_).document == b""
    assert document(run(app, decided)).result == 1


@pytest.mark.follows("CALL-14")
def test_headers_keep_their_types(app: Celery) -> None:
    seen: list[Any] = []
    when = datetime(2031, 7, 1, tzinfo=UTC)
    task = app.task(name="see", bind=True)(lambda self: seen.append(self.request.headers))
    run_sent(app, lambda: task.apply_async(headers={"when": when, "odd": "\ud800"}))
    assert seen == [{"when": when, "odd": "\ud800"}]


@pytest.mark.follows("TASK-03")
def test_a_class_that_overrides_call_is_called(app: Celery) -> None:
    class Timed(Task[Any, Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return "timed", self.request.id, super().__call__(*args, **kwargs)

    timed = app.task(name="timed", base=Timed)(lambda x: x + 1)
    outcome = run_sent(app, lambda: timed.apply_async((1,), task_id="mine"))
    assert document(outcome).result == ["timed", "mine", 2]


@pytest.mark.follows("TASK-03")
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


@pytest.mark.follows("TASK-19", "CALL-12")
def test_what_a_run_sends_is_among_its_children(app: Celery) -> None:
    leaf = app.task(name="leaf")(lambda: None)
    spread = app.task(name="spread")(lambda: [leaf.delay().id, leaf.delay().id])
    found = document(run_sent(app, spread.delay))
    assert found.children == [[[id_, None], None] for id_ in found.result]
    assert [headers(d)["parent_id"] for d in claim(app)] == [found.task_id] * 2


@pytest.mark.follows("SER-07")
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


@pytest.mark.follows("WORK-38")
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


@pytest.mark.follows("TASK-10")
def test_an_ignored_result_is_not_stored(app: Celery) -> None:
    quiet = app.task(name="quiet", ignore_result=True)(lambda x: 1 / x)
    for x, ending in ((1, Ending.SUCCEEDED), (0, Ending.FAILED)):
        outcome = run_sent(app, lambda x=x: quiet.delay(x))  # type: ignore[misc]
        assert (outcome.ending, outcome.document) == (ending, b"")


@pytest.mark.follows("TASK-11")
def test_its_errors_are_if_the_task_says_so(app: Celery) -> None:
    options: Any = {"ignore_result": True, "store_errors_even_if_ignored": True}
    quiet = app.task(name="quiet", **options)(lambda x: 1 / x)
    assert run_sent(app, lambda: quiet.delay(1)).document == b""
    outcome = run_sent(app, lambda: quiet.delay(0))
    assert document(outcome).result["exc_type"] == "ZeroDivisionError"


def test_an_ignored_result_need_not_be_writable(app: Celery) -> None:
    quiet = app.task(name="quiet", ignore_result=True)(object)
    assert run_sent(app, quiet.delay).ending is Ending.SUCCEEDED


# -- the other endings


@pytest.mark.follows("TASK-33")
def test_ignore_leaves_the_state_as_it_is(app: Celery) -> None:
    @app.task(name="skip")
    def skip() -> None:
        raise Ignore

    outcome = run_sent(app, skip.delay)
    assert (outcome.ending, outcome.state, outcome.document) == (Ending.IGNORED, "IGNORED", b"")


@pytest.mark.follows("TASK-34")
def test_reject_is_a_failure_whose_message_is_kept(app: Celery) -> None:
    @app.task(name="refuse")
    def refuse() -> None:
        raise Reject("no paper", requeue=False)

    outcome = run_sent(app, refuse.delay)
    assert (outcome.ending, outcome.state) == (Ending.REJECTED, "FAILURE")
    assert outcome.reason == "rejected: no paper"
    assert document(outcome).result == exception_document(Reject("no paper"))


@pytest.mark.follows("TASK-34")
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


@pytest.mark.follows("TASK-18")
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


@pytest.mark.follows("TASK-03", "TASK-26")
def test_a_task_called_inside_of_one_that_overrides_call_has_a_request_of_its_own(
    app: Celery,
) -> None:
    """Its class calls ``run`` itself, as a class that gives each run a context of its own does."""

    class Wrapped(Task[Any, Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return self.run(*args, **kwargs)

    @app.task(bind=True)
    def inner(self: Any) -> bool:
        return bool(self.request.called_directly)

    outer: Any = app.task(base=Wrapped, name="outer")(lambda: [inner()][0])
    assert document(run_sent(app, outer.delay)).result is True
