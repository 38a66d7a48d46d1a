"""How workers stop, warm, cold and killed; and that nothing is lost by it."""

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from time import monotonic

import pytest

from celeriac.message import QueueSize
from tests.fixtures.apps import working
from tests.fixtures.apps.working import app
from tests.fixtures.gate import Gate, Visitor
from tests.fixtures.system import dead, parent
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, WorkerProcess, connected

WAIT = 10.0
TERM, INT, QUIT, KILL = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL

# A child that has just begun may not be counted yet.
WARM = r"stopping: waiting for \d running tasks"
COLD = r"stopping now: ending \d running tasks"

StartWorker = Callable[..., WorkerProcess]

pytestmark = pytest.mark.filterwarnings("ignore::celeriac.exceptions.NoWorkerSeenWarning")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with connected(app, tmp_path) as url:
        yield url


@pytest.fixture
def start(url: str) -> Iterator[StartWorker]:
    workers: list[WorkerProcess] = []

    def start_one(*options: str, module: str = "working") -> WorkerProcess:
        workers.append(WorkerProcess(f"{APPS}.{module}", url, "-c", "1", *options))
        return workers[-1].ready()

    yield start_one
    for worker in workers:
        worker.__exit__()


def queue() -> QueueSize:
    return app.broker.sizes().get("celery", QueueSize())


def send(gate: Gate, words: str) -> None:
    working.pause.delay_many([(gate.address, word) for word in words])


def losses() -> list[int]:
    """Return the losses counted for the messages that are ready, and leave them there."""
    with closing(app.broker.consumer(["celery"])) as consumer:
        return [delivery.losses for delivery in consumer.claim(100, 1 << 30)]


def run_all(gate: Gate, count: int) -> str:
    """Let so many runs pass, one after another; return their words."""
    words = []
    for _ in range(count):
        run = gate.visitor()
        words.append(run.word)
        run.let_go()
    return "".join(words)


def family(run: Visitor) -> tuple[int, int]:
    """Return the processes behind a run: its child, and the template."""
    return run.pid, parent(run.pid)


@pytest.mark.follows("WORK-15")
class TestWarm:
    @pytest.mark.parametrize("number", [TERM, INT])
    def test_it_finishes_what_runs_and_gives_back_what_does_not(
        self, start: StartWorker, gate: Gate, number: int
    ) -> None:
        send(gate, "abcdef")
        worker = start(module="greedy")
        run = gate.visitor()
        assert eventually(lambda: queue() == QueueSize(ready=2, leased=4))
        worker.send(number)
        worker.wait_for(WARM)
        assert eventually(lambda: queue() == QueueSize(ready=5, leased=1))
        run.let_go()
        worker.ends()
        assert gate.deserted()
        assert losses() == [0] * 5
        start()
        assert run_all(gate, 5) == "bcdef", "in the order in which they were sent"

    def test_it_claims_nothing_more(self, start: StartWorker, gate: Gate) -> None:
        worker = start("-c", "2")
        send(gate, "a")
        run = gate.visitor()
        worker.send(TERM)
        worker.wait_for(WARM)
        send(gate, "b")
        run.let_go()
        worker.ends()
        assert gate.deserted()
        assert queue() == QueueSize(ready=1)

    def test_what_still_runs_may_retry(self, start: StartWorker, gate: Gate) -> None:
        worker = start()
        result = working.stubborn.delay(gate.address, False)
        run = gate.visitor()
        worker.send(TERM)
        worker.wait_for(WARM)
        run.let_go("again")
        worker.ends()
        assert (result.state, queue()) == ("RETRY", QueueSize(delayed=1))

    def test_an_idle_worker_ends_at_once_and_leaves_no_process(self, start: StartWorker) -> None:
        worker = start()
        child = working.who.delay().get(WAIT)
        template = parent(child)
        before = monotonic()
        worker.stop(TERM)
        assert monotonic() - before < 5
        assert dead(child)
        assert dead(template)
        assert app.broker.sizes() == {}

    def test_a_backlog_is_shared_over_two_lives_and_each_task_runs_once(
        self, start: StartWorker, tmp_path: Path
    ) -> None:
        ledger = tmp_path / "ledger"
        worker = start("-c", "2")
        results = working.note.delay_many([(str(ledger), number) for number in range(3000)])
        results[200].get(WAIT)
        worker.stop(TERM)
        done = len(ledger.read_text().splitlines())
        assert 200 < done < 3000
        assert queue() == QueueSize(ready=3000 - done)
        start("-c", "2")
        for result in results:
            result.get(WAIT)
        numbers = [int(line.split()[0]) for line in ledger.read_text().splitlines()]
        assert Counter(numbers) == Counter(range(3000))


