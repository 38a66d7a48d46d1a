"""Which queues an exchange leads to, as it stands on the server in kombu's form.

A member of ``_kombu.binding.<exchange>`` is a key, a pattern and a queue; the pattern is a regular
expression and there for topic exchanges only.
"""

import re
from collections.abc import Iterable

from celeriac.queues import Binding, Queue
from celeriac.redis.keys import Keys
from celeriac.redis.link import Command, Link


def declarations(keys: Keys, queue: Queue) -> list[Command]:
    """Return the commands that tell the server which exchanges lead to a queue, as kombu does."""
    return [
        ("SADD", key, _member(keys, one, queue.name))
        for one in queue.all_bindings
        if one.exchange.name
        for key in keys.bindings(one.exchange.name)
    ]


def _member(keys: Keys, binding: Binding, queue: str) -> str:
    key = binding.routing_key
    pattern = _pattern(key) if binding.exchange.type == "topic" else ""
    return keys.separator.join((key, pattern, queue))


def _pattern(key: str) -> str:
    """Return the regular expression that kombu keeps for the key of a topic binding."""
    words = {"*": r"[^\.]+", "#": r".*?"}
    return "^" + r"\.".join(words.get(word, word) for word in key.split(".")) + "$"


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
        # "#" is no word as well as many, and the dot beside it goes with it.
        return re.match(pattern, key) is not None
    except re.error:
        return False
