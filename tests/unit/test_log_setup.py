"""log_setup.py: whose handlers are where, in which format, and what the signals of it change."""

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from celeriac import get_task_logger, log_setup, signals
from celeriac.exceptions import ImproperlyConfigured
from celeriac.log import HOUSE
from celeriac.log_setup import Logging, differs_by_child, log_file
from celeriac.log_streams import LoggingProxy
from celeriac.settings import Settings

FORMAT = "%(levelname)s/%(processName)s %(message)s"
TASK_FORMAT = "%(task_name)s[%(task_id)s]: %(message)s"
THE_THREE = ("setup_logging", "after_setup_logger", "after_setup_task_logger")


class Configured(NamedTuple):
    settings: Settings


def logging_of(**settings: Any) -> Logging:
    given = {"worker_log_format": FORMAT, "worker_task_log_format": TASK_FORMAT, **settings}
    return Logging(Configured(Settings(**given)))


def set_up(**settings: Any) -> io.StringIO:
    """Set logging up at INFO; return the stream it writes to."""
    stream = io.StringIO()
    logging_of(**settings).setup("INFO", stream)
    return stream


@pytest.fixture(autouse=True)
def logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    handlers, level = list(root.handlers), root.level
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, getattr(sys, name))
    yield
    log_setup.undo()
    logging.captureWarnings(False)
    logging.setLogRecordFactory(factory)
    root.handlers = handlers
    root.setLevel(level)
    for logger in HOUSE:
        logger.handlers, logger.propagate, logger.disabled = [], True, False
        logger.setLevel(logging.NOTSET)
    for name in THE_THREE:
        signals.CATALOGUE[name].receivers = ()


def worker(text: str = "ready") -> None:
    logging.getLogger("celeriac.worker").info(text)


# -- formats


@pytest.mark.follows("LOG-02")
def test_what_celeriac_says_is_written_in_its_format() -> None:
    stream = set_up()
    log_setup.name_process("MainWorker")
    worker()
    get_task_logger("demo").info("adding")
    assert stream.getvalue() == "INFO/MainWorker ready\n???[???]: adding\n"


@pytest.mark.follows("LOG-02")
def test_dates_have_formats_of_their_own() -> None:
    stream = set_up(
        worker_log_format="%(asctime)s %(message)s",
        worker_task_log_format="%(asctime)s %(message)s",
        worker_log_datefmt="worker",
        worker_task_log_datefmt="task",
    )
    worker()
    get_task_logger("demo").info("adding")
    assert stream.getvalue() == "worker ready\ntask adding\n"


def test_json_is_a_style() -> None:
    stream = set_up(worker_log_style="json")
    worker()
    get_task_logger("demo").info("adding")
    assert [line[0] + line[-1] for line in stream.getvalue().splitlines()] == ["{}", "{}"]


def test_a_style_that_does_not_exist_is_refused_and_nothing_is_set_up() -> None:
    with pytest.raises(ImproperlyConfigured, match="worker_log_style cannot be 'xml'"):
        set_up(worker_log_style="xml")
    assert not logging_of().already_setup


def test_what_lies_below_the_level_is_not_written() -> None:
    stream = set_up()
    logging.getLogger("celeriac.worker").debug("chatter")
    get_task_logger("demo").debug("chatter")
    assert stream.getvalue() == ""


@pytest.mark.follows("LOG-03")
def test_colours_need_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert not logging_of(worker_log_color=True).supports_color()
    monkeypatch.setattr(sys, "__stderr__", Terminal())
    assert logging_of().supports_color()
    assert logging_of().colored().red("no") != "no"
    assert not logging_of().supports_color(logfile="w.log")
    assert not logging_of(worker_log_color=False).supports_color()
    assert logging_of(worker_log_color=False).supports_color(True)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not logging_of().supports_color()
    assert logging_of(worker_log_color=True).supports_color()


# -- whose loggers


@pytest.mark.follows("LOG-04")
def test_the_root_logger_is_left_alone() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    stream = set_up()
    logging.getLogger("shop").error("not ours")
    assert (list(root.handlers), root.level) == before
    assert stream.getvalue() == ""


@pytest.mark.follows("LOG-04")
def test_the_root_logger_is_taken_over_if_asked_for() -> None:
    others = logging.StreamHandler(io.StringIO())
    for logger in (logging.getLogger(), logging.getLogger("celery"), HOUSE[0]):
        logger.addHandler(others)
    logging.getLogger("celery").propagate = False
    stream = set_up(worker_hijack_root_logger=True)
    logging.getLogger("shop").info("ours now")
    worker()
    get_task_logger("demo").info("adding")
    assert [line.rpartition(" ")[2] for line in stream.getvalue().splitlines()] == [
        *("now", "ready", "adding")
    ]
    assert others.stream.getvalue() == ""


