"""log.py: handlers and formats of a worker, and records that know their task."""

import io
import logging
from collections.abc import Iterator

import pytest

from celeriac import get_task_logger, log
from celeriac.context import Context, current

FORMAT = "%(levelname)s/%(processName)s %(message)s"
TASK_FORMAT = "%(task_name)s[%(task_id)s]: %(message)s"


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (None, "celeriac", "celeriac.task")]
    before = [(one.handlers, one.level, one.propagate) for one in loggers]
    factory = logging.getLogRecordFactory()
    yield
    logging.setLogRecordFactory(factory)
    for one, (handlers, level, propagate) in zip(loggers, before, strict=True):
        one.handlers, one.level, one.propagate = handlers, level, propagate
        one.setLevel(level)  # forgets what was cached about levels


@pytest.fixture
def running() -> Iterator[Context]:
    request = Context(id="one", task="demo.add", called_directly=False)
    token = current.set(request)
    yield request
    current.reset(token)


def set_up(**more: object) -> io.StringIO:
    stream = io.StringIO()
    log.set_up("INFO", FORMAT, TASK_FORMAT, stream=stream, **more)  # type: ignore[arg-type]
    return stream


@pytest.mark.follows("LOG-02")
def test_what_celeriac_says_is_written_in_its_format() -> None:
    stream = set_up(process="MainWorker")
    logging.getLogger("celeriac.worker").info("ready")
    assert stream.getvalue() == "INFO/MainWorker ready\n"


def test_without_a_name_the_process_is_what_it_was() -> None:
    stream = set_up()
    record = logging.LogRecord("x", logging.INFO, "x.py", 1, "ready", (), None)
    logging.getLogger("celeriac.worker").info("ready")
    assert stream.getvalue() == f"INFO/{record.processName} ready\n"


@pytest.mark.follows("LOG-05")
def test_what_lies_below_the_level_is_not_written() -> None:
    stream = set_up()
    logging.getLogger("celeriac.worker").debug("chatter")
    get_task_logger("demo").debug("chatter")
    assert stream.getvalue() == ""


@pytest.mark.follows("LOG-01", "LOG-02")
def test_a_task_logger_knows_the_running_task(running: Context) -> None:
    stream = set_up()
    get_task_logger("demo").info("adding")
    assert stream.getvalue() == "demo.add[one]: adding\n"


@pytest.mark.follows("LOG-01")
def test_outside_of_tasks_a_task_logger_says_so() -> None:
    stream = set_up()
    get_task_logger("demo").warning("who am I?")
    assert stream.getvalue() == "???[???]: who am I?\n"


def test_a_record_may_bring_its_own_task(running: Context) -> None:
    stream = set_up()
    get_task_logger("demo").info("x", extra={"task_name": "demo.other", "task_id": "two"})
    assert stream.getvalue() == "demo.other[two]: x\n"


@pytest.mark.follows("LOG-01")
def test_task_loggers_hang_below_celeriac_task() -> None:
    logger = get_task_logger("demo.tasks")
    assert logger.name == "celeriac.task.demo.tasks"
    assert get_task_logger("demo.tasks") is logger


def test_a_record_is_written_once(running: Context) -> None:
    stream = set_up()
    set_up_again = io.StringIO()
    log.set_up("INFO", FORMAT, TASK_FORMAT, stream=set_up_again)
    get_task_logger("demo").info("once")
    logging.getLogger("celeriac.worker").info("once")
    assert stream.getvalue() == ""
    assert set_up_again.getvalue().count("once") == 2


@pytest.mark.follows("LOG-04")
def test_the_root_logger_is_left_alone() -> None:
    root = logging.getLogger()
    before = (list(root.handlers), root.level)
    stream = set_up()
    logging.getLogger("shop").critical("not ours")
    assert (list(root.handlers), root.level) == before
    assert stream.getvalue() == ""


@pytest.mark.follows("LOG-04")
def test_the_root_logger_is_taken_over_if_asked_for() -> None:
    stream = set_up(hijack_root=True, process="W")
    logging.getLogger("shop").info("ours now")
    assert stream.getvalue() == "INFO/W ours now\n"


def test_the_process_name_may_change_after_a_fork() -> None:
    set_up(process="Template")
    stream = set_up(process="ForkPoolWorker-1")
    logging.getLogger("celeriac.worker").info("x")
    assert stream.getvalue() == "INFO/ForkPoolWorker-1 x\n"


def test_a_users_factory_of_records_is_kept() -> None:
    def factory(*args: object, **kwargs: object) -> logging.LogRecord:
        record = logging.LogRecord(*args, **kwargs)  # type: ignore[arg-type]
        record.msg = f"made by the user: {record.msg}"
        return record

    logging.setLogRecordFactory(factory)
    stream = set_up(process="W")
    logging.getLogger("celeriac.worker").info("x")
    assert stream.getvalue() == "INFO/W made by the user: x\n"


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="LOUD"):
        log.set_up("LOUD", FORMAT, TASK_FORMAT)
