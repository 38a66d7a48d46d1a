"""A worker on RabbitMQ, its results in an embedded file: what it is asked for, and what it survives."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, time

import pytest

from celeriac.exceptions import OperationalError
from celeriac.message import ALL_DEAD, QueueSize
from tests.fixtures.apps import working
from tests.fixtures.apps.working import app
from tests.fixtures.gate import Gate
from tests.fixtures.rabbit_server import RabbitServer
from tests.fixtures.servers import MakeRabbit
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, ROOT, WorkerProcess

APP = f"{APPS}.working"
WAIT = 30.0
LATE = 3.0
"""Seconds: a task that waited for its time may be so late on a machine that has other things to do."""

StartWorker = Callable[..., WorkerProcess]


class Site:
    """An app of the test process on a virtual host, and the environment of its workers."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.results = f"sqlite:///{folder / 'results.db'}"

    def __enter__(self) -> "Site":
        app.close()
        app.conf.broker_url = self.url
        app.conf.result_backend = self.results
        # Levels of the other type take seconds to make.
        app.conf.broker_native_delayed_delivery_queue_type = "classic"
        return self

    def __exit__(self, *_: object) -> None:
        app.close()
        for name in ("broker_url", "result_backend", "broker_native_delayed_delivery_queue_type"):
            delattr(app.conf, name)


@pytest.fixture
def site(rabbit_url: str, tmp_path: Path) -> Iterator[Site]:
    with Site(rabbit_url, tmp_path) as site:
        yield site


@pytest.fixture
def start(site: Site) -> Iterator[StartWorker]:
    """Start workers of this test; they are ended with it."""
    workers: list[WorkerProcess] = []

    def start_one(*options: str) -> WorkerProcess:
        results = {"CELERY_RESULT_BACKEND": site.results}
        workers.append(WorkerProcess(APP, site.url, *options, folder=ROOT, **results))
        return workers[-1].ready()

    yield start_one
    for worker in workers:
        worker.__exit__()


def queue(name: str = "celery") -> QueueSize:
    return app.broker.sizes().get(name, QueueSize())


class TestOrdinaryTasks:
    def test_results_come_back(self, start: StartWorker) -> None:
        worker = start()
        results = [working.add.delay(number, 1) for number in range(50)]
        assert [result.get(WAIT) for result in results] == list(range(1, 51))
        worker.stop()
        assert queue() == QueueSize()

    @pytest.mark.follows("ROUTE-22")
    def test_a_countdown_waits_on_the_server(self, start: StartWorker, gate: Gate) -> None:
        start()
        before = time()
        result = working.arrive.apply_async((gate.address,), countdown=2.3)
        gate.visitor().let_go()
        assert 2.3 <= result.get(WAIT) - before < 2.3 + LATE

    def test_retries_come_again(self, start: StartWorker, gate: Gate) -> None:
        start()
        result = working.stubborn.delay(gate.address, False)
        for answer in ("again", "again", "enough"):
            gate.visitor().let_go(answer)
        assert result.get(WAIT) == "after 2"

    def test_many_pass_through_and_many_again(self, start: StartWorker) -> None:
        """Twice, with a pause in which the worker has nothing to do."""
        worker = start()
        for _ in range(2):
            results = working.add.delay_many([(number, 0) for number in range(2000)])
            assert sum(result.get(WAIT) for result in results) == sum(range(2000))
            eventually(lambda: queue() == QueueSize(), WAIT)
        worker.stop()


class TestEndsOfWorkers:
    def test_a_warm_stop_gives_back_what_has_not_begun(
        self, start: StartWorker, gate: Gate
    ) -> None:
        worker = start("-c", "1")
        working.pause.delay(gate.address)
        running = gate.visitor()
        for number in range(5):
            working.add.delay(number, 1)
        worker.send(signal.SIGTERM)
        worker.wait_for("stopping")
        running.let_go()
        worker.ends()
        assert queue() == QueueSize(ready=5)

    def test_what_a_killed_worker_had_runs_elsewhere(self, start: StartWorker, gate: Gate) -> None:
        first = start()
        result = working.pause.delay(gate.address)
        gate.visitor()
        first.send(signal.SIGKILL)
        killed = monotonic()
        start()
        gate.visitor().let_go("twice")
        assert result.get(WAIT) == "twice"
        assert monotonic() - killed < WAIT

    def test_a_task_that_kills_every_worker_is_buried(self, start: StartWorker, gate: Gate) -> None:
        working.pause.delay(gate.address)
        other = working.add.delay(1, 2)
        # The first death makes it a suspect; from then on its starts are on record.
        for _ in range(4):
            worker = start("-c", "1")
            gate.visitor()
            worker.send(signal.SIGKILL)
            worker.ends(-signal.SIGKILL)
        start("-c", "1")
        assert other.get(WAIT) == 3
        [letter] = eventually(app.broker.dead, WAIT)
        assert (letter.losses, letter.message.task) == (3, working.pause.name)
        assert gate.deserted()
        assert app.broker.delete_dead(ALL_DEAD) == 1


class TestLosses:
    """A server of the test's own, which it hurts."""

    @pytest.fixture
    def server(self, make_rabbit: MakeRabbit) -> RabbitServer:
        return make_rabbit()

    @pytest.fixture
    def rabbit_url(self, server: RabbitServer) -> str:
        return server.url()

    def test_a_restart_of_the_server(
        self, server: RabbitServer, start: StartWorker, gate: Gate
    ) -> None:
        worker = start()
        before = working.pause.delay(gate.address)
        running = gate.visitor()
        server.restart()
        after = working.add.delay(1, 2)
        assert after.get(WAIT) == 3
        # Its message was lost with the connection, and has come back to the run.
        running.let_go("the first time")
        assert before.get(WAIT) == "the first time"
        worker.stop()
        assert gate.deserted()
        assert queue() == QueueSize()

    def test_a_run_that_ends_while_the_server_is_away(
        self, server: RabbitServer, start: StartWorker, gate: Gate
    ) -> None:
        worker = start()
        result = working.pause.delay(gate.address)
        running = gate.visitor()
        server.stop()
        worker.wait_for("cannot (claim|look after)", WAIT)
        running.let_go("done")
        # It is not committed yet, for somebody else may run it: nobody has the message.
        server.start()
        assert result.get(WAIT) == "done"
        worker.stop()
        assert gate.deserted()
        assert queue() == QueueSize()

    def test_a_server_that_is_away_is_named(self, server: RabbitServer, site: Site) -> None:
        app.conf.broker_timeout = 1.0
        server.stop()
        before = monotonic()
        with pytest.raises(OperationalError, match=r"guest:\*\*@.*cannot be reached within 1 s"):
            working.add.apply_async((1, 2), retry=False)
        assert monotonic() - before < 3.0
        del app.conf.broker_timeout
