"""The task that a worker of a test proves itself with."""

from celeriac.app import Celery

PING = "celery.ping"


def ping() -> str:
    """Answer (TESTH-03)."""
    return "pong"


def add_ping(app: Celery) -> None:
    """Give an app the task ``celery.ping``, unless it has one. It is finalized by that."""
    if PING not in app.tasks:
        app.task(name=PING)(ping)
