"""``celeriac shell``: what is at hand in it, at a terminal and from a pipe."""

from pathlib import Path
from textwrap import dedent

import pytest

from tests.fixtures.commands import celeriac
from tests.fixtures.terminal import Terminal


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    modules = {
        "shop": """
            from celeriac import Celery
            app = Celery("shop", broker="redis://:geheim@h/0", include=["more"])

            @app.task
            def pay(amount): return amount + 1

            @app.task(name="celery.own")
            def own(): ...
            """,
        "more": """
            from shop import app

            @app.task
            def pay(): ...

            @app.task
            def sell(): ...

            @app.task(name="hidden")
            def celery(): ...
            """,
    }
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(dedent(text))
    return tmp_path


class TestFromAPipe:
    def test_app_and_tasks_are_at_hand(self, folder: Path) -> None:
        lines = "pay.name\npay()\ncelery is app\nAsyncResult('x').id\nTask.app is app\nsell.name\n"
        answer = celeriac("-A", "shop", "shell", folder=folder, stdin=lines)
        assert answer.status == 0
        said = [line for line in answer.out.replace(">>> ", "").splitlines() if line]
        assert said == ["'more.pay'", "True", "'x'", "True", "'more.sell'"]

    def test_the_first_words(self, folder: Path) -> None:
        lines = celeriac("-A", "shop", "shell", folder=folder).err.splitlines()
        assert lines[0].startswith("celeriac ")
        assert lines[0].endswith("<Celery shop>")
        assert "broker  redis://:**@h/0" in lines
        assert "tasks   pay, sell" in lines
        assert "names that are taken; use app.tasks[...] for: hidden, shop.pay" in lines

    def test_tasks_may_be_left_out(self, folder: Path) -> None:
        answer = celeriac("-A", "shop", "shell", "-T", folder=folder, stdin="app.main\npay\n")
        assert "'shop'" in answer.out
        assert "NameError: name 'pay' is not defined" in answer.err
        assert "tasks" not in answer.err.splitlines()[3]

    def test_exit_has_the_last_word(self, folder: Path) -> None:
        answer = celeriac("-A", "shop", "shell", "-P", folder=folder, stdin="raise SystemExit(7)\n")
        assert answer.status == 7


class TestAtATerminal:
    def test_python(self, folder: Path) -> None:
        with Terminal("-A", "shop", "shell", "-P", folder=folder) as terminal:
            terminal.wait_for("^>>> ")
            terminal.type("sell.name * 2")
            terminal.wait_for("^'more.sellmore.sell'$")
            terminal.wait_for("^>>> ")
            # The keys of the names at hand.
            terminal.press(b"AsyncRes\t")
            terminal.wait_for("AsyncResult")
            terminal.type("'x').id")
            terminal.wait_for("^'x'$")
            terminal.wait_for("^>>> ")
            terminal.press(b"\x04")
            assert terminal.ends() == 0

    @pytest.mark.parametrize(
        ("module", "option", "text"),
        [
            ("IPython", "-I", "def start_ipython(argv, user_ns): print(user_ns['sell'].name)"),
            ("bpython", "-B", "def embed(locals_, banner): print(banner, locals_['sell'].name)"),
        ],
    )
    @pytest.mark.parametrize("asked", [True, False])
    def test_a_better_one_if_there_is_one(
        self, folder: Path, module: str, option: str, text: str, asked: bool
    ) -> None:
        (folder / f"{module}.py").write_text(text)
        with Terminal("-A", "shop", "shell", *[option] * asked, folder=folder) as terminal:
            terminal.wait_for("<Celery shop>")
            terminal.wait_for("more.sell")
            assert terminal.ends() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("-B", "bpython needs a terminal; without one, use -P"),
        ("--eventlet", "Celeriac does not support eventlet"),
        ("--gevent", "patch before all else: python -m gevent.monkey "),
        ("-I", "ipython cannot be imported (No module named 'IPython'); install it: pip install"),
    ],
)
def test_what_is_not_to_be_had(folder: Path, options: str, words: str) -> None:
    answer = celeriac("-A", "shop", "shell", *options.split(), folder=folder)
    assert words in answer.complaint
