"""A worker that starts while its broker is away: it waits for it, unless the settings say otherwise."""

from pathlib import Path

import pytest

from tests.fixtures.servers import MakeRedis
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
