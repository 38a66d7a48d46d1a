"""Which saved files are noticed."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from celeriac.worker.changes import Changes

Load = Callable[[Path], None]


@pytest.fixture
def load() -> Iterator[Load]:
    """Return a function that pretends to import a file as a module."""
    loaded: list[str] = []

    def load(path: Path) -> None:
        name = f"pretended_{len(loaded)}"
        module = ModuleType(name)
        module.__file__ = str(path)
        sys.modules[name] = module
        loaded.append(name)

    yield load
    for name in loaded:
        del sys.modules[name]


def save(path: Path, text: str = "") -> Path:
    """Write a file, and make sure that its time is another one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat().st_mtime_ns if path.exists() else 0
    path.write_text(text)
    if path.stat().st_mtime_ns == before:
        os.utime(path, ns=(before + 1, before + 1))
    return path


def test_a_loaded_file_that_is_saved(tmp_path: Path, load: Load) -> None:
    file, other = save(tmp_path / "shop.py"), save(tmp_path / "package" / "tasks.py")
    changes = Changes(str(tmp_path))
    load(file)
    load(other)
    assert changes.loaded() == []
    save(file, "x = 1")
    assert changes.loaded() == ["shop.py"]
    assert changes.loaded() == []
    save(other)
    other.touch()
    assert changes.loaded() == ["package/tasks.py"]
    file.unlink()
    assert changes.loaded() == ["shop.py"]
    assert changes.loaded() == []


def test_what_is_not_ours(tmp_path: Path, load: Load) -> None:
    mine = tmp_path / "mine"
    files = [
        save(tmp_path / "elsewhere.py"),
        save(tmp_path / "mine_too.py"),
        save(mine / ".venv" / "lib" / "site-packages" / "library.py"),
    ]
    unloaded = save(mine / "unloaded.py")
    changes = Changes(str(mine))
    for file in files:
        load(file)
    assert changes.loaded() == []
    for file in (*files, unloaded):
        save(file, "x = 1")
    assert changes.loaded() == []


def test_what_was_saved_while_it_was_loaded(tmp_path: Path, load: Load) -> None:
    file, late = save(tmp_path / "shop.py"), save(tmp_path / "late.py")
    changes = Changes(str(tmp_path))
    load(file)
    save(file, "x = 1")
    assert changes.loaded() == ["shop.py"]
    # Loaded after the first look: as it was by then.
    save(late, "x = 1")
    load(late)
    assert changes.loaded() == []
    save(late, "x = 2")
    assert changes.loaded() == ["late.py"]


def test_what_was_saved_while_it_was_loaded_may_be_forgiven(tmp_path: Path, load: Load) -> None:
    file = save(tmp_path / "shop.py")
    changes = Changes(str(tmp_path))
    load(file)
    save(file, "x = 1")
    changes.forgive()
    assert changes.loaded() == []
    save(file, "x = 22")
    assert changes.loaded() == ["shop.py"]


def test_anything_anywhere(tmp_path: Path) -> None:
    file = save(tmp_path / "package" / "shop.py")
    save(tmp_path / ".hidden" / "x.py")
    changes = Changes(str(tmp_path))
    assert changes.anywhere() == []
    save(file, "x = 1")
    save(tmp_path / "new.py")
    save(tmp_path / "new.txt")
    save(tmp_path / ".hidden" / "x.py", "x = 1")
    save(tmp_path / "node_modules" / "x.py")
    assert changes.anywhere() == ["new.py", "package/shop.py"]
    file.unlink()
    assert changes.anywhere() == ["package/shop.py"]
    assert changes.anywhere() == []
