"""What a worker writes to its log, how, and where to (LOG-01 to LOG-12), by real workers."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celery
from tests.fixtures.worker import APPS, WorkerProcess, connected

WAIT = 10.0
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"

Start = Callable[..., Any]


@pytest.fixture
def app() -> Celery:
    # Not the app itself: what it configures is for the worker.
    return Celery("talkative")


@pytest.fixture
def start(app: Celery, tmp_path: Path) -> Start:
    """Return what starts a worker that is ready, and stops it in the end."""

    @contextmanager
    def started(talk: str = "", *options: str) -> Iterator[WorkerProcess]:
        name = ("-n", "mail@box", "-c", "1")
        with (
            connected(app, tmp_path) as url,
            WorkerProcess(f"{APPS}.talkative", url, *name, *options, TALK=talk) as worker,
        ):
            # Some have to wait for a worker that says nothing.
            app.client.warned = True
            yield worker

    return started


def say(app: Celery, *words: str) -> None:
    """Have the worker run a task for each word, one after the other."""
    for word in words:
        app.send_task("talk", (word,), task_id=word).get(WAIT, propagate=False)


class TestJson:
    @pytest.fixture
    def lines(self, app: Celery, start: Start) -> list[dict[str, Any]]:
        """Return everything that a worker writes in its life, each line parsed."""
        with start("old", "--log-format", "json") as worker:
            worker.wait_for(r"mail@box ready\.")
            traceparent = f"00-{TRACE}-{SPAN}-01"
            headers = {"traceparent": traceparent}
            app.send_task("talk", ("log",), task_id="log", headers=headers).get(WAIT)
            say(app, "print", "warn", "fail", "program", "die")
            app.send_task("talk", ("late",), task_id="late", expires=-1).get(WAIT, propagate=False)
            worker.stop()
            others = [line for line in worker.lines if line == "a program\n"]
            assert len(others) == 1, "a program that a task starts writes what it likes"
            return [json.loads(line) for line in worker.lines if line not in others]

    def test_every_line_is_an_object_that_says_what_it_is_about(
        self, lines: list[dict[str, Any]]
    ) -> None:
        for line in lines:
            assert line.keys() >= {"time", "level", "logger", "message", "process", "pid"}
        logged = next(line for line in lines if line["message"] == "logged log")
        assert logged["logger"] == f"{APPS}.talkative"
        assert re.fullmatch("<object object at .*>", logged["order"])
        assert logged["lines"] == "a\nb"
        assert {name: logged[name] for name in ("task", "id", "root_id", "attempt", "worker")} == {
            **{"task": "talk", "id": "log", "root_id": "log", "attempt": 0, "worker": "mail@box"}
        }
        assert (logged["trace_id"], logged["span_id"]) == (TRACE, SPAN)
        found = {line["message"]: line for line in lines}
        assert found["Task talk[log] received"]["id"] == "log"
        assert found["printed 1"]["id"] == "print"
        assert found["to err"]["logger"] == "celeriac.redirected"
        assert found["plain"]["id"] == "log"
        failed = found["Task talk[fail] raised unexpected: ValueError('two\\nlines')"]
        assert failed["exception"].endswith("ValueError: two\nlines")
        assert failed["data"]["exc"] == "ValueError('two\\nlines')"
        assert found["Discarding revoked task: talk[late]"]["id"] == "late"
        assert any("UserWarning: warned\nin lines" in message for message in found)
        assert any("CELERY_TIMEZONE is deprecated" in message for message in found)

    def test_the_setting_says_the_same(self, app: Celery, tmp_path: Path) -> None:
        with connected(app, tmp_path) as url:
            folder = tmp_path / "shop"
            folder.mkdir()
            (folder / "shop.py").write_text(
                "from celeriac import Celery\napp = Celery('shop', worker_log_style='json')\n"
            )
            with WorkerProcess("shop", url, folder=folder) as worker:
                worker.wait_for(r"ready\.")
                worker.stop()
                assert [json.loads(line)["level"] for line in worker.lines]


@pytest.mark.follows("LOG-06")
def test_a_file_for_each_child(app: Celery, start: Start, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    with start("", "-q", "-f", f"{logs}/%n%I.log") as worker:
        say(app, "log", "print")
        worker.stop()
        assert worker.text == ""
    parent, child = ((logs / name).read_text() for name in ("mail.log", "mail-1.log"))
    assert sorted(path.name for path in logs.iterdir()) == ["mail-1.log", "mail.log"]
    assert "MainProcess] Task talk[log] received" in parent
    assert "ForkPoolWorker-1] talk[log]: logged log" in child
    assert "ForkPoolWorker-1] Task talk[log] succeeded in" in child
    assert "WARNING/ForkPoolWorker-1] printed 1" in child
    assert "ForkPoolWorker" not in parent
    assert "MainProcess" not in child


@pytest.mark.follows("LOG-06")
def test_one_file_for_all(app: Celery, start: Start, tmp_path: Path) -> None:
    with start("after", "-q", "-f", f"{tmp_path}/%n.log") as worker:
        say(app, "log")
        worker.stop()
    text = (tmp_path / "mail.log").read_text()
    assert text.count("Task talk[log] received") == 1
    assert text.count("Task talk[log] succeeded") == 1
    assert text.count("talk[log]: logged log") == 1


@pytest.mark.parametrize(
    ("file", "words"),
    [("/no/such/folder/w.log", "cannot write the log file"), ("w%x.log", "%x in the log file")],
)
def test_a_file_that_cannot_be_is_told_at_the_start(start: Start, file: str, words: str) -> None:
    with start("", "-f", file) as worker:
        worker.ends(2)
        assert worker.count(words) == 1
        assert worker.count("Traceback") == 0


@pytest.mark.follows("LOG-05")
def test_a_level_by_number(app: Celery, start: Start) -> None:
    with start("", "-l", "35") as worker:
        say(app, "log", "print", "fail")
        worker.wait_for("raised unexpected")
        worker.stop()
        assert worker.count("logged|plain|printed|received|ready") == 0


class TestSignals:
    @pytest.mark.follows("LOG-07", "SIG-04")
    def test_a_receiver_of_setup_logging_sets_logging_up(self, app: Celery, start: Start) -> None:
        with start("setup") as worker:
            say(app, "log", "print", "fail")
            worker.wait_for("^mine 20 None logged log$")
            worker.wait_for(r"^mine 20 None Task talk\[fail\] raised unexpected")
            # What is printed is left alone, and the parent logs by the settings.
            worker.wait_for("^printed 1$")
            worker.wait_for(r"INFO/MainProcess\] Task talk\[log\] received$")
            worker.stop()
            assert worker.count("logged log") == 1

    @pytest.mark.follows("SIG-04")
    def test_what_it_raises_ends_the_start(self, start: Start) -> None:
        with start("broken") as worker:
            worker.ends(2)
            assert worker.count("no handlers today") >= 1

    @pytest.mark.follows("LOG-07")
    def test_a_handler_that_was_added_is_added_once(self, app: Celery, start: Start) -> None:
        with start("after") as worker:
            say(app, "log")
            worker.wait_for(rf"^also {APPS}.talkative: logged log$")
            worker.stop()
            assert worker.count("^also ") == 1
            assert worker.count(r"ForkPoolWorker-1\] talk\[log\]: logged log$") == 1

    @pytest.mark.follows("LOG-07")
    def test_a_child_with_a_file_of_its_own_sets_up_anew(
        self, app: Celery, start: Start, tmp_path: Path
    ) -> None:
        with start("setup", "-f", f"{tmp_path}/%n%I.log") as worker:
            say(app, "log")
            worker.wait_for(rf"^mine 20 {tmp_path}/mail-1.log logged log$")
            worker.stop()


@pytest.mark.follows("LOG-12")
def test_texts_that_the_app_has_replaced(app: Celery, start: Start) -> None:
    with start("texts") as worker:
        say(app, "fine")
        worker.wait_for(r"MainProcess\] here comes talk\('fine',\)$")
        worker.wait_for(r"ForkPoolWorker-1\] there goes talk: 'fine'$")
        worker.stop()


@pytest.mark.follows("LOG-01")
def test_levels_by_celerys_names_hold_in_every_process(app: Celery, start: Start) -> None:
    with start("levels") as worker:
        say(app, "log", "fail")
        worker.wait_for("raised unexpected")
        worker.stop()
        assert worker.count(r"ready\.$") == 1
        assert worker.count("received|succeeded") == 0


@pytest.mark.follows("LOG-11")
def test_what_is_printed_is_a_record_or_not(app: Celery, start: Start) -> None:
    with start() as worker:
        say(app, "print", "program")
        worker.wait_for(r"WARNING/ForkPoolWorker-1\] printed 1$")
        worker.wait_for(r"WARNING/ForkPoolWorker-1\] to err$")
        worker.wait_for("^a program$")
        worker.stop()
    with start("raw") as worker:
        say(app, "print")
        worker.wait_for("^printed 1$")
        worker.wait_for("^to err$")
        worker.stop()


@pytest.mark.follows("LOG-04")
def test_loggers_of_the_apps_own(app: Celery, start: Start) -> None:
    with start("hijack") as worker:
        say(app, "log")
        worker.wait_for(r"WARNING/ForkPoolWorker-1\] plain$")
        worker.stop()
        assert worker.count("logged log") == 1


@pytest.mark.follows("APP-10")
def test_deprecated_settings_are_named_at_the_start(start: Start) -> None:
    with start("old") as worker:
        worker.ready()
        said = "the setting CELERY_TIMEZONE is deprecated; write timezone instead"
        assert worker.count(rf"WARNING/MainProcess\] {said}$") == 1
        worker.stop()


@pytest.mark.follows("LOG-08")
def test_a_soft_limit_is_told(app: Celery, start: Start) -> None:
    with start() as worker:
        assert app.send_task("overtime", task_id="slow").get(WAIT) == "stopped"
        said = r"Soft time limit \(0\.2s\) exceeded for overtime\[slow\]$"
        worker.wait_for(rf"WARNING/MainProcess\] {said}")
        worker.stop()
        assert worker.count("Soft time limit") == 1
