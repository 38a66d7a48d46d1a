"""``celeriac worker --dev``: begun anew when a file is saved, with a debugger at the terminal."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from celeriac import Celery, states
from celeriac.message import QueueSize
from tests.fixtures.commands import celeriac
from tests.fixtures.gate import Gate
from tests.fixtures.system import dead
from tests.fixtures.terminal import Terminal
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import ROOT, connected

WAIT = 15.0

SHOP = """
    import multiprocessing
    import os
    import signal

    import prices
    from celeriac import Celery
    from tests.fixtures.gate import knock

    app = Celery("shop")

    @app.task
    def price():
        return prices.PRICE

    @app.task
    def pid():
        return os.getpid()

    @app.task
    def pause(gate):
        return knock(gate)

    @app.task
    def forks(number):
        child = multiprocessing.get_context("fork").Process(target=signal.pause)
        child.start()
        os.kill(child.pid, number)
        child.join(10)
        return child.exitcode

    @app.task
    def leave():
        os._exit(7)

    @app.task
    def stop_here(number):
        total = number + 1
        breakpoint()
        return total
    """

caller = Celery("shop")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with connected(caller, tmp_path / "state") as url:
        yield url


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "shop.py").write_text(dedent(SHOP))
    (folder / "prices.py").write_text("PRICE = 1\n")
    return folder


@pytest.fixture
def worker(folder: Path, url: str) -> Iterator[Callable[..., Terminal]]:
    """Start a worker at a terminal; it is killed at the end."""
    opened: list[Terminal] = []

    def start(*options: str, app: str = "shop", **environment: str) -> Terminal:
        arguments = ("-A", app, "worker", "--dev", *options)
        environment = {"PYTHONPATH": str(ROOT), **environment}
        opened.append(Terminal(*arguments, folder=folder, url=url, **environment))
        return opened[-1].__enter__()

    yield start
    for terminal in opened:
        terminal.__exit__()


def ready(terminal: Terminal) -> Terminal:
    terminal.wait_for(r" ready\.$")
    return terminal


def ask(name: str, *args: Any) -> Any:
    return caller.send_task(f"shop.{name}", args).get(WAIT)


@pytest.mark.filterwarnings("ignore::celeriac.exceptions.NoWorkerSeenWarning")
class TestSaves:
    def test_a_save_begins_anew(self, worker: Any, folder: Path) -> None:
        terminal = ready(worker())
        before = ask("pid")
        assert (ask("price"), before) == (1, before)
        assert before != terminal.pid
        (folder / "prices.py").write_text("PRICE = 22\n")
        terminal.wait_for(r"^celeriac: prices\.py changed: starting again$")
        ready(terminal)
        assert ask("price") == 22
        assert ask("pid") not in (before, terminal.pid)
        assert dead(before)
        # The banner is shown once, and what happens is shown without being asked for.
        assert terminal.screen.count("celeriac worker celery@") == 1
        terminal.wait_for(r"INFO/MainProcess\] Task shop\.pid\[\S+\] succeeded")

    def test_the_running_task_may_end_first(self, worker: Any, folder: Path, gate: Gate) -> None:
        terminal = ready(worker())
        sent = caller.send_task("shop.pause", (gate.address,))
        visitor = gate.visitor()
        (folder / "prices.py").write_text("PRICE = 22\n")
        terminal.wait_for("changed: starting again")
        visitor.let_go("done")
        assert sent.get(WAIT) == "done"
        ready(terminal)
        assert gate.deserted()
        assert ask("price") == 22

    def test_a_task_that_takes_too_long_is_run_again_uncounted(
        self, worker: Any, folder: Path, gate: Gate
    ) -> None:
        terminal = ready(worker("--grace", "0.2"))
        sent = caller.send_task("shop.pause", (gate.address,))
        first = gate.visitor()
        (folder / "prices.py").write_text("PRICE = 22\n")
        terminal.wait_for("^celeriac: ending the running task$")
        second = gate.visitor()
        assert second.pid != first.pid
        assert dead(first.pid)
        read = caller.broker.database.read  # type: ignore[attr-defined]
        assert read("SELECT claims, suspect, losses FROM message") == [(2, 0, 0)]
        second.let_go("done")
        assert sent.get(WAIT) == "done"

    def test_what_the_app_writes_while_it_is_loaded_is_no_endless_loop(
        self, worker: Any, folder: Path
    ) -> None:
        (folder / "stamp.py").write_text("")
        (folder / "prices.py").write_text(
            "import time\n"
            "from pathlib import Path\n"
            "PRICE = time.time_ns()\n"
            "Path('stamp.py').write_text(f'{PRICE = }')\n"
            "import stamp\n"
        )
        terminal = ready(worker())
        terminal.wait_for("stamp.py changed: starting again")
        ready(terminal)
        # Another look would find it again.
        assert terminal.shows_not("changed", for_seconds=1.2)

    def test_what_cannot_be_imported_is_shown_and_waited_for(
        self, worker: Any, folder: Path
    ) -> None:
        terminal = ready(worker())
        (folder / "prices.py").write_text("PRICE = (\n")
        terminal.wait_for(r"SyntaxError: '\(' was never closed")
        terminal.wait_for("^celeriac: waiting for the next save$")
        (folder / "prices.py").write_text("import missing\nPRICE = missing.PRICE\n")
        terminal.wait_for("ModuleNotFoundError: No module named 'missing'")
        terminal.wait_for("^celeriac: waiting for the next save$")
        (folder / "missing.py").write_text("PRICE = 5\n")
        ready(terminal)
        assert ask("price") == 5

    def test_also_at_the_first_start(self, worker: Any, folder: Path) -> None:
        (folder / "prices.py").write_text("1 / 0\n")
        terminal = worker()
        terminal.wait_for("^ZeroDivisionError")
        terminal.wait_for("^celeriac: waiting for the next save$")
        (folder / "prices.py").write_text("PRICE = 3\n")
        ready(terminal)
        assert ask("price") == 3
        terminal.press(b"\x03")
        assert terminal.ends() == 0

    def test_a_wrong_setting_is_mended_too(self, worker: Any, folder: Path) -> None:
        terminal = ready(worker())
        shop = (folder / "shop.py").read_text()
        (folder / "shop.py").write_text(shop + "app.conf.task_ack_late = 1\n")
        terminal.wait_for("celeriac: -A shop: unknown setting 'task_ack_late'")
        terminal.wait_for("^celeriac: waiting for the next save$")
        (folder / "shop.py").write_text(shop)
        ready(terminal)


@pytest.mark.filterwarnings("ignore::celeriac.exceptions.NoWorkerSeenWarning")
class TestBreakpoints:
    def test_they_stop_in_the_task(self, worker: Any, folder: Path) -> None:
        terminal = ready(worker("--grace", "0.1"))
        sent = caller.send_task("shop.stop_here", (4,))
        terminal.wait_for(r"-> return total\n\(Pdb\) ")
        terminal.type("total * 10")
        terminal.wait_for("^50$")
        terminal.type("total = 7")
        # A save does not tear the debugger away.
        (folder / "prices.py").write_text("PRICE = 22\n")
        terminal.wait_for("^celeriac: a debugger is open: waiting for the end of its task$")
        assert sent.state == states.PENDING
        terminal.type("continue")
        assert sent.get(WAIT) == 7
        ready(terminal)
        assert ask("price") == 22

    def test_signals_are_the_workers_again_after_one(self, worker: Any) -> None:
        terminal = ready(worker())
        sent = caller.send_task("shop.stop_here", (4,))
        terminal.wait_for(r"\(Pdb\) ")
        terminal.type("continue")
        assert sent.get(WAIT) == 5
        terminal.wait_for(r"shop\.stop_here\[\S+\] succeeded")
        terminal.press(b"\x03")
        assert terminal.ends() == 0
        assert "(Pdb)" not in terminal.screen.rpartition("succeeded")[2]

    def test_the_lease_is_kept_meanwhile(self, worker: Any, folder: Path) -> None:
        with (folder / "shop.py").open("a") as file:
            file.write("app.conf.broker_transport_options = {'lease': 0.4}\n")
        terminal = ready(worker())
        sent = caller.send_task("shop.stop_here", (4,))
        terminal.wait_for(r"\(Pdb\) ")
        read = caller.broker.database.read  # type: ignore[attr-defined]

        def lease() -> float:
            return float(read("SELECT lease FROM message")[0][0])

        begun = lease()
        assert eventually(lambda: lease() > begun + 1.0)
        terminal.type("c")
        assert sent.get(WAIT) == 5

    def test_the_terminal_is_given_back_as_it_was(self, worker: Any) -> None:
        terminal = ready(worker())
        assert terminal.echoes
        caller.send_task("shop.stop_here", (4,))
        terminal.wait_for(r"\(Pdb\) ")
        terminal.press(b"\x03")
        terminal.wait_for("once more ends it now")
        terminal.press(b"\x03")
        assert terminal.ends() == 0
        assert terminal.echoes
        assert caller.broker.sizes() == {"celery": QueueSize(ready=1)}


@pytest.mark.filterwarnings("ignore::celeriac.exceptions.NoWorkerSeenWarning")
class TestTheEnd:
    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
    def test_signals_are_passed_on(self, worker: Any, number: int) -> None:
        terminal = ready(worker())
        serving = ask("pid")
        os.kill(terminal.pid, number)
        assert terminal.ends() == 0
        assert dead(serving)

    def test_what_a_task_forks_has_the_usual_signals(self, worker: Any) -> None:
        terminal = ready(worker())
        assert ask("forks", int(signal.SIGTERM)) == -signal.SIGTERM
        assert ask("forks", int(signal.SIGQUIT)) == -signal.SIGQUIT
        # And this process has heard nothing of them.
        assert ask("price") == 1
        assert "stopping" not in terminal.screen

    def test_ctrl_c_waits_for_the_task(self, worker: Any, gate: Gate) -> None:
        terminal = ready(worker())
        sent = caller.send_task("shop.pause", (gate.address,))
        visitor = gate.visitor()
        terminal.press(b"\x03")
        terminal.wait_for("stopping when the running task has ended; once more ends it now")
        visitor.let_go("done")
        assert terminal.ends() == 0
        assert sent.get(WAIT) == "done"

    def test_a_second_ctrl_c_does_not(self, worker: Any, gate: Gate) -> None:
        terminal = ready(worker())
        caller.send_task("shop.pause", (gate.address,))
        gate.visitor()
        terminal.press(b"\x03")
        terminal.wait_for("once more ends it now")
        terminal.press(b"\x03")
        terminal.wait_for("celeriac: ending the running task$")
        assert terminal.ends() == 0
        assert caller.broker.sizes() == {"celery": QueueSize(ready=1)}

    def test_the_serving_process_does_not_outlive_the_keeper(self, folder: Path, url: str) -> None:
        # Without a terminal, which would tell it so itself.
        keeper = subprocess.Popen(
            [sys.executable, "-m", "celeriac", "-A", "shop", "worker", "--dev"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "CELERY_BROKER_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            serving = ask("pid")
        finally:
            keeper.kill()
            keeper.wait()
        assert eventually(lambda: dead(serving))

    def test_a_terminal_that_goes_away_ends_it_after_the_task(
        self, worker: Any, gate: Gate
    ) -> None:
        terminal = ready(worker())
        serving = ask("pid")
        sent = caller.send_task("shop.pause", (gate.address,))
        visitor = gate.visitor()
        terminal.hang_up()
        assert not dead(serving)
        visitor.let_go("done")
        assert sent.get(WAIT) == "done"
        assert eventually(lambda: dead(serving) and dead(terminal.pid))
        assert caller.broker.sizes() == {}

    def test_what_is_killed_is_begun_anew(self, worker: Any) -> None:
        terminal = ready(worker())
        os.kill(ask("pid"), signal.SIGKILL)
        terminal.wait_for(r"^celeriac: the worker was killed by SIGKILL, starting again;")
        ready(terminal)
        caller.send_task("shop.leave")
        terminal.wait_for(r"^celeriac: the worker ended \(7\), starting again;")
        ready(terminal)
        assert ask("price") == 1


class TestMistakes:
    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ("-c 2", "--dev runs one task at a time, in one process: leave out -c"),
            ("--max-tasks-per-child 2", "leave out --max-tasks-per-child"),
            ("--max-memory-per-child 2", "leave out --max-memory-per-child"),
        ],
    )
    def test_options_of_child_processes(self, folder: Path, options: str, words: str) -> None:
        arguments = ["-A", "shop", "worker", "--dev", *options.split()]
        answer = celeriac(*arguments, folder=folder, PYTHONPATH=str(ROOT))
        assert words in answer.complaint

    @pytest.mark.parametrize(
        ("app", "url", "words"),
        [
            ("absent", "", "there is no module 'absent'"),
            ("shop", "memory://", "memory:// lives inside one process"),
            ("shop", "mongodb://:geheim@h/0", "broker_url 'mongodb://:**@h/0' names no broker"),
        ],
    )
    def test_what_no_save_can_mend(self, folder: Path, app: str, url: str, words: str) -> None:
        arguments = ["-A", app, "worker", "--dev"]
        answer = celeriac(*arguments, folder=folder, url=url, PYTHONPATH=str(ROOT))
        assert words in answer.complaint
        assert "geheim" not in answer.err

    def test_it_can_be_less_talkative(self, worker: Any) -> None:
        terminal = worker("-l", "warning", "-q")
        assert eventually(caller.broker.worker_seen)
        assert ask("price") == 1
        terminal.press(b"\x03")
        assert terminal.ends() == 0
        assert not re.search("INFO|celery@", terminal.screen)
