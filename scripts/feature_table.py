"""Make the page that says how each behaviour of Celery is kept, ``docs/reference/celery-features.md``.

Usage: ``python -m scripts.feature_table [--write | --check]``. What Celery does, and what is otherwise
here or comes later, is in ``celery_features.toml``; what works is known from the tests (``feature_marks``).
``--write`` writes the page, ``--check`` says what is wrong with rows, tests and page, and without either
the page goes to standard output. A unit test does as ``--check`` does.
"""

import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

from scripts.feature_marks import Mark, Marks, read_marks

ROOT = Path(__file__).resolve().parents[1]
ROWS = ROOT / "scripts" / "celery_features.toml"
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "reference" / "celery-features.md"

WORKS, DIFFERS, LATER, UNDER_WAY = "works", "works differently", "later", "under way"
KEYS = {"feature", "behaviour", "different", "later", "lacks"}
TESTS_SHOWN = 3
"""Names of tests in one cell, for each file; more would hide the row."""

INTRODUCTION = """\
# Behaviours of Celery

<!-- Made by scripts/feature_table.py from scripts/celery_features.toml and the tests; do not edit. -->

What users of an app know from Celery 5.7, one behaviour in each row, and how Celeriac stands to it. The ids
are those that the documentation of the code names.

| status | meaning |
|---|---|
| works | as in Celery: the named tests fail if it does not |
| works differently | on purpose, for the reason that is given |
| later | left for the capability that is named |
"""
INTRODUCTION_UNDER_WAY = (
    "| under way | being worked on: nothing shows it yet, or something is missing |\n"
)


class Row(NamedTuple):
    """A behaviour, and what the tests say of it."""

    id: str
    said: dict[str, str]
    marks: list[Mark]

    @property
    def status(self) -> str:
        """Its status; under way also if there is none."""
        if "lacks" in self.said:
            return UNDER_WAY
        if "later" in self.said:
            return LATER
        if "different" in self.said:
            return DIFFERS
        return WORKS if self.marks else UNDER_WAY


class Table(NamedTuple):
    """Everything that the page is made of."""

    rows: list[Row]
    sections: dict[str, dict[str, Any]]
    capabilities: dict[str, str]
    strict: bool
    """Whether each row must have a status."""
    problems: list[str]


def read_table(rows: Path = ROWS, tests: Path = TESTS) -> Table:
    """Read rows and tests, and find what is wrong with them."""
    source = tomllib.loads(rows.read_text(encoding="utf-8"))
    sections, capabilities = source["sections"], source["later"]
    marks = read_marks(tests)
    by_id = {id: source["rows"].get(id, {}) for id in _ids(sections, "rows")}
    table = Table(
        rows=[Row(id, said, [m for m in marks.found if m.id == id]) for id, said in by_id.items()],
        sections=sections,
        capabilities=capabilities,
        strict=not source.get("under_way", False),
        problems=[],
    )
    return table._replace(problems=list(_problems(table, source, marks)))


def _ids(sections: dict[str, Any], count: str = "") -> list[str]:
    """Return the ids of all rows: each section counts from 01."""
    numbers = {prefix: one[count] if count else one for prefix, one in sections.items()}
    return [f"{prefix}-{n:02}" for prefix, many in numbers.items() for n in range(1, many + 1)]


# -- what may be wrong -----------------------------------------------------------------------------


def _problems(table: Table, source: dict[str, Any], marks: Marks) -> Iterator[str]:
    yield from marks.problems
    known = {row.id for row in table.rows} | set(_ids(source.get("elsewhere", {})))
    for mark in marks.found:
        if mark.id not in known:
            yield f"{_place(mark)}: there is no behaviour {mark.id!r}"
    for id in source["rows"].keys() - {row.id for row in table.rows}:
        yield f"{id}: its section has no such row; correct the id, or the number of rows"
    for row in table.rows:
        for problem in _problems_of_row(row, table):
            yield f"{row.id}: {problem}"


