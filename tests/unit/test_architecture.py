"""The package keeps the rules of the house (``tests/fixtures/house.py``), by its syntax trees.

The real package must break none of them; small packages made up here must break exactly the rule
that they are made to break, which shows that every rule is able to fail.
"""

from pathlib import Path

import pytest

from tests.fixtures import house
from tests.fixtures.house import RULES, Rule
from tests.fixtures.source_tree import Tree, parse_module, read_tree

ROOT = Path(__file__).parents[2]


# The real package


@pytest.fixture(scope="module")
def celeriac() -> Tree:
    return read_tree(ROOT / "src" / "celeriac", shown_from=ROOT)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_breaks_no_rule(rule: Rule, celeriac: Tree) -> None:
    violations = list(rule(celeriac))
    assert not violations, "\n" + "\n".join(violations)


def test_the_whole_package_is_read(celeriac: Tree) -> None:
    assert {"", "app", "exceptions", "brokers.base", "wire.json"} <= celeriac.modules.keys()


def test_an_upward_import_added_to_the_package_is_found(celeriac: Tree) -> None:
    text = celeriac.modules["states"].text + "\nfrom celeriac.app import Celery\n"
    changed = parse_module(Path("states.py"), "src/celeriac/states.py", text)
    violations = list(
        house.imports_go_down(celeriac._replace(modules={**celeriac.modules, "states": changed}))
    )
    assert len(violations) == 1
    number = len(text.splitlines())
    assert violations[0].startswith(f"src/celeriac/states.py:{number}: celeriac.states (floor 1)")


# Made-up packages: each breaks the rule named beside it, at the line that says BREAKS, and no other


def made(folder: Path, files: dict[str, str]) -> Tree:
    """Write a package called ``celeriac`` and read it back. Every file gets its docstring."""
    root = folder / "celeriac"
    for name, body in {"__init__.py": "", **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body if body.startswith("#!") else f'"""Made up."""\n{body}')
    return read_tree(root)


def broken(tree: Tree) -> dict[str, list[str]]:
    found = {rule.__name__: list(rule(tree)) for rule in RULES}
    return {name: violations for name, violations in found.items() if violations}


def marked_places(tree: Tree) -> list[str]:
    return [
        f"{module.place}:{number}"
        for module in tree.modules.values()
        for number, text in enumerate(module.text.splitlines(), 1)
        if "BREAKS" in text
    ]


LAWFUL = {
    "__init__.py": "from celeriac.app import Celery\n",
    "__main__.py": "from celeriac.cli.main import main\n",
    "exceptions.py": "class Oops(Exception): ...\n",
    "clock.py": "from .exceptions import Oops\n",
    "imports.py": "import importlib\ndef load(path): ...\n",
    "message.py": "from celeriac import clock\nfrom . import exceptions\nimport msgspec\n",
    "brokers/__init__.py": "",
    "brokers/base.py": "from ..message import Message\n",
    "brokers/urls.py": "def open_it():\n    from celeriac.brokers.redis.broker import Redis\n",
    "brokers/redis/__init__.py": "",
    "brokers/redis/broker.py": "import socket\nfrom .keys import KEY\nfrom ..base import Broker\n",
    "brokers/redis/keys.py": "KEY = 1\n",
    "embedded/__init__.py": "",
    "brokers/sqlite.py": "import celeriac.embedded\n",
    "app.py": "from .brokers import urls\nfrom . import imports\n"
    'LOGGER = "celeriac.worker"\nUPWARD = {"Worker": "celeriac.worker.worker:Worker"}\n'
    "def worker():\n    return imports.load(UPWARD['Worker'])\n",
    "worker/__init__.py": "",
    "worker/worker.py": "from celeriac import Celery\nclass Worker: ...\n",
    "cli/__init__.py": "",
    "cli/main.py": "def main():\n    import rich\n    from celeriac.cli.banner import banner\n",
    "cli/banner.py": "from celeriac.worker.worker import Worker\n",
}

