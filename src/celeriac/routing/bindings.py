"""Exchanges: which queues a message with this key and these headers reaches.

The rules of AMQP, as pure functions on declared queues; no server is asked.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from celeriac.exceptions import ImproperlyConfigured, QueueNotFound
from celeriac.queues import DIRECT_EXCHANGE, DIRECT_SUFFIX, Binding, Queue

Headers = Mapping[str, Any]


def reached(queues: Iterable[Queue], exchange: str, key: str, headers: Headers) -> list[Queue]:
    """Return the queues to which an exchange leads a message with this routing key and headers.

    Each one once, in the order of ``queues``. Raises QueueNotFound if there is none: a server would
    drop the message. Raises ImproperlyConfigured for a type of exchange that a server alone knows.
    """
    if exchange == DIRECT_EXCHANGE:
        # The queue of a worker: only that worker declares it, and its name is known from the key.
        return [Queue(key + DIRECT_SUFFIX)]
    found: dict[str, Queue] = {}
    known = []
    for queue in queues:
        for one in queue.all_bindings:
            known.append(f"{one} -> {queue.name}")
            if one.exchange.name == exchange and _leads(one, key, headers):
                found[queue.name] = queue
    if not found:
        raise QueueNotFound(
            f"nothing is bound to exchange {exchange!r} with routing key {key!r}, and the message would be "
            f"lost; known bindings: {'; '.join(known) or 'none'}. Add a Queue with that exchange to "
            "task_queues, or name a queue"
        )
    return list(found.values())


def uses_headers(queues: Iterable[Queue], exchange: str) -> bool:
    """Whether the headers of a message decide where this exchange leads it."""
    found = (one.exchange for queue in queues for one in queue.all_bindings)
    return any(one.name == exchange and one.type == "headers" for one in found)


def _leads(one: Binding, key: str, headers: Headers) -> bool:
    kind = one.exchange.type
    if kind == "direct":
        return one.routing_key == key
    if kind == "topic":
        return topic_matches(one.routing_key, key)
    if kind == "fanout":
        return True
    if kind == "headers":
        return headers_match(one.arguments or {}, headers)
    raise ImproperlyConfigured(
        f"exchange {one.exchange.name!r} is of type {kind!r}, which only RabbitMQ can resolve; write "
        "direct, topic, fanout or headers"
    )


def topic_matches(pattern: str, key: str) -> bool:
    """Whether a binding key fits: words between dots, ``*`` is any one, ``#`` any number of them."""
    words = key.split(".") if key else []
    # The places in the key that the pattern may have come to.
    places = {0}
    for part in pattern.split(".") if pattern else ():
        if part == "#":
            places = set(range(min(places), len(words) + 1))
        else:
            places = {p + 1 for p in places if p < len(words) and part in ("*", words[p])}
        if not places:
            return False
    return len(words) in places


def headers_match(wanted: Mapping[str, Any], headers: Headers) -> bool:
    """Whether headers fit the arguments of a binding: all of them, or any with ``x-match`` any.

    An argument of None asks only that the header is there; ``x-`` arguments are not compared.
    """
    how = wanted.get("x-match", "all")
    with_x = how in ("all-with-x", "any-with-x")
    answers = [
        name in headers and (value is None or headers[name] == value)
        for name, value in wanted.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    ]
    return any(answers) if how in ("any", "any-with-x") else all(answers)