def _problems_of_row(row: Row, table: Table) -> Iterator[str]:
    said = row.said
    for key in ("feature", "behaviour"):
        if key not in said:
            yield f"it says nothing as {key!r}"
    for key in said.keys() - KEYS:
        yield f"there is no key {key!r}"
    for key, text in said.items():
        if not str(text).strip():
            yield f"{key!r} is empty; say it in words"
    if "later" in said:
        yield from _problems_of_later(row, table)
    if table.strict and "lacks" in said:
        yield f"it still lacks {said['lacks']!r}; say that it is different and why, or build it"
    if table.strict and not row.marks and not said.keys() & {"different", "later", "lacks"}:
        yield "it has no status: no test names it, and it is neither different nor later"


def _problems_of_later(row: Row, table: Table) -> Iterator[str]:
    if row.said["later"] not in table.capabilities:
        yield f"there is no capability {row.said['later']!r} in the table 'later'"
    if row.said.keys() & {"different", "lacks"}:
        yield "what comes later is neither different nor lacking anything yet"
    for mark in row.marks:
        yield f"it is left for later, but {_place(mark)} shows it"


def _place(mark: Mark) -> str:
    return f"tests/{mark.file}" + (f"::{mark.test}" if mark.test else "")


# -- the page --------------------------------------------------------------------------------------


def page(table: Table) -> str:
    """Return the whole page."""
    text = INTRODUCTION + ("" if table.strict else INTRODUCTION_UNDER_WAY)
    parts = [text, *_counts(table), *_capabilities(table)]
    for prefix, section in table.sections.items():
        parts += [
            f"## {section['title']}\n",
            "| id | what | in Celery | status | shown by |",
            "|---|---|---|---|---|",
            *(_line(row) for row in table.rows if row.id.startswith(f"{prefix}-")),
            "",
        ]
    return "\n".join(parts)


def _counts(table: Table) -> Iterator[str]:
    statuses = [WORKS, DIFFERS, LATER, *([] if table.strict else [UNDER_WAY])]
    yield f"| section | rows | {' | '.join(statuses)} |"
    yield "|---|" + "---:|" * (len(statuses) + 1)
    for prefix, section in table.sections.items():
        rows = [row for row in table.rows if row.id.startswith(f"{prefix}-")]
        yield _count(section["title"], rows, statuses)
    yield _count("**all**", table.rows, statuses) + "\n"


def _count(title: str, rows: list[Row], statuses: list[str]) -> str:
    counts = Counter(row.status for row in rows)
    return f"| {title} | {len(rows)} | {' | '.join(str(counts[one]) for one in statuses)} |"


def _capabilities(table: Table) -> Iterator[str]:
    yield "What rows are left for:\n"
    yield "| capability | what it is | rows |"
    yield "|---|---|---|"
    for name, what in table.capabilities.items():
        left = [row.id for row in table.rows if row.said.get("later") == name]
        if left:
            yield f"| {name} | {what} | {', '.join(left)} |"
    yield ""


def _line(row: Row) -> str:
    said = row.said
    cells = (row.id, said.get("feature", ""), said.get("behaviour", ""), _status(row), _shown(row))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _status(row: Row) -> str:
    said = row.said
    if row.status == UNDER_WAY:
        return f"{UNDER_WAY}: without {said['lacks']}" if "lacks" in said else UNDER_WAY
    if row.status == LATER:
        return f"{LATER}: {said['later']}"
    return f"{DIFFERS}: {said['different']}" if row.status == DIFFERS else WORKS


def _shown(row: Row) -> str:
    """Return the files, and in each the tests, that show it."""
    files = []
    for file, group in groupby(sorted(set(row.marks)), key=lambda mark: mark.file):
        names = [f"`{mark.test}`" for mark in group if mark.test]
        more = [f"{len(names) - TESTS_SHOWN} more"] if len(names) > TESTS_SHOWN else []
        files.append(f"{file}: {', '.join(names[:TESTS_SHOWN] + more)}" if names else file)
    return "; ".join(files)


def main(arguments: list[str]) -> int:
    """Do what the arguments say; return the exit status."""
    table = read_table()
    if "--check" in arguments:
        problems = list(table.problems)
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page(table):
            problems.append("the page is out of date: python -m scripts.feature_table --write")
        sys.stdout.write("".join(f"{problem}\n" for problem in problems))
        return 1 if problems else 0
    if "--write" in arguments:
        PAGE.write_text(page(table), encoding="utf-8")
    else:
        sys.stdout.write(page(table))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
