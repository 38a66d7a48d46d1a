"""Find the tests that say which behaviours of Celery they show: ``@pytest.mark.follows("APP-01")``.

The tests are read as syntax trees; nothing is imported, no test is run. The mark counts on test
functions, on classes, and as ``pytestmark`` of a class or module. Tests that are skipped or expected
to fail show nothing.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

DefinitionType = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Mark(NamedTuple):
    """A test that names a behaviour."""

    id: str
    file: str
    """Relative to the folder of tests."""
    test: str
    """``TestClass::test_name``; empty for a whole module."""


class Marks(NamedTuple):
    """What was found in a folder of tests."""

    found: list[Mark]
    problems: list[str]


def read_marks(tests: Path) -> Marks:
    """Read every module of a folder of tests."""
    found: list[Mark] = []
    problems: list[str] = []
    for path in sorted(tests.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "follows" in text:
            reader = _Reader(path.relative_to(tests).as_posix(), ast.parse(text))
            found += reader.found
            problems += reader.problems
    return Marks(found, problems)


class _Reader:
    """Reads one module."""

    def __init__(self, file: str, tree: ast.Module) -> None:
        self.file = file
        self.found: list[Mark] = []
        self.problems: list[str] = []
        self._seen: set[ast.Call] = set()
        name = file.rpartition("/")[2]
        # A contract's classes hold tests; those who keep it inherit them, marks included.
        self._contract = name.endswith("_contract.py")
        self._tested = name.startswith("test_") or self._contract
        self._read_body(tree.body, "", _unproven(_pytestmarks(tree.body)))
        for call in _follows(tree):
            if call not in self._seen:
                self._say(call, "the mark stands where it marks no test")

    def _read_body(self, body: list[ast.stmt], test: str, unproven: bool) -> None:
        self._take(_pytestmarks(body), test, unproven)
        for node in body:
            if isinstance(node, DefinitionType):
                self._read_definition(node, test, unproven)

    def _read_definition(self, node: DefinitionType, outer: str, unproven: bool) -> None:
        test = f"{outer}::{node.name}" if outer else node.name
        unproven = unproven or _unproven(node.decorator_list)
        if self._is_test(node):
            self._take(node.decorator_list, test, unproven)
            if isinstance(node, ast.ClassDef):
                unproven = unproven or _unproven(_pytestmarks(node.body))
                self._read_body(node.body, test, unproven)

    def _is_test(self, node: DefinitionType) -> bool:
        if isinstance(node, ast.ClassDef):
            return self._contract or (self._tested and node.name.startswith("Test"))
        return self._tested and node.name.startswith("test")

    def _take(self, expressions: list[ast.expr], test: str, unproven: bool) -> None:
        for expression in expressions:
            for call in _follows(expression):
                self._seen.add(call)
                ids = [one.value if isinstance(one, ast.Constant) else None for one in call.args]
                if not ids or call.keywords or not all(isinstance(one, str) for one in ids):
                    self._say(call, "the mark takes ids, each as text in quotes")
                elif not unproven:
                    self.found += [Mark(str(one), self.file, test) for one in ids]

    def _say(self, node: ast.expr, what: str) -> None:
        self.problems.append(f"tests/{self.file}:{node.lineno}: {what}")


def _pytestmarks(body: list[ast.stmt]) -> list[ast.expr]:
    """Return what is assigned to ``pytestmark``, as if each mark were a decorator."""
    marks: list[ast.expr] = []
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.Assign) and any(_path(one) == "pytestmark" for one in targets):
            value = node.value
            marks += value.elts if isinstance(value, ast.List | ast.Tuple) else [value]
    return marks


def _unproven(marks: list[ast.expr]) -> bool:
    """Whether one of these marks says that the test is not run, or must fail."""
    paths = {_path(mark.func if isinstance(mark, ast.Call) else mark) for mark in marks}
    return not paths.isdisjoint({"pytest.mark.skip", "pytest.mark.xfail"})


def _follows(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _path(node.func) == "pytest.mark.follows":
            yield node


def _path(node: ast.expr) -> str:
    """Return a dotted name as text; empty if it is something else."""
    if isinstance(node, ast.Attribute):
        outer = _path(node.value)
        return f"{outer}.{node.attr}" if outer else ""
    return node.id if isinstance(node, ast.Name) else ""
