"""The guides, and the pages beside them whose blocks are a program, run from top to bottom."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = ROOT / "tests" / "fixtures" / "page_program.py"
PAGES = [
    *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs" / "guide").glob("*.md")),
    "docs/explanation/differences.md",
    "docs/reference/logging.md",
]


def run(page: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(PROGRAM), str(page)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_true_of_the_code(page: str, tmp_path: Path) -> None:
    done = run(ROOT / page, tmp_path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("block", "says"),
    [
        ("```python\n2 + 3  # -> 6\n```", "page.md:2: it is 5"),
        ("```python\n2 + 3  # raises TypeError\n```", "page.md:2: it raises nothing"),
        ("```python\n2 + x  # raises ValueError\n```", "page.md:2: raised was NameError"),
        ("```python\n2 + x\n```", 'page.md", line 2'),
        ("```python\nif 2:\n    2  # -> 3\n    4\n```", "said where nobody looks"),
        ("```python\nprint(5)\n```\n\n```text\n6\n```", "printed was\n5"),
        ("```sh\nceleriac worker --no-such-option\n```", "No such option"),
        ("```sh\nrm -r everything\n```", "nobody looks whether this works"),
        ("```toml\nfive = 5\n```", "what is 'toml' for?"),
        ("<!-- sometimes -->\n```python\n2 + 3\n```", "sometimes?"),
    ],
)
def test_a_page_that_is_wrong_is_noticed(block: str, says: str, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{block}\n", "utf-8")
    done = run(page, tmp_path)
    assert done.returncode != 0
    assert says in done.stdout


def test_a_block_may_have_a_worker(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```python\nfrom celeriac import Celery\n\napp = Celery('shop')\nlargest = app.task(max)\n```\n"
        "<!-- with a worker -->\n```python\nlargest.delay(2, 3).get(timeout=10)  # -> 3\n```\n",
        "utf-8",
    )
    done = run(page, tmp_path)
    assert done.returncode == 0, done.stdout
