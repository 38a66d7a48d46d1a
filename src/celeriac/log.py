"""Logging: loggers that know their task, levels, and formats for people (LOG-01, LOG-03, LOG-05).

The loggers of the house are called ``celeriac.*``, and each hangs below the one that has Celery's
name for it: what somebody configures for ``celery``, ``celery.task``, ``celery.app.trace`` or
``celery.worker`` holds for ours too. Nothing is set up here; that is ``log_setup``'s.
"""

import logging
from collections.abc import Callable

from celeriac.context import current
from celeriac.exceptions import ImproperlyConfigured

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")
"""The levels by name; a number is understood too, and names that the program has added."""

CELERY_NAMES = (
    ("celeriac", "celery"),
    ("celeriac.task", "celery.task"),
    ("celeriac.redirected", "celery.redirected"),
    ("celeriac.execution", "celery.app.trace"),
    ("celeriac.worker", "celery.worker"),
    ("celeriac.worker.dispatcher", "celery.worker.strategy"),
    ("celeriac.beat", "celery.beat"),
)
"""Our loggers, and those of Celery that they hang below. From the top down."""

COLOURS = {
    **{"black": 30, "red": 31, "green": 32, "yellow": 33},
    **{"blue": 34, "magenta": 35, "cyan": 36, "white": 37},
}
_COLOUR_OF_LEVEL = {"DEBUG": "blue", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "magenta"}


def _hang_below_celerys_names() -> None:
    for name, theirs in CELERY_NAMES:
        ours, above = logging.getLogger(name), logging.getLogger(theirs)
        if ours.parent is not above:
            above.parent, ours.parent = ours.parent, above


_hang_below_celerys_names()
HOUSE = tuple(logging.getLogger(name) for names in CELERY_NAMES for name in names)
"""All of those, from the top down; the first two are above all others."""
task_root = logging.getLogger("celeriac.task")


def get_task_logger(name: str) -> logging.Logger:
    """Return the logger of this name, hung below ``celeriac.task`` (LOG-01).

    Its records know the running task's name and id, which ``worker_task_log_format`` shows. Raises
    RuntimeError for the names ``celery``, ``celery.task``, ``celeriac`` and ``celeriac.task``.
    """
    logger = logging.getLogger(name)
    if logger in HOUSE[:4]:
        raise RuntimeError(
            f"the logger name {name!r} is reserved; give the name of your module: "
            "get_task_logger(__name__)"
        )
    above: logging.Logger | None = logger
    while above is not None and above is not task_root:
        above = above.parent
    if above is None:
        logger.parent = task_root
        _forget_levels(logger)
    return logger


def _forget_levels(logger: logging.Logger) -> None:
    """Have levels looked up again, now that a logger has another parent."""
    logger.setLevel(logger.level)


def level_number(level: int | str | None) -> int:
    """Return a level as a number; 0 for None (LOG-05). Raises ImproperlyConfigured."""
    if level is None or isinstance(level, int):
        return level or 0
    text = level.strip().upper()
    known = logging.getLevelNamesMapping()
    if text in known:
        return known[text]
    if text.isdigit():
        return int(text)
    raise ImproperlyConfigured(
        f"{level!r} is no log level; give a number, or one of: {', '.join(LEVELS)}"
    )


# -- formats ---------------------------------------------------------------------------------------


class Colored:
    """Colours text for a terminal: ``colored.red("no")``. Without effect unless ``enabled``."""

    def __init__(self, enabled: bool = True) -> None:
        self.enabled = enabled

    def __getattr__(self, name: str) -> Callable[[object], str]:
        if name not in COLOURS:
            raise AttributeError(f"there is no colour {name!r}", name=name, obj=self)
        return lambda text: self.paint(name, str(text))

    def paint(self, colour: str, text: str) -> str:
        """Return the text in one of ``COLOURS``."""
        return f"\033[1;{COLOURS[colour]}m{text}\033[0m" if self.enabled else text


class ColorFormatter(logging.Formatter):
    """Colours whole lines by their level, if ``use_color`` (LOG-03)."""

    def __init__(
        self, fmt: str | None = None, use_color: bool = False, datefmt: str | None = None
    ) -> None:
        super().__init__(fmt, datefmt)
        self.colored = Colored(use_color)

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        text = super().format(record)
        colour = _COLOUR_OF_LEVEL.get(record.levelname)
        return text if colour is None else self.colored.paint(colour, text)


class TaskFormatter(ColorFormatter):
    """Adds ``task_name`` and ``task_id`` of the running task to every record (LOG-01)."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; outside of tasks both fields are ``???``."""
        request = current.get()
        record.__dict__.setdefault("task_name", request.task if request else "???")
        record.__dict__.setdefault("task_id", request.id if request else "???")
        return super().format(record)
