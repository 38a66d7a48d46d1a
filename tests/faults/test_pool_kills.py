"""Children, template and parent of a pool are killed or stopped: who dies with whom, which job is
blamed, and that no job is lost or runs twice.
"""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest

from celeriac.pools import nursery
from celeriac.pools.base import Finished, Limits, Lost, Started
from celeriac.pools.processes import ProcessPool
from tests.fixtures.gate import Gate
from tests.fixtures.pool import (
    Bench,
    Opener,
    Watch,
    children,
    notes,
    opener,
    slots_of,
    template_pid,
    words,
)
from tests.fixtures.system import dead, parent, state
from tests.fixtures.waiting import eventually

KILLED = "its process was killed by SIGKILL"


@pytest.fixture
def open_bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    yield from opener(monkeypatch)


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Kill a process that we started, and wait for its end."""
    watch = Watch(pid)
    watch.kill(number)
    assert watch.ended()
    watch.close()


def lost(bench: Bench[ProcessPool], number: int) -> Lost:
    """Wait for the end of a job; return how it was lost."""
    bench.until(lambda: bench.ends(number))
    [end] = bench.ends(number)
    assert isinstance(end, Lost), end
    return end


def some(number: int) -> list[str]:
    return [f"job {value}" for value in range(number)]


class TestChildKilled:
    def test_an_idle_one(self, open_bench: Opener) -> None:
        bench = open_bench(2)
        victim, other = children(bench, 2)
        kill(victim)
        bench.until(lambda: victim not in slots_of(bench).values())
        assert victim not in children(bench, 2)
        assert other in children(bench, 2)
        assert bench.run("add", 1, 1) == 2
        assert not any(isinstance(report, Lost) for report in bench.news)

    def test_a_running_one_and_its_job_alone_is_blamed(self, open_bench: Opener) -> None:
        bench = open_bench(2)
        blamed, visitor = bench.occupy()
        left, other = bench.occupy()
        waiting = [bench.submit("echo", word) for word in some(50)]
        kill(visitor.pid)
        assert lost(bench, blamed) == Lost(blamed, KILLED)
        assert [bench.result(number) for number in waiting] == some(50)
        other.let_go("left alone")
        assert bench.result(left) == "left alone"
        bench.assert_each_ended_once()
        assert len(children(bench, 2)) == 2

    @pytest.mark.parametrize(
        ("task", "argument", "reason"),
        [
            ("kill_self", signal.SIGKILL, KILLED),
            ("kill_self", signal.SIGABRT, "its process was killed by SIGABRT"),
            ("exit_at_once", 7, "its process exited with status 7"),
            ("exit_at_once", 0, "its process exited with status 0"),
        ],
    )
    def test_how_it_died(self, open_bench: Opener, task: str, argument: int, reason: str) -> None:
        bench = open_bench(1)
        number = bench.submit(task, argument)
        assert lost(bench, number) == Lost(number, reason)
        assert bench.run("add", 1, 1) == 2

    def test_a_grandchild_does_not_hide_the_death(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        number = bench.submit("fork_twice", bench.gate.address)
        visitor = bench.visitor()
        began = monotonic()
        kill(visitor.pid)
        try:
            assert lost(bench, number).reason == KILLED
            assert monotonic() - began < 2
            assert not dead(int(visitor.word)), "an end that we did not bring about spares others"
        finally:
            # Both forks of the task; their group is still that of the child.
            os.killpg(visitor.pid, signal.SIGKILL)

    def test_between_taking_a_job_and_beginning_it(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(2, "kill_taker")
        words_ = ["strike", *some(20)]
        numbers = [bench.submit("echo", word) for word in words_]
        assert [bench.result(number) for number in numbers] == words_
        bench.assert_each_ended_once()
        assert len(words(home, "taken")) == 1

    def test_the_only_one_between_taking_a_job_and_beginning_it(
        self, open_bench: Opener, home: Path
    ) -> None:
        bench = open_bench(1, "kill_taker")
        assert bench.run("echo", "strike") == "strike"
        assert len(words(home, "taken")) == 1

    def test_while_it_waits_for_permission(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        [victim] = children(bench, 1)
        number = bench.submit("wait", bench.gate.address, asks=True)
        bench.wait_for(Started, number)
        kill(victim)
        bench.until(lambda: len(bench.of(number)) == 2)
        assert bench.of(number) == [Started(number)] * 2, "it had not begun: it asks again"
        bench.pool.permit(number, True)
        bench.visitor().let_go("allowed")
        assert bench.result(number) == "allowed"

    def test_when_it_had_permission(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        number = bench.submit("wait", bench.gate.address, asks=True)
        bench.wait_for(Started, number)
        bench.pool.permit(number, True)
        kill(bench.visitor().pid)
        assert lost(bench, number).reason == KILLED

    def test_in_the_middle_of_an_outcome(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        [victim] = children(bench, 1)
        number = bench.submit("grow", 20_000_000)
        # It has begun to write and cannot end, since nobody reads.
        bench.pool._streams.poll(10)
        kill(victim)
        assert lost(bench, number).reason == KILLED

    def test_a_job_that_is_reported_is_not_blamed(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        number, visitor = bench.occupy()
        visitor.let_go("finished")
        eventually(lambda: bench.pool.running() == {})
        kill(visitor.pid)
        assert bench.result(number) == "finished"
        bench.until(lambda: visitor.pid not in slots_of(bench).values())
        bench.assert_each_ended_once()

    def test_killed_at_random(self, open_bench: Opener) -> None:
        bench = open_bench(3)
        chance = random.Random(4)
        killed = 0
        for value in range(1500):
            while not bench.offer(bench.job("echo", value)):
                bench.read(0.1)
            if value % 50 == 0 and (victims := bench.pool._nursery.living):
                chance.choice(victims).send_signal(signal.SIGKILL)
                killed += 1
        bench.wait_for_all(within=20)
        bench.assert_each_ended_once()
        assert sum(isinstance(report, Lost) for report in bench.news) <= killed
        assert bench.pool.outstanding == 0


class TestChildStopped:
    def test_between_taking_a_job_and_beginning_it_while_another_dies(
        self, open_bench: Opener, home: Path
    ) -> None:
        """What the stopped one holds runs elsewhere, and not again when it goes on."""
        bench = open_bench(2, "stop_taker")
        strike = bench.submit("noted", "strike")
        bench.until(lambda: words(home, "taken"))
        [stopped] = [pid for pid, word in notes(home) if word == "taken"]
        eventually(lambda: state(stopped)[0] == "T")
        [idle] = [pid for pid in children(bench, 2) if pid != stopped]
        kill(idle)
        bench.outcome(strike)
        os.kill(stopped, signal.SIGCONT)
        # Both are at work again, and there is nothing left for the late one.
        running = [bench.occupy() for _ in range(2)]
        assert stopped in {visitor.pid for _, visitor in running}
        for _, visitor in running:
            visitor.let_go()
        bench.wait_for_all()
        bench.assert_each_ended_once()
        assert len(words(home, "strike")) == 1

    def test_between_taking_a_job_and_beginning_it_when_that_is_cancelled(
        self, open_bench: Opener, home: Path
    ) -> None:
        bench = open_bench(1, "stop_taker")
        strike = bench.submit("noted", "strike")
        bench.until(lambda: words(home, "taken"))
        [stopped] = children(bench, 1)
        eventually(lambda: state(stopped)[0] == "T")
        waiting = bench.submit("echo", "waiting")
        bench.pool.cancel(strike)
        os.kill(stopped, signal.SIGCONT)
        assert bench.result(waiting) == "waiting"
        assert (words(home, "strike"), bench.of(strike)) == ([], [])

    def test_a_hard_limit_ends_it_all_the_same(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        number, visitor = bench.occupy(Limits(hard=0.3))
        os.kill(visitor.pid, signal.SIGSTOP)
        assert lost(bench, number).overtime == 0.3
        assert bench.run("add", 1, 1) == 2


class TestHardLimit:
    def test_it_ends_the_run_and_nothing_else(self, open_bench: Opener) -> None:
        bench = open_bench(2)
        left, visitor = bench.occupy()
        began = monotonic()
        number = bench.submit("wait", bench.gate.address, limits=Limits(hard=0.2))
        bench.visitor()
        assert lost(bench, number) == Lost(number, "its time limit of 0.2 s passed", 0.2)
        assert 0.2 <= monotonic() - began < 2
        assert bench.run("add", 1, 1) == 2
        visitor.let_go("left alone")
        assert bench.result(left) == "left alone"

    def test_it_counts_from_the_start_of_the_run(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        _, visitor = bench.occupy()
        submitted = monotonic()
        number = bench.submit("add", 1, 1, limits=Limits(hard=0.2))
        bench.until(lambda: monotonic() > submitted + 0.3)
        visitor.let_go()
        assert bench.result(number) == 2

    @pytest.mark.parametrize("task", ["start_sleep", "fork_twice"])
    def test_it_ends_what_the_task_started(self, open_bench: Opener, task: str) -> None:
        bench = open_bench(1, "look_for_strangers_often")
        number = bench.submit(task, bench.gate.address, limits=Limits(hard=0.3))
        started = int(bench.visitor().word)
        watch = Watch(started)
        assert lost(bench, number).overtime == 0.3
        assert watch.ended(1)
        watch.close()
        assert eventually(lambda: state(started)[0] == "X"), "and it is cleared away"

    def test_a_job_that_ends_at_that_very_moment(self, open_bench: Opener) -> None:
        bench = open_bench(2)
        for round_ in range(100):
            # Around the limit, to the tenth of a millisecond.
            bench.submit("spin_for", 0.019 + round_ * 0.00002, limits=Limits(hard=0.02))
            bench.submit("echo", "quick")
        bench.wait_for_all(within=30)
        bench.assert_each_ended_once()
        for number in bench.submitted[1::2]:
            assert bench.result(number) == "quick", "what came after it is not blamed"

    def test_a_job_that_ends_while_it_is_judged(
        self, open_bench: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bench = open_bench(1)
        number, visitor = bench.occupy(Limits(hard=0.2))
        judge = bench.pool._kill
        judged = Event()

        def finish_first(*arguments: Any) -> None:
            visitor.let_go("just in time")
            eventually(lambda: bench.pool.running() == {})
            judge(*arguments)
            judged.set()

        monkeypatch.setattr(bench.pool, "_kill", finish_first)
        assert judged.wait(10)
        assert bench.result(number) == "just in time"
        following, visitor_again = bench.occupy()
        assert visitor_again.pid == visitor.pid, "it was let go"
        visitor_again.let_go()
        bench.outcome(following)

    def test_an_outcome_that_was_written_counts(
        self, open_bench: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The child is killed for its job after it has written the outcome of that job."""
        bench = open_bench(1)
        [pid] = children(bench, 1)
        kin = bench.pool._kin[0]
        number, visitor = bench.occupy()
        kin.doomed = (number, 0.2)
        visitor.let_go("written")
        eventually(lambda: bench.pool.running() == {})
        kill(pid)
        assert bench.result(number) == "written"
        bench.assert_each_ended_once()

    def test_a_job_that_was_hit_in_place_of_another_is_run_again(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        children(bench, 1)
        kin = bench.pool._kin[0]
        number, visitor = bench.occupy()
        kin.doomed = (4711, 0.2)
        kill(visitor.pid)
        bench.visitor().let_go("again")
        assert bench.result(number) == "again"


class TestTemplateKilled:
    def test_running_children_go_on_and_new_ones_come_from_a_new_one(
        self, open_bench: Opener
    ) -> None:
        bench = open_bench(2)
        running = [bench.occupy() for _ in range(2)]
        first = template_pid(bench)
        kill(first)
        bench.until(lambda: template_pid(bench) != first)
        for number, visitor in running:
            visitor.let_go("finished")
            assert bench.result(number) == "finished"
        survivors = children(bench, 2)
        assert {visitor.pid for _, visitor in running} == set(survivors)
        assert {parent(pid) for pid in survivors} == {os.getpid()}
        # They are reaped here, with their status, and replaced.
        number, visitor = bench.occupy()
        kill(visitor.pid)
        assert lost(bench, number).reason == KILLED
        assert state(visitor.pid)[0] == "X"
        newcomer = (set(children(bench, 2)) - set(survivors)).pop()
        assert parent(newcomer) == template_pid(bench)

    def test_no_job_is_lost(self, open_bench: Opener) -> None:
        bench = open_bench(2, max_tasks=10)
        for value in range(300):
            while not bench.offer(bench.job("echo", value)):
                bench.read(0.1)
            if value in (50, 200):
                kill(template_pid(bench))
                bench.until(lambda: len(bench.news) > len(bench.submitted) - 50)
        bench.wait_for_all(within=20)
        bench.assert_each_ended_once()
        assert all(isinstance(report, Finished) for report in bench.news)

    def test_together_with_a_running_child(self, open_bench: Opener) -> None:
        bench = open_bench(2)
        number, visitor = bench.occupy()
        os.kill(template_pid(bench), signal.SIGSTOP)
        kill(visitor.pid)
        kill(template_pid(bench))
        assert lost(bench, number).reason == KILLED
        assert bench.run("add", 1, 1) == 2
        assert len(children(bench, 2)) == 2

    def test_after_it_reaped_a_child_and_before_it_said_so(
        self, open_bench: Opener, home: Path
    ) -> None:
        bench = open_bench(1, "die_after_reaping")
        number, visitor = bench.occupy()
        kill(visitor.pid)
        assert lost(bench, number).reason == "its process vanished"
        assert (home / "reaped").exists()
        assert bench.run("add", 1, 1) == 2

    def test_over_a_child_of_which_it_had_not_told(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(3, "die_after_fork", "note_processes")
        for value in range(50):
            bench.submit("echo", value)
        bench.wait_for_all()
        bench.assert_each_ended_once()
        # Two children may have done it all before there was a third.
        bench.until((home / "forked").exists)
        ours = {*children(bench, 3), template_pid(bench)}
        assert eventually(lambda: {pid for pid, *_ in notes(home) if not dead(pid)} <= ours)

    def test_while_it_is_stopped_a_death_is_noticed(
        self, open_bench: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(nursery, "SILENCE", 0.1)
        bench = open_bench(1)
        number, visitor = bench.occupy()
        template = template_pid(bench)
        os.kill(template, signal.SIGSTOP)
        kill(visitor.pid)
        assert lost(bench, number).reason == "its process vanished"
        os.kill(template, signal.SIGCONT)
        assert bench.run("add", 1, 1) == 2

    def test_children_that_come_too_late_end_at_once(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        [first] = children(bench, 1)
        template = template_pid(bench)
        os.kill(template, signal.SIGSTOP)
        bench.supervisor(lambda: bench.pool.resize(4))
        eventually(lambda: len(bench.pool._nursery.unborn) == 3)
        bench.supervisor(lambda: bench.pool.resize(1))
        os.kill(template, signal.SIGCONT)
        bench.until(lambda: not bench.pool._nursery.unborn)
        assert children(bench, 1) == [first]

    def test_limits_hold_while_the_next_one_imports_the_app(
        self, open_bench: Opener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = Gate()
        monkeypatch.setenv("CELERIAC_POOL_GATE", gate.address)
        bench = open_bench(2, "dawdle_later")
        children(bench, 2)
        kill(template_pid(bench))
        importing = gate.visitor()
        number = bench.submit("wait", bench.gate.address, limits=Limits(hard=0.2))
        assert lost(bench, number).overtime == 0.2
        assert bench.run("add", 1, 1) == 2
        importing.let_go()
        children(bench, 2)
        gate.close()

    def test_an_app_that_cannot_be_imported_any_more(
        self, open_bench: Opener, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = open_bench(2, "break_later")
        victim, _ = children(bench, 2)
        kill(template_pid(bench))
        bench.until(lambda: len(words(home, "broken")) == 2)
        assert bench.run("add", 1, 1) == 2, "what lives goes on"
        kill(victim)
        (home / "healed").touch()
        assert len(children(bench, 2)) == 2
        assert "the app cannot be loaded again" in caplog.text
        assert "there is no such book" in caplog.text


class TestFailingStarts:
    @pytest.mark.parametrize("fault", ["die_in_init", "leave_in_init"])
    def test_they_are_tried_again_more_and_more_slowly(
        self, open_bench: Opener, home: Path, fault: str
    ) -> None:
        bench = open_bench(2, fault)
        number = bench.submit("add", 1, 1)
        bench.until(lambda: len(words(home, "born")) >= 6)
        births = sorted(at for _, at in words(home, "born"))
        # Two at a time, after 0.1, 0.2, 0.4 s.
        assert births[2] - births[0] >= 0.09
        assert births[4] - births[2] >= 0.19
        (home / "healed").touch()
        assert bench.result(number) == 2

    def test_so_is_the_spare_child(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(0, "die_in_init")
        bench.pool.spare.do(signal="worker_ready", sender="w1")
        bench.until(lambda: len(words(home, "born")) == 4)
        births = [at for _, at in words(home, "born")]
        assert births[3] - births[0] >= 0.6
        (home / "healed").touch()
        bench.until(lambda: not bench.pool.spare.busy)

    def test_a_system_that_refuses_to_fork(
        self, open_bench: Opener, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = open_bench(2, "refuse_to_fork")
        assert bench.run("add", 1, 1) == 2
        assert caplog.text.count("cannot fork a child: [Errno 11]") == 2
        children(bench, 2)
        folder = Path(f"/proc/{template_pid(bench)}/fd")
        held = [str(entry.readlink()) for entry in folder.iterdir() if int(entry.name) > 2]
        # Its control socket, that of the jobs, its lifeline: nothing of what was refused.
        assert [sum(what.startswith(k) for what in held) for k in ("socket:", "pipe:")] == [2, 1]


class TestParentKilled:
    @pytest.mark.parametrize("task", ["start_sleep", "fork_twice"])
    def test_all_die_with_it(self, monkeypatch: pytest.MonkeyPatch, home: Path, task: str) -> None:
        gate = Gate()
        command = [sys.executable, "-m", "tests.fixtures.pool_parent", gate.address, task]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            started = [int(gate.visitor().word) for _ in range(2)]
            assert process.stdout is not None
            processes = [*json.loads(process.stdout.readline()), *started]
            assert len(set(processes)) == 5
            watches = [Watch(pid) for pid in processes]
        finally:
            process.kill()
        killed = monotonic()
        process.wait()
        assert [watch.ended(1) for watch in watches] == [True] * 5
        assert monotonic() - killed < 1
        for watch in watches:
            watch.close()
        process.stdout.close()
        gate.close()