@pytest.mark.parametrize("name", ["celeriac", "celery"])
def test_a_handler_of_the_users_gets_everything_and_ours_nothing(name: str) -> None:
    theirs = io.StringIO()
    logging.getLogger(name).addHandler(logging.StreamHandler(theirs))
    stream = set_up()
    worker()
    get_task_logger("demo").info("adding")
    assert (stream.getvalue(), theirs.getvalue()) == ("", "ready\nadding\n")


@pytest.mark.parametrize("name", ["celeriac.task", "celery.task"])
def test_the_loggers_of_tasks_may_be_the_users_alone(name: str) -> None:
    theirs = io.StringIO()
    logger = logging.getLogger(name)
    logger.addHandler(logging.StreamHandler(theirs))
    logger.propagate = False
    stream = set_up()
    worker()
    get_task_logger("demo").info("adding")
    assert stream.getvalue().endswith("ready\n")
    assert theirs.getvalue() == "adding\n"


@pytest.mark.follows("LOG-05")
@pytest.mark.parametrize("name", ["celery.worker", "celeriac", "celery"])
def test_a_level_of_the_users_is_kept(name: str) -> None:
    logging.getLogger(name).setLevel(logging.ERROR)
    stream = set_up()
    worker()
    assert stream.getvalue() == ""
    # ... and the parent is told of it, but not of ours.
    assert log_setup.levels() == {name: logging.ERROR}


def test_a_configuration_that_disables_what_it_does_not_name_does_not_mean_us() -> None:
    logging.getLogger("celeriac.worker").disabled = True
    logging.getLogger("celeriac.execution").disabled = True
    stream = set_up()
    worker()
    assert stream.getvalue().endswith("ready\n")
    assert not logging.getLogger("celeriac.execution").disabled


def test_warnings_are_records() -> None:
    # pytest's own handlers are nobody's configuration.
    logging.getLogger().handlers = []
    stream = set_up()
    with warnings.catch_warnings():
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.simplefilter("always")
        warnings.warn("careful", stacklevel=1)
    assert "UserWarning: careful" in stream.getvalue()


@pytest.mark.follows("LOG-10")
def test_what_multiprocessing_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MP_LOG", "1")
    stream = set_up()
    logging.getLogger("multiprocessing").info("a child")
    assert "a child" in stream.getvalue()
    log_setup.undo()
    assert logging.getLogger("multiprocessing").handlers == []


# -- files


@pytest.mark.follows("LOG-06")
@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("w.log", "w.log"),
        ("%n%I.log", "mail-3.log"),
        ("%n-%i.log", "mail-3.log"),
        ("%h/%d/%p/%%", "box.example.com/example.com/mail@box.example.com/%"),
    ],
)
def test_the_path_of_a_childs_file(pattern: str, path: str) -> None:
    assert log_file(pattern, "mail@box.example.com", 3) == path


@pytest.mark.follows("LOG-06")
def test_outside_of_children() -> None:
    assert log_file("%n%I-%i.log", "mail@box") == "mail-0.log"
    assert differs_by_child("%n%I.log")
    assert differs_by_child("%i")
    assert not differs_by_child("%n.log")
    assert not differs_by_child("%%i.log")
    assert not differs_by_child(None)


def test_a_letter_that_means_nothing_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"%x in the log file 'w%x' means nothing"):
        log_file("w%x", "w@h")


@pytest.mark.follows("LOG-06")
def test_a_file_that_was_moved_away_is_made_again(tmp_path: Path) -> None:
    path = tmp_path / "mail.log"
    logging_of().setup("INFO", str(tmp_path / "%n.log"), hostname="mail@box")
    worker("before")
    os.rename(path, tmp_path / "old")
    worker("after")
    assert path.read_text().endswith("after\n")
    assert (tmp_path / "old").read_text().endswith("before\n")


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"cannot write the log file .*/no/such'"):
        logging_of().setup("INFO", str(tmp_path / "no" / "such"))
    assert not logging_of().already_setup


# -- signals


@pytest.mark.follows("LOG-07", "SIG-04")
def test_whoever_hears_setup_logging_sets_it_up() -> None:
    heard: list[dict[str, Any]] = []

    @signals.setup_logging.connect
    def mine(**said: Any) -> str:
        heard.append(said)
        return "done"

    stream = io.StringIO()
    answers = logging_of().setup("INFO", stream, redirect_stdouts=True)
    assert answers == [(mine, "done")]
    worker()
    assert stream.getvalue() == ""
    assert not isinstance(sys.stdout, LoggingProxy)
    (said,) = heard
    assert said == {
        **{"signal": signals.setup_logging, "sender": None, "loglevel": logging.INFO},
        **{"logfile": stream, "format": FORMAT, "colorize": False},
    }


