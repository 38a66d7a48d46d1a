"""From a URL to a result store. Drivers are imported when a URL asks for them."""

from collections.abc import Callable
from typing import Any

from celeriac.brokers.base import Broker
from celeriac.brokers.urls import RABBITMQ, REDIS, broker_options, missing_driver
from celeriac.exceptions import ImproperlyConfigured
from celeriac.results.base import ResultStore
from celeriac.settings import Settings, masked_url
from celeriac.wire import serializers


def store_url(url: str | None, broker: str) -> str:
    """Return the URL to open: without one, results are kept where the messages are.

    RabbitMQ keeps none: there they are sent to whoever waits for them.
    """
    if url is None:
        return "rpc://" if broker.partition("://")[0] in RABBITMQ else broker
    return url


def open_store(
    url: str, settings: Settings, broker: Callable[[], Broker] | None = None
) -> ResultStore | None:
    """Return the store at this URL, None for ``disabled://``. Nothing is connected yet.

    ``broker`` gives the broker, for ``rpc://``: results are messages there.

    The settings say what the URL does not: ``broker_timeout``, the total deadline of every call, TLS,
    and ``result_backend_transport_options``. Raises ImproperlyConfigured.
    """
    scheme, colon, _ = url.partition("://")
    if scheme == "rpc":
        return _rpc(settings, broker)
    if scheme not in OPENERS or not (colon or scheme == "disabled"):
        raise ImproperlyConfigured(
            f"result_backend {masked_url(url)!r} names no store of this version; write "
            f"{' or '.join(s + '://...' for s in SCHEMES)}, or leave it out: results are then kept "
            "where the messages are"
        )
    return OPENERS[scheme](url, settings)


def _rpc(settings: Settings, broker: Callable[[], Broker] | None) -> ResultStore:
    from celeriac.results.rpc import RpcStore

    if broker is None:
        raise ImproperlyConfigured("rpc:// sends results as messages, and there is no broker here")
    name = settings.result_serializer
    # A serializer that the program registers is not known where no user module is imported.
    form = serializers.form_of(name if serializers.is_known(name) else "json")
    return RpcStore(
        broker(), settings.result_expires, form, persistent=bool(settings.result_persistent)
    )


def _disabled(url: str, settings: Settings) -> None:
    return None


def _sqlite(url: str, settings: Settings) -> ResultStore:
    from celeriac.embedded.place import path_in
    from celeriac.results.sqlite import SqliteStore

    return SqliteStore(path_in(url), settings.broker_timeout)


def _memory(url: str, settings: Settings) -> ResultStore:
    from celeriac.results.memory import MemoryStore

    return MemoryStore()


def _redis(url: str, settings: Settings) -> ResultStore:
    try:
        from celeriac.results.redis import RedisStore
    except ImportError as error:
        raise missing_driver("result_backend", url, "redis", error) from error
    return RedisStore(url, settings.broker_timeout, store_options(settings))


OPENERS: dict[str, Callable[[str, Settings], ResultStore | None]] = {
    "disabled": _disabled,
    "sqlite": _sqlite,
    "memory": _memory,
    "cache+memory": _memory,  # As suites that were written for Celery say.
    **dict.fromkeys(REDIS, _redis),
}
SCHEMES = ("sqlite", "memory", "redis", "rediss", "unix", "sentinel", "rpc", "disabled")


def store_options(settings: Settings) -> dict[str, Any]:
    """Return the options of the store: those of the broker, if results are kept where messages are."""
    if settings.result_backend is None:
        return {**broker_options(settings), "global_keyprefix": None} | dict(
            settings.result_backend_transport_options
        )
    options = dict(settings.result_backend_transport_options)
    if settings.redis_backend_use_ssl:
        options["ssl"] = settings.redis_backend_use_ssl
    return options
