"""EagerResult: the surface of a result, for a task that ran here (RES-14)."""

import asyncio
import copy
import pickle
from typing import Any

import pytest

from celeriac import AsyncResult
from celeriac.context import Context, current
from celeriac.exceptions import TaskRevokedError
from celeriac.joining import denied_join_result
from celeriac.result import EagerResult

pytestmark = pytest.mark.follows("RES-14")


def test_a_success_is_here() -> None:
    result = EagerResult[int]("one", 3, "SUCCESS", name="sums.add")
    assert isinstance(result, AsyncResult)
    assert (result.get(), result.wait(timeout=1), result.result, result.info) == (3, 3, 3, 3)
    assert (result.state, result.status, result.name) == ("SUCCESS", "SUCCESS", "sums.add")
    assert (result.ready(), result.successful(), result.failed()) == (True, True, False)
    assert (result.traceback, result.children, result.parent, result.date_done) == (None,) * 4
    assert (result.as_tuple(), result.as_list()) == ((("one", None), None), ["one"])
    assert (result.supports_native_join, result.ignored, result.exists()) == (False, False, True)
    assert (repr(result), str(result), result.id) == ("<EagerResult: one>", "one", "one")
    assert result._get_task_meta() == {
        "task_id": "one", "result": 3, "status": "SUCCESS", "traceback": None, "name": "sums.add",
        "children": None, "date_done": None,
    }  # fmt: skip
    assert asyncio.run(result.aget()) == 3
    assert [value for _, value in result.collect()] == [3]
    assert result.get_leaf() == 3
    assert len(result.graph) == 1


def test_a_failure_is_raised_as_the_task_raised_it() -> None:
    error = KeyError("k")
    result = EagerResult[Any]("one", error, "FAILURE", "Traceback ...")
    for ask in (result.get, result.maybe_throw, lambda: asyncio.run(result.aget())):
        with pytest.raises(KeyError) as caught:
            ask()
        assert caught.value is error
    assert result.get(propagate=False) is error
    assert (result.result, result.traceback, result.failed()) == (error, "Traceback ...", True)


def test_what_is_no_exception_is_raised_in_one() -> None:
    with pytest.raises(Exception, match="oops"):
        EagerResult("one", "oops", "FAILURE").get()
    with pytest.raises(Exception, match="3"):
        EagerResult("one", SystemExit(3), "FAILURE").get()


def test_a_retry_has_no_value() -> None:
    assert EagerResult("one", KeyError("k"), "RETRY").get() is None


def test_a_revoked_one_raises() -> None:
    result = EagerResult[int]("one", 3, "SUCCESS", "text")
    result.revoke(terminate=True)
    assert (result.state, result.traceback) == ("REVOKED", None)
    with pytest.raises(TaskRevokedError, match="revoked"):
        result.get()
    assert isinstance(result.get(propagate=False), TaskRevokedError)


def test_forgetting_changes_nothing() -> None:
    result = EagerResult[int]("one", 3, "SUCCESS")
    result.forget()
    assert result.get() == 3


def test_callbacks_are_called_at_once() -> None:
    got: list[Any] = []
    result = EagerResult[int]("one", 3, "SUCCESS")

    def broken(_: Any) -> None:
        raise ValueError("broken")

    assert result.then(got.append).then(broken, got.append) is result
    assert got[0] is result
    assert isinstance(got[1], ValueError)
    told: list[Any] = []
    assert result.maybe_throw(callback=lambda *a: told.append(a)) == 3
    assert told == [("one", 3)]


def test_a_copy_and_a_pickle_know_the_same() -> None:
    result = EagerResult[int]("one", 3, "SUCCESS", "text", "sums.add")
    for again in (copy.copy(result), pickle.loads(pickle.dumps(result))):
        assert again == result
        assert (again.get(), again.traceback, again.name) == (3, "text", "sums.add")


@pytest.mark.follows("TASK-45")
def test_inside_a_task_it_is_denied_too() -> None:
    result = EagerResult[int]("one", 3, "SUCCESS")
    token = current.set(Context(task="outer", id="run", called_directly=False))
    try:
        with pytest.raises(RuntimeError):
            result.get()
        assert result.get(disable_sync_subtasks=False) == 3
    finally:
        current.reset(token)
    with denied_join_result(), pytest.raises(RuntimeError):
        result.get()
