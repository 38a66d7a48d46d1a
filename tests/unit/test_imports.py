"""imports.py: objects and modules by their dotted names."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac import imports
from tests.fixtures.packages import standing_in


@pytest.fixture
def shed(home: Path) -> Iterator[Path]:
    """Stand in an empty folder."""
    with standing_in(home):
        yield home


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("os", os),
        ("os:path", os.path),
        ("os.path", os.path),
        ("os:path.join", os.path.join),
        ("os.path.join", os.path.join),
        ("os.path:join", os.path.join),
    ],
)
def test_load_follows_the_path(path: str, found: object) -> None:
    assert imports.load(path) is found


def test_load_raises_what_the_import_machinery_raises() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        imports.load("no_such_module:thing")
    with pytest.raises(AttributeError, match="no_such_thing"):
        imports.load("os:no_such_thing")


def test_a_module_is_found_in_the_current_folder(shed: Path) -> None:
    (shed / "celeriac_shed.py").write_text("answer = 42")
    assert imports.module("celeriac_shed").answer == 42
    assert sys.path[0] == str(shed)


def test_the_current_folder_is_put_on_the_path_once(shed: Path) -> None:
    (shed / "celeriac_shed.py").write_text("")
    for _ in range(3):
        imports.module("celeriac_shed")
    assert sys.path.count(str(shed)) == 1


def test_a_path_with_the_current_folder_stays_as_it_is(
    shed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (shed / "celeriac_shed.py").write_text("")
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    before = list(sys.path)
    imports.module("celeriac_shed")
    assert sys.path == before


@pytest.mark.parametrize("name", ["celeriac_shed", "celeriac_shed.inner", "celeriac_shed.a.b"])
def test_missing_is_true_of_the_module_and_of_its_parents(shed: Path, name: str) -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        imports.module(name)
    assert imports.missing_is(caught.value, name)


def test_missing_is_false_of_what_a_module_imports(shed: Path) -> None:
    (shed / "celeriac_shed.py").write_text("import celeriac_shed_wood")
    with pytest.raises(ModuleNotFoundError) as caught:
        imports.module("celeriac_shed")
    assert not imports.missing_is(caught.value, "celeriac_shed")


def test_missing_is_false_of_an_error_without_a_name() -> None:
    assert not imports.missing_is(ModuleNotFoundError("somewhere"), "somewhere")
