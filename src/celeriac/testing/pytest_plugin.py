"""The pytest plugin: fixtures of the names that Celery's has, and those of the inbox (TESTH-01).

It is switched on by a line in the topmost conftest.py, and never by itself (TESTH-02):
``pytest_plugins = ["celeriac.testing.pytest_plugin"]``. An entry point would replace the fixtures of
``celery.contrib.pytest`` in every project that has both installed, and have the package imported in
every session, before coverage is measured.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Any

import pytest

from celeriac.app import Celery
from celeriac.testing.apps import TestApp, make_current, setup_default_app
from celeriac.testing.inbox import Inbox
from celeriac.testing.worker import EmbeddedWorker, start_worker

Config = Mapping[str, Any]


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker."""
    config.addinivalue_line(
        "markers",
        "celery(**settings): settings for the app of the fixture celery_app, in this test",
    )


# -- what a project overrides


@pytest.fixture(scope="session")
def celery_config() -> Config:
    """Override it to return the settings of the app."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Config:
    """Override it to return further arguments of ``Celery``."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Config:
    """Override it to return arguments of ``start_worker``, such as queues."""
    return {}


@pytest.fixture(scope="session")
def celery_worker_pool() -> Any:
    """Override it to return a pool. Tasks of a worker in a test run one at a time in any case."""
    return "solo"


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """Override it to return names of modules to be imported before a worker starts."""
    return ()


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[Any]:
    """Override it to return class-based tasks to be registered before a worker starts."""
    return []


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Override it to have workers log."""
    return False


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Override it to have every use of the current app fail."""
    return False


# -- apps


@pytest.fixture(scope="session")
def celery_session_app(
    request: pytest.FixtureRequest,
    celery_config: Config,
    celery_parameters: Config,
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Celery]:
    """Yield an app that serves all tests of the session, as the current and the default one."""
    app = _app(request, celery_config, celery_parameters, celery_enable_logging)
    with setup_default_app(app, use_trap=use_celery_app_trap):
        if not use_celery_app_trap:
            make_current(app)
        yield app


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: Config,
    celery_parameters: Config,
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> Iterator[Celery]:
    """Yield an app of this test; the marker ``celery`` gives it settings."""
    app = _app(request, celery_config, celery_parameters, celery_enable_logging)
    with setup_default_app(app, use_trap=use_celery_app_trap):
        yield app


@pytest.fixture
def depends_on_current_app(celery_app: Celery) -> None:
    """Make the app of this test the current one."""
    make_current(celery_app)


def _app(
    request: pytest.FixtureRequest, config: Config, parameters: Config, enable_logging: bool
) -> Celery:
    mark = request.node.get_closest_marker("celery")
    settings = {**config, **(mark.kwargs if mark else {})}
    return TestApp(
        set_as_current=False, enable_logging=enable_logging, config=settings, **parameters
    )


# -- workers


@pytest.fixture(scope="session")
def celery_session_worker(
    celery_session_app: Celery,
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[Any],
    celery_worker_pool: Any,
    celery_worker_parameters: Config,
) -> Iterator[EmbeddedWorker | None]:
    """Yield a worker that runs in a thread through all tests of the session."""
    options = {"pool": celery_worker_pool, **celery_worker_parameters}
    with _worker(celery_session_app, celery_includes, celery_class_tasks, options) as worker:
        yield worker


@pytest.fixture
def celery_worker(
    celery_app: Celery,
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[Any],
    celery_worker_pool: Any,
    celery_worker_parameters: Config,
) -> Iterator[EmbeddedWorker | None]:
    """Yield a worker that runs in a thread during the test; None if ``NO_WORKER`` is set (TESTH-08)."""
    options = {"pool": celery_worker_pool, **celery_worker_parameters}
    with _worker(celery_app, celery_includes, celery_class_tasks, options) as worker:
        yield worker


def _worker(
    app: Celery, includes: Sequence[str], class_tasks: Sequence[Any], options: Config
) -> AbstractContextManager[EmbeddedWorker | None]:
    if os.environ.get("NO_WORKER"):
        return nullcontext()
    for module in includes:
        import_module(module)
    for task in class_tasks:
        app.register_task(task)
    return start_worker(app, **options)


# -- the inbox


@pytest.fixture
def celeriac_app(celery_app: Celery) -> Celery:
    """Override it to return the app of the project, for ``celeriac_inbox``."""
    return celery_app


@pytest.fixture
def celeriac_inbox(celeriac_app: Celery) -> Iterator[Inbox]:
    """Yield the inbox of ``celeriac_app``: broker, store and clock in the hands of the test."""
    with Inbox(celeriac_app) as inbox:
        yield inbox
