"""Where a Redis server is, and how to get in: what a URL and its options say.

``redis://``, ``rediss://`` (TLS), ``unix://`` and ``redis+socket://`` (a socket file), and
``sentinel://`` with one address or several (``;`` between them), as Celery takes them (BROK-02). An
address connects nothing by itself: ``link`` does.
"""

# To look up a host needs it. Imported at the first connection, it would be missed for ever by a process
# that another thread forks meanwhile.
import encodings.idna  # noqa: F401
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from msgspec import Struct
from redis.backoff import NoBackoff
from redis.connection import Connection, ConnectionPool, SSLConnection, parse_url
from redis.exceptions import RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from celeriac.exceptions import ImproperlyConfigured
from celeriac.failover import in_order, split_urls
from celeriac.settings import masked_url

CLUSTER = ("redis+cluster", "rediss+cluster", "redis-cluster", "rediscluster")
_HANDED_ON = (
    "client_name",
    "password",
    "socket_keepalive",
    "socket_keepalive_options",
    "username",
)
"""Transport options that are the driver's own."""
_CERTIFICATES = {"CERT_NONE": "none", "CERT_OPTIONAL": "optional", "CERT_REQUIRED": "required"}
_SENTINEL_PORT = 26379


class Address(Struct, frozen=True):
    """A server, a database in it, and how its connections are made."""

    url: str
    """As it may be printed: passwords masked."""
    db: int
    timeout: float
    """Seconds that a call may take."""
    pool: ConnectionPool
    """Makes connections and keeps none: ``link`` does."""

    def connection(self, protocol: int = 2) -> Connection:
        """Return a new connection, not connected yet. ``protocol`` 3 brings pushed messages."""
        kwargs = {**self.pool.connection_kwargs, "protocol": protocol}
        connection: Connection = self.pool.connection_class(**kwargs)
        return connection


def addresses(url: str, timeout: float, options: Mapping[str, Any]) -> list[Address]:
    """Return the addresses to try, in this order, of a URL or of several with ``;`` between them.

    ``failover_strategy`` among the options says whether in the order given, or in any (BROK-10).
    Otherwise as ``address``.
    """
    if url.startswith("sentinel://"):
        return [address(url, timeout, options)]
    found = [address(one, timeout, options) for one in split_urls(url)]
    return in_order(found, options.get("failover_strategy"))


def address(url: str, timeout: float, options: Mapping[str, Any]) -> Address:
    """Return the address that a URL and ``broker_transport_options`` (or the like) name.

    ``timeout`` is the total of one call in seconds, connecting included; ``socket_timeout`` and
    ``socket_connect_timeout`` among the options may make it shorter. Raises ImproperlyConfigured.
    """
    scheme = url.partition("://")[0]
    if scheme in CLUSTER:
        raise ImproperlyConfigured(
            f"{masked_url(url)!r} names a Redis Cluster, on which messages cannot be taken and recorded "
            "in one atomic step; use independent Redis servers, each with queues of its own, and give "
            "each worker the URL of one"
        )
    # A call may have to connect first, and both together are to end in time.
    step = timeout / 2
    common: dict[str, Any] = {
        "socket_timeout": min(step, options.get("socket_timeout") or step),
        "socket_connect_timeout": min(step, options.get("socket_connect_timeout") or step),
        # Whoever calls decides whether to try again: it knows what that would double.
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        **{name: options[name] for name in _HANDED_ON if name in options},
    }
    try:
        pool, db = (_sentinels if scheme == "sentinel" else _server)(url, common, options)
        found = Address(masked_url(url), db, timeout, pool)
        found.connection()  # Connects nothing, but finds what the driver does not know.
    except (ValueError, TypeError, RedisError) as error:
        raise ImproperlyConfigured(
            f"the address {masked_url(url)!r} cannot be read: {error}; write "
            "redis://:password@host:6379/0"
        ) from error
    return found


def _server(
    url: str, common: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[ConnectionPool, int]:
    """Return what makes connections to one server, and its database."""
    scheme, _, rest = url.partition("://")
    place, _, query = rest.partition("?")
    given = dict(parse_qsl(query))
    if scheme in ("redis+socket", "unix"):
        base, db = f"unix://{place}", "0"
    else:
        base, db = f"{scheme}://{place}", urlsplit(url).path.strip("/")
    number = _database(given.pop("virtual_host", given.pop("db", db)))
    if (mode := given.get("ssl_cert_reqs")) is not None:
        given["ssl_cert_reqs"] = _CERTIFICATES.get(mode, mode)
    named = parse_url(f"{base}?{urlencode(given)}")
    tls = _tls(options, wanted=scheme == "rediss")
    kwargs = {**common, **named, **tls, "db": number}
    return ConnectionPool(**kwargs), number


def _database(text: str) -> int:
    number = text.strip("/")
    if number and not number.isdecimal():
        raise ValueError(f"{number!r} is no number of a database")
    return int(number or 0)


def _tls(options: Mapping[str, Any], wanted: bool) -> dict[str, Any]:
    """Return what TLS needs; ``ssl`` among the options is True or a mapping (``broker_use_ssl``).

    ``wanted``: the kind of connection is settled, to be one with TLS.
    """
    given = options.get("ssl")
    if not given:
        return {}
    found = dict(given) if isinstance(given, Mapping) else {}
    mode = found.get("ssl_cert_reqs")
    if isinstance(mode, ssl.VerifyMode):
        found["ssl_cert_reqs"] = mode.name.removeprefix("CERT_").lower()
    elif isinstance(mode, str):
        found["ssl_cert_reqs"] = _CERTIFICATES.get(mode, mode)
    if not wanted:
        found["connection_class"] = SSLConnection
    return found


def _sentinels(
    url: str, common: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[ConnectionPool, int]:
    """Return what makes connections to the master that sentinels name, and its database."""
    name = options.get("master_name")
    if not name:
        raise ValueError("master_name is missing in the transport options")
    parts = [urlsplit(part) for part in url.split(";")]
    hosts = [(part.hostname or "localhost", part.port or _SENTINEL_PORT) for part in parts]
    first = parts[0]
    kwargs: dict[str, Any] = {**common, "db": _database(first.path)}
    for field, value in (("username", first.username), ("password", first.password)):
        if value is not None:
            kwargs[field] = value
    kwargs |= _tls(options, wanted=True)
    asked = {
        "socket_timeout": common["socket_timeout"],
        "socket_connect_timeout": common["socket_connect_timeout"],
        **(options.get("sentinel_kwargs") or {}),
    }
    sentinel = Sentinel(
        hosts, options.get("min_other_sentinels", 0), sentinel_kwargs=asked, **kwargs
    )
    if options.get("ssl"):
        kwargs["ssl"] = True
    return sentinel.master_for(str(name)).connection_pool, kwargs["db"]