@pytest.mark.follows("LOG-07", "SIG-04")
def test_an_exception_of_theirs_ends_the_setup() -> None:
    @signals.setup_logging.connect
    def mine(**_: Any) -> None:
        raise KeyError("handlers")

    with pytest.raises(KeyError, match="handlers"):
        set_up()
    assert not logging_of().already_setup


@pytest.mark.follows("LOG-07")
@pytest.mark.parametrize(("hijack", "name"), [(False, "celery"), (True, "root")])
def test_afterwards_the_loggers_are_told(hijack: bool, name: str) -> None:
    heard: list[tuple[str, dict[str, Any]]] = []

    @signals.after_setup_logger.connect
    def after(**said: Any) -> None:
        heard.append(("all", said))
        said["logger"].handlers[0].setFormatter(logging.Formatter("mine: %(message)s"))

    @signals.after_setup_task_logger.connect
    def after_task(**said: Any) -> None:
        heard.append(("tasks", said))

    stream = set_up(worker_hijack_root_logger=hijack)
    worker()
    assert stream.getvalue() == "mine: ready\n"
    (all_, of_all), (tasks, of_tasks) = heard
    assert (all_, of_all["logger"].name, of_all["format"]) == ("all", name, FORMAT)
    assert (tasks, of_tasks["logger"].name) == ("tasks", "celery.task")
    assert of_tasks["format"] == TASK_FORMAT
    common = {"signal", "sender", "logger", "loglevel", "logfile", "format", "colorize"}
    assert of_all.keys() == of_tasks.keys() == common


@pytest.mark.follows("LOG-07")
def test_a_process_is_set_up_once() -> None:
    stream = set_up()
    assert logging_of().setup_logging_subsystem("DEBUG", io.StringIO()) is None
    worker()
    assert stream.getvalue().count("ready") == 1
    assert logging_of().already_setup


def test_again_starts_from_what_was_there_before() -> None:
    @signals.after_setup_logger.connect
    def after(logger: logging.Logger, **_: Any) -> None:
        logger.addHandler(logging.StreamHandler(extra))

    extra = io.StringIO()
    first = set_up()
    log_setup.again()
    second = set_up()
    worker()
    assert first.getvalue() == ""
    assert second.getvalue().count("ready") == extra.getvalue().count("ready") == 1


def test_again_asks_those_who_set_it_up_themselves() -> None:
    heard: list[Any] = []

    @signals.setup_logging.connect
    def mine(logfile: Any, **_: Any) -> None:
        heard.append(logfile)

    logging_of().setup("INFO", "%n%I.log", hostname="w@h")
    log_setup.again()
    child = logging_of()
    child.index = 2
    child.setup("INFO", "%n%I.log", hostname="w@h")
    assert heard == ["w.log", "w-2.log"]


# -- what is printed


@pytest.mark.follows("LOG-11")
def test_what_is_printed_becomes_records() -> None:
    stream = io.StringIO()
    logging_of().setup("INFO", stream, redirect_stdouts=True, redirect_level="ERROR")
    sys.stdout.write("out\n")
    sys.stderr.write("err\n")
    assert [line.partition("/")[0] for line in stream.getvalue().splitlines()] == ["ERROR"] * 2


def test_one_stream_may_be_left_alone() -> None:
    before = sys.stderr
    proxy = logging_of().redirect_stdouts_to_logger(logging.getLogger("x"), "INFO", stderr=False)
    assert sys.stdout is proxy
    assert sys.stderr is before


# -- records


def test_the_process_name_may_change_after_a_fork() -> None:
    stream = set_up()
    log_setup.name_process("Template")
    log_setup.name_process("ForkPoolWorker-1")
    worker("x")
    assert stream.getvalue() == "INFO/ForkPoolWorker-1 x\n"


def test_a_users_factory_of_records_is_kept() -> None:
    def factory(*args: object, **kwargs: object) -> logging.LogRecord:
        record = logging.LogRecord(*args, **kwargs)  # type: ignore[arg-type]
        record.msg = f"made by the user: {record.msg}"
        return record

    logging.setLogRecordFactory(factory)
    stream = set_up()
    log_setup.name_process("W")
    worker("x")
    assert stream.getvalue() == "INFO/W made by the user: x\n"


def test_the_logger_above_all_of_ours() -> None:
    assert logging_of().get_default_logger() is logging.getLogger("celery")
