"""What the log says of a task's way through the worker, in Celery's words (LOG-08).

The texts are attributes of this module, and programs may put others in their place (LOG-12); what
can stand in them is what ``record.data`` holds (LOG-09). The parent, which runs no user code, is told
of such changes. Nothing is formatted, and no argument shown, while the level is off.
"""

import logging
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol

from celeriac.context import Context
from celeriac.wire.repr import saferepr
from celeriac.wire.task import Headers

LOG_RECEIVED = "Task %(name)s[%(id)s] received"
LOG_SUCCESS = "Task %(name)s[%(id)s] succeeded in %(runtime)ss: %(return_value)s"
LOG_FAILURE = "Task %(name)s[%(id)s] %(description)s: %(exc)s"
LOG_INTERNAL_ERROR = "Task %(name)s[%(id)s] %(description)s: %(exc)s"
LOG_IGNORED = "Task %(name)s[%(id)s] %(description)s"
LOG_REJECTED = "Task %(name)s[%(id)s] %(exc)s"
LOG_RETRY = "Task %(name)s[%(id)s] retry: %(exc)s"
LOG_DISCARDED = "Discarding revoked task: %(name)s[%(id)s]"
LOG_SOFT_LIMIT = "Soft time limit (%(limit)ss) exceeded for %(name)s[%(id)s]"
LOG_HARD_LIMIT = "Hard time limit (%(limit)ss) exceeded for %(name)s[%(id)s]"

log = logging.getLogger("celeriac.execution")
received_log = logging.getLogger("celeriac.worker.dispatcher")
limits_log = logging.getLogger("celeriac.worker")

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]


class Error(Protocol):
    """An exception that ended a run."""

    exception: BaseException
    traceback: str
    """As text."""

    @property
    def exc_info(self) -> ExcInfo:
        """The three of ``sys.exc_info()``."""
        ...


def texts() -> dict[str, str]:
    """Return the texts by name, as they are now."""
    return {name: text for name, text in globals().items() if name.startswith("LOG_")}


def use(texts: Mapping[str, str]) -> None:
    """Take over the texts of another process."""
    globals().update(texts)


# -- in the parent ---------------------------------------------------------------------------------


def received(headers: Headers) -> None:
    """A delivery will be run. Asked only if ``received_log`` has the level INFO."""
    _say(received_log, logging.INFO, LOG_RECEIVED, _of_headers(headers))


def discarded(headers: Headers) -> None:
    """A delivery will not be run: it expired, or was revoked."""
    if received_log.isEnabledFor(logging.INFO):
        _say(received_log, logging.INFO, LOG_DISCARDED, _of_headers(headers))


def reminded(name: str, id: str, limit: float) -> None:
    """A run has passed its soft limit, in seconds."""
    data = {"id": id, "name": name, "limit": f"{limit:g}"}
    _say(limits_log, logging.WARNING, LOG_SOFT_LIMIT, data)


def overran(name: str, id: str, limit: float) -> None:
    """A run was ended at its hard limit, in seconds."""
    data = {"id": id, "name": name, "limit": f"{limit:g}"}
    _say(limits_log, logging.ERROR, LOG_HARD_LIMIT, data)


def _of_headers(headers: Headers) -> dict[str, Any]:
    return {
        "id": headers.id,
        "name": headers.shadow or headers.task,
        "args": headers.argsrepr,
        "kwargs": headers.kwargsrepr,
        "eta": headers.eta,
    }


# -- in the child ----------------------------------------------------------------------------------


def succeeded(request: Context, value: Any, runtime: float | None, limit: int = 1024) -> None:
    """The function returned a value, after so many seconds. Asked only if ``log`` has the level INFO.

    At most ``limit`` characters of the value are shown (TASK-24).
    """
    data = _of_call(request) | {"return_value": saferepr(value, limit), "runtime": runtime}
    _say(log, logging.INFO, LOG_SUCCESS, data)


def failed(request: Context, error: Error, *, expected: bool) -> None:
    """It raised; ``expected`` is what the task lists in ``throws`` (TASK-21)."""
    level = logging.INFO if expected else logging.ERROR
    if log.isEnabledFor(level):
        data = _of_error(request, error, "raised expected" if expected else "raised unexpected")
        _say(log, level, LOG_FAILURE, data, None if expected else error)


def retried(request: Context, retry: BaseException) -> None:
    """It asked for another run."""
    if log.isEnabledFor(logging.INFO):
        _say(log, logging.INFO, LOG_RETRY, {**_of(request), "exc": str(retry)})


def ignored(request: Context, error: Error) -> None:
    """It raised Ignore."""
    if log.isEnabledFor(logging.INFO):
        _say(log, logging.INFO, LOG_IGNORED, _of_error(request, error, "ignored"))


def rejected(request: Context, error: Error) -> None:
    """It raised Reject, with or without ``requeue``."""
    if log.isEnabledFor(logging.WARNING):
        _say(log, logging.WARNING, LOG_REJECTED, _of_error(request, error, "rejected"), error)


def broke(request: Context, error: Error) -> None:
    """Something failed that is not the task."""
    data = _of_error(request, error, "INTERNAL ERROR") | {"internal": True}
    _say(log, logging.CRITICAL, LOG_INTERNAL_ERROR, data, error)


def _of(request: Context) -> dict[str, Any]:
    return {"id": request.id, "name": request.shadow or request.task}


def _of_call(request: Context) -> dict[str, Any]:
    data = _of(request)
    data["args"] = request.get("argsrepr") or saferepr(request.args)
    data["kwargs"] = request.get("kwargsrepr") or saferepr(request.kwargs)
    return data


def _of_error(request: Context, error: Error, description: str) -> dict[str, Any]:
    return {
        "hostname": request.hostname,
        **_of_call(request),
        "exc": saferepr(error.exception),
        "traceback": error.traceback,
        "description": description,
        "internal": False,
    }


def _say(
    logger: logging.Logger,
    level: int,
    text: str,
    data: dict[str, Any],
    error: Error | None = None,
) -> None:
    """Log a text about ``data``, which the record keeps (LOG-09)."""
    info = None if error is None else error.exc_info
    logger.log(level, text, data, exc_info=info, extra={"data": data}, stacklevel=3)
