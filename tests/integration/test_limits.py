"""Time limits with a real worker. What they mean for the message is in ``test_settlement.py``."""

import os
from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from celeriac.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded
from celeriac.result import AsyncResult
from tests.fixtures.apps import limited
from tests.fixtures.apps.limited import app
from tests.fixtures.gate import Gate
from tests.fixtures.system import dead
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, WorkerProcess, connected

WAIT = 10.0


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    with (
        connected(app, tmp_path_factory.mktemp("limits")) as url,
        WorkerProcess(f"{APPS}.limited", url, "-c", "1") as worker,
    ):
        yield worker.ready()


def raised_by(result: AsyncResult[Any]) -> Any:
    error = result.get(WAIT, propagate=False)
    assert result.failed()
    return error


class TestSoftLimit:
    @pytest.mark.follows("PROT-02")
    def test_it_is_raised_inside_the_task(self, worker: WorkerProcess) -> None:
        before = limited.pid.delay().get(WAIT)
        started = monotonic()
        result = limited.sleeps.apply_async((60,), soft_time_limit=0.2)
        assert type(raised_by(result)) is SoftTimeLimitExceeded
        assert 0.2 <= monotonic() - started < 5
        assert result.traceback is not None
        assert "time.sleep(seconds)" in result.traceback
        assert limited.pid.delay().get(WAIT) == before, "its process goes on"

    def test_the_task_may_catch_it(self, worker: WorkerProcess) -> None:
        assert limited.clears_up.delay().get(WAIT) == "cleared up"

    def test_what_ends_in_time_hears_nothing_of_it(self, worker: WorkerProcess) -> None:
        assert limited.sleeps.delay(0).get(WAIT) == "slept"

    @pytest.mark.follows("PROT-03")
    def test_the_call_decides_before_the_task(self, worker: WorkerProcess) -> None:
        started = monotonic()
        result = limited.clears_up.apply_async(soft_time_limit=0.4)
        assert result.get(WAIT) == "cleared up"
        assert monotonic() - started >= 0.4

    def test_swallowed_in_a_destructor_the_task_returns_what_it_returns(
        self, worker: WorkerProcess
    ) -> None:
        assert limited.hides_it.delay().get(WAIT) == "done"

    def test_it_never_hits_the_next_task(self, worker: WorkerProcess) -> None:
        results = []
        for _ in range(5):
            results.append(limited.sleeps.apply_async((0.05,), soft_time_limit=0.05))
            results.append(limited.sleeps.apply_async((0.01,)))
        for result in results[1::2]:
            assert result.get(WAIT) == "slept"


class TestHardLimit:
    @pytest.mark.follows("PROT-01")
    def test_it_ends_the_process_of_a_task_that_goes_on(self, worker: WorkerProcess) -> None:
        before = limited.pid.delay().get(WAIT)
        started = monotonic()
        result = limited.goes_on.delay()
        error = raised_by(result)
        assert (type(error), error.args) == (TimeLimitExceeded, (0.6,))
        assert 0.6 <= monotonic() - started < 5
        assert limited.pid.delay().get(WAIT) != before
        said = r"ERROR/MainProcess\] Hard time limit \(0\.6s\) exceeded for"
        worker.wait_for(rf"{said} {limited.__name__}\.goes_on\[{result.id}\]$")

    def test_it_ends_code_that_hears_no_signal(self, worker: WorkerProcess) -> None:
        started = monotonic()
        assert type(raised_by(limited.hears_nothing.delay())) is TimeLimitExceeded
        assert monotonic() - started < 5

    def test_it_ends_what_the_task_has_started(self, worker: WorkerProcess, gate: Gate) -> None:
        result = limited.starts_program.delay(gate.address)
        run = gate.visitor()
        program = int(run.word)
        os.kill(program, 0)
        run.let_go()
        assert type(raised_by(result)) is TimeLimitExceeded
        assert eventually(lambda: dead(program))

    @pytest.mark.follows("TASK-09", "PROT-03")
    def test_the_call_decides_before_the_task_before_the_setting(
        self, worker: WorkerProcess
    ) -> None:
        by_setting = limited.sleeps.delay(60)
        assert raised_by(by_setting).args == (0.4,)
        assert limited.sleeps_long.delay(0.5).get(WAIT) == "slept"
        by_call = limited.sleeps_long.apply_async((60,), time_limit=0.1)
        assert raised_by(by_call).args == (0.1,)
