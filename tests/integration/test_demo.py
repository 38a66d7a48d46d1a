"""The demo as ``make demo`` runs it, the commands that it prints, and what it says when all goes wrong."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.waiting import eventually

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "stdlib_census"

Ended = subprocess.CompletedProcess[str]


def run(*command: str) -> Ended:
    """Run a program of Python in the root, as ``make`` does. What it prints goes to no terminal."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the demo might leave something."""
    return {name: tmp_path_factory.mktemp(name) for name in ("TMPDIR", "CELERIAC_HOME", "HOME")}


@pytest.fixture(scope="module")
def ended(places: dict[str, Path]) -> Ended:
    with pytest.MonkeyPatch.context() as patch:
        for name, folder in places.items():
            patch.setenv(name, str(folder))
        return run("examples/stdlib_census/demo.py")


@pytest.fixture
def lines(ended: Ended) -> list[str]:
    return ended.stdout.splitlines()


class TestTheRealThing:
    def test_ends_well(self, ended: Ended) -> None:
        assert ended.returncode == 0, ended.stdout

    def test_leaves_nothing_behind(self, ended: Ended, places: dict[str, Path]) -> None:
        assert not any(list(folder.iterdir()) for folder in places.values())

    def test_shows_the_worker_and_the_pace(self, ended: Ended) -> None:
        assert "  . tasks.measure\n" in ended.stdout
        sent = re.search(r"Sent (\d+) tasks", ended.stdout)
        assert sent
        assert int(sent[1]) > 400
        assert re.search(r"All were done after [\d.]+ s: \d+ tasks per second\.", ended.stdout)

    def test_draws_no_bar_where_nobody_looks(self, ended: Ended) -> None:
        assert "\r" not in ended.stdout
        assert "###" not in ended.stdout

    def test_shows_the_ten_largest(self, lines: list[str]) -> None:
        head = next(n for n, line in enumerate(lines) if re.match(r"file +lines", line))
        rows = lines[head + 1 : lines.index("", head)]
        counts = [int(re.split(r" +", row)[1]) for row in rows]
        assert len(rows) == 10
        assert counts == sorted(counts, reverse=True)
        assert all(count > 1000 for count in counts)

    def test_shows_the_broken_file_with_its_traceback(self, ended: Ended, lines: list[str]) -> None:
        assert ended.stdout.count("Traceback") == 1
        start = lines.index("    Traceback (most recent call last):")
        text = "\n".join(lines[start : lines.index("", start)])
        assert re.search(r'/broken\.py", line 1\n +def unfinished', text)
        assert text.endswith("    SyntaxError: invalid syntax")
        sent = re.search(r"Sent (\d+) tasks", ended.stdout)
        unharmed = re.search(r"the other (\d+) are unharmed", ended.stdout)
        assert sent
        assert unharmed
        assert int(unharmed[1]) == int(sent[1]) - 1

    def test_prints_commands_that_work(self, lines: list[str], tmp_path: Path) -> None:
        worker, call = commands(lines)
        log = tmp_path / "worker.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["sh", "-e", "-c", worker],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            eventually(lambda: " ready.\n" in log.read_text("utf-8"))
            done = subprocess.run(
                ["sh", "-e", "-c", call],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
            assert (done.returncode, done.stderr) == (0, "")
            source = (EXAMPLE / "tasks.py").read_text("utf-8")
            assert f"'lines': {source.count(chr(10))}," in done.stdout
        finally:
            # What Ctrl-C does: it reaches everything that the terminal has in front.
            os.killpg(process.pid, signal.SIGINT)
            process.wait(15)
        assert "stopping" in log.read_text("utf-8")


def commands(lines: list[str]) -> list[str]:
    """Return what is to be pasted into each terminal: the indented lines at the end, by paragraph."""
    end = lines[next(n for n, line in enumerate(lines) if line.startswith("Your turn.")) :]
    paragraphs = "\n".join(end).split("\n\n")
    return [text for text in paragraphs if text.startswith("  ")]


def test_it_draws_a_bar_on_a_terminal() -> None:
    ours, theirs = pty.openpty()
    program = "import demo; demo.show_progress(1, 2); demo.show_progress(2, 2)"
    command = [sys.executable, "-c", program]
    try:
        subprocess.run(command, cwd=EXAMPLE, stdout=theirs, check=True, timeout=30)
        drawn = os.read(ours, 1000).decode()
    finally:
        os.close(ours)
        os.close(theirs)
    half = "#" * 20
    assert drawn == f"\r[{half}{'.' * 20}] 1/2\r[{half}{half}] 2/2\r\n"


class TestWhenSomethingGoesWrong:
    """Whatever it is, the exit status says so. A small library makes it quick."""

    @pytest.fixture
    def library(self, tmp_path: Path) -> Path:
        folder = tmp_path / "library"
        folder.mkdir()
        (folder / "one.py").write_text("import os\n\n\ndef one():\n    pass\n", encoding="utf-8")
        (folder / "two.py").write_text("", encoding="utf-8")
        return folder

    @pytest.fixture
    def small(self, library: Path) -> Callable[[str], Ended]:
        """Run the demo on the small library, after a change to it."""

        def run_changed(change: str) -> Ended:
            program = (
                f"import sys; from pathlib import Path; sys.path.insert(0, {str(EXAMPLE)!r}); "
                f"import demo; demo.LIBRARY = Path({str(library)!r}); {change}; sys.exit(demo.main())"
            )
            return run("-c", program)

        return run_changed

    def test_all_is_well_without_a_change(self, small: Callable[[str], Ended]) -> None:
        ended = small("pass")
        assert ended.returncode == 0, ended.stdout
        assert re.search(r"^one\.py +5 +1 +0  one \(2 lines\)$", ended.stdout, re.MULTILINE)
        assert re.search(r"^two\.py +0 +0 +0  -$", ended.stdout, re.MULTILINE)

    def test_a_file_that_should_not_have_failed(
        self, small: Callable[[str], Ended], library: Path
    ) -> None:
        (library / "three.py").write_text("three(", encoding="utf-8")
        ended = small("pass")
        assert ended.returncode == 1
        assert f"This should not have failed: {library / 'three.py'}\nTraceback" in ended.stdout
        assert "the other 2 are unharmed" in ended.stdout

    def test_a_broken_file_that_is_not_broken(self, small: Callable[[str], Ended]) -> None:
        ended = small("demo.BROKEN = ''")
        assert ended.returncode == 1
        assert "The broken file should have failed, and did not." in ended.stdout

    def test_a_worker_that_does_not_start(
        self, small: Callable[[str], Ended], tmp_path: Path
    ) -> None:
        ended = small(f"demo.HERE = Path({str(tmp_path)!r})")
        assert ended.returncode == 1
        assert "the worker did not start:\nceleriac: -A tasks: there is no module" in ended.stdout

    def test_a_library_without_files(self, small: Callable[[str], Ended], library: Path) -> None:
        for file in library.iterdir():
            file.unlink()
        ended = small("pass")
        assert ended.returncode == 1
        assert f"no files of the standard library in {library}" in ended.stdout

    def test_a_worker_that_takes_too_long_is_killed(self, small: Callable[[str], Ended]) -> None:
        ended = small("demo.SECONDS = 0.05")
        assert ended.returncode == 1
        assert "the worker did not start" in ended.stdout


def test_it_runs_on_redis(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKER", redis_url)
    ended = run("examples/stdlib_census/demo.py")
    assert ended.returncode == 0, ended.stdout
    assert f"broker     {redis_url}" in ended.stdout
