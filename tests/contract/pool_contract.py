"""What every pool promises about jobs on their way through its slots.

A pool runs these classes (see ``test_pools.py``) with a fixture ``open_bench``, which opens it with so
many slots and has a thread supervise it. Its jobs are the tasks of ``tests/fixtures/pool_app.py``;
those that wait do so at a gate, so that a test knows what runs.
"""

from collections.abc import Callable
from functools import partial
from threading import Thread
from time import monotonic
from typing import Any

import pytest

from celeriac import states
from celeriac.outcome import Ending
from celeriac.pools.base import Finished, Limits, Lost, Started, Stored, Unrun
from tests.fixtures.pool import HOST, Bench, children
from tests.fixtures.waiting import eventually

OpenBench = Callable[..., Bench[Any]]

LARGE = 300_000
"""Bytes: more than fits into one packet of any pool."""


def fill(bench: Bench[Any], task: str, *args: Any) -> None:
    """Submit jobs until the pool takes no more."""
    for _ in range(20_000):
        if not bench.offer(bench.job(task, *args)):
            return
    pytest.fail("it has no bounds")


class SubmitContract:
    def test_a_job_is_run_and_its_outcome_reported(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        number = bench.submit("add", 2, 3)
        document = bench.document(number)
        assert (document["status"], document["result"]) == (states.SUCCESS, 5)
        assert (document["worker"], document["task_id"]) == (HOST, "id of add")
        assert bench.of(number) == [Finished(number, bench.outcome(number))]
        assert bench.outcome(number).ending is Ending.SUCCEEDED

    def test_a_job_that_raises_has_an_outcome(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        number = bench.submit("fail", "so what")
        assert bench.outcome(number).ending is Ending.FAILED
        assert bench.document(number)["result"]["exc_message"] == ["so what"]
        assert bench.run("add", 1, 1) == 2

    def test_each_job_is_reported_once(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        for number in range(1000):
            while not bench.offer(bench.job("echo", number)):
                bench.read(1.0)
        bench.wait_for_all()
        bench.assert_each_ended_once()
        assert [bench.result(number) for number in bench.submitted] == list(range(1000))

    def test_jobs_begin_in_their_order(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        numbers = [bench.submit("wait", bench.gate.address, word) for word in range(20)]
        for word in range(20):
            visitor = bench.visitor()
            assert visitor.word == str(word)
            visitor.let_go()
        bench.wait_for_all()
        assert [report.number for report in bench.news] == numbers

    def test_none_waits_behind_a_running_one(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        slow, visitor = bench.occupy()
        quick = [bench.submit("add", number, 0) for number in range(200)]
        bench.until(lambda: len(bench.news) == len(quick))
        assert [report.number for report in bench.news] == quick
        visitor.let_go("at last")
        assert bench.result(slow) == "at last"

    def test_large_bodies_and_outcomes(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        for length in (65_000, 65_536, 66_000, LARGE, 5_000_000):
            assert bench.run("echo", "é" * (length // 6)) == "é" * (length // 6)
        sizes = [bench.submit("grow", 3_000_000 + number) for number in range(6)]
        small = bench.submit("grow", 1)
        assert [len(bench.result(n)) for n in (*sizes, small)] == [*range(3_000_000, 3_000_006), 1]

    def test_a_full_pool_refuses_and_recovers(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        _, visitor = bench.occupy()
        fill(bench, "echo", 1)
        # Neither does a large one find a way around, nor is it waited for.
        assert not bench.offer(bench.job("echo", "x" * LARGE))
        assert bench.pool.outstanding == len(bench.submitted) > 200
        visitor.let_go()
        bench.wait_for_all()
        bench.assert_each_ended_once()
        assert bench.pool.outstanding == 0
        assert bench.run("add", 1, 2) == 3

    def test_jobs_submitted_before_any_slot_is_there_are_run(self, open_bench: OpenBench) -> None:
        bench = open_bench(0)
        numbers = [bench.submit("add", number, 1) for number in range(5)]
        assert bench.read(0.05) == []
        bench.supervisor(lambda: bench.pool.resize(1))
        assert [bench.result(number) for number in numbers] == [1, 2, 3, 4, 5]


class ReportContract:
    def test_reports_waits_no_longer_than_told(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        began = monotonic()
        assert bench.pool.reports(0.0) == []
        assert bench.pool.reports(0.05) == []
        assert 0.05 <= monotonic() - began < 2

    def test_reports_can_be_woken(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        thread = Thread(target=bench.pool.reports, args=(None,))
        thread.start()
        # Before or while it waits, once is enough.
        bench.pool.wake()
        thread.join(10)
        assert not thread.is_alive()

    def test_documents_come_before_the_outcome(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        number = bench.submit("progress", 3, LARGE)
        assert bench.result(number) == "done"
        *stored, end = bench.of(number)
        assert [type(report) for report in stored] == [Stored] * 3
        assert isinstance(end, Finished)
        for step, report in enumerate(stored):
            assert isinstance(report, Stored)
            assert report.put.key == "celery-task-meta-id of progress"
            assert report.put.state == "STEP"
            assert b'"result":[%d,"xxx' % step in report.put.value.replace(b" ", b"")

    def test_documents_of_several_threads_are_whole(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        number = bench.submit("progress_in_threads", 4, 10, LARGE)
        assert bench.result(number) == "done"
        assert len(bench.of(number)) == 41

    def test_a_job_tells_that_it_began(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        number = bench.submit("add", 1, 1, tells=True)
        assert bench.result(number) == 2
        [stored, _] = bench.of(number)
        assert isinstance(stored, Stored)
        assert stored.put.state == states.STARTED


class PermissionContract:
    def test_a_job_that_asks_waits_for_permission(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        number = bench.submit("wait", bench.gate.address, asks=True)
        assert bench.wait_for(Started, number) == Started(number)
        assert bench.gate.deserted()
        bench.pool.permit(number, True)
        bench.visitor().let_go("allowed")
        assert bench.result(number) == "allowed"
        assert len(bench.of(number)) == 2

    def test_a_job_without_permission_is_not_heard_of_again(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        number = bench.submit("wait", bench.gate.address, asks=True)
        bench.wait_for(Started, number)
        bench.pool.permit(number, False)
        assert bench.run("add", 1, 1) == 2
        assert bench.gate.deserted()
        assert bench.of(number) == [Started(number)]
        assert bench.pool.outstanding == 0

    def test_its_limits_count_from_the_permission(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        limits = Limits(soft=0.3, hard=0.6)
        number = bench.submit("spin_for", 0.1, limits=limits, asks=True)
        bench.wait_for(Started, number)
        asked = monotonic()
        bench.until(lambda: monotonic() > asked + 0.7)
        assert bench.pool.running() == {number: 0.0}
        bench.pool.permit(number, True)
        assert bench.result(number) == "in time"

    def test_an_answer_for_a_job_that_is_not_there_is_ignored(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        for allowed in (True, False):
            bench.pool.permit(4711, allowed)
        assert bench.run("add", 1, 1) == 2


class RecallContract:
    def test_what_has_not_begun_comes_back(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        running, visitor = bench.occupy()
        waiting = [bench.submit("echo", "x" * size) for size in (1, LARGE, 1)]
        assert bench.pool.recall() == waiting
        assert bench.pool.outstanding == 1
        visitor.let_go("done")
        assert bench.result(running) == "done"
        assert bench.run("add", 1, 1) == 2
        assert [bench.of(number) for number in waiting] == [[], [], []]

    def test_nothing_comes_back_when_nothing_waits(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        assert bench.pool.recall() == []
        running, visitor = bench.occupy()
        assert bench.pool.recall() == []
        visitor.let_go()
        bench.outcome(running)

    def test_each_job_is_recalled_or_reported(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        recalled: list[int] = []
        for _ in range(10):
            for value in range(100):
                bench.offer(bench.job("echo", value))
            bench.read()
            recalled += bench.pool.recall()
        bench.until(lambda: bench.pool.outstanding == 0)
        ended = [report.number for report in bench.news]
        assert sorted(ended + recalled) == sorted(bench.submitted)


class CancelContract:
    def test_a_running_job_is_ended(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        number, _ = bench.occupy()
        after = bench.submit("add", 1, 1)
        bench.pool.cancel(number)
        assert bench.result(after) == 2
        assert bench.of(number) == []
        assert bench.pool.outstanding == 0

    def test_a_waiting_job_never_begins(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        running, visitor = bench.occupy()
        waiting = [bench.submit("wait", bench.gate.address, word) for word in "abc"]
        bench.pool.cancel(waiting[1])
        visitor.let_go()
        assert [_let_go(bench) for _ in "ac"] == ["a", "c"]
        bench.until(lambda: bench.pool.outstanding == 0)
        bench.outcome(running)
        assert bench.gate.deserted()
        assert bench.of(waiting[1]) == []

    def test_a_job_that_asked_is_ended(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        number = bench.submit("wait", bench.gate.address, asks=True)
        bench.wait_for(Started, number)
        bench.pool.cancel(number)
        bench.pool.permit(number, True)
        assert bench.run("add", 1, 1) == 2
        assert bench.of(number) == [Started(number)]

    def test_others_are_left_alone(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        left, its_visitor = bench.occupy()
        ended, _ = bench.occupy()
        bench.pool.cancel(ended)
        bench.pool.cancel(ended)
        bench.pool.cancel(4711)
        assert bench.run("add", 1, 1) == 2
        its_visitor.let_go("left alone")
        assert bench.result(left) == "left alone"

    def test_cancelled_amid_quick_jobs(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        cancelled = []
        for round_ in range(30):
            numbers = [bench.submit("echo", value) for value in range(10)]
            bench.read()
            cancelled.append(numbers[round_ % 10])
            bench.pool.cancel(cancelled[-1])
            bench.until(lambda: bench.pool.outstanding == 0)
        # A job may have been quicker than its cancellation; all others end as they should.
        ended = [report.number for report in bench.news]
        assert len(ended) == len(set(ended))
        assert set(ended) >= set(bench.submitted) - set(cancelled)
        assert not any(isinstance(report, Lost) for report in bench.news)


class SlotsContract:
    def test_so_many_jobs_run_at_a_time(self, open_bench: OpenBench) -> None:
        bench = open_bench(3)
        numbers = [bench.submit("wait", bench.gate.address) for _ in range(4)]
        visitors = [bench.visitor() for _ in range(3)]
        assert set(bench.pool.running()) == set(numbers[:3])
        assert bench.gate.deserted()
        visitors[0].let_go()
        bench.visitor().let_go()
        for visitor in visitors[1:]:
            visitor.let_go()
        bench.wait_for_all()

    def test_running_tells_for_how_long(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        assert bench.pool.running() == {}
        before = monotonic()
        number, visitor = bench.occupy()
        bench.submit("add", 1, 1)
        eventually(lambda: bench.pool.running()[number] > 0.05)
        assert bench.pool.running().keys() == {number}
        assert bench.pool.running()[number] <= monotonic() - before
        visitor.let_go()
        bench.wait_for_all()
        eventually(lambda: bench.pool.running() == {})

    def test_more_slots(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        bench.occupy()
        bench.submit("wait", bench.gate.address)
        bench.supervisor(lambda: bench.pool.resize(2))
        bench.visitor()

    def test_fewer_slots_end_after_their_job(self, open_bench: OpenBench) -> None:
        bench = open_bench(3)
        visitors = dict(bench.occupy() for _ in range(3))
        # A child works before its birth is known here, and cannot be told to end until then.
        children(bench, 3)
        bench.supervisor(lambda: bench.pool.resize(1))
        waiting = [bench.submit("wait", bench.gate.address, word) for word in "abc"]
        for visitor in visitors.values():
            visitor.let_go("finished")
        assert [bench.result(number) for number in visitors] == ["finished"] * 3
        for number, word in zip(waiting, "abc", strict=True):
            visitor = bench.visitor()
            assert visitor.word == word
            assert bench.pool.running().keys() == {number}
            visitor.let_go()
            bench.outcome(number)

    def test_fewer_and_more_again(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        assert bench.run("add", 1, 1) == 2
        for slots in (1, 2, 0, 2):
            bench.supervisor(partial(bench.pool.resize, slots))
        for _ in range(2):
            bench.occupy()


class EndContract:
    def test_a_drained_pool_finishes_what_runs(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        numbers = dict(bench.occupy() for _ in range(2))
        bench.pool.drain()
        bench.pool.drain()
        assert not bench.offer(bench.job("add", 1, 1))
        for visitor in numbers.values():
            visitor.let_go("finished")
        assert [bench.result(number) for number in numbers] == ["finished"] * 2
        bench.until(lambda: bench.pool.running() == {})

    def test_what_waits_in_a_drained_pool_is_run_or_given_back(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        for value in range(200):
            bench.submit("echo", value)
        bench.pool.drain()
        bench.wait_for_all()
        bench.assert_each_ended_once()
        assert all(isinstance(report, Finished | Unrun) for report in bench.news)

    def test_what_waits_without_a_slot_is_given_back(self, open_bench: OpenBench) -> None:
        bench = open_bench(0)
        numbers = [bench.submit("add", 1, 1) for _ in range(3)]
        bench.pool.drain()
        bench.wait_for_all()
        assert bench.news == [Unrun(number) for number in numbers]

    def test_what_a_halted_pool_ran_is_not_reported(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        for _ in range(2):
            bench.occupy()
        bench.supervisor(bench.pool.halt)
        bench.until(lambda: bench.pool.outstanding == 0)
        assert bench.news == []
        assert bench.pool.running() == {}

    def test_a_stopped_pool_names_what_has_not_finished(self, open_bench: OpenBench) -> None:
        bench = open_bench(2)
        finished = bench.submit("add", 1, 1)
        bench.outcome(finished)
        running = [bench.occupy()[0] for _ in range(2)]
        waiting = [bench.submit("add", 1, 1) for _ in range(3)]
        bench.stop_supervising()
        assert sorted(bench.pool.stop()) == [*running, *waiting]
        assert bench.pool.stop() == []
        bench.read()
        assert [report.number for report in bench.news] == [finished]
        assert not bench.offer(bench.job("add", 1, 1))

    def test_an_outcome_that_was_there_is_told_after_the_stop(self, open_bench: OpenBench) -> None:
        bench = open_bench(1)
        number, visitor = bench.occupy()
        visitor.let_go()
        eventually(lambda: bench.pool.running() == {})
        bench.stop_supervising()
        assert bench.pool.stop() == [number]
        assert bench.result(number) == "go"


def _let_go(bench: Bench[Any]) -> str:
    visitor = bench.visitor()
    visitor.let_go()
    return visitor.word
