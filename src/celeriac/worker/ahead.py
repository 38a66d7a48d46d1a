"""What a worker's parent needs later, imported while the template imports the app.

Which servers an app uses is known only when it has been loaded, and then the driver of Redis takes 0.2 s
to import, which was half of what a worker took to start. Most deployments name their servers in
variables of the environment. To import a driver in vain costs its memory and nothing else; so what
counts is a variable whose name is about a broker or a backend.
"""

import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress

from celeriac import imports
from celeriac.brokers.urls import RABBITMQ, REDIS

_ABOUT = re.compile("BROKER|BACKEND|CELERY|CELERIAC")
_ADAPTERS = {
    **dict.fromkeys(
        REDIS, ("celeriac.brokers.redis.broker:RedisBroker", "celeriac.results.redis:RedisStore")
    ),
    **dict.fromkeys(RABBITMQ, ("celeriac.brokers.amqp.broker:AmqpBroker",)),
}


def foreseen(environ: Mapping[str, str]) -> list[str]:
    """Return the adapters for the servers that variables name, as ``imports.load`` takes them."""
    urls = (text.partition("://") for name, text in environ.items() if _ABOUT.search(name))
    found = (one for scheme, colon, _ in urls if colon for one in _ADAPTERS.get(scheme, ()))
    return list(dict.fromkeys(found))


class LoadingAhead:
    """Loads objects by their names, in a thread of its own."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        self._thread = threading.Thread(target=self._load, name="ahead", daemon=True)
        self._thread.start()

    def finish(self) -> None:
        """Wait for them: two threads that import could meet in the middle of a module."""
        self._thread.join()

    def _load(self) -> None:
        for name in self._names:
            # A driver that is missing is told when it turns out to be needed.
            with suppress(ImportError):
                imports.load(name)
