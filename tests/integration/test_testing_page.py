"""The files of the page on testing, and its sessions of pytest, in an empty folder."""

from pathlib import Path

from tests.integration.test_readme import Reader, blocks


def test_what_the_page_says_can_be_done(tmp_path: Path) -> None:
    reader = Reader(tmp_path)
    for block in blocks("docs/testing.md"):
        reader.follow(block)
    assert {file.name for file in tmp_path.glob("*.py")} == {
        *("conftest.py", "shop.py", "test_shop.py", "test_worker.py")
    }
    # The page shows its second file of tests without a session.
    reader.follow(blocks("docs/testing.md")[-1]._replace(language="sh", text="pytest -q -W error"))
    assert "5 passed" in reader.printed
