"""From publishes to what goes over the connection: where each message goes first, and by what key.

Whole seconds of a delay are spent in the delay levels, the rest with whoever consumes the queue.
Messages go to queues by their names, through the exchange that has none, as Celery sends them; other
exchanges were resolved before. Pure, but for the clock.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from celeriac.brokers.amqp.connection import Outgoing
from celeriac.brokers.amqp.delays import FIRST, delayed_key
from celeriac.brokers.amqp.properties import NEW, Record, encode_properties
from celeriac.brokers.base import spread
from celeriac.clock import wall
from celeriac.message import Publish


class Shipment(Struct, frozen=True):
    """Messages ready to be sent, and what must be declared before."""

    messages: list[Outgoing]
    queues: list[tuple[str, bool]]
    """Each queue once for every way: True is through the delay levels. Without those of others."""


def shipment(publishes: Iterable[tuple[Publish, Record]]) -> Shipment:
    """Return these publishes as a shipment. Raises EncodeError."""
    messages = []
    queues: dict[tuple[str, bool], None] = {}
    for publish, record in publishes:
        message, delayed = _outgoing(publish, record)
        messages.append(message)
        if publish.declaration is None or not publish.declaration.no_declare:
            queues[publish.queue, delayed] = None
    return Shipment(messages, list(queues))


def new(publishes: Sequence[Publish]) -> Shipment:
    """Return messages that have been through nothing yet."""
    return shipment((publish, NEW) for publish in spread(publishes))


def _outgoing(publish: Publish, record: Record) -> tuple[Outgoing, bool]:
    message, due, seconds = publish.message, publish.due, 0
    if due is not None and (delay := due - wall()) > 0:
        record = structs.replace(record, due=due)
        seconds = int(delay)
    properties = encode_properties(message, record, publish.delivery_mode)
    if seconds:
        key = delayed_key(seconds, publish.queue)
        return Outgoing(FIRST, key, properties, message.body), True
    return Outgoing("", publish.queue, properties, message.body), False
