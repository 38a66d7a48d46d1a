"""The task that a worker of a test proves itself with."""

import warnings

from celeriac.app import Celery
from celeriac.exceptions import DuplicateTaskNameWarning

PING = "celery.ping"


def ping() -> str:
    """Answer (TESTH-03)."""
    return "pong"


def add_ping(app: Celery) -> None:
    """Give an app the task ``celery.ping``, unless it has one."""
    with warnings.catch_warnings():
        # The one that is there will do.
        warnings.simplefilter("ignore", DuplicateTaskNameWarning)
        app.task(name=PING)(ping)
