"""Rows in and values out: how messages stand in the embedded file."""

from typing import Any

from celeriac.embedded.statements import statements
from celeriac.message import Delivery, Message, Publish

SQL = statements(__file__, "queries.sql")


def publish_row(publish: Publish) -> tuple[Any, ...]:
    """Return the parameters of the statement ``publish``."""
    message = publish.message
    return (
        publish.queue,
        message.priority,
        publish.due,
        message.id,
        message.task,
        message.content_type,
        message.content_encoding,
        message.reply_to,
        message.headers,
        message.body,
    )


def delivery(row: Any, queue: str, fence: int) -> Delivery:
    """Return the delivery that a row of the statement ``pick`` becomes under this fence."""
    (seq, _, claims, suspect, losses, parked, parkings, priority, *message) = row
    id_, task, content_type, content_encoding, reply_to, headers, body = message
    return Delivery(
        message=Message(
            id=id_,
            task=task,
            headers=headers,
            body=body,
            content_type=content_type,
            content_encoding=content_encoding,
            priority=priority,
            reply_to=reply_to,
        ),
        queue=queue,
        receipt=f"{seq}:{fence}",
        claims=claims + 1,
        suspect=bool(suspect),
        losses=losses,
        parked=parked,
        parkings=parkings,
    )


def row_of(receipt: str) -> tuple[int, int]:
    """Return ``(seq, fence)`` of a receipt."""
    seq, _, fence = receipt.partition(":")
    return int(seq), int(fence)
