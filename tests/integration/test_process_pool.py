"""What a pool of processes promises beyond the contract: its template, its children, and what tasks
may do in them. What happens when something is killed is tested with the faults.
"""

import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac.exceptions import ImproperlyConfigured
from celeriac.message import Delivery, Message
from celeriac.pools import spare
from celeriac.pools.base import Finished
from celeriac.pools.child import ChildConfig
from celeriac.pools.manifest import Manifest
from celeriac.pools.nursery import AppFailedError
from celeriac.pools.processes import ProcessPool
from celeriac.pools.slots import SPARE_SLOT
from celeriac.pools.template import TemplateConfig
from tests.fixtures.pool import (
    APP,
    HOST,
    Bench,
    Opener,
    Watch,
    call,
    children,
    notes,
    opener,
    template_pid,
    words,
)
from tests.fixtures.system import state
from tests.fixtures.waiting import eventually


@pytest.fixture
def open_bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Opener]:
    yield from opener(monkeypatch)


def pids_of(bench: Bench[ProcessPool], runs: int) -> list[int]:
    return [bench.run("circumstances")["pid"] for _ in range(runs)]


class TestTemplate:
    @pytest.fixture
    def launch(self, open_bench: Opener) -> Iterator[Any]:
        """Return a function that launches a pool and returns its manifest."""
        pools = []

        def launch(*faults: str, spec: str = f"{APP}:app") -> Manifest:
            open_bench.build_in(*faults)
            pools.append(ProcessPool(TemplateConfig(spec=spec, child=ChildConfig(hostname=HOST))))
            pools[-1].launch()
            return pools[-1].manifest()

        yield launch
        for pool in pools:
            assert pool._nursery._template is not None
            pid = pool._nursery._template.pid
            pool.stop()
            assert state(pid)[0] == "X", "nothing is left of it"

    def test_the_parent_learns_of_tasks_as_data(self, launch: Any) -> None:
        manifest = launch("note_failures")
        tasks = {task.name: task for task in manifest.tasks}
        assert tasks[f"{APP}.add"].acks_late
        assert tasks[f"{APP}.mourned"].handlers
        assert "task_failure" in manifest.receivers
        assert "task_revoked" not in manifest.receivers
        assert (manifest.app, manifest.threads, manifest.sockets) == ("pool", (), 0)

    def test_what_the_import_left_running_is_named(self, launch: Any) -> None:
        manifest = launch("start_thread", "keep_socket")
        assert (manifest.threads, manifest.sockets) == (("pulse",), 2)

    def test_an_app_that_raises_on_import(self, launch: Any) -> None:
        with pytest.raises(AppFailedError, match="there is no such book") as caught:
            launch("raise_error")
        assert str(caught.value).startswith(f"-A {APP}:app: ")
        assert "pool_faults.py" in caught.value.traceback
        assert "in raise_error" in caught.value.traceback

    def test_an_app_that_exits_on_import(self, launch: Any) -> None:
        with pytest.raises(AppFailedError, match="no configuration") as caught:
            launch("exit_program")
        assert "in exit_program" in caught.value.traceback

    def test_an_app_that_takes_its_process_with_it(self, launch: Any) -> None:
        with pytest.raises(AppFailedError, match="its process ended while importing it"):
            launch("die")

    @pytest.mark.parametrize(
        ("spec", "message"),
        [
            ("nowhere:app", "there is no module 'nowhere'"),
            (f"{APP}:nothing", "has no 'nothing'"),
        ],
    )
    def test_an_app_that_is_not_there(self, launch: Any, spec: str, message: str) -> None:
        with pytest.raises(AppFailedError, match=message) as caught:
            launch(spec=spec)
        assert caught.value.traceback == ""

    def test_more_slots_than_there_can_be(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        for slots in (-1, 1024):
            with pytest.raises(ImproperlyConfigured, match="ask for 1023 at most"):
                bench.pool.resize(slots)
        assert bench.run("add", 1, 1) == 2

    def test_more_children_than_can_be_asked_for_at_a_time(self, open_bench: Opener) -> None:
        bench = open_bench(40)
        numbers = [bench.submit("wait", bench.gate.address) for _ in range(40)]
        pids = {bench.visitor().pid for _ in numbers}
        assert len(pids) == 40


class TestChildren:
    def test_their_circumstances(self, open_bench: Opener) -> None:
        bench = open_bench(2)
        pids = set(children(bench, 2))
        there: dict[int, dict[str, Any]] = {}

        def all_seen() -> bool:
            found = bench.run("circumstances")
            there[found["pid"]] = found
            return there.keys() == pids

        bench.until(all_seen)
        one, other = there.values()
        assert {one["parent"], other["parent"]} == {template_pid(bench)}
        assert (one["group"], other["group"]) == (one["pid"], other["pid"])
        assert one["random"] != other["random"]
        assert one["frozen"] > 1000

    def test_one_that_works_before_it_is_announced(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(0)
        bench.stop_supervising()
        number = bench.submit("noted", "here")
        bench.pool.resize(1)
        while not bench.pool._nursery.unborn:
            bench.pool.supervise(0)
        eventually(lambda: bench.pool._slots.used(0) and not bench.pool._slots.job(0))
        assert not bench.pool._kin
        # Somebody else died: where are all the jobs?
        bench.pool._suspicious = True
        bench.outcome(number)
        bench.pool.supervise(1)
        assert bench.pool._kin
        assert bench.pool.outstanding == 0
        after = bench.submit("noted", "there")
        bench.outcome(after)
        assert [word for _, word in notes(home)] == ["here", "there"]

    def test_one_whose_lifeline_is_cut_before_it_holds_it(self) -> None:
        program = (
            "import os; from celeriac.pools.child import hold_lifeline; held, end = os.pipe(); "
            "os.close(end); hold_lifeline(held, group=False); os.write(1, b'it lives')"
        )
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
        assert (ended.returncode, ended.stdout) == (1, b"")

    def test_signals_of_processes(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(2, "note_processes")
        pids = children(bench, 2)
        assert bench.run("add", 1, 1) == 2
        assert len(words(home, "before")) == 2
        # A child is known before it has said that it is ready.
        eventually(lambda: {pid for pid, *_ in notes(home)} == {template_pid(bench), *pids})
        bench.pool.drain()
        bench.until(lambda: not bench.pool._kin)
        assert [words_ for _, *words_ in notes(home) if words_ == ["init", HOST]] == [
            ["init", HOST]
        ] * 2
        assert sorted(words(home, "shutdown")) == sorted(["shutdown", HOST, pid, 0] for pid in pids)

    def test_a_receiver_that_exits_at_the_end(self, open_bench: Opener) -> None:
        bench = open_bench(1, "exit_in_shutdown", max_tasks=1)
        assert len(set(pids_of(bench, 3))) == 3

    def test_replaced_after_so_many_jobs(self, open_bench: Opener) -> None:
        bench = open_bench(1, max_tasks=3)
        pids = pids_of(bench, 9)
        assert pids == [pid for pid in pids[::3] for _ in range(3)]
        assert len(set(pids)) == 3

    def test_replaced_when_grown_too_large(self, open_bench: Opener) -> None:
        bench = open_bench(1, max_memory=120 << 10)
        pids = [bench.run("hoard", size) for size in (1, 1, 150, 1, 1)]
        assert pids == [pids[0]] * 3 + [pids[3]] * 2
        assert pids[3] != pids[0]

    def test_many_replacements_leave_nothing_open(self, open_bench: Opener) -> None:
        bench = open_bench(1, max_tasks=1)

        def open_files() -> list[int]:
            # Between children: the last one is buried, and there is no other.
            bench.supervisor(lambda: bench.pool.resize(0))
            bench.until(lambda: not bench.pool._kin and not bench.pool._nursery.unborn)
            gc.collect()  # Pools of other tests.
            folders = ("/proc/self/fd", f"/proc/{template_pid(bench)}/fd")
            return [len(os.listdir(folder)) for folder in folders]

        pids_of(bench, 2)
        before = open_files()
        bench.supervisor(lambda: bench.pool.resize(1))
        pids_of(bench, 10)
        assert open_files() == before

    def test_terminated_by_hand_when_idle(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        [pid] = children(bench, 1)
        os.kill(pid, signal.SIGTERM)
        assert pids_of(bench, 1) != [pid]

    def test_terminated_by_hand_when_running(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        number, visitor = bench.occupy()
        watch = Watch(visitor.pid)
        watch.kill(signal.SIGTERM)
        after = bench.submit("circumstances")
        visitor.let_go("finished")
        assert bench.result(number) == "finished"
        assert watch.ended()
        watch.close()
        assert bench.result(after)["pid"] != visitor.pid

    def test_terminated_again_and_again(self, open_bench: Opener) -> None:
        bench = open_bench(2)
        for value in range(400):
            while not bench.offer(bench.job("echo", value)):
                bench.read(0.1)
            if value % 20 == 0:
                for kin in bench.pool._nursery.living:
                    kin.send_signal(signal.SIGTERM)
        bench.wait_for_all()
        bench.assert_each_ended_once()
        assert all(isinstance(report, Finished) for report in bench.news)

    @pytest.mark.parametrize("template", ["running", "stopped"])
    def test_a_stopped_pool_leaves_no_process(self, open_bench: Opener, template: str) -> None:
        bench = open_bench(2)
        started = [bench.submit("start_sleep", bench.gate.address) for _ in range(2)]
        sleeps = [int(bench.visitor().word) for _ in started]
        processes = [*children(bench, 2), template_pid(bench)]
        bench.stop_supervising()
        if template == "stopped":
            os.kill(template_pid(bench), signal.SIGSTOP)
        watches = [Watch(pid) for pid in sleeps]
        bench.pool.stop()
        assert {state(pid)[0] for pid in processes} == {"X"}
        assert [watch.ended(1) for watch in watches] == [True, True]
        for watch in watches:
            watch.close()


class TestProcessesOfTasks:
    def test_a_pool_of_forked_processes(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        assert bench.run("map_in_pool", [-1, -2, -3]) == [1, 2, 3]
        assert bench.run("map_in_pool", [-4]) == [4]

    def test_a_pool_of_spawned_processes(self, open_bench: Opener) -> None:
        assert open_bench(1).run("map_in_spawned_pool", [-1, -2]) == [1, 2]

    def test_a_program(self, open_bench: Opener) -> None:
        assert open_bench(1).run("ask_program", "hello") == "hello\n"

    @pytest.mark.parametrize("how", ["fork", "exec"])
    def test_they_hold_nothing_of_ours(self, open_bench: Opener, how: str) -> None:
        bench = open_bench(1)
        ours = set(bench.run("descriptors_here"))
        assert any("memfd:celeriac-slots" in what for what in ours)
        assert sum(what.startswith("socket:") for what in ours) == 2
        assert sum(what.startswith("pipe:") for what in ours) == 1
        theirs = bench.run(f"descriptors_after_{how}")
        assert set(theirs) & ours == set()

    def test_forks_of_forks_keep_their_own(self, open_bench: Opener) -> None:
        assert open_bench(1).run("fork_in_fork") == 0

    def test_a_function_that_returns_in_two_processes(self, open_bench: Opener) -> None:
        bench = open_bench(1)
        numbers = [bench.submit("return_twice") for _ in range(3)]
        assert [bench.result(number) for number in numbers] == ["child"] * 3
        assert bench.run("add", 1, 1) == 2

    def test_orphans_are_cleared_away(self, open_bench: Opener) -> None:
        bench = open_bench(1, "look_for_strangers_often")
        bench.submit("abandon", bench.gate.address)
        orphan = int(bench.visitor().word)
        assert eventually(lambda: state(orphan)[0] == "X")


class TestSpareChild:
    def done(self, bench: Bench[ProcessPool], within: float = 10.0) -> None:
        bench.until(lambda: not bench.pool.spare.busy, within)

    def test_there_is_none_without_chores(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(1, "note_processes")
        children(bench, 1)
        assert bench.run("add", 1, 1) == 2
        assert len(words(home, "before")) == 1
        bench.pool.spare.do(message=call("mourned"), text="gone")
        self.done(bench)
        assert len(words(home, "before")) == 2

    @pytest.mark.parametrize(
        ("overtime", "error", "text"),
        [
            (None, "WorkerLostError", "its end"),
            (2.5, "TimeLimitExceeded", "the hard time limit of 2.5 s passed"),
        ],
    )
    def test_handlers_of_a_killed_run(
        self, open_bench: Opener, home: Path, overtime: float | None, error: str, text: str
    ) -> None:
        bench = open_bench(1, "note_failures")
        lost = call("mourned", 1, "two")
        bench.pool.spare.do(message=lost, text="its end", overtime=overtime)
        self.done(bench)
        args: list[Any] = [1, "two"]
        kwargs: dict[str, Any] = {}
        assert words(home, "on_failure") == [
            ["on_failure", error, text, lost.id, args, kwargs, "its end"]
        ]
        assert words(home, "request") == [["request", lost.id, args, kwargs]]
        assert words(home, "after_return") == [
            ["after_return", "FAILURE", error, lost.id, args, kwargs, "its end"]
        ]
        assert words(home, "task_failure") == [
            ["task_failure", lost.task, lost.id, error, args, kwargs]
        ]

    def test_receivers_of_worker_signals(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(1, "note_revocations")
        rest = {"terminated": False, "signum": None, "expired": True}
        gone = call("gone")
        about = Delivery(message=gone, queue="celery", receipt="1:1")
        bench.pool.spare.do(signal="task_revoked", sender=HOST, arguments=rest, delivery=about)
        self.done(bench)
        assert words(home, "task_revoked") == [["task_revoked", gone.task, gone.id, rest]]

    def test_chores_are_done_one_after_the_other_in_one_child(
        self, open_bench: Opener, home: Path
    ) -> None:
        bench = open_bench(1)
        for _ in range(500):
            bench.pool.spare.do(message=call("stubborn", "raise", ""), text="gone")
        self.done(bench)
        assert len(words(home, "raise")) == 500
        assert len({pid for pid, *_ in notes(home)}) == 1

    def test_a_hanging_chore_is_killed_and_the_next_is_done(
        self,
        open_bench: Opener,
        home: Path,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(spare, "CHORE_SECONDS", 0.3)
        bench = open_bench(1)
        for what in ("first", "hang", "last"):
            bench.pool.spare.do(message=call("stubborn", what, bench.gate.address), text="gone")
        bench.visitor()
        self.done(bench)
        assert [what for _, what in notes(home)] == ["first", "hang", "last"]
        (first, _), (hung, _), (last, _) = notes(home)
        assert (first == hung, hung == last) == (True, False)
        assert f"the handlers of {APP}.stubborn did not come to an end" in caplog.text
        assert bench.run("add", 1, 1) == 2, "nobody else was bothered"

    def test_a_chore_that_ends_its_process(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(1)
        for what in ("exit", "last"):
            bench.pool.spare.do(message=call("stubborn", what, ""), text="gone")
        self.done(bench)
        assert [what for _, what in notes(home)] == ["exit", "last"]

    def test_a_message_that_nobody_can_read(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(1)
        lost = call("mourned")
        broken = Message(id=lost.id, task=lost.task, headers=lost.headers, body=b"!")
        for message in (call("stubborn", "one", ""), broken, call("stubborn", "two", "")):
            bench.pool.spare.do(message=message, text="gone")
        self.done(bench)
        assert [what for _, what in notes(home)] == ["one", "two"]
        assert len({pid for pid, _ in notes(home)}) == 1

    def test_what_is_done_is_not_done_again_when_the_child_dies(
        self, open_bench: Opener, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        bench = open_bench(1)
        bench.pool.spare.do(message=call("stubborn", "one", ""), text="gone")
        self.done(bench)
        kin = bench.pool._kin[SPARE_SLOT]
        for what in ("two", "three"):
            bench.pool.spare.do(message=call("stubborn", what, ""), text="gone")
        # Nobody reads the news meanwhile.
        eventually(lambda: len(notes(home)) == 3)
        bench.pool.spare.do(message=call("stubborn", "hang", bench.gate.address), text="gone")
        bench.gate.visitor()
        watch = Watch(kin.pid)
        watch.kill(signal.SIGKILL)
        assert watch.ended()
        watch.close()
        eventually(lambda: bench.pool._dead)
        self.done(bench)
        assert [what for _, what in notes(home)] == ["one", "two", "three", "hang"]
        assert caplog.text.count("did not come to an end") == 1

    def test_chores_go_on_when_the_pool_is_halted(self, open_bench: Opener, home: Path) -> None:
        bench = open_bench(1)
        bench.occupy()
        bench.supervisor(bench.pool.halt)
        bench.pool.spare.do(message=call("stubborn", "last", ""), text="gone")
        self.done(bench)
        assert [what for _, what in notes(home)] == ["last"]
