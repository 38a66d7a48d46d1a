"""Which queues an exchange leads to, as it stands on the server in kombu's form.

A member of ``_kombu.binding.<exchange>`` is a key, a pattern and a queue; the pattern is a regular
expression and there for topic exchanges only.
"""

import re
from collections.abc import Iterable

from celeriac.redis.keys import Keys
from celeriac.redis.link import Link


def queues_of(link: Link, keys: Keys, exchange: str, key: str) -> list[str]:
    """Return the queues that a message with this key goes to. Raises OperationalError."""
    if not exchange:
        return [key]
    members: Iterable[bytes] = link.call("SMEMBERS", keys.binding(exchange))
    rows = [member.decode().split(keys.separator) for member in members]
    return sorted({row[2] for row in rows if len(row) == 3 and _leads(row[0], row[1], key)})


def _leads(bound: str, pattern: str, key: str) -> bool:
    if not pattern:
        return bound == key
    try:
        return re.match(pattern, key) is not None
    except re.error:
        return False
