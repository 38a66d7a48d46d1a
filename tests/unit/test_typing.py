"""What type checkers make of calls: good snippets pass, each bad line is refused, and no other.

In ``tests/fixtures/typing`` a line that must be refused ends with ``# REFUSED``. Both checkers read
the package as a user's project does: strictly, and without the settings of this repository.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SNIPPETS = ROOT / "tests" / "fixtures" / "typing"
MARK = "# REFUSED"

Refusals = dict[int, str]
"""What a checker says, by line."""


def mypy(file: Path, scratch: Path) -> Refusals:
    command = [
        *(sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary"),
        *("--hide-error-context", "--no-color-output", "--no-pretty", str(file)),
        # Kept from run to run, and apart from that of the repository's own settings.
        f"--cache-dir={ROOT / '.mypy_cache' / 'snippets'}",
    ]
    said = run(command, cwd=scratch)
    found = re.findall(r"^\S+:(\d+): error: (.*)$", said, re.MULTILINE)
    assert found or not said.strip(), said
    return {int(line): text for line, text in found}


def pyright(file: Path, scratch: Path) -> Refusals:
    snippet = scratch / file.name
    snippet.write_text(file.read_text("utf-8"), "utf-8")
    settings = {"typeCheckingMode": "strict"}
    (scratch / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    said = json.loads(run(command, cwd=scratch))
    assert said["summary"]["filesAnalyzed"] == 1
    errors = [one for one in said["generalDiagnostics"] if one["severity"] == "error"]
    return {one["range"]["start"]["line"] + 1: one["message"] for one in errors}


def run(command: list[str], cwd: Path) -> str:
    environment = {**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def marked(file: Path) -> list[int]:
    lines = file.read_text("utf-8").splitlines()
    return [number for number, line in enumerate(lines, 1) if line.endswith(MARK)]


@pytest.mark.parametrize("check", [mypy, pyright])
@pytest.mark.parametrize("name", ["good.py", "bad.py"])
def test_exactly_the_marked_lines_are_refused(
    name: str, check: Callable[[Path, Path], Refusals], home: Path
) -> None:
    file = SNIPPETS / name
    refused = check(file, home)
    wanted = marked(file)
    wrongly = {line: text for line, text in refused.items() if line not in wanted}
    missed = {n: file.read_text("utf-8").splitlines()[n - 1] for n in wanted if n not in refused}
    assert not wrongly, "refused, although it is right"
    assert not missed, "accepted, although it is wrong"


def test_there_is_something_to_refuse() -> None:
    assert not marked(SNIPPETS / "good.py")
    assert len(marked(SNIPPETS / "bad.py")) > 40
