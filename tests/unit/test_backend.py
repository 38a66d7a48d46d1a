"""backend.py: documents as users read and write them; lifetimes, attempts, what is kept."""

import json
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from celeriac import Celery
from celeriac.backend import lifetime
from celeriac.context import Context, current
from celeriac.exceptions import (
    EncodeError,
    ImproperlyConfigured,
    OperationalError,
    TaskRevokedError,
    TimeoutError,
)
from celeriac.results.base import task_key
from celeriac.results.memory import MemoryStore
from celeriac.settings import Settings
from celeriac.wire.result import ResultDocument
from tests.fixtures.runs import HandPort, memory_app
from tests.fixtures.waiting import InAMoment, eventually


class Counted(MemoryStore):
    """Counts what it is asked, and fails as often as it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.failing = 0

    def check_awake(self) -> None:
        self.asked += 1
        if self.failing:
            self.failing -= 1
            raise OperationalError("away")
        super().check_awake()


@pytest.fixture
def app() -> Iterator[Celery]:
    app = memory_app()
    app.connections._open["store"] = Counted()
    yield app
    app.close()


def counted(app: Celery) -> Counted:
    assert isinstance(app.store, Counted)
    return app.store


def stored(app: Celery, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(counted(app).get([task_key(id_)])[task_key(id_)])
    return found


def ttl(app: Celery, id_: str) -> float:
    """Return the wall time at which a document may be forgotten."""
    return counted(app)._documents[task_key(id_)][2]


# -- writing


@pytest.mark.follows("TASK-36", "RES-01")
def test_what_is_stored_is_read(app: Celery) -> None:
    backend = app.backend
    assert backend.store_result("one", {"done": 1}, "PROGRESS") == {"done": 1}
    assert (backend.get_state("one"), backend.get_status("one")) == ("PROGRESS", "PROGRESS")
    assert backend.get_result("one") == {"done": 1}
    assert stored(app, "one") == {
        "status": "PROGRESS", "result": {"done": 1}, "traceback": None, "children": None,
        "date_done": None, "task_id": "one",
    }  # fmt: skip
    backend.store_result("one", 5, "SUCCESS", traceback=None)
    assert app.AsyncResult("one").get() == 5
    assert app.AsyncResult("one").date_done is not None


def test_an_unknown_task_is_pending(app: Celery) -> None:
    assert app.backend.get_task_meta("one") == {
        "status": "PENDING", "result": None, "traceback": None, "children": None, "date_done": None
    }  # fmt: skip
    assert (app.backend.get_traceback("one"), app.backend.get_children("one")) == (None, None)
    assert not app.backend.task_result_exists("one")


@pytest.mark.follows("RES-20", "QUIRK-14")
def test_a_success_stays(app: Celery) -> None:
    app.backend.mark_as_done("one", 5)
    app.backend.mark_as_done("one", 6)
    app.backend.mark_as_failure("one", KeyError("k"))
    assert (app.backend.get_state("one"), app.backend.get_result("one")) == ("SUCCESS", 5)


def test_every_mark_has_its_state(app: Celery) -> None:
    backend = app.backend
    backend.mark_as_started("started", pid=1, hostname="w")
    backend.mark_as_retry("retry", KeyError("k"), "text")
    backend.mark_as_failure("failure", KeyError("k"), traceback="text")
    backend.mark_as_revoked("revoked", "why")
    states = {id_: backend.get_state(id_) for id_ in ("started", "retry", "failure", "revoked")}
    assert states == {id_: id_.upper() for id_ in states}
    assert backend.get_result("started") == {"pid": 1, "hostname": "w"}
    assert isinstance(backend.get_result("retry"), KeyError)
    assert backend.get_traceback("failure") == "text"
    error = backend.get_result("revoked")
    assert (type(error), error.args) == (TaskRevokedError, ("why",))
    with pytest.raises(KeyError):
        app.AsyncResult("failure").get()


def test_marks_store_nothing_if_they_are_told_so(app: Celery) -> None:
    backend = app.backend
    backend.mark_as_done("one", 5, store_result=False)
    backend.mark_as_done("one", 5, request=Context(id="one", ignore_result=True))
    backend.mark_as_failure("one", KeyError("k"), store_result=False)
    backend.mark_as_retry("one", KeyError("k"), store_result=False)
    backend.mark_as_revoked("one", store_result=False)
    assert not backend.task_result_exists("one")


@pytest.mark.follows("RES-04")
def test_a_request_says_more(app: Celery) -> None:
    request = Context(
        id="one", task="sums.add", args=[1], kwargs={"y": 2}, hostname="w", retries=1, group="g",
        parent_id="p", delivery_info={"routing_key": "urgent"},
    )  # fmt: skip
    request.children.append([["child", None], None])
    app.backend.store_result("one", 5, "SUCCESS", request=request)
    result = app.AsyncResult("one")
    assert (result.name, result.args, result.kwargs, result.worker) == (
        "sums.add",
        [1],
        {"y": 2},
        "w",
    )
    assert (result.retries, result.queue) == (1, "urgent")
    assert [str(child) for child in result.children or ()] == ["child"]
    meta = app.backend.get_task_meta("one")
    assert (meta["group_id"], meta["parent_id"], meta["queue"]) == ("g", "p", "urgent")
    app.conf.result_extended = False
    app.backend.store_result("two", 5, "SUCCESS", request=Context(id="two", task="sums.add"))
    assert app.AsyncResult("two").name is None


def test_a_request_of_another_task_says_nothing(app: Celery) -> None:
    app.backend.store_result("one", 5, "SUCCESS", request=Context(id="two", task="sums.add"))
    assert app.AsyncResult("one").name is None


@pytest.mark.follows("TASK-36")
def test_what_a_run_says_of_itself_takes_the_way_of_its_outcome(app: Celery) -> None:
    port = HandPort()
    token = current.set(Context(id="run", task="t", called_directly=False, port=port))
    try:
        app.backend.store_result("run", 1, "PROGRESS")
        app.backend.store_result("other", 2, "PROGRESS")
    finally:
        current.reset(token)
    assert [(put.key, put.state) for put in port.puts] == [(task_key("run"), "PROGRESS")]
    assert (app.AsyncResult("run").state, app.AsyncResult("other").state) == ("PENDING", "PROGRESS")


@pytest.mark.follows("RES-21")
def test_a_result_is_stored_as_its_tuple(app: Celery) -> None:
    app.backend.store_result("one", app.AsyncResult("two"), "SUCCESS")
    assert app.AsyncResult("one").get() == [["two", None], None]


def test_what_cannot_be_written_is_told(app: Celery) -> None:
    with pytest.raises(EncodeError, match=r'result\["x"\]'):
        app.backend.store_result("one", {"x": object()}, "PROGRESS")


def test_forgotten_is_gone(app: Celery) -> None:
    app.backend.mark_as_done("one", 5)
    app.backend.forget("one")
    assert app.backend.get_state("one") == "PENDING"


@pytest.mark.follows("BACK-07")
def test_without_results_nothing_is_stored_and_reading_says_so() -> None:
    backend = Celery("x", broker="memory://", backend="disabled://").backend
    assert backend.store_result("one", 5, "SUCCESS") == 5
    assert not backend.enabled
    with pytest.raises(ImproperlyConfigured, match="results are disabled"):
        backend.get_state("one")
    assert backend.as_uri() == "disabled://"


def test_the_address_is_shown_without_its_password() -> None:
    backend = Celery("x", broker="memory://", backend="redis://:secret@host/0").backend
    assert backend.as_uri() == "redis://:**@host/0"
    assert backend.as_uri(include_password=True) == "redis://:secret@host/0"
    assert "secret" not in repr(backend)


# -- waiting


@pytest.mark.follows("RES-23")
def test_wait_for_a_document(app: Celery) -> None:
    moment = InAMoment(lambda: app.backend.mark_as_done("one", 5))
    assert app.backend.wait_for("one", timeout=20)["result"] == 5
    moment.ago()
    with pytest.raises(TimeoutError):
        app.backend.wait_for("two", timeout=0)
    ticks: list[int] = []
    with pytest.raises(TimeoutError, match=r"task two has no result after 0\.1 s"):
        app.backend.wait_for("two", 0.1, 0.02, on_interval=lambda: ticks.append(1))
    assert len(ticks) >= 2


# -- lifetimes (RES-18)


@pytest.mark.follows("RES-18", "BACK-11")
@pytest.mark.parametrize(
    ("settings", "success", "failure"),
    [
        ({}, 86_400, 86_400),
        ({"result_expires": 60}, 60, 60),
        ({"result_expires": None}, None, None),
        ({"result_expires": 0}, None, None),
        ({"result_expires": 60, "result_failure_expires": 5}, 60, 5),
        ({"result_expires": 60, "result_failure_expires": 0}, 60, None),
        ({"result_expires": 0, "result_failure_expires": 5}, None, 5),
    ],
)
def test_how_long_documents_are_kept(
    settings: dict[str, Any], success: float | None, failure: float | None
) -> None:
    snapshot = Settings(**settings)
    assert lifetime(snapshot, "SUCCESS") == lifetime(snapshot, "STARTED") == success
    assert lifetime(snapshot, "REVOKED") == success
    assert lifetime(snapshot, "FAILURE") == failure


@pytest.mark.follows("RES-18")
def test_it_is_given_to_the_store(app: Celery) -> None:
    app.conf.update(result_expires=None, result_failure_expires=0.01)
    app.backend.mark_as_done("good", 5)
    app.backend.mark_as_failure("bad", KeyError("k"))
    assert ttl(app, "good") == float("inf")
    eventually(lambda: app.backend.get_state("bad") == "PENDING")
    app.backend.cleanup()
    assert list(counted(app)._documents) == [task_key("good")]


# -- a store that is away (RES-22)


@pytest.mark.follows("RES-22")
def test_every_call_is_tried_again(app: Celery) -> None:
    app.conf.update(result_backend_always_retry=True, result_backend_max_sleep_between_retries_ms=5)
    store, backend = counted(app), app.backend
    store.failing = 5
    backend.mark_as_done("one", 5)
    assert store.failing == 0
    store.failing = 5
    assert backend.get_result("one") == 5
    assert store.failing == 0
    store.failing = 5
    backend.forget("one")
    assert store.failing == 0


@pytest.mark.follows("RES-22")
def test_as_often_as_is_allowed(app: Celery) -> None:
    app.conf.update(
        result_backend_always_retry=True,
        result_backend_max_retries=2,
        result_backend_max_sleep_between_retries_ms=5,
    )
    counted(app).failing = 2
    assert app.backend.get_state("one") == "PENDING"
    counted(app).failing = 3
    with pytest.raises(OperationalError, match="away"):
        app.backend.get_state("one")


@pytest.mark.follows("RES-22")
def test_or_not_at_all(app: Celery) -> None:
    counted(app).failing = 1
    with pytest.raises(OperationalError):
        app.backend.get_state("one")


@pytest.mark.follows("RES-22")
def test_pauses_grow_to_their_maximum(app: Celery) -> None:
    app.conf.update(
        result_backend_always_retry=True,
        result_backend_base_sleep_between_retries_ms=10,
        result_backend_max_sleep_between_retries_ms=100,
    )
    longest = [max(app.backend.pause(n) or 0 for _ in range(200)) for n in range(6)]
    bounds = [0.02, 0.04, 0.08, 0.1, 0.1, 0.1]
    for seen, bound in zip(longest, bounds, strict=True):
        assert bound / 2 < seen <= bound


@pytest.mark.follows("RES-22")
def test_but_no_longer_than_the_caller_has_time(app: Celery) -> None:
    app.conf.update(
        result_backend_always_retry=True, result_backend_max_sleep_between_retries_ms=50
    )
    counted(app).failing = 10**9
    before = monotonic()
    with pytest.raises(OperationalError):
        app.backend.document("one", timeout=0.2)
    assert monotonic() - before < 5


# -- what is kept (RES-19)


@pytest.mark.follows("RES-19")
def test_nothing_is_kept_unless_asked_for(app: Celery) -> None:
    app.backend.mark_as_done("one", 5)
    assert app.AsyncResult("one").get() == 5
    assert not app.backend.is_cached("one")
    asked = counted(app).asked
    assert app.AsyncResult("one").get() == 5
    assert counted(app).asked > asked


@pytest.mark.follows("RES-19")
def test_successes_are_kept_for_the_next_who_asks(app: Celery) -> None:
    app.conf.result_cache_max = 2
    backend = app.backend
    for id_ in "abc":
        backend.mark_as_done(id_, id_)
    assert [app.AsyncResult(id_).get() for id_ in "ab"] == ["a", "b"]
    asked = counted(app).asked
    assert [app.AsyncResult(id_).get() for id_ in "aba"] == ["a", "b", "a"]
    assert counted(app).asked == asked
    assert app.AsyncResult("c").get() == "c"
    assert [backend.is_cached(id_) for id_ in "abc"] == [True, False, True], "the oldest goes"
    backend.forget("a")
    assert not backend.is_cached("a")
    assert app.AsyncResult("a").state == "PENDING"


@pytest.mark.follows("RES-19")
def test_what_may_change_is_not_kept(app: Celery) -> None:
    app.conf.result_cache_max = 10
    for state in ("PROGRESS", "FAILURE", "RETRY"):
        app.backend.store_result("one", KeyError("k"), state)
        assert app.backend.get_state("one") == state
        assert not app.backend.is_cached("one")


@pytest.mark.follows("RES-19")
def test_what_is_kept_may_be_read_anew(app: Celery) -> None:
    app.conf.result_cache_max = None
    app.backend.mark_as_done("one", 5)
    assert app.backend.get_task_meta("one")["result"] == 5
    counted(app).forget([task_key("one")])
    assert app.backend.get_task_meta("one")["result"] == 5
    assert app.backend.get_task_meta("one", cache=False)["status"] == "PENDING"


def test_a_document_of_celery_is_read(app: Celery) -> None:
    assert app.backend.read("x", b'{"status": "SUCCESS", "result": 1}') == ResultDocument(
        status="SUCCESS", result=1
    )
