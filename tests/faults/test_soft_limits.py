"""Soft limits: raised in the job they are meant for, in its own code, and nowhere else."""

import json
import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from celeriac.completion import Put
from celeriac.outcome import Ending
from celeriac.pools import processes
from celeriac.pools.base import Finished, Limits, Started, Stored
from celeriac.pools.processes import ProcessPool
from tests.fixtures.pool import Bench, Opener, children, notes, opener, ready
from tests.fixtures.pool_faults import spin
from tests.fixtures.waiting import eventually

AGAIN = 0.1
"""Seconds between signals to a job that does not heed its limit."""


@pytest.fixture
def open_bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    monkeypatch.setattr(processes, "SOFT_AGAIN", AGAIN)
    yield from opener(monkeypatch)


def was_limited(bench: Bench[ProcessPool], number: int) -> bool:
    """Wait for the end of a job; return whether its limit was raised and not caught."""
    document = bench.document(number)
    if document["status"] == "SUCCESS":
        return False
    assert document["result"]["exc_type"] == "SoftTimeLimitExceeded", document
    assert bench.outcome(number).ending is Ending.FAILED
    return True


def send_limit(bench: Bench[ProcessPool], wanted: int) -> None:
    """Do to the child in the first slot what the pool does when the limit of a job has passed."""
    bench.pool._slots.want(0, wanted)
    bench.pool._kin[0].send_signal(signal.SIGUSR1)


