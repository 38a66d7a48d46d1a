"""log.py: loggers that know the running task, levels, and formats for people."""

import logging
from collections.abc import Iterator

import pytest

from celeriac import get_task_logger
from celeriac.context import Context, current
from celeriac.exceptions import ImproperlyConfigured
from celeriac.log import (
    CELERY_NAMES,
    Colored,
    ColorFormatter,
    TaskFormatter,
    level_number,
)

TASK_FORMAT = "%(task_name)s[%(task_id)s]: %(message)s"


@pytest.fixture
def running() -> Iterator[Context]:
    request = Context(id="one", task="demo.add", called_directly=False)
    token = current.set(request)
    yield request
    current.reset(token)


def record(level: int = logging.INFO, **more: object) -> logging.LogRecord:
    return logging.makeLogRecord(
        {"msg": "adding", "levelno": level, "levelname": logging.getLevelName(level), **more}
    )


def ancestors(logger: logging.Logger | None) -> list[str]:
    names = []
    while logger is not None:
        names.append(logger.name)
        logger = logger.parent
    return names


# -- loggers


@pytest.mark.follows("LOG-01")
def test_a_task_logger_keeps_its_name_and_hangs_below_those_of_tasks() -> None:
    logger = get_task_logger("demo.tasks")
    assert logger is logging.getLogger("demo.tasks")
    assert get_task_logger("demo.tasks") is logger
    assert ancestors(logger)[:2] == ["demo.tasks", "celeriac.task"]


@pytest.mark.follows("LOG-01")
def test_a_task_logger_below_another_stays_there() -> None:
    get_task_logger("demo")
    assert ancestors(get_task_logger("demo.below"))[:2] == ["demo.below", "demo"]


@pytest.mark.follows("LOG-01")
@pytest.mark.parametrize("name", ["celery", "celery.task", "celeriac", "celeriac.task"])
def test_names_of_the_house_are_reserved(name: str) -> None:
    with pytest.raises(RuntimeError, match=f"'{name}' is reserved"):
        get_task_logger(name)


def test_a_task_logger_has_the_level_of_the_loggers_above_it_at_once() -> None:
    logger = logging.getLogger("solitary.levels")
    above = logging.getLogger("celeriac.task")
    above.setLevel(logging.INFO)
    try:
        assert not logger.isEnabledFor(logging.INFO), "and that is remembered"
        assert get_task_logger("solitary.levels").isEnabledFor(logging.INFO)
    finally:
        above.setLevel(logging.NOTSET)


@pytest.mark.follows("LOG-01")
@pytest.mark.parametrize(("ours", "theirs"), CELERY_NAMES)
def test_what_is_configured_under_celerys_name_holds_for_ours(ours: str, theirs: str) -> None:
    logger, above = logging.getLogger(ours), logging.getLogger(theirs)
    assert logger.parent is above
    above.setLevel(logging.ERROR)
    try:
        assert logger.getEffectiveLevel() == logging.ERROR
    finally:
        above.setLevel(logging.NOTSET)


def test_what_is_configured_under_our_names_holds_for_all_below() -> None:
    assert ancestors(logging.getLogger("celeriac.worker.dispatcher")) == [
        *("celeriac.worker.dispatcher", "celery.worker.strategy"),
        *("celeriac.worker", "celery.worker", "celeriac", "celery", "root"),
    ]
    assert ancestors(logging.getLogger("celery.app.trace"))[1:] == ["celeriac", "celery", "root"]


# -- levels


@pytest.mark.follows("LOG-05")
@pytest.mark.parametrize(
    ("level", "number"),
    [("info", 20), ("FATAL", 50), (" Debug", 10), ("35", 35), (15, 15), (None, 0), ("warn", 30)],
)
def test_levels_by_name_and_number(level: int | str | None, number: int) -> None:
    assert level_number(level) == number


@pytest.mark.follows("LOG-05")
def test_a_level_of_the_programs_own() -> None:
    logging.addLevelName(23, "NOTICE")
    assert level_number("notice") == 23


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"'LOUD' is no log level; .*DEBUG, INFO"):
        level_number("LOUD")


# -- formats


@pytest.mark.follows("LOG-01")
def test_a_record_knows_the_running_task(running: Context) -> None:
    assert TaskFormatter(TASK_FORMAT).format(record()) == "demo.add[one]: adding"


@pytest.mark.follows("LOG-01")
def test_outside_of_tasks_it_says_so() -> None:
    assert TaskFormatter(TASK_FORMAT).format(record()) == "???[???]: adding"


def test_a_record_may_bring_its_own_task(running: Context) -> None:
    own = record(task_name="demo.other", task_id="two")
    assert TaskFormatter(TASK_FORMAT).format(own) == "demo.other[two]: adding"


@pytest.mark.follows("LOG-03")
@pytest.mark.parametrize(
    ("level", "line"),
    [
        (logging.DEBUG, "\033[1;34madding\033[0m"),
        (logging.INFO, "adding"),
        (logging.WARNING, "\033[1;33madding\033[0m"),
        (logging.ERROR, "\033[1;31madding\033[0m"),
        (logging.CRITICAL, "\033[1;35madding\033[0m"),
    ],
)
def test_colours_are_celerys(level: int, line: str) -> None:
    assert ColorFormatter("%(message)s", use_color=True).format(record(level)) == line
    assert ColorFormatter("%(message)s").format(record(level)) == "adding"


def test_text_is_coloured_by_name() -> None:
    assert Colored().red(7) == "\033[1;31m7\033[0m"
    assert Colored(enabled=False).red(7) == "7"
    with pytest.raises(AttributeError, match="there is no colour 'mauve'"):
        Colored().mauve  # noqa: B018
