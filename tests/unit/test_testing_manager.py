"""What the manager waits for, and how it fails."""

import io
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import Celery
from celeriac.exceptions import OperationalError, TaskError
from celeriac.testing import Inbox, Manager
from celeriac.testing.manager import Sentinel

QUICK: dict[str, Any] = {"interval_start": 0.0, "interval_step": 0.0}

pytestmark = pytest.mark.follows("TESTH-05")


@pytest.fixture
def app() -> Celery:
    app = Celery("managed", broker="memory://")
    app.task(name="echo")(lambda value: value)
    return app


@pytest.fixture
def inbox(app: Celery) -> Iterator[Inbox]:
    with Inbox(app) as inbox:
        yield inbox


@pytest.fixture
def manager(app: Celery) -> Manager:
    return Manager(app, stdout=io.StringIO(), stderr=io.StringIO())


def printed(file: Any) -> str:
    return file.getvalue()


def failing(times: int) -> Any:
    """Return a function that fails so often, and then says how often it was called."""
    called = 0

    def fun(more: int = 0) -> int:
        nonlocal called
        called += 1
        if called <= times:
            raise LookupError(called)
        return called + more

    return fun


def test_it_waits_until_a_function_succeeds(manager: Manager) -> None:
    heard: list[tuple[float, int]] = []
    found = manager.wait_for(
        failing(2),
        LookupError,
        desc="luck",
        args=(10,),
        errback=lambda error, pause, retries: heard.append((pause, retries)),
        emit_warning=True,
        **QUICK,
    )
    assert found == 13
    assert heard == [(0.0, 0), (0.0, 1)]
    assert "still waiting for luck, trying again in 0 s: LookupError(1)" in printed(manager.stderr)


def test_it_gives_up(manager: Manager) -> None:
    fun = failing(9)
    with pytest.raises(LookupError, match="4"):
        manager.wait_for(fun, LookupError, max_retries=3, **QUICK)
    with pytest.raises(LookupError):
        manager.wait_for(fun, KeyError, **QUICK)


def test_its_pauses_grow_up_to_a_limit(manager: Manager) -> None:
    pauses: list[float] = []
    manager.retry_over_time(
        failing(4),
        LookupError,
        errback=lambda error, pause, retries: pauses.append(pause),
        interval_start=0.0,
        interval_step=0.001,
        interval_max=0.002,
    )
    assert pauses == [0.0, 0.001, 0.002, 0.002]


def test_something_must_not_happen(manager: Manager) -> None:
    manager.ensure_not_for_a_while(failing(99), LookupError, max_retries=3, **QUICK)
    with pytest.raises(AssertionError, match="should not have happened: luck"):
        manager.ensure_not_for_a_while(failing(1), LookupError, desc="luck", **QUICK)


def test_it_joins_results(manager: Manager, inbox: Inbox, app: Celery) -> None:
    results = [app.send_task("echo", (number,)) for number in range(3)]
    assert manager.missing_results(results) == [result.id for result in results]
    with pytest.raises(AssertionError, match=results[1].id):
        manager.join(results, timeout=0, max_retries=2)
    assert printed(manager.stdout).count("!still waiting for 3/3") == 2
    inbox.run_pending()
    assert manager.join(results) == [0, 1, 2]
    assert manager.join(results[1], max_retries=0) == 1
    assert manager.missing_results(results) == []


def test_it_joins_failures(manager: Manager, inbox: Inbox, app: Celery) -> None:
    @app.task
    def fail() -> None:
        raise TaskError("no")

    result = fail.delay()
    inbox.run_pending(propagate=False)
    assert isinstance(manager.join(result), TaskError)
    with pytest.raises(TaskError):
        manager.join(result, propagate=True)


def test_a_lost_connection_is_remarked(manager: Manager, inbox: Inbox, app: Celery) -> None:
    result = app.send_task("echo", (1,))
    store: Any = app.store
    store.sleep()
    with pytest.raises(OperationalError):  # Nor can it say then which are missing.
        manager.join(result, max_retries=1)
    assert "!join: connection lost: " in printed(manager.stdout)
    store.wake_up()


def test_it_need_not_join(app: Celery, inbox: Inbox) -> None:
    manager = Manager(app, no_join=True)
    assert manager.join(app.send_task("echo", (1,))) is None


def test_tasks_are_in_progress_or_completed(manager: Manager, inbox: Inbox, app: Celery) -> None:
    results = [app.send_task("echo", (number,)) for number in range(2)]
    check = manager.assert_result_tasks_in_progress_or_completed
    inbox.run_pending(max=1)
    with pytest.raises(Sentinel):
        check(results, max_retries=2, **QUICK)
    inbox.run_pending()
    check(results, max_retries=0, **QUICK)
