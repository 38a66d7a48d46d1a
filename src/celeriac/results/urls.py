"""From a URL to a result store. Drivers are imported when a URL asks for them."""

from celeriac.exceptions import ImproperlyConfigured
from celeriac.results.base import ResultStore
from celeriac.settings import masked_url

KEEPS_NONE = ("amqp:", "pyamqp:", "amqps:")
"""What the URLs of brokers begin with that cannot keep results."""
SCHEMES = ("sqlite", "memory", "disabled")


def store_url(url: str | None, broker: str) -> str:
    """Return the URL to open: without one, results are kept where the messages are.

    RabbitMQ keeps none: there they are disabled, as they are in Celery.
    """
    if url is None:
        return "disabled://" if broker.startswith(KEEPS_NONE) else broker
    return url


def open_store(url: str, timeout: float) -> ResultStore | None:
    """Return the store at this URL, None for ``disabled://``. Nothing is connected yet.

    ``timeout`` is the total deadline of every call, in seconds. Raises ImproperlyConfigured.
    """
    scheme, colon, _ = url.partition("://")
    if scheme == "disabled":
        return None
    if colon and scheme == "sqlite":
        from celeriac.embedded.place import path_in
        from celeriac.results.sqlite import SqliteStore

        return SqliteStore(path_in(url), timeout)
    if colon and scheme in (
        "memory",
        "cache+memory",
    ):  # As suites that were written for Celery say.
        from celeriac.results.memory import MemoryStore

        return MemoryStore()
    raise ImproperlyConfigured(
        f"result_backend {masked_url(url)!r} names no store of this version; write "
        f"{' or '.join(s + '://...' for s in SCHEMES)}, or leave it out: results are then kept "
        "where the messages are"
    )
