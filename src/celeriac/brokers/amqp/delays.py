"""Delays on RabbitMQ: Celery's topology of 28 levels, each of which keeps a message for 2^N seconds.

A delay in whole seconds is written as 28 binary digits in front of the routing key. At level N the
digit of 2^N leads either into a queue whose messages expire after so many seconds into the next
level, or past it. What comes out at the end is led to its queue by its name. Pure: names, arguments
and keys; ``declarations`` puts them on a server.
"""

from typing import Any

from msgspec import Struct

LEVELS = 28
MOST = 2**LEVELS - 1
"""Seconds: the longest delay, eight and a half years. A longer one goes round again."""
FIRST = "celery_delayed_27"
"""The exchange that delayed messages are published to."""
DELIVERY = "celery_delayed_delivery"
"""The exchange that they come out of."""
KINDS = ("quorum", "classic")


class Level(Struct, frozen=True, kw_only=True):
    """One level: an exchange, and a queue of the same name that keeps messages for a time."""

    name: str
    arguments: dict[str, Any]
    """Of its queue."""
    waiting_key: str
    """Leads from its exchange into its queue."""
    passing_key: str
    """Leads from its exchange past its queue, into ``next``."""
    next: str
    """The exchange of the level below, or the one that all come out of."""


def level(number: int, kind: str) -> Level:
    """Return the level that keeps messages for ``2 ** number`` seconds."""
    below = f"celery_delayed_{number - 1}" if number else DELIVERY
    arguments: dict[str, Any] = {
        "x-queue-type": kind,
        "x-overflow": "reject-publish",
        "x-message-ttl": 2**number * 1000,
        "x-dead-letter-exchange": below,
    }
    if kind == "quorum":
        arguments["x-dead-letter-strategy"] = "at-least-once"
    skipped = "*." * (LEVELS - 1 - number)
    return Level(
        name=f"celery_delayed_{number}",
        arguments=arguments,
        waiting_key=f"{skipped}1.#",
        passing_key=f"{skipped}0.#",
        next=below,
    )


def delayed_key(seconds: int, queue: str) -> str:
    """Return the routing key by which a message waits so many whole seconds on its way to a queue."""
    return ".".join(f"{min(seconds, MOST):0{LEVELS}b}") + f".{queue}"


def delivery_key(queue: str) -> str:
    """Return the key that leads what comes out to its queue, and nothing else there.

    Celery's is ``#.<queue>``, which also leads what is for ``a.b`` to a queue called ``b``.
    """
    return "*." * LEVELS + queue


def celery_key(key: str) -> str:
    """Return the key by which Celery leads what comes out to the exchange that it was sent to."""
    return key if key.startswith("#") else f"#.{key}"