def signals(pid: int, field: str) -> set[int]:
    """Return the signals that a process catches, or whatever else this field of its status says."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    mask = int(next(line for line in lines if line.startswith(field)).split()[1], 16)
    return {number for number in signal.valid_signals() if mask >> (number - 1) & 1}


def pending(pid: int) -> set[int]:
    """Return the signals that were sent to a process and have not arrived."""
    return signals(pid, "ShdPnd") | signals(pid, "SigPnd")


class TestWhereItIsRaised:
    def test_in_the_function(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        [pid] = children(bench, 1)
        began = monotonic()
        number = bench.submit("spin_for", 30, limits=Limits(soft=0.2))
        assert was_limited(bench, number)
        assert 0.2 <= monotonic() - began < 2
        assert "spin(seconds)" in bench.document(number)["traceback"]
        assert bench.run("circumstances")["pid"] == pid, "its process goes on"

    def test_in_a_wait(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        number, _ = bench.occupy(Limits(soft=0.1))
        assert was_limited(bench, number)

    def test_not_in_a_job_that_ends_in_time(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        numbers = [bench.submit("spin_for", 0.1, limits=Limits(soft=0.2)) for _ in range(4)]
        assert [bench.result(number) for number in numbers] == ["in time"] * 4

    def test_not_while_it_waits_for_its_turn(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        _, visitor = bench.occupy()
        submitted = monotonic()
        number = bench.submit("spin_for", 0.0, limits=Limits(soft=0.1))
        bench.until(lambda: monotonic() > submitted + 0.2)
        visitor.let_go()
        assert bench.result(number) == "in time"

    def test_in_a_finally_clause(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(1)
        assert was_limited(bench, bench.submit("spin_finally", 30, limits=Limits(soft=0.1)))
        assert [word for _, word in notes(home)] == ["begun"]

    def test_in_a_destructor_it_is_swallowed_and_raised_again(
        self, open_bench: Opener, home: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        bench = open_bench(1)
        assert was_limited(bench, bench.submit("destroy", 30, limits=Limits(soft=0.05)))
        assert [word for _, word in notes(home)] == ["swallowed"]
        assert "Exception ignored in" not in capfd.readouterr().err

    def test_in_a_destructor_before_the_function_returns(
        self, open_bench: Opener, home: Path
    ) -> None:
        """Its limit has passed, and it has a value all the same."""
        bench = open_bench(1)
        number = bench.submit("destroy", 0, limits=Limits(soft=0.05))
        assert bench.result(number) == "kept"
        assert [word for _, word in notes(home)] == ["swallowed"]
        assert bench.run("spin_for", 2 * AGAIN) == "in time", "the next one hears nothing of it"

    def test_after_c_code_and_in_no_other_job(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(1)
        number = bench.submit("count_up", 3 * 10**7, limits=Limits(soft=0.02))
        following = [bench.submit("millisecond", value) for value in range(100)]
        assert was_limited(bench, number)
        assert [bench.result(number) for number in following] == list(range(100))
        assert notes(home) == [], "it came before anything else"

    def test_c_code_is_ended_by_the_hard_limit(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        number = bench.submit("count_up", 10**11, limits=Limits(soft=0.05, hard=0.3))
        bench.until(lambda: bench.ends(number))
        [end] = bench.ends(number)
        assert getattr(end, "overtime", None) == 0.3

    def test_once_while_the_task_clears_up(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        number = bench.submit("clear_up", 6 * AGAIN, limits=Limits(soft=0.05))
        assert bench.result(number) == "cleared up"

    def test_the_hard_limit_comes_over_clearing_up(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        number = bench.submit("clear_up", 30, limits=Limits(soft=0.05, hard=0.3))
        bench.until(lambda: bench.ends(number))
        [end] = bench.ends(number)
        assert getattr(end, "overtime", None) == 0.3


class TestWhereItIsNot:
    def test_in_an_idle_child(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        [pid] = ready(bench, 1)
        for wanted in (0, 1, 2, 3, 4):
            send_limit(bench, wanted)
        assert bench.run("circumstances")["pid"] == pid

    def test_in_receivers_before_the_function(self, open_bench: Opener) -> None:
        bench = open_bench(1, "slow_prerun")
        number = bench.submit("spin_for", 0.0, limits=Limits(soft=0.1))
        assert bench.result(number) == "in time"

    def test_in_handlers_after_the_function(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        number = bench.submit("slow_to_tell", limits=Limits(soft=0.1))
        assert bench.result(number) == "in time"

    def test_in_a_job_that_waits_for_permission(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        ready(bench, 1)
        number = bench.submit("wait", bench.gate.address, asks=True)
        bench.wait_for(Started, number)
        send_limit(bench, number)
        bench.pool.permit(number, True)
        bench.visitor().let_go("allowed")
        assert bench.result(number) == "allowed"

    def test_in_a_job_that_was_not_meant(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        ready(bench, 1)
        number, visitor = bench.occupy()
        for wanted in (0, number - 1, number + 1):
            send_limit(bench, wanted)
        visitor.let_go("went on")
        assert bench.result(number) == "went on"

    def test_in_the_middle_of_a_frame(self, open_bench: Opener) -> None:
        """A document on its way to a parent that does not read is not cut."""
        bench = open_bench(1)
        length = 5_000_000
        number = bench.submit("store_and_wait", bench.gate.address, length)
        visitor = bench.visitor()
        visitor.let_go()
        # Something is there, and the rest must wait until somebody reads.
        assert bench.pool._streams.poll(10)
        for _ in range(5):
            send_limit(bench, number)
            eventually(lambda: not pending(visitor.pid))
        assert bench.wait_for(Stored, number).put == Put("key", b"x" * length)
        bench.visitor()
        send_limit(bench, number)
        assert was_limited(bench, number), "it does not miss it"
        assert bench.run("add", 1, 1) == 2

    def test_processes_that_a_task_forked(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        number = bench.submit("fork_twice", bench.gate.address)
        visitor = bench.visitor()
        forked = int(visitor.word)
        caught = signals(forked, "SigCgt")
        assert not {signal.SIGUSR1, signal.SIGTERM} & caught
        assert {signal.SIGUSR1, signal.SIGTERM} <= signals(visitor.pid, "SigCgt")
        visitor.let_go()
        bench.outcome(number)


class TestAtRandom:
    LIMITS = 10_000

    def test_no_job_is_hit_but_the_one_that_was_wanted(self, open_bench: Opener) -> None:
        bench = open_bench(1, loglevel="CRITICAL")
        ready(bench, 1)
        chance = random.Random(7)
        slots, kin = bench.pool._slots, bench.pool._kin[0]
        wanted: set[int] = set()
        values: dict[int, int] = {}
        for fired in range(self.LIMITS):
            while bench.pool.outstanding < 50:
                job = bench.job("millisecond", len(values))
                assert bench.offer(job)
                values[job.number] = len(values)
            running = slots.job(0)
            # That one, or one that ran before, or may soon.
            target = max(0, running + chance.randrange(-2, 4))
            wanted.add(target)
            slots.want(0, target)
            kin.send_signal(signal.SIGUSR1)
            spin(chance.random() * 0.0002)
            bench.read()
            while fired % 5 == 0 and slots.job(0) == running:
                # On a busy machine, too, limits must fall on many jobs.
                os.sched_yield()
        bench.wait_for_all()
        bench.assert_each_ended_once()
        hit = self.check(bench, values)
        assert hit <= wanted
        # Or the test shows nothing.
        assert len(hit) > 100
        assert len(wanted & values.keys()) - len(hit) > 100

    def check(self, bench: Bench[ProcessPool], values: dict[int, int]) -> set[int]:
        """Return the jobs that were hit; all others must have returned their value."""
        hit = set()
        for report in bench.news:
            assert isinstance(report, Finished)
            document: dict[str, Any] = json.loads(report.outcome.document)
            if document["status"] == "SUCCESS":
                assert document["result"] == values.get(report.number, document["result"])
            elif report.number in values:
                assert document["result"]["exc_type"] == "SoftTimeLimitExceeded", document
                hit.add(report.number)
        return hit
