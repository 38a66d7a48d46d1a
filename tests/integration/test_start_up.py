"""A worker that starts while its broker is away: it waits for it, unless the settings say otherwise."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.ports import free_port
from tests.fixtures.servers import MakeProxy, MakeRedis
from tests.fixtures.worker import WorkerProcess

APP = """
from celeriac import Celery

app = Celery("late", broker_connection_retry_on_startup={again}, broker_connection_max_retries={most})
"""


def starting(folder: Path, url: str, again: object = None, most: int = 100) -> WorkerProcess:
    """Start a worker with these settings."""
    (folder / "late.py").write_text(APP.format(again=again, most=most))
    return WorkerProcess("late", url, folder=folder)


@pytest.mark.follows("BROK-11")
def test_it_waits_for_the_broker(home: Path, make_redis: MakeRedis) -> None:
    server = make_redis()
    server.kill()
    with starting(home, server.url()) as worker:
        worker.wait_for(f"cannot begin, trying again.*{server.port}.*check that it runs")
        server.start()
        worker.ready().stop()


@pytest.mark.follows("BROK-11")
@pytest.mark.parametrize(("again", "most"), [(False, 100), (True, 1)])
def test_it_does_not_wait_longer_than_it_may(
    again: bool, most: int, home: Path, make_redis: MakeRedis
) -> None:
    server = make_redis()
    server.kill()
    with starting(home, server.url(), again, most) as worker:
        worker.ends(2)
        assert worker.count("cannot begin, trying again") == (1 if again else 0)
        assert worker.count(f"{server.port}.*check that it runs")


@pytest.mark.follows("BROK-13")
def test_workers_read_and_callers_write_elsewhere(
    home: Path, make_redis: MakeRedis, make_proxy: MakeProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make_redis()
    reading, writing = make_proxy(server.port), make_proxy(server.port)
    (home / "apart.py").write_text(APART)
    for name, proxy in (("READ", reading), ("WRITE", writing)):
        monkeypatch.setenv(f"CELERY_BROKER_{name}_URL", f"redis://127.0.0.1:{proxy.port}/0")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", server.url(1))
    monkeypatch.syspath_prepend(str(home))
    apart: Any = import_module("apart")
    first = apart.double.delay(21)
    assert (reading.accepted, writing.accepted) == (0, 1)
    with WorkerProcess("apart", f"redis://127.0.0.1:{free_port()}/0", folder=home):
        assert first.get(timeout=20) == 42
        assert reading.accepted > 0
        # What a task calls is written, too.
        assert apart.called.delay(21).get(timeout=20) == 42
    apart.app.close()


APART = """
from celeriac import Celery

app = Celery("apart")


@app.task
def double(x):
    return 2 * x


@app.task
def called(x):
    return double.delay(x).get(timeout=20, disable_sync_subtasks=False)
"""
