"""Traceback objects made of a worker's text, by tblib (RES-15).

Loaded when a failure is raised and ``task_remote_tracebacks`` is set. Without tblib, which the extra
``tblib`` brings, there are none, and the log says so once.
"""

import logging
from functools import lru_cache
from types import TracebackType

try:
    from tblib import Traceback
except ImportError:
    Traceback = None

log = logging.getLogger("celeriac.result")


def rebuilt(text: str) -> TracebackType | None:
    """Return the frames that a traceback's text tells of, None if it cannot be read."""
    if Traceback is None:
        _say_what_is_missing()
        return None
    try:
        frames = Traceback.from_string(text, strict=False).as_traceback()
    except Exception:  # noqa: BLE001 - text of any kind; the error that it belongs to must come through
        return None
    return frames if isinstance(frames, TracebackType) else None


@lru_cache(maxsize=1)
def _say_what_is_missing() -> None:
    log.warning(
        "task_remote_tracebacks is set, but tblib is not installed, so tracebacks of workers are told "
        "as text; install celeriac[tblib]"
    )
