"""app.find_app: what ``-A`` leads to (APP-39), and what is said when it leads nowhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.app import Celery
from celeriac.app_spec import find_app
from celeriac.exceptions import AppNotFound
from tests.fixtures.packages import standing_in, write

APP = "from celeriac import Celery\n{0} = Celery({1!r})\n"


@pytest.fixture
def folder(home: Path) -> Iterator[Path]:
    with standing_in(home):
        yield home


def app_text(name: str, main: str) -> str:
    return APP.format(name, main)


FOUND: dict[str, tuple[dict[str, str], str]] = {
    "an attribute": ({"proj.py": app_text("mine", "x")}, "proj:mine"),
    "an attribute of an attribute": (
        {"proj.py": app_text("mine", "x") + "class Apps:\n    first = mine\n"},
        "proj:Apps.first",
    ),
    "an attribute behind a dot": ({"proj.py": app_text("mine", "x")}, "proj.mine"),
    "a module with app": (
        {"proj.py": app_text("celery", "no") + app_text("app", "x") + app_text("other", "no")},
        "proj",
    ),
    "a module with celery": (
        {"proj.py": app_text("other", "no") + app_text("celery", "x")},
        "proj",
    ),
    "a module with any app": ({"proj.py": app_text("other", "x")}, "proj"),
    "the first of several": (
        {"proj.py": app_text("one", "x") + app_text("other", "no")},
        "proj",
    ),
    "a module named behind a colon": (
        {"proj/inner.py": app_text("app", "x"), "proj/__init__.py": "from proj import inner"},
        "proj:inner",
    ),
    "a package with app": ({"proj/__init__.py": app_text("app", "x")}, "proj"),
    "the module celery of a package": ({"proj/celery.py": app_text("app", "x")}, "proj"),
    "a package that imports its module celery": (
        {"proj/celery.py": app_text("app", "x"), "proj/__init__.py": "from proj import celery"},
        "proj",
    ),
    "a package whose attribute app is a module": (
        {"proj/app.py": app_text("app", "x"), "proj/__init__.py": "from proj import app"},
        "proj",
    ),
    "a module of a package": ({"proj/tasks.py": app_text("app", "x")}, "proj.tasks"),
    "an attribute of a module of a package": (
        {"proj/tasks.py": app_text("app", "no") + app_text("mine", "x")},
        "proj.tasks:mine",
    ),
    "an app beside things of the usual names": (
        {"proj.py": "app = 'a web app'\ncelery = 5\n" + app_text("mine", "x")},
        "proj",
    ),
    "a module celery without an app, and an app beside it": (
        {"proj/celery.py": "", "proj/__init__.py": app_text("mine", "x")},
        "proj",
    ),
}


@pytest.mark.follows("APP-39")
@pytest.mark.parametrize("case", FOUND)
def test_it_leads_to(case: str, folder: Path) -> None:
    files, spec = FOUND[case]
    write(folder, files)
    app = find_app(spec)
    assert isinstance(app, Celery)
    assert app.main == "x"


LOST: dict[str, tuple[dict[str, str], str, str]] = {
    "no module": ({}, "proj", "-A proj: there is no module 'proj' here .*; write -A module"),
    "no module, with attribute": ({}, "proj:app", "there is no module 'proj' here"),
    "no module in a package": (
        {"proj/tasks.py": ""},
        "proj.taks",
        "-A proj.taks: module proj has no 'taks'",
    ),
    "no module in a module": ({"proj.py": ""}, "proj.x.app", "there is no module 'proj.x' here"),
    "no attribute": (
        {"proj.py": app_text("app", "x")},
        "proj:ap",
        "-A proj:ap: module proj has no 'ap'",
    ),
    "no attribute in an attribute": (
        {"proj.py": "class Apps: pass"},
        "proj:Apps.first",
        "module proj has no 'Apps.first'",
    ),
    "something else": (
        {"proj.py": "app = 'a web app'"},
        "proj:app",
        "proj:app is a str, not a Celery app",
    ),
    "no app in a module": (
        {"proj.py": "app = 5"},
        "proj",
        r"module proj holds no Celery app; make one there: app = Celery\('proj'\)",
    ),
    "no app in a package": (
        {"proj/__init__.py": "", "proj/celery.py": ""},
        "proj",
        "module proj holds no Celery app",
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_it_says_what_is_wrong_with(case: str, folder: Path) -> None:
    files, spec, text = LOST[case]
    write(folder, files)
    with pytest.raises(AppNotFound, match=text):
        find_app(spec)


def test_the_folder_is_named_in_which_a_module_was_looked_for(folder: Path) -> None:
    with pytest.raises(AppNotFound, match=str(folder)):
        find_app("proj")


@pytest.mark.parametrize("spec", ["proj", "proj:app", "proj.app"])
def test_what_a_module_raises_comes_through(spec: str, folder: Path) -> None:
    write(folder, {"proj.py": "raise ZeroDivisionError('in proj')"})
    with pytest.raises(ZeroDivisionError, match="in proj"):
        find_app(spec)


@pytest.mark.parametrize("spec", ["proj", "proj:app", "proj.app"])
def test_what_a_module_misses_comes_through(spec: str, folder: Path) -> None:
    write(folder, {"proj.py": "import no_such_driver"})
    with pytest.raises(ModuleNotFoundError, match="no_such_driver"):
        find_app(spec)


def test_what_the_module_celery_of_a_package_misses_comes_through(folder: Path) -> None:
    write(folder, {"proj/celery.py": "import no_such_driver"})
    with pytest.raises(ModuleNotFoundError, match="no_such_driver"):
        find_app("proj")
