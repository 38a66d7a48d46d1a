"""The settlement table with a real worker: each row is a test, run for both columns.

``early`` tasks are acknowledged when they start, ``late`` ones with their outcome. Rows that need a store
which is away or refuses, or a receipt which is lost, are in ``tests/unit/test_completer.py``.
"""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from msgspec.structs import replace

from celeriac import states
from celeriac.brokers.redis.broker import RedisBroker
from celeriac.brokers.sqlite.broker import SqliteBroker
from celeriac.exceptions import (
    EncodeError,
    TaskRevokedError,
    TimeLimitExceeded,
    WorkerLostError,
)
from celeriac.message import DeadLetter, Message, Publish, QueueSize
from celeriac.result import AsyncResult
from celeriac.settings import Settings
from celeriac.wire.task import Call, encode_headers
from tests.fixtures.apps.settling import app
from tests.fixtures.gate import Gate
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, SERVERS, WorkerProcess, connected, server_url

APP = f"{APPS}.settling"
LIMIT = Settings().task_delivery_limit
WAIT = 10.0

Send = Callable[..., AsyncResult[Any]]


@pytest.fixture(scope="module", params=SERVERS)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with connected(app, tmp_path_factory.mktemp("settlement"), server_url(request)) as url:
        yield url


@pytest.fixture(scope="module")
def shared(url: str) -> Iterator[WorkerProcess]:
    with WorkerProcess(APP, url) as worker:
        yield worker.ready()


@pytest.fixture
def worker(shared: WorkerProcess) -> WorkerProcess:
    assert app.broker.sizes() == {}, "the test before left something behind"
    return shared


