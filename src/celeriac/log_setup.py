"""The set-up of a process's log: handlers, levels, files, and the signals of it (LOG-02 to LOG-07).

A worker sets logging up once in the template, after the app was imported, and its children inherit
that; only if each child has a file of its own (``%i``) it is done again in each. The worker's parent
runs no user code: it logs by the settings and the command line alone, and receivers of
``setup_logging`` and its like are not heard there. The levels that a program gives to our loggers
are passed on to it. Formats in JSON and the redirection of ``print`` are modules of their own.
"""

import logging
import os
import re
import sys
from typing import Any, Literal, NamedTuple, Protocol

from celeriac import imports, signals
from celeriac.exceptions import ImproperlyConfigured
from celeriac.log import HOUSE, Colored, ColorFormatter, TaskFormatter, level_number, task_root
from celeriac.settings import Settings

STYLES = ("text", "json")

_MARK = re.compile(r"%(.)")

Answers = list[tuple[signals.Receiver, Any]]

_OURS = ("celery", "celeriac")

ours, top = HOUSE[:2]
"""``celeriac``; and ``celery`` above it, which gets our handler unless the root logger is ours."""
task_top = logging.getLogger("celery.task")
_warnings = logging.getLogger("py.warnings")
_processes = logging.getLogger("multiprocessing")


def log_file(pattern: str, hostname: str, index: int = 0) -> str:
    """Return the path that ``-f`` means in one process (LOG-06).

    ``%n`` is the node's name, ``%h`` its host, ``%d`` the host's domain, ``%p`` all of it, ``%i`` the
    number of the child (0 outside of children), ``%I`` the same with a dash before it, or nothing
    outside of children; ``%%`` is a percent sign. Raises ImproperlyConfigured for others.
    """
    name, _, host = hostname.rpartition("@")
    meanings = {
        **{"n": name or "celery", "h": host, "d": host.partition(".")[2], "p": hostname},
        **{"i": str(index), "I": f"-{index}" if index else "", "%": "%"},
    }

    def meaning(match: re.Match[str]) -> str:
        if match[1] not in meanings:
            raise ImproperlyConfigured(
                f"{match[0]} in the log file {pattern!r} means nothing; known are "
                f"{', '.join('%' + letter for letter in meanings)}"
            )
        return meanings[match[1]]

    return _MARK.sub(meaning, pattern)


def differs_by_child(pattern: str | None) -> bool:
    """Whether each child has a log file of its own."""
    return pattern is not None and any(match[1] in "iI" for match in _MARK.finditer(pattern))


class Configured(Protocol):
    """Something with settings: an app."""

    @property
    def settings(self) -> Settings:
        """The settings now."""
        ...


class _Before(NamedTuple):
    """What a logger was before it was set up."""

    handlers: list[logging.Handler]
    level: int
    propagate: bool


class _State:
    """Whether and how this process's logging is set up."""

    before: dict[logging.Logger, _Before] | None = None
    """None until it is."""
    answers: Answers = []
    """What receivers of ``setup_logging`` answered."""
    levels: dict[logging.Logger, int] = {}
    """Levels that we gave, not the user."""
    opened: list[logging.Handler] = []
    """Handlers that we made."""


def undo() -> None:
    """Give loggers back the handlers and levels that they had before the set-up."""
    for logger, (handlers, level, propagate) in (_State.before or {}).items():
        logger.handlers, logger.propagate = list(handlers), propagate
        logger.setLevel(level)
    for handler in _State.opened:
        handler.close()
    _State.before, _State.answers, _State.levels, _State.opened = None, [], {}, []


def again() -> None:
    """Let the next set-up do everything once more: the log file is another one now."""
    if _State.answers:
        _State.before = None
    else:
        undo()


