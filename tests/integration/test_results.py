"""What a caller reads of tasks that a worker really ran, and how it waits for them."""

import asyncio
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from celeriac.result import result_from_tuple
from tests.fixtures.apps import resulting
from tests.fixtures.apps.resulting import app
from tests.fixtures.gate import Gate
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, SERVERS, WorkerProcess, connected, server_url

APP = f"{APPS}.resulting"
WAIT = 10.0


@pytest.fixture(scope="module", params=SERVERS)
def worker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    with (
        connected(app, tmp_path_factory.mktemp("results"), server_url(request)) as url,
        WorkerProcess(APP, url) as process,
    ):
        yield process.ready()


pytestmark = pytest.mark.usefixtures("worker")


@pytest.mark.follows("RES-04")
def test_everything_is_told_of_a_task_that_ran() -> None:
    result = resulting.add.delay(1, y=2)
    assert result.get(WAIT) == 3
    assert result.date_done is not None
    assert abs(datetime.now(UTC) - result.date_done) < timedelta(seconds=30)
    assert (result.name, result.args, result.kwargs) == (f"{APP}.add", [1], {"y": 2})
    assert (result.retries, result.queue, result.children) == (0, "celery", [])
    assert result.worker is not None
    assert "@" in result.worker
    assert (result.parent, result.ignored, result.exists()) == (None, False, True)


@pytest.mark.follows("CALL-12", "RES-09", "RES-24")
def test_a_family_is_collected() -> None:
    result = resulting.fan_out.delay(3)
    assert result.get(WAIT) == 3
    assert result.children is not None
    assert sorted(child.get(WAIT) for child in result.children) == [0, 2, 4]
    found = list(result.collect(timeout=WAIT))
    assert [value for _, value in found] == [3, 0, 2, 4]
    assert result.get_leaf() == 4
    assert len(result.graph) == 4


@pytest.mark.follows("RES-21", "RES-10")
def test_a_task_returns_the_result_of_another() -> None:
    written = resulting.send_one.delay().get(WAIT)
    assert result_from_tuple(written, app).get(WAIT) == 3


@pytest.mark.follows("TASK-36", "RES-01")
def test_states_of_ones_own_are_seen_while_it_runs(gate: Gate) -> None:
    result = resulting.progress.delay(gate.address)
    run = gate.visitor()
    eventually(lambda: result.state == "PROGRESS")
    assert (result.info, result.date_done, result.name) == ({"step": 1}, None, f"{APP}.progress")
    another = app.AsyncResult("another")
    eventually(another.exists)
    assert (another.info, another.name) == ({"of": result.id}, None)
    seen: list[Any] = []
    run.let_go()
    assert result.get(WAIT, on_message=lambda meta: seen.append(meta["status"])) == "done"
    assert set(seen) <= {"PROGRESS", "SUCCESS"}
    resulting.progress.update_state(task_id=result.id, state="PROGRESS", meta="too late")
    assert app.AsyncResult(result.id).get(WAIT) == "done", "SUCCESS stays"


@pytest.mark.follows("TASK-36")
def test_the_last_word_is_the_outcome() -> None:
    result = resulting.late_state.delay()
    with pytest.raises(LookupError, match="not there"):
        result.get(WAIT)


@pytest.mark.follows("TASK-45")
def test_a_task_waits_for_another_only_if_it_may() -> None:
    with pytest.raises(RuntimeError, match="waits for the result of another task"):
        resulting.wait_inside.delay("denied").get(WAIT)
    assert resulting.wait_inside.delay("allowed").get(WAIT) == 3
    assert resulting.wait_inside.delay("insisting").get(WAIT) == 3


@pytest.mark.follows("RES-05")
def test_callbacks_are_called_when_workers_are_done() -> None:
    got: list[int] = []
    wrong: list[str] = []
    for number in range(20):
        resulting.add.delay(number, 1).then(lambda result: got.append(result.get()))
    resulting.fail.delay("oops").then(
        lambda result: result.get(), on_error=lambda error: wrong.append(str(error))
    )
    eventually(lambda: len(got) == 20 and wrong)
    assert (sorted(got), wrong) == (list(range(1, 21)), ["oops"])


@pytest.mark.follows("RES-26", "RES-02")
def test_threads_coroutines_and_callbacks_wait_at_one_watch() -> None:
    results = resulting.add.delay_many([(n, n) for n in range(300)])
    got: list[int] = []

    async def collect() -> list[int]:
        return list(await asyncio.gather(*(result.aget(WAIT) for result in results[:100])))

    for result in results[100:200]:
        result.then(lambda result: got.append(result.get()))
    threads = [
        threading.Thread(target=lambda r=result: got.append(r.get(WAIT)))
        for result in results[200:]
    ]
    for thread in threads:
        thread.start()
    assert asyncio.run(collect()) == [2 * n for n in range(100)]
    for thread in threads:
        thread.join(WAIT)
    eventually(lambda: len(got) == 200)
    assert sorted(got) == [2 * n for n in range(100, 300)]
    listener = app.backend.listener
    eventually(
        lambda: (listener._waits, listener._subscribers, listener._watched) == ({}, {}, set())
    )


@pytest.mark.follows("RES-15", "RES-16")
def test_a_traceback_is_told_as_text() -> None:
    result = resulting.deep.delay(3)
    with pytest.raises(ZeroDivisionError, match="at the bottom") as caught:
        result.get(WAIT)
    assert result.traceback is not None
    assert result.traceback.count("in deep") == 4
    assert result.traceback in str(caught.value.__cause__) + "\n"


@pytest.mark.follows("RES-15")
def test_or_as_frames_if_that_is_wanted() -> None:
    app.conf.task_remote_tracebacks = True
    try:
        with pytest.raises(ZeroDivisionError) as caught:
            resulting.deep.delay(3).get(WAIT)
    finally:
        app.conf.task_remote_tracebacks = False
    frames = traceback.extract_tb(caught.value.__traceback__)
    deep = [frame for frame in frames if frame.name == "deep"]
    assert len(deep) == 4
    assert all(frame.filename.endswith("resulting.py") for frame in deep)
    assert deep[-1].line == 'raise ZeroDivisionError("at the bottom")'
    assert caught.value.__cause__ is None, "it is not told twice"


@pytest.mark.follows("RES-25")
@pytest.mark.parametrize(("early", "answer"), [(True, "stopped"), (False, "stopped later")])
def test_a_task_ends_when_it_sees_that_it_was_aborted(gate: Gate, early: bool, answer: str) -> None:
    result: Any = resulting.abortable.delay(gate.address)
    run = gate.visitor()
    if not early:
        run.let_go()
        run = gate.visitor()
    result.abort()
    assert result.is_aborted()
    run.let_go()
    assert result.get(WAIT) == answer
    assert not result.is_aborted()


@pytest.mark.follows("RES-17")
def test_what_is_ignored_is_none_and_not_stored() -> None:
    result = resulting.quiet.delay()
    assert result.get() is None
    assert resulting.add.delay(1, 2).get(WAIT) == 3
    assert not app.AsyncResult(result.id).exists()


@pytest.mark.follows("RES-03")
def test_a_parent_that_fails_in_a_worker_is_raised() -> None:
    last = app.AsyncResult("never sent")
    last.parent = resulting.fail.delay("earlier")
    with pytest.raises(ValueError, match="earlier"):
        last.get(WAIT)


@pytest.mark.follows("RES-06")
def test_forgotten_results_are_gone() -> None:
    result = resulting.add.delay(1, 2)
    assert result.get(WAIT) == 3
    result.forget()
    assert not app.AsyncResult(result.id).exists()