UNLAWFUL: dict[str, tuple[Rule, dict[str, str]]] = {
    "a module on no floor": (
        house.every_module_has_a_floor,
        {"leaves.py": "#! BREAKS\n'''Text.'''"},
    ),
    "a folder without a noun": (
        house.folders_and_modules_are_named_for_a_noun,
        {"wire/utils/__init__.py": "#! BREAKS\n'''Text.'''"},
    ),
    "an upward import": (
        house.imports_go_down,
        {"retry.py": "from celeriac.app import Celery  # BREAKS"},
    ),
    "a relative upward import": (
        house.imports_go_down,
        {"wire/task.py": "from ..task import A  # BREAKS"},
    ),
    "an upward import for types only": (
        house.imports_go_down,
        {"log.py": "if TYPE_CHECKING:\n    import celeriac.worker.worker  # BREAKS"},
    ),
    "a word that imports a word": (
        house.imports_go_down,
        {"queues.py": "from celeriac import clock  # BREAKS"},
    ),
    "an import of the package from within": (
        house.imports_go_down,
        {"task.py": "from celeriac import Celery  # BREAKS"},
    ),
    "a circle": (
        house.imports_go_in_no_circle,
        {
            "result.py": "from celeriac.task import Task",
            "task.py": "from celeriac.result import Result  # BREAKS",
        },
    ),
    "an import of a face": (
        house.nobody_imports_a_face,
        {"worker/remote.py": "from celeriac.cli.banner import banner  # BREAKS"},
    ),
    "an import of another face": (
        house.nobody_imports_a_face,
        {"testing/__init__.py": "from celeriac.cli import main  # BREAKS"},
    ),
    "a contract that knows its adapter": (
        house.contracts_know_no_adapter,
        {"brokers/base.py": "import celeriac.brokers.sqlite  # BREAKS"},
    ),
    "an adapter that knows another": (
        house.adapters_know_no_other_adapter,
        {"brokers/redis/broker.py": "from celeriac.brokers import sqlite  # BREAKS"},
    ),
    "a store that knows a broker": (
        house.adapters_know_no_other_adapter,
        {"results/redis.py": "from celeriac.brokers.redis.keys import KEY  # BREAKS"},
    ),
    "what adapters share, knowing one": (
        house.adapters_know_no_other_adapter,
        {"embedded/file.py": "from celeriac.brokers import sqlite  # BREAKS"},
    ),
    "a worker that picks its adapter": (
        house.adapters_are_opened_by_url,
        {"worker/completer.py": "from celeriac.brokers import sqlite  # BREAKS"},
    ),
    "an import inside a function": (
        house.imports_stand_at_the_top,
        {"routing.py": "def route():\n    import re  # BREAKS"},
    ),
    "an import inside a method": (
        house.imports_stand_at_the_top,
        {"routing.py": "class Router:\n    async def go(self):\n        import re  # BREAKS"},
    ),
    "a value that opens a socket": (
        house.values_do_not_touch_the_world,
        {"wire/event.py": "from socket import socket  # BREAKS"},
    ),
    "a module that loads by name": (
        house.modules_are_loaded_by_name_in_one_place,
        {"log.py": "from importlib import import_module  # BREAKS"},
    ),
    "a module that calls __import__": (
        house.modules_are_loaded_by_name_in_one_place,
        {"log.py": "RE = __import__('re')  # BREAKS"},
    ),
    "a second way up": (
        house.one_table_leads_up,
        {"client.py": 'TABLE = {"W": "celeriac.worker.worker:Worker"}  # BREAKS'},
    ),
    "a second way up, in the app": (
        house.one_table_leads_up,
        {"app.py": 'WORKER = "celeriac.worker.worker.Worker"  # BREAKS'},
    ),
    "a module above loaded by its bare name": (
        house.one_table_leads_up,
        {"client.py": 'from celeriac import imports\nimports.load("celeriac.worker")  # BREAKS'},
    ),
    "a table that leads to a face": (
        house.one_table_leads_up,
        {"app.py": 'UPWARD = {\n"Banner": "celeriac.cli.main:main",  # BREAKS\n}'},
    ),
    "a table that leads nowhere": (
        house.upward_leads_somewhere,
        {"app.py": 'UPWARD = {"Beat": "celeriac.beat.scheduler:Beat"}  # BREAKS'},
    ),
    "a table that is computed": (
        house.upward_leads_somewhere,
        {"app.py": "UPWARD = dict(A=1)  # BREAKS"},
    ),
    "no docstring": (house.modules_say_what_they_are_for, {"states.py": "#! BREAKS\nREADY = 1"}),
    "an overlong function": (
        house.nothing_grows_too_long,
        {"canvas/chain.py": "def go():  # BREAKS\n" + "    x = 1\n" * house.LONGEST_FUNCTION},
    ),
    "an overlong class": (
        house.nothing_grows_too_long,
        {"canvas/chain.py": "class Chain:  # BREAKS\n" + "    x = 1\n" * house.LONGEST_CLASS},
    ),
    "an overlong file": (
        house.nothing_grows_too_long,
        {"wire/json.py": "#!BREAKS\n'''Text.'''\n" + "x = 1\n" * house.LONGEST_FILE},
    ),
}


def test_a_lawful_package_breaks_no_rule(tmp_path: Path) -> None:
    assert broken(made(tmp_path, LAWFUL)) == {}


@pytest.mark.parametrize("case", UNLAWFUL)
def test_a_rule_finds_what_breaks_it(case: str, tmp_path: Path) -> None:
    rule, files = UNLAWFUL[case]
    tree = made(tmp_path, {**LAWFUL, **files})
    found = broken(tree)
    assert found.keys() == {rule.__name__}
    places = [violation.split(": ")[0] for violation in found[rule.__name__]]
    assert places == marked_places(tree)


def test_every_rule_is_shown_to_fail() -> None:
    assert {rule for rule, _ in UNLAWFUL.values()} == set(RULES)


@pytest.mark.parametrize(
    ("rule", "length_of_body"),
    [("function", house.LONGEST_FUNCTION - 1), ("class", house.LONGEST_CLASS - 1)],
)
def test_what_is_just_short_enough_passes(rule: str, length_of_body: int, tmp_path: Path) -> None:
    head = "def go():\n" if rule == "function" else "class Go:\n"
    tree = made(tmp_path, {"routing.py": head + "    x = 1\n" * length_of_body})
    assert broken(tree) == {}