@pytest.mark.follows("WORK-17")
class TestCold:
    @pytest.mark.parametrize(
        "numbers",
        [[QUIT], [TERM, TERM], [INT, INT], [TERM, QUIT]],
        ids=["QUIT", "TERM TERM", "INT INT", "TERM QUIT"],
    )
    def test_it_ends_what_runs_and_gives_it_back_uncounted(
        self, start: StartWorker, gate: Gate, numbers: list[int]
    ) -> None:
        send(gate, "ab")
        worker = start(module="greedy")
        run = gate.visitor()
        child, template = family(run)
        *first, last = numbers
        for number in first:
            worker.send(number)
            worker.wait_for(WARM)
        worker.stop(last)
        worker.wait_for(COLD)
        assert dead(child)
        assert dead(template)
        assert queue() == QueueSize(ready=2)
        assert losses() == [0, 0]
        start()
        assert run_all(gate, 2) == "ab"

    def test_any_number_of_signals_may_come(self, start: StartWorker, gate: Gate) -> None:
        send(gate, "a")
        worker = start()
        gate.visitor()
        for _ in range(10):
            worker.send(TERM)
        # Signals that come together are one to the system.
        worker.wait_for(WARM)
        for _ in range(10):
            worker.send(TERM)
        worker.ends()
        assert queue() == QueueSize(ready=1)

    def test_what_has_ended_is_not_given_back(self, start: StartWorker, gate: Gate) -> None:
        worker = start("-c", "2")
        slow, quick = (working.pause.delay(gate.address, word) for word in ("slow", "quick"))
        runs = [gate.visitor(), gate.visitor()]
        next(run for run in runs if run.word == "quick").let_go("done")
        assert quick.get(WAIT) == "done"
        worker.stop(QUIT)
        assert (quick.state, slow.state) == ("SUCCESS", "PENDING")
        assert queue() == QueueSize(ready=1)


class TestGrace:
    def test_after_its_time_the_warm_stop_turns_cold(self, start: StartWorker, gate: Gate) -> None:
        send(gate, "a")
        worker = start("--grace", "0.3")
        child, _ = family(gate.visitor())
        before = monotonic()
        worker.stop(TERM)
        assert 0.3 <= monotonic() - before < 5
        assert dead(child)
        assert (queue(), losses()) == (QueueSize(ready=1), [0])

    def test_what_ends_in_time_is_finished(self, start: StartWorker, gate: Gate) -> None:
        send(gate, "a")
        worker = start("--grace", "30")
        run = gate.visitor()
        worker.send(TERM)
        worker.wait_for(WARM)
        run.let_go()
        worker.ends()
        assert queue() == QueueSize()

    def test_without_any_it_is_cold_at_once(self, start: StartWorker, gate: Gate) -> None:
        send(gate, "a")
        worker = start("--grace", "0")
        gate.visitor()
        worker.stop(TERM)
        assert queue() == QueueSize(ready=1)


class TestKilled:
    def test_what_ran_is_delivered_again_when_its_lease_has_ended(
        self, start: StartWorker, gate: Gate
    ) -> None:
        send(gate, "a")
        killed = start(module="hasty")
        run = gate.visitor()
        child, template = family(run)
        killed.stop(KILL, -KILL)
        assert eventually(lambda: dead(child) and dead(template))
        assert queue() == QueueSize(leased=1)
        other = start(module="hasty")
        before = monotonic()
        assert run_all(gate, 1) == "a"
        assert monotonic() - before < 8
        other.wait_for("1 tasks of a lost worker are ready again")
        assert eventually(lambda: queue() == QueueSize())

    def test_what_runs_longer_than_its_lease_is_not_delivered_again(
        self, start: StartWorker, gate: Gate
    ) -> None:
        send(gate, "a")
        for _ in range(2):
            start(module="hasty")
        run = gate.visitor()
        # The other worker sweeps meanwhile; this one tells when two leases' time has passed.
        working.pause.apply_async((gate.address, "time"), countdown=2)
        assert gate.visitor().word == "time"
        assert gate.deserted()
        run.let_go()
        assert eventually(lambda: queue().leased == 1)

    def test_a_backlog_survives_and_each_task_runs(
        self, start: StartWorker, tmp_path: Path
    ) -> None:
        ledger = tmp_path / "ledger"
        killed = start("-c", "2", module="hasty")
        results = working.note.delay_many([(str(ledger), number) for number in range(3000)])
        results[200].get(WAIT)
        killed.stop(KILL, -KILL)
        assert len(ledger.read_text().splitlines()) < 3000
        start("-c", "2", module="hasty")
        for result in results:
            result.get(WAIT)
        numbers = Counter(int(line.split()[0]) for line in ledger.read_text().splitlines())
        assert set(numbers) == set(range(3000))
        assert app.broker.dead() == []

    def test_the_template_is_replaced_and_what_runs_goes_on(
        self, start: StartWorker, gate: Gate
    ) -> None:
        worker = start("-c", "2")
        result = working.pause.delay(gate.address, "a")
        run = gate.visitor()
        child, template = family(run)
        os.kill(template, KILL)
        worker.wait_for("the template process ended; starting another one")
        assert working.add.delay(1, 2).get(WAIT) == 3
        run.let_go("still here")
        assert result.get(WAIT) == "still here"
        assert not dead(child)
        os.kill(child, KILL)
        worker.stop(TERM)
