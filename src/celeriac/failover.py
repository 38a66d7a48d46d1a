"""Several servers in the place of one: their URLs in one text, and the order of their use (BROK-10)."""

from collections.abc import Iterable
from random import shuffle
from typing import TypeVar

from celeriac.exceptions import ImproperlyConfigured

Server = TypeVar("Server")

ROUND_ROBIN, SHUFFLE = STRATEGIES = ("round-robin", "shuffle")


def split_urls(urls: str) -> list[str]:
    """Cut a failover list into its URLs; a ``;`` inside a password does not cut."""
    parts: list[str] = []
    for part in urls.split(";"):
        if parts and "://" not in part:
            parts[-1] += ";" + part
        else:
            parts.append(part)
    return [part.rstrip(";") for part in parts if part.strip(";")] or [urls]


def in_order(servers: Iterable[Server], strategy: str | None) -> list[Server]:
    """Return servers in the order in which they are tried: as given, or in any.

    Raises ImproperlyConfigured for a strategy that there is not.
    """
    ordered = list(servers)
    strategy = strategy or ROUND_ROBIN
    if strategy not in STRATEGIES:
        raise ImproperlyConfigured(
            f"broker_failover_strategy is {strategy!r}; write {' or '.join(STRATEGIES)}"
        )
    if strategy == SHUFFLE:
        shuffle(ordered)
    return ordered
