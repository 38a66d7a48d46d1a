"""What every test gets: the mark of its folder, and a home where no other test's files are."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

# What fixtures assert is shown in full, as in the tests themselves.
pytest.register_assert_rewrite("tests.fixtures")

pytest_plugins = ["tests.fixtures.servers"]

_FOLDERS = ("unit", "contract", "fuzz", "integration", "faults", "interop")


def pytest_configure(config: pytest.Config) -> None:
    for folder in _FOLDERS:
        config.addinivalue_line("markers", f"{folder}: lies in tests/{folder}")
    config.addinivalue_line("markers", "chaos: has a long form, which `make chaos` runs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with its folder, so that ``-m "not faults"`` works from anywhere."""
    tests = config.rootpath / "tests"
    for item in items:
        if item.path.is_relative_to(tests):
            folder = item.path.relative_to(tests).parts[0]
            if folder in _FOLDERS:
                item.add_marker(folder)


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield folders without end. (A numbered ``tmp_path`` for each test costs more with each.)"""
    base = tmp_path_factory.mktemp("homes")
    return (base / str(number) for number in count())


@pytest.fixture(autouse=True)
def home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point ``CELERIAC_HOME`` at a folder of this test; files of apps without a broker go there."""
    folder = next(homes)
    folder.mkdir()
    monkeypatch.setenv("CELERIAC_HOME", str(folder))
    return folder