class Logging:
    """Sets up logging for an app: ``app.log`` (APP-23). A process is set up once (LOG-07)."""

    def __init__(self, app: Configured) -> None:
        self.app = app
        self.index = 0
        """The number of this child, for ``%i``; 0 outside of children."""

    @property
    def already_setup(self) -> bool:
        """Whether this process's logging is set up."""
        return _State.before is not None

    def setup(
        self,
        loglevel: int | str | None = None,
        logfile: Any = None,
        redirect_stdouts: bool = False,
        redirect_level: int | str = "WARNING",
        colorize: bool | None = None,
        hostname: str | None = None,
    ) -> Answers:
        """Set up everything: log, warnings, and if asked for what is printed.

        Returns what receivers of ``setup_logging`` answered; if there are any, nothing else is done.
        ``logfile`` is a path, an open stream, or None for standard error. Raises ImproperlyConfigured,
        and what a receiver of ``setup_logging`` raised.
        """
        self.setup_logging_subsystem(loglevel, logfile, colorize=colorize, hostname=hostname)
        logging.captureWarnings(True)
        if redirect_stdouts and not _State.answers:
            self.redirect_stdouts(redirect_level)
        return _State.answers

    def setup_logging_subsystem(
        self,
        loglevel: int | str | None = None,
        logfile: Any = None,
        format: str | None = None,
        colorize: bool | None = None,
        hostname: str | None = None,
        datefmt: str | None = None,
        **_: Any,
    ) -> Answers | None:
        """Set up the loggers, or let the receivers of ``setup_logging`` do it (LOG-07).

        Does nothing, and returns None, if that was done before in this process. Raises as ``setup``.
        """
        if self.already_setup:
            return None
        if isinstance(logfile, str) and hostname:
            logfile = log_file(logfile, hostname, self.index)
        settings = self.app.settings
        format = format or settings.worker_log_format
        datefmt = settings.worker_log_datefmt if datefmt is None else datefmt
        setup = self._completed(loglevel, logfile, format, datefmt, colorize)
        _State.before = {
            one: _as_it_is(one) for one in (logging.root, _warnings, _processes, *HOUSE)
        }
        try:
            _State.answers = _asked(setup)
            if not _State.answers:
                self._set_up(setup)
        except BaseException:
            undo()
            raise
        _enable()
        return _State.answers

    def _completed(
        self,
        loglevel: int | str | None,
        logfile: Any,
        format: str,
        datefmt: str | None,
        colorize: bool | None,
    ) -> "_Setup":
        level = level_number(loglevel) or logging.WARNING
        color = self.supports_color(colorize, logfile)
        return _Setup(level, logfile, format, datefmt, color, _style(self.app.settings))

    def _set_up(self, setup: "_Setup") -> None:
        hijack = self.app.settings.worker_hijack_root_logger
        if hijack:
            for logger in (logging.root, *HOUSE):
                logger.handlers, logger.propagate = [], True
        handler = setup.handler()
        base = logging.root if hijack else top
        if hijack or not _is_taken(ours, top):
            _give(handler, base)
        setup.set_level(base)
        if not hijack and not _is_taken(logging.root, _warnings):
            _give(handler, _warnings)
        if os.environ.get("MP_LOG"):
            # What multiprocessing says of processes that tasks start (LOG-10).
            imports.load("multiprocessing.util:get_logger")()
            _give(handler, _processes)
            _processes.setLevel(setup.level)
        signals.after_setup_logger.send(sender=None, logger=base, **setup.told())
        self.setup_task_loggers(setup.level, setup.logfile, colorize=setup.colorize)

    def setup_task_loggers(
        self,
        loglevel: int | str | None = None,
        logfile: Any = None,
        format: str | None = None,
        colorize: bool | None = None,
        propagate: bool = False,
        datefmt: str | None = None,
        **_: Any,
    ) -> logging.Logger:
        """Give the loggers of tasks their own format, and return the one above all of them."""
        settings = self.app.settings
        format = format or settings.worker_task_log_format
        datefmt = settings.worker_task_log_datefmt if datefmt is None else datefmt
        setup = self._completed(loglevel, logfile, format, datefmt, colorize)
        if not _is_taken(task_root, task_top) and not self._is_the_users():
            _give(setup.handler(TaskFormatter), task_top)
            task_top.propagate = propagate
        setup.set_level(task_top)
        signals.after_setup_task_logger.send(sender=None, logger=task_top, **setup.told())
        return task_top

    def _is_the_users(self) -> bool:
        """Whether the user gave ``celery`` a handler, which is to get what tasks say, too."""
        if _State.before is None or self.app.settings.worker_hijack_root_logger:
            return False
        return any(_writes(one) for logger in (ours, top) for one in _State.before[logger].handlers)

    def redirect_stdouts(
        self, loglevel: int | str | None = None, name: str = "celeriac.redirected"
    ) -> None:
        """Make records of what this process prints (LOG-11)."""
        self.redirect_stdouts_to_logger(logging.getLogger(name), loglevel)

    def redirect_stdouts_to_logger(
        self,
        logger: logging.Logger,
        loglevel: int | str | None = None,
        stdout: bool = True,
        stderr: bool = True,
    ) -> Any:
        """Put a ``LoggingProxy`` in the place of ``sys.stdout`` and ``sys.stderr``; return the last."""
        make = imports.load("celeriac.log_streams:LoggingProxy")
        level = level_number(loglevel) or logging.WARNING
        proxy = None
        if stdout:
            proxy = sys.stdout = make(logger, level, sys.stdout)
        if stderr:
            proxy = sys.stderr = make(logger, level, sys.stderr)
        return proxy

    def supports_color(self, colorize: bool | None = None, logfile: Any = None) -> bool:
        """Whether lines are coloured: on a terminal only, unless that is switched off (LOG-03)."""
        if colorize is None:
            colorize = self.app.settings.worker_log_color
        if colorize is None:
            colorize = not os.environ.get("NO_COLOR")
        stream = sys.__stderr__
        return colorize and logfile is None and stream is not None and stream.isatty()

    def colored(self, logfile: Any = None, enabled: bool | None = None) -> Colored:
        """Return what colours text, where ``supports_color``."""
        return Colored(self.supports_color(enabled, logfile))

    def get_default_logger(self, name: str = "celery", **_: Any) -> logging.Logger:
        """Return the logger above all of ours."""
        return logging.getLogger(name)


