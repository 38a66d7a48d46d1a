"""Addresses of RabbitMQ: from ``broker_url`` to what a connection needs to know. Pure, but for files
of certificates, which are read.
"""

# To look up a host needs it. Imported at the first connection, it would be missed for ever by a process
# that another thread forks meanwhile.
import encodings.idna  # noqa: F401
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote

import pika
from msgspec import Struct

from celeriac.brokers.base import LEASE
from celeriac.exceptions import ImproperlyConfigured
from celeriac.failover import in_order, split_urls
from celeriac.settings import masked_url

PORTS = {"amqp": 5672, "pyamqp": 5672, "amqps": 5671}
"""The schemes, and the ports that they stand for."""
HEARTBEAT = int(LEASE)
"""Seconds of silence after which either side gives the other up: as long as a lease elsewhere."""
QUERY = ("heartbeat", "cacertfile", "certfile", "keyfile", "verify")
"""What may stand behind ``?`` in a URL, as in RabbitMQ's own clients."""
SSL_OPTIONS = ("ca_certs", "certfile", "keyfile", "cert_reqs")
"""What ``ssl`` in ``broker_transport_options`` may hold, as ``broker_use_ssl`` does in Celery."""
VERIFY = {"verify_peer": ssl.CERT_REQUIRED, "verify_none": ssl.CERT_NONE}


class Address(Struct, frozen=True, kw_only=True):
    """One server."""

    shown: str
    """The URL, its password masked."""
    host: str
    port: int
    vhost: str
    user: str
    password: str
    heartbeat: int
    context: Any = None
    """For TLS."""

    @property
    def location(self) -> str:
        """What tells the server from others."""
        return f"amqp:{self.host}:{self.port}/{self.vhost}"

    def parameters(self, timeout: float, name: str) -> pika.ConnectionParameters:
        """Return what pika needs; ``timeout`` is that of one attempt, ``name`` is shown to admins."""
        return pika.ConnectionParameters(
            host=self.host,
            port=self.port,
            virtual_host=self.vhost,
            credentials=pika.PlainCredentials(self.user, self.password),
            heartbeat=self.heartbeat,
            ssl_options=pika.SSLOptions(self.context, self.host) if self.context else None,
            socket_timeout=timeout,
            stack_timeout=timeout,
            blocked_connection_timeout=None,
            client_properties={"product": "Celeriac", "connection_name": name},
        )


def addresses(urls: str, options: Mapping[str, Any]) -> list[Address]:
    """Return the addresses in a list of URLs with ``;`` between them, in the order of their use.

    ``failover_strategy`` among the options says which that is. Raises ImproperlyConfigured.
    """
    found = [_address(url, options) for url in split_urls(urls)]
    return in_order(found, options.get("failover_strategy"))


def _address(url: str, options: Mapping[str, Any]) -> Address:
    scheme, _, rest = url.partition("://")
    if scheme not in PORTS:
        raise ImproperlyConfigured(
            f"broker_url {masked_url(url)!r} is in a list of URLs of RabbitMQ, which begin with "
            f"{', '.join(s + '://' for s in PORTS)}"
        )
    place, _, query = rest.partition("?")
    if "@" not in place and "@" in query:
        # A question mark in the password: what looks like a query is half an authority.
        login, at, rest = rest.rpartition("@")
        place, _, query = rest.partition("?")
    else:
        login, at, place = place.rpartition("@")
    user, colon, password = login.partition(":")
    host, _, vhost = place.partition("/")
    name, port = _host_and_port(host, scheme, url)
    given = _query(query, url)
    return Address(
        shown=masked_url(url),
        host=name,
        port=port,
        vhost=unquote(vhost) or "/",
        user=unquote(user) if at else "guest",
        password=unquote(password) if colon else "guest",
        heartbeat=_heartbeat(given.get("heartbeat", options.get("heartbeat", HEARTBEAT)), url),
        context=_context(scheme, given, options, url),
    )


def _host_and_port(host: str, scheme: str, url: str) -> tuple[str, int]:
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        port = port.removeprefix(":")
    else:
        name, _, port = host.partition(":")
    if port and not port.isdecimal():
        raise ImproperlyConfigured(f"broker_url {masked_url(url)!r}: {port!r} is no port")
    return unquote(name) or "localhost", int(port or PORTS[scheme])


def _query(query: str, url: str) -> dict[str, str]:
    given = dict(parse_qsl(query))
    if unknown := given.keys() - set(QUERY):
        raise ImproperlyConfigured(
            f"broker_url {masked_url(url)!r}: {', '.join(sorted(unknown))} cannot be set there; what "
            f"can is {', '.join(QUERY)}"
        )
    return given


def _heartbeat(value: Any, url: str) -> int:
    try:
        return HEARTBEAT if value is None else max(0, int(value))
    except (TypeError, ValueError):
        raise ImproperlyConfigured(
            f"broker_url {masked_url(url)!r}: heartbeat {value!r} is no number of seconds"
        ) from None


def _context(
    scheme: str, given: Mapping[str, str], options: Mapping[str, Any], url: str
) -> ssl.SSLContext | None:
    """Return how TLS is spoken; None if it is not."""
    wanted = options.get("ssl")
    if scheme != "amqps" and not wanted:
        return None
    how = dict(wanted) if isinstance(wanted, Mapping) else {}
    if unknown := how.keys() - set(SSL_OPTIONS):
        raise ImproperlyConfigured(
            f"ssl in broker_transport_options has no {', '.join(sorted(unknown))}; it has "
            f"{', '.join(SSL_OPTIONS)}"
        )
    verify = given.get("verify")
    if verify is not None and verify not in VERIFY:
        raise ImproperlyConfigured(f"verify={verify!r}: write {' or '.join(VERIFY)}")
    try:
        context = ssl.create_default_context(
            cafile=given.get("cacertfile") or how.get("ca_certs") or None
        )
        if certificate := given.get("certfile") or how.get("certfile"):
            context.load_cert_chain(certificate, given.get("keyfile") or how.get("keyfile"))
    except OSError as error:
        raise ImproperlyConfigured(
            f"broker_url {masked_url(url)!r}: a file of certificates cannot be read: {error}"
        ) from error
    needed = VERIFY[verify] if verify else how.get("cert_reqs", ssl.CERT_REQUIRED)
    if needed != ssl.CERT_REQUIRED:
        context.check_hostname = False
        context.verify_mode = ssl.VerifyMode(needed)
    return context
