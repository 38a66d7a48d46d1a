"""context.py: the request of a run, and which run something belongs to."""

import asyncio
import contextvars
import threading
from collections.abc import Iterator

import pytest

from celeriac.context import Context, current, running
from tests.fixtures.runs import memory_app


@pytest.fixture
def request_of_a_run() -> Iterator[Context]:
    request = Context(id="one", task="demo.outer", called_directly=False)
    token = current.set(request)
    yield request
    current.reset(token)


def test_outside_of_runs_there_is_no_request() -> None:
    assert current.get() is None
    assert running() is None


@pytest.mark.follows("TASK-26")
def test_an_empty_request_is_that_of_a_direct_call() -> None:
    request = Context()
    assert request.called_directly
    assert (request.id, request.args, request.kwargs, request.retries) == (None, (), {}, 0)
    assert (request.hostname, request.delivery_info, request.is_eager) == (None, {}, False)
    assert (request.utc, request.replaced_task_nesting) == (True, 0)
    assert (request.port, request.caller, request.through_call) == (None, None, False)


def test_unknown_headers_are_attributes() -> None:
    request = Context(trace="abc", headers={"trace": "abc"})
    assert request.trace == "abc"  # type: ignore[attr-defined]
    assert request.get("trace") == "abc"
    assert request.get("nothing") is None
    assert request.get("nothing", 3) == 3


@pytest.mark.follows("TASK-25")
def test_limits_are_hard_then_soft_on_the_wire_and_have_names() -> None:
    request = Context(timelimit=[30, 10])
    assert (request.time_limit, request.soft_time_limit) == (30, 10)
    assert (Context().time_limit, Context().soft_time_limit) == (None, None)


def test_requests_share_no_lists() -> None:
    one, other = Context(), Context()
    one.children.append([["x", None], None])
    assert other.children == []
    assert one.follow_ups is not other.follow_ups


def test_a_request_names_its_task_and_id() -> None:
    assert repr(Context(id="one", task="demo.add")) == "<Context: demo.add[one]>"


def test_a_run_is_what_a_worker_began(request_of_a_run: Context) -> None:
    assert running() is request_of_a_run


def test_a_direct_call_belongs_to_the_run_of_its_caller(request_of_a_run: Context) -> None:
    inner = Context(task="demo.inner", caller=request_of_a_run)
    innermost = Context(task="demo.innermost", caller=inner)
    token = current.set(innermost)
    assert running() is request_of_a_run
    current.reset(token)


def test_a_direct_call_outside_of_workers_is_no_run() -> None:
    token = current.set(Context(task="demo.inner", caller=Context(task="demo.outer")))
    assert running() is None
    current.reset(token)


def test_coroutines_of_a_run_belong_to_it(request_of_a_run: Context) -> None:
    async def ask() -> Context | None:
        return await asyncio.create_task(inner())

    async def inner() -> Context | None:
        return running()

    assert asyncio.run(ask()) is request_of_a_run


def test_a_thread_belongs_to_a_run_if_it_is_given_the_context(request_of_a_run: Context) -> None:
    seen: list[Context | None] = []
    copy = contextvars.copy_context()

    def look() -> None:
        seen.append(running())

    for target in (look, lambda: copy.run(look)):
        thread = threading.Thread(target=target)
        thread.start()
        thread.join()
    assert seen == [None, request_of_a_run]


@pytest.mark.follows("TASK-25")
def test_a_request_is_changed_and_shown_as_options() -> None:
    request = Context(id="one", group="g", timelimit=(5, 3), headers={"a": 1}, callbacks=["x"])
    assert (request.taskset, request.logfile, request.loglevel) == ("g", None, None)
    options = request.as_execution_options()
    assert {name: value for name, value in options.items() if value} == {
        "task_id": "one", "group_id": "g", "time_limit": 5, "soft_time_limit": 3,
        "headers": {"a": 1}, "link": ["x"],
    }  # fmt: skip
    request.update({"id": "two"}, retries=4)
    assert (request.id, request.retries) == ("two", 4)
    request.clear()
    assert (request.id, request.retries, request.children) == (None, 0, [])


@pytest.mark.follows("TASK-25")
def test_a_test_may_be_in_a_run() -> None:
    app = memory_app()
    task = app.task(name="one", bind=True)(lambda self: self.request.id)
    task.push_request(id="outer", called_directly=False)
    task.push_request({"id": "inner"}, retries=2)
    assert (task.request.id, task.request.retries) == ("inner", 2)
    assert task.run() == "inner"
    assert task.pop_request().id == "inner"
    assert task.request.id == "outer"
    task.pop_request()
    assert task.request.id is None
    with pytest.raises(LookupError, match="no request of one was pushed"):
        task.pop_request()