@pytest.fixture(params=["early", "late"])
def policy(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def send(policy: str, gate: Gate) -> Send:
    """Send a task under this policy, with the gate that its runs come to."""

    def send_one(name: str, **options: Any) -> AsyncResult[Any]:
        return app.send_task(f"{name}.{policy}", (gate.address,), **options)

    return send_one


def queue() -> QueueSize:
    return app.broker.sizes().get("celery", QueueSize())


def letter_of(result: AsyncResult[Any]) -> DeadLetter | None:
    return next((letter for letter in app.broker.dead() if letter.message.id == result.id), None)


def failure_of(result: AsyncResult[Any]) -> BaseException:
    error: Any = result.get(WAIT, propagate=False)
    assert result.state == "FAILURE"
    return error


class TestWhileItRuns:
    @pytest.mark.follows("TASK-14")
    def test_started(self, worker: WorkerProcess, policy: str, gate: Gate, send: Send) -> None:
        result = send("succeed")
        run = gate.visitor()
        assert queue() == (QueueSize() if policy == "early" else QueueSize(leased=1))
        run.let_go()
        assert result.get(WAIT) == "go"

    def test_early_acks_are_sent_for_started_jobs_only(
        self, worker: WorkerProcess, gate: Gate
    ) -> None:
        results = [app.send_task("succeed.early", (gate.address,)) for _ in range(3)]
        runs = [gate.visitor(), gate.visitor()]
        assert queue() in (QueueSize(ready=1), QueueSize(leased=1))
        for run in runs:
            run.let_go()
        gate.visitor().let_go()
        assert [result.get(WAIT) for result in results] == ["go"] * 3


class TestWhenItHasEnded:
    """Afterwards nothing is left of the message: acknowledged before, or with the outcome."""

    @pytest.fixture(autouse=True)
    def nothing_left(self, worker: WorkerProcess, gate: Gate) -> Iterator[None]:
        yield
        assert eventually(lambda: queue() == QueueSize())
        assert gate.deserted()

    def test_succeeded(self, gate: Gate, send: Send) -> None:
        result = send("succeed")
        gate.visitor().let_go("done")
        assert result.get(WAIT) == "done"
        assert queue() == QueueSize()

    def test_failed(self, gate: Gate, send: Send) -> None:
        result = send("fail")
        gate.visitor().let_go("bad luck")
        error = failure_of(result)
        assert (type(error), error.args) == (ValueError, ("bad luck",))
        assert queue() == QueueSize()
        assert letter_of(result) is None

    @pytest.mark.follows("TASK-15")
    def test_failed_with_acks_on_failure_false(self, policy: str, gate: Gate, send: Send) -> None:
        result = send("fail_for_good")
        gate.visitor().let_go("bad luck")
        assert type(failure_of(result)) is ValueError
        letter = letter_of(result)
        if policy == "early":
            assert letter is None
        else:
            assert letter is not None
            assert letter.reason == "ValueError('bad luck')"

    def test_retried(self, gate: Gate, send: Send) -> None:
        result = send("retry")
        gate.visitor().let_go()
        assert eventually(lambda: result.state == "RETRY")
        assert queue() == QueueSize(delayed=1)
        assert isinstance(result.result, KeyError)
        assert app.broker.purge("celery") == 1

    @pytest.mark.follows("TASK-33")
    def test_ignored(self, worker: WorkerProcess, gate: Gate, send: Send) -> None:
        result = send("ignore")
        gate.visitor().let_go()
        worker.wait_for(rf"ignore\.\w+\[{result.id}\] ignored")
        assert eventually(lambda: queue() == QueueSize())
        assert result.state == "PENDING"
        assert letter_of(result) is None

    @pytest.mark.follows("PROT-02")
    def test_soft_limit(self, gate: Gate, send: Send) -> None:
        result = send("pass_soft_limit")
        gate.visitor().let_go()
        assert type(failure_of(result)).__name__ == "SoftTimeLimitExceeded"
        assert queue() == QueueSize()
        assert letter_of(result) is None

    @pytest.mark.follows("PROT-01")
    def test_hard_limit(self, gate: Gate, send: Send) -> None:
        result = send("pass_hard_limit")
        gate.visitor().let_go()
        error = failure_of(result)
        assert (type(error), error.args) == (TimeLimitExceeded, (0.2,))
        assert queue() == QueueSize()
        assert letter_of(result) is None

    @pytest.mark.follows("TASK-15")
    def test_hard_limit_with_acks_on_timeout_false(
        self, policy: str, gate: Gate, send: Send
    ) -> None:
        result = send("pass_hard_limit_again")
        for _ in range(LIMIT if policy == "late" else 1):
            assert result.state == "PENDING"
            gate.visitor().let_go()
        assert type(failure_of(result)) is TimeLimitExceeded
        letter = letter_of(result)
        if policy == "early":
            assert letter is None
        else:
            assert letter is not None
            assert "its time limit of 0.2 s passed" in letter.reason

    @pytest.mark.follows("TASK-16")
    def test_child_died_with_reject_on_worker_lost_true(
        self, policy: str, gate: Gate, send: Send
    ) -> None:
        result = send("die")
        pids = set()
        for _ in range(LIMIT if policy == "late" else 1):
            assert result.state == "PENDING"
            run = gate.visitor()
            pids.add(run.pid)
            run.let_go("die")
        error = failure_of(result)
        assert type(error) is WorkerLostError
        assert "killed by SIGKILL" in str(error)
        letter = letter_of(result)
        if policy == "early":
            assert letter is None
        else:
            assert letter is not None
            assert "killed by SIGKILL" in letter.reason
            assert len(pids) == LIMIT

    @pytest.mark.follows("TASK-16")
    def test_child_died_once_and_the_next_run_succeeds(
        self, worker: WorkerProcess, gate: Gate
    ) -> None:
        result = app.send_task("die.late", (gate.address,))
        gate.visitor().let_go("die")
        gate.visitor().let_go("alive")
        assert result.get(WAIT) == "alive"
        assert letter_of(result) is None
        worker.wait_for(rf"{result.id}\] was lost: .*SIGKILL \(to be run again\)")

    @pytest.mark.follows("TASK-17")
    @pytest.mark.parametrize(("answer", "fails"), [("alive", False), ("die", True)])
    def test_child_died_with_retry_on_worker_lost(
        self, gate: Gate, send: Send, worker: WorkerProcess, answer: str, fails: bool
    ) -> None:
        result = send("die_and_retry")
        gate.visitor().let_go("die")
        visitor = gate.visitor()
        assert result.state == states.RETRY
        visitor.let_go(answer)
        if fails:
            assert type(failure_of(result)) is WorkerLostError
        else:
            assert result.get(WAIT) == "alive"
        assert result.retries == 1
        assert letter_of(result) is None

    @pytest.mark.follows("TASK-16", "PROT-08")
    def test_child_died_with_reject_on_worker_lost_false(self, gate: Gate, send: Send) -> None:
        result = send("die_once")
        gate.visitor().let_go()
        error = failure_of(result)
        assert type(error) is WorkerLostError
        assert "killed by SIGKILL" in str(error)
        assert letter_of(result) is None

    @pytest.mark.follows("TASK-16")
    def test_child_died_with_reject_on_worker_lost_none(self, gate: Gate, send: Send) -> None:
        result = send("die_by_default")
        gate.visitor().let_go()
        error = failure_of(result)
        assert type(error) is WorkerLostError
        assert "exited with status 3" in str(error)
        assert letter_of(result) is None

    @pytest.mark.follows("TASK-34")
    def test_rejected_with_requeue(
        self, worker: WorkerProcess, policy: str, gate: Gate, send: Send
    ) -> None:
        result = send("reject")
        gate.visitor().let_go("requeue")
        if policy == "late":
            again = gate.visitor()
            assert result.state == "PENDING"
            again.let_go("done")
            assert result.get(WAIT) == "done"
        else:
            worker.wait_for(rf"{result.id}\] reject requeue=True: later")
        assert letter_of(result) is None

    @pytest.mark.follows("TASK-34")
    def test_rejected_without_requeue(self, policy: str, gate: Gate, send: Send) -> None:
        result = send("reject")
        gate.visitor().let_go("dead")
        assert type(failure_of(result)).__name__ == "Reject"
        letter = letter_of(result)
        if policy == "early":
            assert letter is None
        else:
            assert letter is not None
            assert letter.reason == "rejected: never"

    @pytest.mark.follows("SER-07")
    def test_result_cannot_be_encoded(self, gate: Gate, send: Send) -> None:
        result = send("return_no_json")
        gate.visitor().let_go()
        error = failure_of(result)
        assert type(error) is EncodeError
        assert "object" in str(error)
        assert letter_of(result) is None

    def test_result_cannot_be_encoded_is_settled_as_failed(
        self, policy: str, gate: Gate, send: Send
    ) -> None:
        result = send("return_no_json_for_good")
        gate.visitor().let_go()
        assert type(failure_of(result)) is EncodeError
        assert (letter_of(result) is not None) == (policy == "late")


class TestBeforeItRuns:
    """The policy has had no say yet: both columns say the same."""

    @pytest.fixture(autouse=True)
    def nothing_ran(self, worker: WorkerProcess, gate: Gate) -> Iterator[None]:
        yield
        assert eventually(lambda: queue() == QueueSize())
        assert gate.deserted()

    @pytest.mark.follows("CALL-04", "QUIRK-22")
    def test_expired(self, send: Send) -> None:
        result = send("succeed", expires=-1)
        error: Any = result.get(WAIT, propagate=False)
        assert result.state == "REVOKED"
        assert (type(error), error.args) == (TaskRevokedError, ("expired",))
        assert letter_of(result) is None

    @pytest.mark.follows("SEC-01")
    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"body": b"\xff\xfe"}, "cannot read JSON"),
            ({"headers": b"[1, 2]"}, "headers"),
            ({"content_type": "application/x-python-serialize"}, "accept_content"),
        ],
        ids=["body", "headers", "content type refused"],
    )
    def test_undecodable(self, policy: str, changes: dict[str, Any], words: str) -> None:
        name = f"succeed.{policy}"
        id_ = f"odd-{words}-{policy}"
        call = Call(task=name, id=id_, origin="", argsrepr="", kwargsrepr="")
        good: dict[str, Any] = {"headers": encode_headers(call), "body": b"[[], {}, {}]"}
        message = Message(id=id_, task=name, **{**good, **changes})
        app.broker.publish([Publish(queue="celery", message=message)])
        letter = eventually(lambda: letter_of(app.AsyncResult(message.id)))
        assert letter is not None
        assert words in letter.reason
        # Servers that keep no name apart tell that of the headers, if they can be read.
        assert letter.message in (message, replace(message, task=""))

    def test_unknown_task(self, worker: WorkerProcess) -> None:
        result = app.send_task("nobody.knows")
        worker.wait_for(rf"nobody\.knows\[{result.id}\] is not known here")
        # Back with delay, uncounted, and visible; then, after task_unknown_ttl, dead-lettered.
        parked = QueueSize(delayed=1, unknown={"nobody.knows": 1})
        assert eventually(lambda: queue() == parked)
        error = failure_of(result)
        assert type(error).__name__ == "NotRegistered"
        letter = letter_of(result)
        assert letter is not None
        assert (letter.losses, "no worker knew task" in letter.reason) == (0, True)