class _Setup(NamedTuple):
    """One set-up, every question answered."""

    level: int
    logfile: Any
    format: str
    datefmt: str | None
    colorize: bool
    style: str

    def told(self) -> dict[str, Any]:
        """Return what signals tell of it."""
        return {
            "loglevel": self.level,
            "logfile": self.logfile,
            "format": self.format,
            "colorize": self.colorize,
        }

    def handler(self, kind: type[ColorFormatter] = ColorFormatter) -> logging.Handler:
        """Return a handler that writes as this set-up says. Raises ImproperlyConfigured."""
        handler = _opened(self.logfile)
        _State.opened.append(handler)
        if self.style == "json":
            handler.setFormatter(imports.load("celeriac.log_json:JsonFormatter")())
        else:
            handler.setFormatter(kind(self.format, self.colorize, self.datefmt))
        return handler

    def set_level(self, logger: logging.Logger) -> None:
        """Give a logger the level, unless the user gave it one."""
        if logger is logging.root or logger.level == logging.NOTSET:
            logger.setLevel(self.level)
            _State.levels[logger] = self.level


def _style(settings: Settings) -> Literal["text", "json"]:
    style = settings.worker_log_style
    if style == "json":
        return "json"
    if style == "text":
        return "text"
    raise ImproperlyConfigured(f"worker_log_style cannot be {style!r}: give 'text' or 'json'")


def _asked(setup: _Setup) -> Answers:
    """Let receivers of ``setup_logging`` do it. Raises what one of them raised."""
    if not signals.setup_logging.receivers:
        return []
    answers = signals.setup_logging.send(sender=None, **setup.told())
    for _, answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return answers


def _opened(logfile: Any) -> logging.Handler:
    if logfile is None:
        # Not sys.stderr: that may be one that makes records of what is written to it.
        return logging.StreamHandler(sys.__stderr__)
    if hasattr(logfile, "write"):
        return logging.StreamHandler(logfile)
    try:
        # Opened again when logrotate has moved it away.
        handler: logging.Handler = imports.load("logging.handlers:WatchedFileHandler")(
            logfile, encoding="utf-8"
        )
    except OSError as error:
        raise ImproperlyConfigured(
            f"cannot write the log file {str(logfile)!r}: {error.strerror}; name a file in a folder "
            "that exists and that this user may write to"
        ) from error
    return handler


def _as_it_is(logger: logging.Logger) -> _Before:
    return _Before(list(logger.handlers), logger.level, bool(logger.propagate))


def _is_taken(*loggers: logging.Logger) -> bool:
    """Whether somebody has given one of them a handler that writes."""
    return any(_writes(handler) for logger in loggers for handler in logger.handlers)


def _writes(handler: logging.Handler) -> bool:
    return not isinstance(handler, logging.NullHandler)


def _give(handler: logging.Handler, logger: logging.Logger) -> None:
    logger.addHandler(handler)
    logger.propagate = False


def _enable() -> None:
    """Undo what ``logging.config`` does to loggers that a configuration does not name.

    One that names ``celery`` means all below it, and ours have other names.
    """
    if _State.answers and top.disabled:
        return
    for logger in HOUSE:
        logger.disabled = False
    for name, logger_ in logging.root.manager.loggerDict.items():
        if name.startswith("celeriac.") and isinstance(logger_, logging.Logger):
            logger_.disabled = False


def levels() -> dict[str, int]:
    """Return the levels that the user gave to loggers of ours, by name, for the worker's parent."""
    found = {}
    for name, logger in logging.root.manager.loggerDict.items():
        if not isinstance(logger, logging.Logger) or name.partition(".")[0] not in _OURS:
            continue
        if logger.level != _State.levels.get(logger, logging.NOTSET):
            found[name] = logger.level
    return found


def name_process(name: str) -> None:
    """Show this name as the process in every record from now on."""
    # logging shows multiprocessing's name if that is imported, and "MainProcess" if not.
    factory = logging.getLogRecordFactory()
    logging.setLogRecordFactory(_Named(getattr(factory, "factory", factory), name))


class _Named:
    """A factory of log records that names the process."""

    def __init__(self, factory: object, process: str) -> None:
        self.factory = factory
        self._process = process

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record: logging.LogRecord = self.factory(*args, **kwargs)  # type: ignore[operator]
        record.processName = self._process
        return record
