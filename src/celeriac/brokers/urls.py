"""From a URL to a broker. Drivers are imported when a URL asks for them."""

from typing import Any

from celeriac.brokers.base import Broker
from celeriac.exceptions import ImproperlyConfigured
from celeriac.settings import Settings, masked_url

EMBEDDED = ("sqlite", "memory")
RABBITMQ = ("amqp", "pyamqp", "amqps")
REDIS = (
    "redis",
    "rediss",
    "unix",
    "redis+socket",
    "sentinel",
    "redis+cluster",
    "rediss+cluster",
)
"""Schemes of Redis; those of a cluster are refused with a word about it."""


def broker_url(url: str | tuple[str, ...] | None, name: tuple[str, str]) -> str:
    """Return the URL to open, several with ``;`` between them; without any, that of the embedded file.

    ``name`` is the app's name and the folder of the module that made it.
    """
    if url is None:
        from celeriac.embedded.place import default_path

        return f"sqlite:///{default_path(*name)}"
    return url if isinstance(url, str) else ";".join(url)


def open_broker(url: str, settings: Settings) -> Broker:
    """Return the broker at this URL. Nothing is connected yet.

    The settings say what the URL does not: ``broker_timeout``, the total deadline of every call, TLS,
    and ``broker_transport_options``. Raises ImproperlyConfigured.
    """
    scheme, colon, rest = url.partition("://")
    if scheme in EMBEDDED and "://" in rest:
        raise ImproperlyConfigured(
            f"broker_url {masked_url(url)!r} names several brokers, and an embedded one has no other "
            "that could take its place; give one URL"
        )
    if not colon or scheme not in OPENERS:
        raise ImproperlyConfigured(
            f"broker_url {masked_url(url)!r} names no broker of this version; write "
            f"{' or '.join(s + '://...' for s in SCHEMES)}, or leave it out for the embedded file"
        )
    return OPENERS[scheme](url, settings)


def _sqlite(url: str, settings: Settings) -> Broker:
    from celeriac.brokers.sqlite.broker import SqliteBroker
    from celeriac.embedded.place import path_in

    return SqliteBroker(path_in(url), settings.broker_timeout)


def _memory(url: str, settings: Settings) -> Broker:
    from celeriac.brokers.memory import MemoryBroker

    return MemoryBroker()


def _redis(url: str, settings: Settings) -> Broker:
    try:
        from celeriac.brokers.redis.broker import RedisBroker
    except ImportError as error:
        raise missing_driver("broker_url", url, "redis", error) from error
    return RedisBroker(url, settings.broker_timeout, broker_options(settings))


def _amqp(url: str, settings: Settings) -> Broker:
    try:
        from celeriac.brokers.amqp.broker import AmqpBroker
    except ImportError as error:
        raise missing_driver("broker_url", url, "amqp", error) from error
    return AmqpBroker(url, settings.broker_timeout, broker_options(settings))


OPENERS = {
    "sqlite": _sqlite,
    "memory": _memory,
    **dict.fromkeys(RABBITMQ, _amqp),
    **dict.fromkeys(REDIS, _redis),
}
SCHEMES = ("sqlite", "memory", "amqp", "amqps", "redis", "rediss", "unix", "sentinel")


def broker_options(settings: Settings) -> dict[str, Any]:
    """Return ``broker_transport_options``, over what other settings say that adapters need to know.

    ``ssl`` is ``broker_use_ssl``; ``exchange_type`` and ``queue_arguments`` are those of queues that
    nobody has declared.
    """
    arguments: dict[str, Any] = {}
    if settings.task_create_missing_queue_type == "quorum":
        arguments["x-queue-type"] = "quorum"
    if settings.task_queue_max_priority is not None:
        arguments["x-max-priority"] = settings.task_queue_max_priority
    return {
        "delayed_queue_type": settings.broker_native_delayed_delivery_queue_type,
        "exchange_type": settings.task_create_missing_queue_exchange_type,
        "failover_strategy": settings.broker_failover_strategy,
        "heartbeat": settings.broker_heartbeat,
        "queue_arguments": arguments,
        "ssl": settings.broker_use_ssl,
        **settings.broker_transport_options,
    }


def missing_driver(setting: str, url: str, extra: str, error: ImportError) -> ImproperlyConfigured:
    """Return the error that names the extra which brings a driver."""
    return ImproperlyConfigured(
        f"{setting} {masked_url(url)!r} needs a driver that is not installed ({error}); "
        f'install it with: pip install "celeriac[{extra}]"'
    )
