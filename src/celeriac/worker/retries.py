"""Retries that the worker makes itself, for runs that died before they could ask (TASK-17)."""

from typing import Any

import msgspec

from celeriac import clock
from celeriac.message import Delivery, Publish
from celeriac.wire import json


def next_run(delivery: Delivery, delay: float) -> Publish:
    """Return the message of the next run, ``delay`` seconds from now.

    It is the message itself, but for what ``Task.retry`` would have changed: one retry more, its
    time, and its parent, which is the run that died (QUIRK-06). Raises DecodeError.
    """
    message = delivery.message
    headers: dict[str, Any] = json.decode(message.headers)
    due = clock.wall() + delay
    headers["retries"] = int(headers.get("retries") or 0) + 1
    headers["eta"] = clock.iso(due)
    headers["parent_id"] = message.id
    again = msgspec.structs.replace(message, headers=json.encode(headers, "headers"))
    return Publish(queue=delivery.queue, message=again, due=due)
