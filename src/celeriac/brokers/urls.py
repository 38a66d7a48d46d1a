"""From a URL to a broker. Drivers are imported when a URL asks for them."""

from celeriac.brokers.base import Broker
from celeriac.exceptions import ImproperlyConfigured
from celeriac.settings import masked_url

SCHEMES = ("sqlite", "memory")


def broker_url(url: str | tuple[str, ...] | None, name: tuple[str, str]) -> str:
    """Return the one URL to open; without any, that of the embedded file of the app ``name``.

    ``name`` is the app's name and the folder of the module that made it. Raises
    ImproperlyConfigured.
    """
    if url is None:
        from celeriac.embedded.place import default_path

        return f"sqlite:///{default_path(*name)}"
    if isinstance(url, str):
        return url
    if len(url) != 1:
        raise ImproperlyConfigured("several broker URLs are not supported; give one")
    return url[0]


def open_broker(url: str, timeout: float) -> Broker:
    """Return the broker at this URL. Nothing is connected yet.

    ``timeout`` is the total deadline of every call, in seconds. Raises ImproperlyConfigured.
    """
    scheme, colon, _ = url.partition("://")
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
