"""run_log.py: what the log says of a task, against the lines of Celery 5.7 for the same tasks.

``tests/fixtures/celery_log_lines.json`` holds what a worker of Celery 5.7 logged for the task below,
called with each word: level and text of every line, the runtime taken out.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celery, execution, run_log
from celeriac.exceptions import Ignore, Reject
from celeriac.message import Delivery
from celeriac.settings import Settings
from celeriac.wire.task import decode_headers
from celeriac.worker.dispatcher import Dispatcher
from celeriac.worker.documents import Documents
from celeriac.worker.flights import Flight
from tests.fixtures.deliveries import manifest, options
from tests.fixtures.runs import claim, job, memory_app, run

CELERY: dict[str, list[list[str]]] = json.loads(
    (Path(__file__).parents[1] / "fixtures" / "celery_log_lines.json").read_text("utf-8")
)
RUNS = sorted(CELERY.keys() - {"late", "sh", "print", "log", "retry", "retryexc"})


class Fine(Exception):
    pass


@pytest.fixture
def app() -> Celery:
    app = memory_app("proj")

    @app.task(name="run", bind=True, throws=(Fine,), max_retries=1)
    def go(self: Any, /, how: str, **_: Any) -> str:
        match how:
            case "fail":
                raise ValueError("no")
            case "expected":
                raise Fine("fine")
            case "retry":
                raise self.retry(countdown=1)
            case "retryexc":
                raise self.retry(exc=ValueError("x"), countdown=1)
            case "ignore":
                raise Ignore
            case "ignorewhy":
                raise Ignore("why")
            case "reject":
                raise Reject("why", requeue=False)
        return how

    return app


class Keeper(logging.Handler):
    """Keeps records."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    keeper = Keeper()
    top = logging.getLogger("celeriac")
    top.addHandler(keeper)
    top.setLevel(logging.INFO)
    yield keeper.records
    top.setLevel(logging.NOTSET)
    top.removeHandler(keeper)


def live(app: Celery, how: str, **options_: Any) -> list[float | None]:
    """Send a task, take it through dispatcher and child; return the runtime."""
    app.tasks["run"].apply_async((how,), {"k": 1}, task_id=how, **options_)
    (delivery,) = claim(app)
    admission = dispatcher().admit(delivery)
    return [run(app, delivery).runtime] if isinstance(admission, Flight) else [None]


def dispatcher() -> Dispatcher:
    settings = Settings()
    return Dispatcher(manifest(options("run")), settings, Documents(settings, "w1@host"))


def lines(records: list[logging.LogRecord], runtime: float | None) -> list[list[str]]:
    """Return level and text of the records, without the runtime."""
    found = [[record.levelname, record.getMessage()] for record in records]
    return [[level, text.replace(f"in {runtime}s", "in {runtime}s")] for level, text in found]


@pytest.mark.follows("LOG-08", "TASK-21")
@pytest.mark.parametrize("how", RUNS)
def test_lines_are_celerys(how: str, app: Celery, records: list[logging.LogRecord]) -> None:
    (runtime,) = live(app, how)
    assert lines(records, runtime) == CELERY[how]


@pytest.mark.follows("LOG-08")
@pytest.mark.parametrize("how", ["retry", "retryexc"])
def test_a_retry_says_what_celery_says(
    how: str, app: Celery, records: list[logging.LogRecord]
) -> None:
    (runtime,) = live(app, how)
    # The second run is another delivery.
    assert lines(records, runtime) == CELERY[how][:2]


@pytest.mark.follows("LOG-08")
def test_a_shadow_is_shown(app: Celery, records: list[logging.LogRecord]) -> None:
    app.tasks["run"].apply_async(("shadowed",), task_id="sh", shadow="other.name")
    (delivery,) = claim(app)
    dispatcher().admit(delivery)
    assert lines(records, run(app, delivery).runtime) == CELERY["sh"]


@pytest.mark.follows("LOG-08")
def test_what_has_expired_is_discarded(app: Celery, records: list[logging.LogRecord]) -> None:
    assert live(app, "late", expires=-1) == [None]
    del records[0]  # The client has warned of it.
    # Celery says before that it was received; here, only what will run is.
    assert lines(records, None) == CELERY["late"][1:]


