"""The table of Celery's behaviours: complete, true to the tests, and as its page says.

Small tables and tests made up here break one rule each, which shows that every rule is able to fail.
"""

from pathlib import Path
from textwrap import dedent

import pytest

from scripts.feature_marks import read_marks
from scripts.feature_table import PAGE, Table, page, read_table

# The real table


@pytest.fixture(scope="module")
def table() -> Table:
    return read_table()


def test_rows_and_tests_agree(table: Table) -> None:
    assert not table.problems, "\n" + "\n".join(table.problems)


def test_the_page_is_what_the_generator_prints(table: Table) -> None:
    assert PAGE.read_text("utf-8") == page(table), "run: python -m scripts.feature_table --write"


def test_the_whole_table_is_read(table: Table) -> None:
    assert len(table.rows) == 242
    assert len({mark.file for row in table.rows for mark in row.marks}) > 20


# Made-up ones: two rows, of which a test shows the first, and the second comes later

ROWS = """
[later]
canvas = "signatures"

[sections]
APP = { title = "App", rows = 2 }

[elsewhere]
WORK = 3

[rows.APP-01]
feature = "one"
behaviour = "It does this."

[rows.APP-02]
feature = "two"
behaviour = "It does that."
later = "canvas"
"""

TESTS = {
    "unit/test_app.py": """
        import pytest

        @pytest.mark.follows("APP-01", "WORK-03")
        def test_it() -> None: ...
        """
}


def made(folder: Path, rows: str = ROWS, tests: dict[str, str] = TESTS) -> Table:
    """Write a table and tests, and read them back."""
    (folder / "rows.toml").write_text(rows)
    for name, text in tests.items():
        file = folder / "tests" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))
    return read_table(folder / "rows.toml", folder / "tests")


def test_what_is_in_order_is_no_problem(home: Path) -> None:
    table = made(home)
    assert table.problems == []
    assert [row.status for row in table.rows] == ["works", "later"]
    text = page(table)
    assert "| App | 2 | 1 | 0 | 1 |" in text
    assert "| APP-01 | one | It does this. | works | unit/test_app.py: `test_it` |" in text
    assert "| APP-02 | two | It does that. | later: canvas |  |" in text
    assert "| canvas | signatures | APP-02 |" in text
    assert "under way" not in text


