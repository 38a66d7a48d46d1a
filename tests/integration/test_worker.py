"""What a worker does with ordinary tasks: retries, times, queues, requests, processes."""

import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time
from typing import Any

import pytest

from celeriac.exceptions import MaxRetriesExceededError, TaskRevokedError
from celeriac.message import QueueSize
from celeriac.results.base import task_key
from tests.fixtures.apps import working
from tests.fixtures.apps.working import app
from tests.fixtures.gate import Gate
from tests.fixtures.system import resident
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, SERVERS, WorkerProcess, connected, server_url

APP = f"{APPS}.working"
WAIT = 10.0
PUNCTUAL = 0.3
"""Seconds by which a task may be late that waited for its time."""

StartWorker = Callable[..., WorkerProcess]


@pytest.fixture(scope="module", params=SERVERS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with connected(app, tmp_path_factory.mktemp("worker"), server_url(request)) as url:
        yield url


@pytest.fixture(scope="module")
def shared(url: str) -> Iterator[WorkerProcess]:
    with WorkerProcess(APP, url, "-n", "shared@%h") as worker:
        yield worker.ready()


@pytest.fixture
def worker(shared: WorkerProcess) -> WorkerProcess:
    """The worker of most tests: two processes, queue ``celery``."""
    assert "celery" not in app.broker.sizes(), "the test before left something behind"
    return shared


@pytest.fixture
def start(url: str, shared: WorkerProcess) -> Iterator[StartWorker]:
    """Start workers of this test's own; they are ended with it."""
    workers: list[WorkerProcess] = []

    def start_one(*options: str, module: str = APP) -> WorkerProcess:
        workers.append(WorkerProcess(module, url, *options))
        return workers[-1].ready()

    yield start_one
    for worker in workers:
        worker.__exit__()


def queue(name: str = "celery") -> QueueSize:
    return app.broker.sizes().get(name, QueueSize())


def raised_by(result: Any) -> BaseException:
    error: BaseException = result.get(WAIT, propagate=False)
    assert result.failed()
    return error


class TestRetries:
    @pytest.mark.follows("TASK-27")
    def test_a_task_that_retries_runs_again_under_its_id(
        self, worker: WorkerProcess, gate: Gate
    ) -> None:
        result = working.stubborn.delay(gate.address, False)
        for number, answer in enumerate(["again", "again", "enough"]):
            run = gate.visitor()
            assert run.word == str(number)
            run.let_go(answer)
        assert result.get(WAIT) == "after 2"
        worker.wait_for(rf"stubborn\[{result.id}\] succeeded")
        assert worker.count(rf"stubborn\[{result.id}\] retry: Retry in 0s") == 2

    @pytest.mark.follows("TASK-28")
    def test_used_up_with_an_exception_it_fails_with_that(
        self, worker: WorkerProcess, gate: Gate
    ) -> None:
        result = working.stubborn.delay(gate.address, True)
        for _ in range(3):
            gate.visitor().let_go("again")
        error = raised_by(result)
        assert (type(error), error.args) == (LookupError, ("not there",))
        assert gate.deserted()

    @pytest.mark.follows("TASK-28")
    def test_used_up_without_an_exception_it_says_so(
        self, worker: WorkerProcess, gate: Gate
    ) -> None:
        result = working.stubborn.delay(gate.address, False)
        for _ in range(3):
            gate.visitor().let_go("again")
        error = raised_by(result)
        assert type(error) is MaxRetriesExceededError
        assert f"stubborn[{result.id}]" in str(error)

    @pytest.mark.follows("TASK-27")
    def test_it_may_change_its_arguments(self, worker: WorkerProcess) -> None:
        assert working.change.delay(5, word="go").get(WAIT) == "go....."

    @pytest.mark.follows("TASK-32")
    @pytest.mark.parametrize(("name", "jitter"), [("backs_off", 0), ("backs_off_with_jitter", 1)])
    def test_exceptions_of_a_kind_are_retried_later_each_time(
        self, worker: WorkerProcess, gate: Gate, name: str, jitter: bool
    ) -> None:
        result = app.send_task(f"{APP}.{name}", (gate.address,))
        moments = []
        for number in range(3):
            run = gate.visitor()
            retries, _, moment = run.word.partition(" ")
            assert int(retries) == number
            moments.append(float(moment))
            run.let_go()
        first, second = moments[1] - moments[0], moments[2] - moments[1]
        assert 0.1 * (not jitter) <= first <= 0.1 + PUNCTUAL
        assert 0.2 * (not jitter) <= second <= 0.2 + PUNCTUAL
        assert isinstance(raised_by(result), ConnectionError)

    @pytest.mark.follows("TASK-32")
    def test_some_of_the_kind_may_be_left_out(self, worker: WorkerProcess, gate: Gate) -> None:
        result = working.not_for_this.delay(gate.address)
        gate.visitor().let_go()
        assert isinstance(raised_by(result), FileNotFoundError)
        assert gate.deserted()


class TestTimes:
    @pytest.mark.follows("CALL-03")
    @pytest.mark.parametrize("kind", ["countdown", "eta", "eta as text"])
    def test_it_waits_in_the_broker_and_runs_on_time(
        self, worker: WorkerProcess, gate: Gate, kind: str
    ) -> None:
        due = time() + 0.5
        moment = datetime.fromtimestamp(due, UTC)
        kinds: dict[str, Any] = {
            "countdown": {"countdown": 0.5},
            "eta": {"eta": moment},
            "eta as text": {"eta": moment.isoformat()},
        }
        result = working.arrive.apply_async((gate.address,), **kinds[kind])
        assert queue() == QueueSize(delayed=1)
        run = gate.visitor()
        assert queue() == QueueSize(leased=1)
        run.let_go()
        assert due - 0.01 <= result.get(WAIT) <= due + PUNCTUAL
        worker.wait_for(rf"arrive\[{result.id}\] succeeded")
        assert worker.count(rf"arrive\[{result.id}\] received") == 1, "never before its time"

    @pytest.mark.follows("CALL-03")
    def test_an_eta_that_has_passed_runs_at_once(self, worker: WorkerProcess, gate: Gate) -> None:
        past = datetime.now(UTC) - timedelta(hours=1)
        result = working.arrive.apply_async((gate.address,), eta=past)
        gate.visitor().let_go()
        assert result.get(WAIT) == pytest.approx(time(), abs=PUNCTUAL)

    def test_the_soonest_runs_first(self, worker: WorkerProcess, gate: Gate) -> None:
        for word, countdown in (("late", 0.4), ("soon", 0.1)):
            working.pause.apply_async((gate.address, word), countdown=countdown)
        words = []
        for _ in range(2):
            run = gate.visitor()
            words.append(run.word)
            run.let_go()
        assert words == ["soon", "late"]
        assert eventually(lambda: queue() == QueueSize())

    @pytest.mark.follows("CALL-04", "QUIRK-22")
    def test_what_expires_while_it_waits_does_not_run(
        self, worker: WorkerProcess, gate: Gate
    ) -> None:
        result = working.arrive.apply_async((gate.address,), countdown=0.3, expires=0.1)
        error: Any = result.get(WAIT, propagate=False)
        assert (result.state, type(error)) == ("REVOKED", TaskRevokedError)
        assert gate.deserted()

    def test_what_has_not_expired_runs(self, worker: WorkerProcess) -> None:
        assert working.add.apply_async((1, 2), expires=60).get(WAIT) == 3

    def test_many_that_wait_cost_the_worker_nothing(self, worker: WorkerProcess) -> None:
        working.add.delay(1, 1).get(WAIT)
        before = resident(worker.pid)
        many = [(number, 0) for number in range(5000)]
        working.add.delay_many(many, countdown=3600)
        working.add.delay(1, 1).get(WAIT)
        assert queue() == QueueSize(delayed=5000)
        assert resident(worker.pid) - before < 1024, "KiB"
        assert app.broker.purge("celery") == 5000


class TestQueues:
    @pytest.mark.follows("QUIRK-02")
    def test_higher_priority_first_then_oldest_first(self, start: StartWorker, gate: Gate) -> None:
        for word, priority in [("a", 0), ("b", 5), ("c", 9), ("d", 5), ("e", 0)]:
            working.pause.apply_async((gate.address, word), priority=priority, queue="ordered")
        start("-Q", "ordered", "-c", "1")
        words = []
        for _ in range(5):
            run = gate.visitor()
            words.append(run.word)
            run.let_go()
        assert "".join(words) == "cbdae"
        assert eventually(lambda: queue("ordered") == QueueSize())

    @pytest.mark.follows("ROUTE-05", "ROUTE-11")
    def test_a_worker_takes_from_its_queues_only(self, start: StartWorker) -> None:
        for name in ("fruit", "nuts", "stones"):
            working.echo.apply_async((name,), queue=name, task_id=f"from-{name}")
        start("-Q", "fruit, nuts")
        assert app.AsyncResult("from-fruit").get(WAIT) == "fruit"
        assert app.AsyncResult("from-nuts").get(WAIT) == "nuts"
        assert app.broker.sizes() == {"stones": QueueSize(ready=1)}
        assert app.broker.purge("stones") == 1

    def test_two_workers_share_a_backlog_and_each_task_runs_once(
        self, start: StartWorker, tmp_path: Path
    ) -> None:
        ledger = str(tmp_path / "ledger")
        for name in ("one", "two"):
            start("-Q", "backlog", "-n", name)
        results = working.note.delay_many([(ledger, n) for n in range(600)], queue="backlog")
        for result in results:
            result.get(WAIT)
        lines = [line.split() for line in Path(ledger).read_text().splitlines()]
        assert Counter(int(number) for number, _ in lines) == Counter(range(600))
        assert len({template for _, template in lines}) == 2, "both took part"

    def test_an_unknown_task_is_run_by_another_worker_that_knows_it(
        self, start: StartWorker, gate: Gate
    ) -> None:
        result = app.send_task("succeed.late", (gate.address,), queue="foreign")
        ignorant = start("-Q", "foreign")
        ignorant.wait_for(rf"succeed\.late\[{result.id}\] is not known here")
        parked = QueueSize(delayed=1, unknown={"succeed.late": 1})
        assert eventually(lambda: queue("foreign") == parked)
        ignorant.stop()
        start("-Q", "foreign", module=f"{APPS}.settling")
        gate.visitor().let_go("known")
        assert result.get(WAIT) == "known"


class TestRequest:
    @pytest.mark.follows("TASK-25", "CALL-02", "CALL-14", "CALL-21", "ROUTE-10")
    def test_what_a_call_says_is_in_the_request(self, worker: WorkerProcess) -> None:
        result = working.request.apply_async(
            task_id="chosen",
            headers={"tenant": "acme"},
            priority=4,
            time_limit=9,
            soft_time_limit=8,
        )
        assert result.id == "chosen"
        assert result.get(WAIT) == {
            "id": "chosen",
            "root_id": "chosen",
            "parent_id": None,
            "retries": 0,
            "hostname": f"shared@{os.uname().nodename}",
            "tenant": "acme",
            "headers": {"tenant": "acme"},
            "expires": None,
            "timelimit": [9, 8],
            "delivery_info": {
                "exchange": "",
                "routing_key": "celery",
                "priority": 4,
                "redelivered": False,
            },
        }

    @pytest.mark.follows("CALL-11", "CALL-12")
    def test_a_task_sent_by_a_task_belongs_to_its_tree(self, worker: WorkerProcess) -> None:
        first = working.parent.apply_async(root_id="root")
        second = app.AsyncResult(first.get(WAIT))
        found = second.get(WAIT)
        assert (found["root_id"], found["parent_id"]) == ("root", first.id)
        assert first.children == [second]

    @pytest.mark.follows("APP-02", "APP-35")
    def test_the_app_of_the_worker_is_the_current_one(self, worker: WorkerProcess) -> None:
        name, sent = working.asks_for_the_app.delay().get(WAIT)
        assert name == app.main
        assert app.AsyncResult(sent).get(WAIT) == 3

    @pytest.mark.follows("TASK-45")
    def test_waiting_for_another_task_is_refused(self, worker: WorkerProcess) -> None:
        error = raised_by(working.waits_for_another.delay())
        assert type(error) is RuntimeError
        assert "waits for the result of another task" in str(error)
        assert eventually(lambda: queue() == QueueSize())


class TestStates:
    @pytest.mark.follows("TASK-36")
    def test_states_are_seen_before_the_end(self, worker: WorkerProcess, gate: Gate) -> None:
        result = working.progress.delay(gate.address)
        for step in (1, 2):
            run = gate.visitor()
            assert eventually(lambda: result.info == {"step": step})  # noqa: B023
            assert result.state == "PROGRESS"
            run.let_go()
        assert result.get(WAIT) == "done"

    @pytest.mark.follows("TASK-18")
    def test_a_tracked_start_is_seen(self, worker: WorkerProcess, gate: Gate) -> None:
        result = working.tracked.delay(gate.address)
        run = gate.visitor()
        assert eventually(lambda: result.state == "STARTED")
        assert result.info == {"pid": run.pid, "hostname": f"shared@{os.uname().nodename}"}
        run.let_go()
        assert result.get(WAIT) is None

    @pytest.mark.follows("TASK-18")
    def test_an_untracked_start_is_not(self, worker: WorkerProcess, gate: Gate) -> None:
        result = working.pause.delay(gate.address)
        run = gate.visitor()
        assert result.state == "PENDING"
        run.let_go()
        result.get(WAIT)

    @pytest.mark.follows("TASK-10", "RES-17")
    @pytest.mark.parametrize("by", ["task", "call"])
    def test_an_ignored_result_is_not_stored(
        self, worker: WorkerProcess, gate: Gate, by: str
    ) -> None:
        if by == "task":
            result = working.ignored.delay(gate.address)
        else:
            result = working.pause.apply_async((gate.address,), ignore_result=True)
        gate.visitor().let_go()
        assert eventually(lambda: queue() == QueueSize())
        assert result.get(timeout=0) is None
        assert app.store is not None
        assert app.store.get([task_key(result.id)]) == {}

    @pytest.mark.follows("TASK-10")
    def test_a_call_may_ask_for_a_result_that_its_task_ignores(
        self, worker: WorkerProcess, gate: Gate
    ) -> None:
        result = working.ignored.apply_async((gate.address,), ignore_result=False)
        gate.visitor().let_go("kept")
        assert result.get(WAIT) == "kept"

    def test_the_document_is_what_celery_reads(self, worker: WorkerProcess) -> None:
        result = working.add.apply_async((1, 2), task_id="documented")
        result.get(WAIT)
        assert app.store is not None
        [data] = app.store.get(["celery-task-meta-documented"]).values()
        document = json.loads(data)
        assert datetime.fromisoformat(document.pop("date_done")).tzinfo is not None
        assert document == {
            "status": "SUCCESS",
            "result": 3,
            "traceback": None,
            "children": [],
            "name": f"{APP}.add",
            "args": [1, 2],
            "kwargs": {},
            "worker": f"shared@{os.uname().nodename}",
            "retries": 0,
            "queue": "celery",
            "task_id": "documented",
        }


class TestProcesses:
    def test_large_arguments_and_results(self, worker: WorkerProcess) -> None:
        large = "ä" * 1_000_000
        assert working.echo.delay(large).get(WAIT) == large

    def test_a_task_may_use_a_pool_of_processes(self, worker: WorkerProcess) -> None:
        assert working.forks.delay().get(WAIT) == list(range(50, 0, -1))

    def test_a_program_that_a_task_starts_holds_nothing_of_the_workers(
        self, worker: WorkerProcess
    ) -> None:
        # Its three streams, and the folder that it lists.
        assert working.starts_program.delay().get(WAIT) == "['0', '1', '2', '3']\n"

    def test_what_a_task_prints_is_seen_at_once(self, worker: WorkerProcess, gate: Gate) -> None:
        working.prints.delay("hello", gate.address)
        run = gate.visitor()
        worker.wait_for("err hello", within=2)
        worker.wait_for("out hello", within=2)
        run.let_go()
        assert eventually(lambda: queue() == QueueSize())

    @pytest.mark.follows("PROT-05")
    @pytest.mark.parametrize("by", ["option", "setting"])
    def test_a_process_is_replaced_after_so_many_tasks(self, start: StartWorker, by: str) -> None:
        if by == "option":
            start("-Q", "short", "-c", "1", "--max-tasks-per-child", "2")
        else:
            start("-Q", "short", "-c", "1", module=f"{APPS}.short_lived")
        results = working.who.delay_many([()] * 6, queue="short")
        pids = [result.get(WAIT) for result in results]
        assert sorted(Counter(pids).values()) == [2, 2, 2]

    @pytest.mark.follows("PROT-06")
    @pytest.mark.parametrize("by", ["option", "setting"])
    def test_a_process_that_has_grown_is_replaced(self, start: StartWorker, by: str) -> None:
        if by == "option":
            start("-Q", "short", "-c", "1", "--max-memory-per-child", "1")
        else:
            start("-Q", "short", "-c", "1", module=f"{APPS}.small")
        results = working.who.delay_many([()] * 3, queue="short")
        assert len({result.get(WAIT) for result in results}) == 3

    def test_no_more_run_at_once_than_there_are_processes(
        self, start: StartWorker, gate: Gate
    ) -> None:
        start("-Q", "narrow", "-c", "2")
        results = working.pause.delay_many([(gate.address,)] * 4, queue="narrow")
        first, second = gate.visitor(), gate.visitor()
        assert first.pid != second.pid
        assert gate.deserted()
        assert queue("narrow") == QueueSize(ready=2, leased=2), "what was never measured waits"
        first.let_go()
        third = gate.visitor()
        assert third.pid == first.pid
        second.let_go()
        third.let_go()
        gate.visitor().let_go()
        for result in results:
            result.get(WAIT)

    def test_an_idle_process_that_dies_is_replaced(self, start: StartWorker, gate: Gate) -> None:
        start("-Q", "idle", "-c", "1")
        pid = working.who.apply_async(queue="idle").get(WAIT)
        os.kill(pid, signal.SIGKILL)
        assert working.who.apply_async(queue="idle").get(WAIT) != pid
