"""``celeriac check`` and ``celeriac report``, as CI and users run them."""

import json
from pathlib import Path
from textwrap import dedent

import pytest

from celeriac import __version__
from tests.fixtures.commands import celeriac


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with apps, right and wrong ones."""
    modules = {
        "fine": """
            from celeriac import Celery
            app = Celery("fine", task_acks_late=True)

            @app.task
            def pay(amount): ...
            """,
        "open": """
            from celeriac import Celery
            app = Celery("open")

            @app.task
            def pay(amount): ...

            @app.task
            def sell(amount): ...
            """,
        "wrong": """
            from celeriac import Celery
            app = Celery("wrong", broker="mongodb://:geheim@h/0", include=["wrong_tasks"])
            """,
        "wrong_tasks": """
            from wrong import app

            @app.task(name="pay", acks_late=True)
            def pay(amount): ...

            @app.task(name="pay")
            def pay_again(amount): ...
            """,
        "broken": """
            from celeriac import Celery
            app = Celery("broken", include=["broken_tasks"])
            """,
        "broken_tasks": "1 / 0",
        "misspelt": """
            from celeriac import Celery
            app = Celery("misspelt")
            app.config_from_object({"task_ack_late": True})
            """,
        "mixed": """
            from celeriac import Celery
            app = Celery("mixed")
            app.config_from_object({"task_acks_late": True, "CELERY_TASK_SERIALIZER": "json"})
            """,
    }
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(dedent(text))
    return tmp_path


class TestCheck:
    def test_nothing_found(self, folder: Path) -> None:
        answer = celeriac("-A", "fine", "check", "--strict", folder=folder)
        assert (answer.status, answer.out, answer.err) == (0, "1 tasks: nothing found\n", "")
        assert celeriac("-A", "fine", "check", "--json", folder=folder).out == "[]\n"

    def test_notes_fail_only_if_they_are_to(self, folder: Path) -> None:
        answer = celeriac("-A", "open", "check", folder=folder)
        assert (answer.status, answer.err) == (0, "")
        assert answer.lines[:3] == [
            "note acks-late-default",
            "  open.pay: it leaves acks_late to the default",
            "  open.sell: it leaves acks_late to the default",
        ]
        assert answer.lines[-1] == "0 errors, 2 notes"
        strict = celeriac("-A", "open", "check", "--strict", folder=folder)
        assert (strict.status, strict.out) == (1, answer.out)

    def test_errors_fail(self, folder: Path) -> None:
        answer = celeriac("-A", "wrong", "check", folder=folder)
        assert answer.status == 1
        assert "error duplicate-name" in answer.lines
        assert f"  {folder / 'wrong_tasks.py'}:7: task name 'pay' is taken by" in answer.out
        assert "geheim" not in answer.out
        # Said once, in its place.
        assert answer.err == ""

    def test_for_programs(self, folder: Path) -> None:
        answer = celeriac("-A", "wrong", "check", "--json", folder=folder)
        found = json.loads(answer.out)
        assert answer.status == 1
        assert {one["code"] for one in found} == {"address", "duplicate-name"}
        keys = {"level", "code", "place", "what", "why", "remedy"}
        assert all(set(one) == keys and all(one.values()) for one in found)

    @pytest.mark.parametrize(
        ("module", "words"),
        [
            ("broken", "importing it raised ZeroDivisionError"),
            ("misspelt", "unknown setting 'task_ack_late' in dict: did you mean 'task_acks_late'?"),
            ("mixed", "mixes old and new setting names"),
            ("absent", "there is no module 'absent'"),
        ],
    )
    def test_what_cannot_be_loaded(self, folder: Path, module: str, words: str) -> None:
        answer = celeriac("-A", module, "check", "--json", folder=folder)
        assert (answer.status, answer.out) == (2, "")
        assert words in answer.err


class TestReport:
    @pytest.mark.follows("APP-33")
    def test_it_can_be_pasted(self, folder: Path) -> None:
        answer = celeriac("-A", "wrong", "report", folder=folder)
        assert answer.status == 0
        assert answer.lines[0].startswith(f"software -> celeriac:{__version__} python:3.")
        # What the app includes is imported, as in a worker.
        assert "app      -> wrong (module wrong), 1 tasks" in answer.lines
        assert "broker   -> mongodb://:**@h/0" in answer.lines
        assert "  include = ['wrong_tasks']" in answer.lines
        assert "geheim" not in answer.out + answer.err

    def test_settings_of_the_environment_count(self, folder: Path) -> None:
        url = "redis://:geheim@elsewhere/0"
        answer = celeriac("-A", "fine", "report", folder=folder, url=url)
        assert "broker   -> redis://:**@elsewhere/0" in answer.lines
        assert "geheim" not in answer.out
