"""Apps for tests: one that is made for a test, and one of the program that is borrowed by a test.

Also the trap for code that takes the current app where it was given another one. What the current
app is, is known to ``celeriac.current``.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from celeriac import current
from celeriac.app import Celery
from celeriac.brokers.base import Broker
from celeriac.log_setup import Answers, Logging
from celeriac.results.base import ResultStore

loud: "weakref.WeakSet[Celery]" = weakref.WeakSet()
"""Apps for tests whose workers log; those of all others leave logging as it is."""

DEFAULT_TEST_CONFIG: dict[str, Any] = {
    "worker_hijack_root_logger": False,
    "accept_content": {"json"},
    "timezone": "UTC",
    "broker_url": "memory://",
    "result_backend": "memory://",
}


class Trap:
    """Stands in for the current app, and raises RuntimeError when it is used (TESTH-04)."""

    def __getattr__(self, name: str) -> Any:
        # What mock looks for before it replaces something must seem to be absent.
        if name in ("_is_coroutine", "__func__"):
            return None
        raise RuntimeError(
            f"Test depends on current_app: {name!r} of it was used; pass the app, or use the fixture "
            "depends_on_current_app"
        )


class UnitLogging(Logging):
    """The logging of an app for tests: set up already, so that all is left as it is (TESTH-04)."""

    @property
    def already_setup(self) -> bool:
        """Yes."""
        return True

    def setup(self, *_: Any, **__: Any) -> Answers:
        """Set up nothing."""
        return []


def TestApp(
    name: str | None = None,
    config: Mapping[str, Any] | None = None,
    enable_logging: bool = False,
    set_as_current: bool = False,
    log: Callable[[Celery], Any] = UnitLogging,
    backend: str | None = None,
    broker: str | None = None,
    **kwargs: Any,
) -> Celery:
    """Return an app for tests: queues and results are in memory (TESTH-04).

    ``config`` are settings, ``kwargs`` further arguments of ``Celery``. With ``enable_logging`` a
    worker of it logs as in production; without, ``log`` says what it does instead.
    """
    settings = {**DEFAULT_TEST_CONFIG, **(config or {})}
    given = {"broker_url": broker, "result_backend": backend}
    settings.update({key: url for key, url in given.items() if url is not None})
    with current.kept():
        app = Celery(name or "celery.tests", **kwargs)
    app.conf.add_defaults(settings)
    if enable_logging:
        loud.add(app)
    else:
        app.log = log(app)
    if set_as_current:
        current.set_current_app(app)
    return app


TestApp.__test__ = False  # type: ignore[attr-defined]  # For pytest: it is no test.


def connect(app: Celery, broker: Broker, store: ResultStore | None) -> None:
    """Have an app use these, in place of what its settings name, until it is closed."""
    parts = app.connections
    parts.close()
    parts.opened("broker", lambda: broker)
    parts.opened("store", lambda: store)


def disconnect(app: Celery) -> None:
    """Have an app use what its settings name again."""
    app.connections.close()


# -- the current app


def make_current(app: Celery) -> None:
    """Make an app the current one of this thread, and of threads that have none (TESTH-01)."""
    current.set_current_app(app)
    current.set_default_app(app)


@contextmanager
def set_trap(app: Celery) -> Iterator[None]:
    """Have everything that uses the current app raise RuntimeError meanwhile (TESTH-04)."""
    with current.kept():
        trap: Any = Trap()
        make_current(trap)
        yield


@contextmanager
def setup_default_app(app: Celery, use_trap: bool = False) -> Iterator[None]:
    """Run a test that may change the current app, and leave everything as it was (TESTH-04).

    ``app`` is closed at the end. With ``use_trap`` using the current app raises meanwhile.
    """
    try:
        with current.kept():
            if use_trap:
                with set_trap(app):
                    yield
            else:
                yield
    finally:
        disconnect(app)
