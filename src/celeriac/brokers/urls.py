"""From a URL to a broker. Drivers are imported when a URL asks for them."""

from collections.abc import Mapping
from typing import Any

from celeriac.brokers.base import Broker
from celeriac.exceptions import ImproperlyConfigured
from celeriac.settings import masked_url

SCHEMES = ("amqp", "sqlite", "memory")
RABBITMQ = ("amqp", "pyamqp", "amqps")
"""What a URL of RabbitMQ may begin with."""


def broker_url(url: str | tuple[str, ...] | None, name: tuple[str, str]) -> str:
    """Return the URL to open, with ``;`` between several; without any, that of the embedded file of
    the app ``name``.

    ``name`` is the app's name and the folder of the module that made it.
    """
    if url is None:
        from celeriac.embedded.place import default_path

        return f"sqlite:///{default_path(*name)}"
    return url if isinstance(url, str) else ";".join(url)


def open_broker(url: str, timeout: float, options: Mapping[str, Any] = {}) -> Broker:
    """Return the broker at this URL. Nothing is connected yet.

    ``timeout`` is the total deadline of every call, in seconds; ``options`` are those of
    ``broker_transport_options``, as far as an adapter knows them. Raises ImproperlyConfigured.
    """
    scheme, colon, rest = url.partition("://")
    if colon and scheme in RABBITMQ:
        try:
            from celeriac.brokers.amqp.broker import AmqpBroker
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "pika":
                raise
            raise ImproperlyConfigured(
                f"broker_url {masked_url(url)!r} needs pika, which is not installed; install "
                "celeriac[amqp]"
            ) from error
        return AmqpBroker(url, timeout, options)
    if ";" in rest and "://" in rest:
        raise ImproperlyConfigured(
            f"broker_url {masked_url(url)!r} names several servers, which only RabbitMQ may be; give one"
        )
    if colon and scheme == "sqlite":
        from celeriac.brokers.sqlite.broker import SqliteBroker
        from celeriac.embedded.place import path_in

        return SqliteBroker(path_in(url), timeout)
    if colon and scheme == "memory":
        from celeriac.brokers.memory import MemoryBroker

        return MemoryBroker()
    raise ImproperlyConfigured(
        f"broker_url {masked_url(url)!r} names no broker of this version; write "
        f"{' or '.join(s + '://...' for s in SCHEMES)}, or leave it out for the embedded file"
    )
