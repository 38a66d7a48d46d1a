"""Which queues an exchange leads to, as it stands on the server in kombu's form.

A member of ``_kombu.binding.<exchange>`` is a key, a pattern and a queue; the pattern is a regular
expression and there for topic exchanges only.
"""

import re
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from celeriac.brokers.redis.posting import FANOUT
from celeriac.exceptions import ImproperlyConfigured, QueueNotFound
from celeriac.message import Publish
from celeriac.queues import Binding, Queue
from celeriac.redis.keys import Keys
from celeriac.redis.link import Command, Link

BOUND = ("direct", "topic")
"""Types of exchange whose bindings are kept in kombu's form."""


def declarations(keys: Keys, queue: Queue) -> list[Command]:
    """Return the commands that tell the server which exchanges lead to a queue, as kombu does.

    Those of type fanout have registers of their own (see ``fanout``).
    """
    return [
        ("SADD", key, member(keys, one, queue.name))
        for one in queue.all_bindings
        if one.exchange.name and one.exchange.type != FANOUT
        for key in keys.bindings(one.exchange.name)
    ]


def member(keys: Keys, binding: Binding, queue: str) -> str:
    """Return what kombu writes of a binding."""
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


def resolved(link: Link, keys: Keys, publishes: Sequence[Publish]) -> Sequence[Publish]:
    """Return messages with the queues that others have bound to their exchanges, too.

    Raises QueueNotFound for one that no queue would get, OperationalError.
    """
    if not any(publish.exchange for publish in publishes):
        return publishes
    return [_resolved(link, keys, publish) for publish in publishes]


def _resolved(link: Link, keys: Keys, publish: Publish) -> Publish:
    exchange, kind = publish.exchange, publish.exchange_type
    if not exchange or kind == FANOUT:
        return publish
    queues = dict.fromkeys(filter(None, (publish.queue, *publish.copies)))
    if kind in BOUND:
        queues |= dict.fromkeys(queues_of(link, keys, exchange, publish.routing_key))
    elif kind != "headers":
        raise ImproperlyConfigured(
            f"exchange {exchange!r} is of type {kind!r}, which only RabbitMQ can resolve; write direct, "
            "topic, fanout or headers"
        )
    if not queues:
        raise QueueNotFound(
            f"nothing is bound to exchange {exchange!r} with routing key {publish.routing_key!r}, here or "
            "on the server, and the message would be lost; add a Queue with that exchange to "
            "task_queues, or name a queue"
        )
    first, *others = queues
    return replace(publish, queue=first, copies=tuple(others))


def _leads(bound: str, pattern: str, key: str) -> bool:
    if not pattern:
        return bound == key
    try:
        # "#" is no word as well as many, and the dot beside it goes with it.
        return re.match(pattern, key) is not None
    except re.error:
        return False
