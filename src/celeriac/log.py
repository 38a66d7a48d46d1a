"""Logging: the worker's handler and formats, and loggers that know the task (LOG-01, LOG-02).

The root logger is left alone unless ``worker_hijack_root_logger`` says otherwise. Message texts of
the worker are those of Celery (LOG-08), so that existing log parsers go on working.
"""

import logging
import sys
from typing import TextIO

from celeriac.context import current

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "FATAL")

task_root = logging.getLogger("celeriac.task")


def get_task_logger(name: str) -> logging.Logger:
    """Return a logger whose records know the running task's name and id.

    It hangs below ``celeriac.task``, whose format is ``worker_task_log_format``.
    """
    return task_root.getChild(name)


class TaskFormatter(logging.Formatter):
    """Adds ``task_name`` and ``task_id`` of the running task to every record."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record; outside of tasks both fields are ``???``."""
        request = current.get()
        record.__dict__.setdefault("task_name", request.task if request else "???")
        record.__dict__.setdefault("task_id", request.id if request else "???")
        return super().format(record)


def set_up(
    level: str,
    format: str,
    task_format: str,
    *,
    hijack_root: bool = False,
    process: str | None = None,
    stream: TextIO | None = None,
) -> None:
    """Give Celeriac's loggers a handler of their own. Done once per process of a worker.

    ``process`` is the process name that records show.
    """
    if process is not None:
        # logging shows multiprocessing's name if that is imported, and "MainProcess" if not.
        factory = logging.getLogRecordFactory()
        logging.setLogRecordFactory(_Named(getattr(factory, "factory", factory), process))
    root = logging.getLogger() if hijack_root else logging.getLogger("celeriac")
    _use(root, level, logging.Formatter(format), stream)
    _use(task_root, level, TaskFormatter(task_format), stream)
    root.propagate = task_root.propagate = False


class _Named:
    """A factory of log records that names the process."""

    def __init__(self, factory: object, process: str) -> None:
        self.factory = factory
        self._process = process

    def __call__(self, *args: object, **kwargs: object) -> logging.LogRecord:
        record: logging.LogRecord = self.factory(*args, **kwargs)  # type: ignore[operator]
        record.processName = self._process
        return record


def _use(
    logger: logging.Logger, level: str, formatter: logging.Formatter, stream: TextIO | None
) -> None:
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    logger.handlers = [handler]
    logger.setLevel(level)
