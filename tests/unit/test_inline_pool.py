"""What the inline pool has beside the contract: chores, signals of its process, and no shelter."""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from celeriac import signals
from celeriac.exceptions import ImproperlyConfigured
from celeriac.outcome import Outcome
from celeriac.pools.base import Finished, Job, Limits
from celeriac.pools.inline import InlinePool
from celeriac.signals import Signal
from tests.fixtures import pool_app
from tests.fixtures.pool import HOST, Bench, at_work, call, inline_pool


@contextmanager
def hearing(signal: Signal) -> Iterator[list[dict[str, Any]]]:
    """Yield what the receivers of a signal are told."""
    heard: list[dict[str, Any]] = []

    def hear(**arguments: Any) -> None:
        heard.append(arguments | {"thread": threading.current_thread()})

    signal.connect(hear, weak=False)
    try:
        yield heard
    finally:
        signal.disconnect(hear)


@pytest.fixture
def bench() -> Iterator[Bench[InlinePool]]:
    with at_work(inline_pool(), 1) as bench:
        yield bench


def test_a_job_runs_in_the_process_and_thread_of_the_supervisor(bench: Bench[InlinePool]) -> None:
    with hearing(signals.task_prerun) as heard:
        assert bench.run("circumstances")["pid"] == os.getpid()
    assert heard[0]["thread"] is bench._supervisor


def test_one_thread_can_do_it_all_step_by_step() -> None:
    pool = inline_pool()
    pool.start(1)
    jobs = [Job(number, call("add", number, 1), "celery", False, True) for number in (1, 2)]
    assert all(pool.submit(job) for job in jobs)
    for job in jobs:
        pool.supervise(0)
        [started] = pool.reports(0)
        assert started.number == job.number
        pool.supervise(0)
        assert pool.reports(0) == []
        pool.permit(job.number, True)
        pool.supervise(0)
        [finished] = pool.reports(0)
        assert isinstance(finished, Finished)
    assert pool.outstanding == 0
    pool.stop()


def test_it_tells_of_runs_that_came_to_their_end() -> None:
    ran: list[tuple[Job, Outcome]] = []
    pool = InlinePool(pool_app.app, HOST, lambda job, outcome: ran.append((job, outcome)))
    pool.start(1)
    job = Job(1, call("add", 1, 2), "celery")
    pool.submit(job)
    pool.supervise(0)
    [report] = pool.reports(0)
    assert isinstance(report, Finished)
    assert ran == [(job, report.outcome)]
    pool.stop()


def test_a_limit_is_not_kept_and_that_is_said_once(
    bench: Bench[InlinePool], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "celeriac.pools"):
        for _ in range(2):
            number = bench.submit("spin_for", 0.05, limits=Limits(soft=0.01, hard=0.02))
            assert bench.result(number) == "in time"
    [record] = [record for record in caplog.records if record.name == "celeriac.pools"]
    assert "has a time limit, which is not kept" in record.getMessage()


def test_a_cancelled_job_comes_to_its_end_unheard(bench: Bench[InlinePool]) -> None:
    number, visitor = bench.occupy()
    bench.pool.cancel(number)
    assert bench.pool.outstanding == 0
    assert bench.pool.running() == {}
    visitor.let_go()
    assert bench.run("add", 1, 1) == 2
    assert bench.of(number) == []


def test_a_halted_pool_takes_nothing_and_reports_nothing(bench: Bench[InlinePool]) -> None:
    number, visitor = bench.occupy()
    waiting = bench.submit("add", 1, 1)
    bench.pool.halt()
    visitor.let_go()
    assert not bench.offer(bench.job("add", 1, 1))
    bench.stop_supervising()
    bench.read()
    assert bench.of(number) == bench.of(waiting) == []
    assert bench.pool.outstanding == 0


def test_a_stopped_pool_names_what_it_ran(bench: Bench[InlinePool]) -> None:
    finished = bench.submit("add", 1, 1)
    bench.outcome(finished)
    bench.supervisor(lambda: bench.pool.resize(0))
    waiting = [bench.submit("add", 1, 1) for _ in range(3)]
    bench.stop_supervising()
    assert bench.pool.stop() == waiting
    assert bench.pool.stop() == []
    bench.read()
    assert [report.number for report in bench.news] == [finished]


def test_chores_are_done_by_the_supervisor_before_the_next_job(bench: Bench[InlinePool]) -> None:
    with hearing(signals.worker_ready) as heard:
        bench.pool.spare.do(signal="worker_ready", sender="w1")
        assert bench.run("add", 1, 1) == 2
    assert not bench.pool.spare.busy
    assert [told["sender"] for told in heard] == ["w1"]
    assert heard[0]["thread"] is bench._supervisor


def test_it_is_a_worker_process_of_its_own() -> None:
    with (
        hearing(signals.worker_process_init) as begun,
        hearing(signals.worker_process_shutdown) as ended,
        at_work(inline_pool(), 1) as bench,
    ):
        bench.run("add", 1, 1)
        assert [told["sender"] for told in begun] == [HOST]
        assert ended == []
    assert [told["pid"] for told in ended] == [os.getpid()]


def test_a_number_of_slots_that_cannot_be() -> None:
    with pytest.raises(ImproperlyConfigured, match="-1 slots"):
        inline_pool().start(-1)