class TestWorkerStopsBeforeTheRunEnded:
    @pytest.fixture
    def worker(self, url: str, shared: WorkerProcess) -> Iterator[WorkerProcess]:
        """A worker for one test, on a queue of its own."""
        with WorkerProcess(APP, url, "-Q", "mine", "-c", "1") as worker:
            yield worker.ready()

    def test_warm(self, worker: WorkerProcess, gate: Gate, send: Send) -> None:
        result = send("succeed", queue="mine")
        run = gate.visitor()
        worker.send(signal.SIGTERM)
        worker.wait_for("stopping: waiting for")
        run.let_go()
        worker.ends()
        assert result.get(WAIT) == "go"
        assert app.broker.sizes() == {}

    def test_cold(self, worker: WorkerProcess, policy: str, gate: Gate, send: Send) -> None:
        result = send("succeed", queue="mine")
        gate.visitor()
        worker.stop(signal.SIGQUIT)
        left = {} if policy == "early" else {"mine": QueueSize(ready=1)}
        assert app.broker.sizes() == left
        assert result.state == "PENDING"
        if policy == "late":
            with closing(app.broker.consumer(["mine"])) as consumer:
                [back] = consumer.claim(1, 1000)
            assert (back.losses, back.suspect) == (0, False)
        app.broker.purge("mine")