@pytest.mark.follows("TASK-21")
@pytest.mark.parametrize(("how", "traced"), [("fail", True), ("expected", False), ("reject", True)])
def test_what_is_expected_has_no_traceback(
    how: str, traced: bool, app: Celery, records: list[logging.LogRecord]
) -> None:
    live(app, how)
    assert (records[-1].exc_info is not None) == traced


@pytest.mark.follows("LOG-09")
@pytest.mark.parametrize(
    ("how", "keys"),
    [
        ("succeed", "id name args kwargs runtime return_value"),
        ("fail", "hostname id name exc traceback args kwargs description internal"),
        ("ignore", "hostname id name exc traceback args kwargs description internal"),
        ("reject", "hostname id name exc traceback args kwargs description internal"),
        ("retry", "id name exc"),
    ],
)
def test_a_record_holds_what_it_is_about(
    how: str, keys: str, app: Celery, records: list[logging.LogRecord]
) -> None:
    live(app, how)
    received, ended = (record.__dict__["data"] for record in records)
    assert received == {
        **{"id": how, "name": "run", "args": f"('{how}',)", "kwargs": "{'k': 1}", "eta": None}
    }
    assert ended.keys() == set(keys.split())
    assert (ended["id"], ended["name"]) == (how, "run")
    assert ended.get("args", "('retry',)") == f"('{how}',)"


@pytest.mark.follows("LOG-12")
def test_texts_can_be_replaced(
    app: Celery, records: list[logging.LogRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_log, "LOG_SUCCESS", "%(name)s gave %(return_value)s")
    monkeypatch.setattr(run_log, "LOG_RECEIVED", "%(name)s%(args)s came")
    live(app, "succeed")
    assert [record.getMessage() for record in records] == [
        "run('succeed',) came",
        "run gave 'succeed'",
    ]


@pytest.mark.follows("LOG-12")
def test_another_process_can_take_texts_over(monkeypatch: pytest.MonkeyPatch) -> None:
    before = run_log.texts()
    assert before["LOG_RETRY"] == run_log.LOG_RETRY
    monkeypatch.setattr(run_log, "LOG_RETRY", "again")
    changed = run_log.texts()
    run_log.use(before)
    assert run_log.LOG_RETRY == before["LOG_RETRY"] != changed["LOG_RETRY"]


class Shy:
    """Nobody may ask for its text."""

    @staticmethod
    def made() -> "Shy":
        return Shy()

    def __repr__(self) -> str:
        raise AssertionError("shown without need")


def test_nothing_is_shown_while_the_level_is_off(caplog: pytest.LogCaptureFixture) -> None:
    app = memory_app("proj")
    app.task(name="run", ignore_result=True)(Shy.made)
    app.send_task("run", task_id="shy")
    (delivery,) = claim(app)
    with caplog.at_level(logging.WARNING, "celeriac"):
        run(app, delivery)
        assert caplog.records == []


@pytest.mark.follows("LOG-08")
def test_limits_are_told_as_celery_does(caplog: pytest.LogCaptureFixture) -> None:
    run_log.reminded("run", "one", 2.0)
    run_log.overran("run", "one", 2.5)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "Soft time limit (2s) exceeded for run[one]"),
        ("ERROR", "Hard time limit (2.5s) exceeded for run[one]"),
    ]


def test_a_fault_that_is_not_the_tasks(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    app.tasks["run"].apply_async(("x",), task_id="one")
    (delivery,) = claim(app)
    execution.broken(app, job(delivery), NoPort(), RuntimeError("ours"))
    (record,) = caplog.records
    assert record.levelname == "CRITICAL"
    assert record.getMessage() == "Task run[one] INTERNAL ERROR: RuntimeError('ours')"
    assert record.__dict__["data"]["internal"] is True


class NoPort:
    inside = False
    hostname = "w1@host"

    def ask(self, number: int) -> bool:
        raise AssertionError("nobody asks")

    def store(self, put: object) -> None:
        raise AssertionError("nothing is stored")


def test_the_eta_is_told(app: Celery, records: list[logging.LogRecord]) -> None:
    app.tasks["run"].apply_async(("x",), task_id="one", countdown=0)
    (delivery,) = claim(app)
    assert isinstance(delivery, Delivery)
    run_log.received(decode_headers(delivery.message.headers))
    assert records[-1].__dict__["data"]["eta"] == decode_headers(delivery.message.headers).eta
