"""The commands of the README and of the quickstart, run as they are printed, in an empty folder.

Python blocks open with the name of the file that they are; shell blocks are run one after the other,
and a text block is what the shell block before it prints (``...`` stands for anything, an id for any
id). Blocks that are marked to be run in a clone would run this very test, or the network: of those
each ``make`` target is looked up. What a page says of servers is done by following the whole page with
the address of one in the environment.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from celeriac.settings import masked_url
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import OVER_ALL, server_url

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(
    r"(?P<clone><!-- in a clone -->\n)?(?P<server><!-- with a server -->\n)?"
    r"^```(?P<language>\w*)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
IN_A_CLONE = {". .venv/bin/activate", 'pip install ".[redis,amqp]"'}
WITH_A_SERVER = re.compile(
    r"export CELERY_BROKER_URL=redis://localhost:6379/0\nceleriac -A tasks worker -l info\n"
)


class Block(NamedTuple):
    language: str
    text: str
    in_a_clone: bool
    with_a_server: bool = False


class Reader:
    """Somebody who reads a page and does what it says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.printed = ""
        self.worker: subprocess.Popen[bytes] | None = None
        programs = str(Path(sys.executable).parent)
        kept = {name: value for name, value in os.environ.items() if name[:6] != "CELERY"}
        self.environment = kept | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}

    def follow(self, block: Block) -> None:
        if block.in_a_clone:
            for line in block.text.splitlines():
                _possible_in_a_clone(line)
        elif block.with_a_server:
            assert WITH_A_SERVER.fullmatch(block.text), f"this is not followed:\n{block.text}"
        elif block.language == "python":
            self._save(block.text)
        elif block.language == "sh":
            self._run(block.text)
        else:
            assert block.language == "text", f"a block of {block.language!r}: what is it for?"
            self._compare(block.text)

    def _save(self, text: str) -> None:
        head = re.match(r"# (\w+\.py)\n", text)
        assert head, f"which file is this?\n{text}"
        (self.folder / head[1]).write_text(text, encoding="utf-8")

    def _run(self, text: str) -> None:
        if re.search(r" worker\b", text):
            self._start_worker(text)
            return
        done = subprocess.run(
            ["sh", "-e", "-c", text],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
            check=False,
        )
        self.printed = done.stdout
        assert done.returncode == 0, f"{text}\nprinted:\n{done.stdout}"

    def _start_worker(self, text: str) -> None:
        log = self.folder / "worker.log"
        with log.open("wb") as file:
            self.worker = subprocess.Popen(
                shlex.split(text),
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        eventually(lambda: " ready.\n" in log.read_text("utf-8"))
        self.printed = log.read_text("utf-8")

    def _compare(self, text: str) -> None:
        pattern = re.sub(ID, "ID", text)
        pattern = re.escape(pattern).replace(r"\.\.\.", ".*?").replace("ID", ID)
        assert re.fullmatch(pattern, self.printed, re.DOTALL), (
            f"the page says:\n{text}\nprinted was:\n{self.printed}"
        )

    def leave(self) -> None:
        """Stop the worker, as the pages say, if it still runs."""
        if self.worker is not None:
            self.worker.send_signal(signal.SIGINT)
            try:
                assert self.worker.wait(15) == 0
            finally:
                self.worker.kill()
                self.worker.wait()


def _possible_in_a_clone(line: str) -> None:
    command = line.partition("#")[0].strip()
    if command in IN_A_CLONE:
        return
    assert re.fullmatch(r"make( \w+)?", command), f"nobody looks whether this works: {line}"
    subprocess.run(["make", "--dry-run", *command.split()[1:]], cwd=ROOT, check=True, timeout=30)


def blocks(page: str) -> list[Block]:
    text = (ROOT / page).read_text("utf-8")
    found = [
        Block(m["language"], m["text"], bool(m["clone"]), bool(m["server"]))
        for m in BLOCK.finditer(text)
    ]
    assert text.count("```") == 2 * len(found), f"{page} has a block that is not seen"
    return found


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    reader = Reader(tmp_path)
    yield reader
    reader.leave()


@pytest.fixture(params=[server for server in OVER_ALL if server != "file"])
def url(request: pytest.FixtureRequest) -> str:
    url = server_url(request)
    assert url is not None
    return url


def test_the_readme_can_be_followed_with_a_server(url: str, reader: Reader) -> None:
    reader.environment["CELERY_BROKER_URL"] = url
    for block in blocks("README.md"):
        reader.follow(block)
    log = (reader.folder / "worker.log").read_text("utf-8")
    assert f"broker     {masked_url(url)}" in log


@pytest.mark.parametrize(("page", "files"), [("README.md", 2), ("docs/quickstart.md", 3)])
def test_what_a_page_says_can_be_done(page: str, files: int, reader: Reader) -> None:
    for block in blocks(page):
        reader.follow(block)
    assert reader.worker is not None
    assert len(list(reader.folder.glob("*.py"))) == files


def test_a_page_that_is_wrong_is_noticed(reader: Reader) -> None:
    reader.follow(Block("sh", "echo 5\n", False))
    reader.follow(Block("text", "5\n", False))
    for wrong in (
        Block("text", "6\n", False),
        Block("sh", "celeriac nonsense\n", False),
        Block("sh", "make nonsense\n", True),
        Block("sh", "rm -r everything\n", True),
        Block("python", "print(5)\n", False),
        Block("toml", "five = 5\n", False),
    ):
        with pytest.raises((AssertionError, subprocess.CalledProcessError)):
            reader.follow(wrong)
