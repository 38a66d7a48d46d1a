"""The two systems that are measured, as values: where they live, how a worker is started.

Celeriac on its embedded SQLite file or on Redis, and Celery on Redis: one private server for both.
Starts no process.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks.paths import CELERY_ENVIRONMENT
from benchmarks.redis_server import RedisServer

CELERIAC = "celeriac"
CELERY = "celery"
NAMES = (CELERIAC, CELERY)


class System(msgspec.Struct, frozen=True, kw_only=True):
    """A task queue under test."""

    name: str
    """Its name, which is also its command (`python -m NAME`)."""
    python: str
    """The interpreter of the environment that it is installed in."""
    module: str
    """The benchmark application written for it."""
    address: Callable[[Path], str]
    """Gives the URL of the broker, for a stage in the given folder."""
    results: Callable[[Path], str]
    """Gives the URL of the results."""
    on_redis: bool = False
    """Whether its broker is a Redis server."""
    reset: Callable[[], None]
    """Forgets all tasks and results that do not lie in the folder of a stage."""
    definition: str
    """Source of a program that imports it and defines one task."""
    packages: tuple[str, ...]
    """The distributions whose versions a report names."""

    def worker_command(self, concurrency: int) -> list[str]:
        """How a worker with so many processes is started."""
        options = ["worker", "-c", str(concurrency), "-l", "WARNING"]
        return [self.python, "-m", self.name, "-A", f"{self.module}:app", *options]


def celeriac(redis: RedisServer | None = None, rabbit: str | None = None) -> System:
    """Celeriac of this repository: on a SQLite file in the folder of the stage, or on servers.

    With `rabbit`, the URL of a RabbitMQ server, messages are there, and results on the Redis server.
    """
    return System(
        name=CELERIAC,
        python=sys.executable,
        module="benchmarks.apps.celeriac_app",
        address=lambda folder: rabbit or (_file(folder) if redis is None else redis.url),
        results=lambda folder: _file(folder) if redis is None else redis.url,
        on_redis=redis is not None and rabbit is None,
        reset=(lambda: None) if redis is None else redis.flush,
        definition=_definition(CELERIAC, "sqlite:////nowhere/bench.db"),
        packages=("celeriac", "msgspec") if redis is None else ("celeriac", "msgspec", "redis"),
    )


def _file(folder: Path) -> str:
    return f"sqlite:///{folder / 'bench.db'}"


def celery(redis: RedisServer, rabbit: str | None = None) -> System:
    """Celery in its own environment, on the given Redis server, or on RabbitMQ with results there."""
    return System(
        name=CELERY,
        python=str(CELERY_ENVIRONMENT / "bin" / "python"),
        module="benchmarks.apps.celery_app",
        address=lambda _: rabbit or redis.url,
        results=lambda _: redis.url,
        on_redis=rabbit is None,
        reset=redis.flush,
        definition=_definition(CELERY, redis.url),
        packages=("celery", "kombu", "billiard", "redis", "hiredis"),
    )


def _definition(package: str, url: str) -> str:
    """A program that imports the package, makes an app and defines a task; opens no connection."""
    lines = (
        f"from {package} import Celery",
        f"app = Celery('bench', broker={url!r}, backend={url!r})",
        "@app.task",
        "def add(x: int, y: int) -> int:",
        "    return x + y",
    )
    return "\n".join(lines)