ROW_2 = 'behaviour = "It does that."\nlater = "canvas"'
BROKEN = {
    "no status": (ROW_2, 'behaviour = "x"', "APP-02: it has no status: no test names it"),
    "no row": ("[rows.APP-02]", "[rows.APP-03]", "APP-03: its section has no such row"),
    "a row too few": ("rows = 2", "rows = 3", "APP-03: it says nothing as 'behaviour'"),
    "no behaviour": ('behaviour = "It does that."', "", "APP-02: it says nothing as 'behaviour'"),
    "no reason": ('later = "canvas"', 'different = " "', "APP-02: 'different' is empty"),
    "no capability": ('later = "canvas"', 'later = "x"', "APP-02: there is no capability 'x'"),
    "no key": ('later = "canvas"', 'latr = "x"', "APP-02: there is no key 'latr'"),
    "later and different": (
        'later = "canvas"', 'later = "canvas"\ndifferent = "x"',
        "APP-02: what comes later is neither different nor lacking",
    ),
    "lacking": ('later = "canvas"', 'lacks = "x"', "APP-02: it still lacks 'x'"),
    "later and shown": (
        'behaviour = "It does this."', 'behaviour = "x"\nlater = "canvas"',
        "APP-01: it is left for later, but tests/unit/test_app.py::test_it shows it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_row_that_is_wrong_is_named(case: str, home: Path) -> None:
    old, new, problem = BROKEN[case]
    assert old in ROWS
    problems = made(home, ROWS.replace(old, new)).problems
    assert any(one.startswith(problem) for one in problems), problems


@pytest.mark.parametrize("case", ["no status", "lacking"])
def test_while_it_is_under_way_a_row_may_be_open(case: str, home: Path) -> None:
    old, new, _ = BROKEN[case]
    table = made(home, "under_way = true\n" + ROWS.replace(old, new))
    assert table.problems == []
    assert [row.status for row in table.rows] == ["works", "under way"]
    assert "| under way |" in page(table)


@pytest.mark.parametrize("case", sorted(BROKEN.keys() - {"no status", "lacking"}))
def test_while_it_is_under_way_nothing_else_may_be_wrong(case: str, home: Path) -> None:
    old, new, _ = BROKEN[case]
    assert made(home, "under_way = true\n" + ROWS.replace(old, new)).problems


def test_a_row_may_work_differently_with_tests_and_without(home: Path) -> None:
    rows = ROWS.replace('later = "canvas"', 'different = "so | so"')
    rows = rows.replace('"It does this."', '"It does this."\ndifferent = "better"')
    table = made(home, rows)
    assert table.problems == []
    assert [row.status for row in table.rows] == ["works differently"] * 2
    assert "| works differently: better | unit/test_app.py: `test_it` |" in page(table)
    assert "| works differently: so \\| so |  |" in page(table)


@pytest.mark.parametrize("id", ["APP-03", "APP-1", "WORK-04", "app-01", ""])
def test_an_unknown_id_is_named_with_its_test(id: str, home: Path) -> None:
    tests = {"unit/test_other.py": f"@pytest.mark.follows('{id}')\ndef test_it() -> None: ...\n"}
    problems = made(home, tests=TESTS | tests).problems
    assert problems == [f"tests/unit/test_other.py::test_it: there is no behaviour {id!r}"]


# Where marks may stand

FOUND = {
    "a function": ("@pytest.mark.follows('APP-01')\ndef test_it(): ...", "test_it"),
    "a coroutine": ("@pytest.mark.follows('APP-01')\nasync def test_it(): ...", "test_it"),
    "among others": (
        "@pytest.mark.slow\n@pytest.mark.follows('APP-01')\n@both\ndef test_it(): ...", "test_it",
    ),
    "a class": ("@pytest.mark.follows('APP-01')\nclass TestIt: ...", "TestIt"),
    "a method": (
        "class TestIt:\n    @pytest.mark.follows('APP-01')\n    def test_it(self): ...",
        "TestIt::test_it",
    ),
    "the marks of a class": (
        "class TestIt:\n    pytestmark = [pytest.mark.slow, pytest.mark.follows('APP-01')]",
        "TestIt",
    ),
    "the mark of a module": ("pytestmark = pytest.mark.follows('APP-01')", ""),
    "a case": (
        "@pytest.mark.parametrize('x', [pytest.param(1, marks=pytest.mark.follows('APP-01'))])\n"
        "def test_it(x): ...", "test_it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
def test_marks_are_found_on(case: str, home: Path) -> None:
    text, test = FOUND[case]
    table = made(home, tests={"unit/test_app.py": text})
    assert table.problems == []
    assert [(m.file, m.test) for m in table.rows[0].marks] == [("unit/test_app.py", test)]


def test_marks_are_found_in_contracts(home: Path) -> None:
    text = """
        class Contract:
            @pytest.mark.follows("APP-01")
            def test_it(self): ...
        """
    table = made(home, tests={"contract/a_contract.py": text})
    assert table.problems == []
    assert [mark.test for mark in table.rows[0].marks] == ["Contract::test_it"]


STRAY = {
    "a helper": "@pytest.mark.follows('APP-01')\ndef helper(): ...",
    "a class that is not collected": "@pytest.mark.follows('APP-01')\nclass It: ...",
    "a method of one": "class It:\n    @pytest.mark.follows('APP-01')\n    def test_it(self): ...",
    "a variable": "ours = pytest.mark.follows('APP-01')",
    "an id that is computed": "@pytest.mark.follows(ID)\ndef test_it(): ...",
    "several at once": "@pytest.mark.follows(*IDS)\ndef test_it(): ...",
    "a keyword": "@pytest.mark.follows('APP-01', why='x')\ndef test_it(): ...",
    "no id": "@pytest.mark.follows()\ndef test_it(): ...",
}


@pytest.mark.parametrize("case", STRAY)
def test_a_mark_that_would_count_for_nothing_is_named(case: str, home: Path) -> None:
    problems = made(home, tests=TESTS | {"unit/test_other.py": STRAY[case]}).problems
    assert len(problems) == 1
    assert problems[0].startswith("tests/unit/test_other.py:"), problems


def test_a_mark_outside_of_tests_is_named(home: Path) -> None:
    tests = {"fixtures/app.py": "@pytest.mark.follows('APP-01')\ndef test_it(): ..."}
    assert made(home, tests=TESTS | tests).problems == [
        "tests/fixtures/app.py:1: the mark stands where it marks no test"
    ]


UNPROVEN = {
    "skipped": "@pytest.mark.skip\n@pytest.mark.follows('APP-01')\ndef test_it(): ...",
    "to fail": "@pytest.mark.follows('APP-01')\n@pytest.mark.xfail()\ndef test_it(): ...",
    "in a skipped class": (
        "@pytest.mark.skip('why')\nclass TestIt:\n"
        "    @pytest.mark.follows('APP-01')\n    def test_it(self): ..."
    ),
    "in a class that marks itself": (
        "class TestIt:\n    pytestmark = pytest.mark.skip\n"
        "    @pytest.mark.follows('APP-01')\n    def test_it(self): ..."
    ),
    "in a skipped module": (
        "pytestmark = [pytest.mark.skip('why')]\n@pytest.mark.follows('APP-01')\ndef test_it(): ..."
    ),
}


@pytest.mark.parametrize("case", UNPROVEN)
def test_a_test_shows_nothing_that_is(case: str, home: Path) -> None:
    table = made(home, tests={"unit/test_app.py": UNPROVEN[case]})
    assert table.problems == [
        "APP-01: it has no status: no test names it, and it is neither different nor later"
    ]


def test_many_tests_of_one_file_are_counted(home: Path) -> None:
    one = "@pytest.mark.follows('APP-01')\ndef test_{}(): ...\n"
    tests = {
        "unit/test_app.py": "".join(map(one.format, "abcde")),
        "unit/test_b.py": one.format("f"),
    }
    shown = "unit/test_app.py: `test_a`, `test_b`, `test_c`, 2 more; unit/test_b.py: `test_f`"
    assert f"| works | {shown} |" in page(made(home, tests=tests))


def test_nothing_is_imported(home: Path) -> None:
    file = home / "test_it.py"
    file.write_text("raise SystemExit\n@pytest.mark.follows('APP-01')\ndef test_it(): ...")
    assert [mark.id for mark in read_marks(home).found] == ["APP-01"]
