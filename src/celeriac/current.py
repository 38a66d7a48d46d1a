"""The current app: which one is meant where none is named.

Making an app makes it current for its thread (APP-02). A thread that has made none uses the app of
the process that was made last; only if there is none at all, a default app is made, which reads its
settings from the module ``celeriacconfig`` or ``celeryconfig``, or the one that
``CELERY_CONFIG_MODULE`` names. What an app is, is not known here.
"""

import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from celeriac.context import current, running
from celeriac.proxies import Proxy

__all__ = [
    "current_app",
    "current_task",
    "current_worker_task",
    "get_current_app",
    "set_current_app",
    "set_default_app",
]


class _Here(threading.local):
    app: Any = None


class _Process:
    """What is known to all threads."""

    def __init__(self) -> None:
        self.default: Any = None
        self.latest: weakref.ref[Any] | None = None
        self.make_default: Callable[[], Any] = _nobody
        self.lock = threading.RLock()


def _nobody() -> Any:
    raise RuntimeError("there is no app yet: import celeriac before asking for the current app")


_here = _Here()
_process = _Process()


def get_current_app() -> Any:
    """Return the current app of this thread; make the default one if there is none (APP-02)."""
    if _here.app is not None:
        return _here.app
    if _process.default is not None:
        return _process.default
    latest = _process.latest() if _process.latest is not None else None
    return latest if latest is not None else get_default_app()


def get_default_app() -> Any:
    """Return the default app of the process, made on first use."""
    with _process.lock:
        if _process.default is None:
            _process.default = _process.make_default()
    return _process.default


def make_default_with(make: Callable[[], Any]) -> None:
    """Say how a default app is made."""
    _process.make_default = make


def set_current_app(app: Any) -> None:
    """Make an app current for this thread; None leaves it to the process again."""
    _here.app = app
    if app is not None:
        _process.latest = weakref.ref(app)


def set_default_app(app: Any) -> None:
    """Make an app the one of all threads that have none of their own; None forgets it."""
    _process.default = app


def let_go(app: Any) -> None:
    """Forget an app that was closed: it is neither current nor default any more (APP-28)."""
    if _here.app is app:
        _here.app = None
    if _process.default is app:
        _process.default = None
    if _process.latest is not None and _process.latest() is app:
        _process.latest = None


@contextmanager
def as_current(app: Any) -> Iterator[Any]:
    """Make an app current for this thread while the block runs; then the one before it is again."""
    earlier, _here.app = _here.app, app
    try:
        yield app
    finally:
        _here.app = earlier


@contextmanager
def kept() -> Iterator[None]:
    """Put back, at the end, the current and the default app that are there now; for tests."""
    before = _here.app, _process.default, _process.latest
    try:
        yield
    finally:
        _here.app, _process.default, _process.latest = before


def running_task() -> Any:
    """Return the task whose body runs here, the innermost one; None outside of tasks."""
    return _task_of(current.get())


def worker_task() -> Any:
    """Return the task that a worker runs here, and not those it calls as functions."""
    return _task_of(running())


def _task_of(request: Any) -> Any:
    return None if request is None else request.instance


current_app: Any = Proxy(get_current_app, "current_app")
current_task: Any = Proxy(running_task, "current_task")
"""The task that runs here, also one that was called as a function (TASK-46)."""
current_worker_task: Any = Proxy(worker_task, "current_worker_task")