class TestParentDiedBeforeCommit:
    def test_parent_died(
        self, url: str, shared: WorkerProcess, policy: str, gate: Gate, send: Send
    ) -> None:
        """Acknowledged early it is gone, and nothing tells of it; else it comes back as suspect."""
        result = send("succeed", queue="mine")
        with WorkerProcess(f"{APP}_soon", url, "-Q", "mine") as worker:
            worker.ready()
            gate.visitor()
            worker.stop(signal.SIGKILL, -signal.SIGKILL)
        assert result.state == "PENDING"
        if policy == "early":
            assert app.broker.sizes() == {}
            return
        with WorkerProcess(f"{APP}_soon", url, "-Q", "mine") as worker:
            worker.ready()
            run = gate.visitor()
            # Its start is on record this time: to vanish again would count.
            assert started_suspects() == 1
            run.let_go()
            assert result.get(WAIT) == "go"
            worker.stop()
        assert app.broker.sizes() == {}


def started_suspects() -> int:
    """Return how many messages are held whose holder vanished before, and whose run is on record."""
    broker = app.broker
    if isinstance(broker, SqliteBroker):
        query = "SELECT count(*) FROM message WHERE suspect = 1 AND started = 1 AND losses = 0"
        count: int = broker.database.read(query)[0][0]
        return count
    assert isinstance(broker, RedisBroker)
    started = broker._link.call("SMEMBERS", broker._keys.started)
    entries = broker._link.call("HMGET", broker._keys.unacked, *started)
    fates = [json.loads(entry)[0]["celeriac"] for entry in entries]
    return sum(suspect == 1 and losses == 0 for _, suspect, losses, *_ in fates)
