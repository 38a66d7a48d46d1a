"""From publishes to what goes over the connection: where each message goes first, and by what key.

Whole seconds of a delay are spent in the delay levels, the rest with whoever consumes the queue.
Messages go to queues by their names, through the exchange that has none, or through another exchange,
which the server resolves. The levels lead to queues only: what is delayed goes to those that are known
here, and if there are none, or the exchange is one for all, to the exchange at once; then whoever
consumes its queues sees from the message when it is due. Pure, but for the clock.
"""

from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from celeriac.brokers.amqp.connection import Outgoing
from celeriac.brokers.amqp.delays import FIRST, delayed_key
from celeriac.brokers.amqp.properties import NEW, Record, encode_properties
from celeriac.brokers.base import spread
from celeriac.clock import wall
from celeriac.message import Publish
from celeriac.queues import Queue


class Shipment(Struct, frozen=True):
    """Messages ready to be sent, and what must be declared before."""

    messages: list[Outgoing]
    queues: list[tuple[str, bool]]
    """Each queue once for every way: True is through the delay levels. Without those of others."""
    declarations: tuple[Queue, ...] = ()
    """Queues that must be there with their bindings, as the senders declare them."""
    exchanges: tuple[str, ...] = ()
    """Exchanges that must be there."""


def shipment(publishes: Iterable[tuple[Publish, Record]]) -> Shipment:
    """Return these publishes as a shipment. Raises EncodeError."""
    messages = []
    queues: dict[tuple[str, bool], None] = {}
    declarations: dict[Queue, None] = {}
    exchanges: dict[str, None] = {}
    for publish, record in publishes:
        message, delayed = _outgoing(publish, record)
        messages.append(message)
        declared = {queue.name: queue for queue in publish.declarations}
        declarations |= dict.fromkeys(q for q in publish.declarations if not q.no_declare)
        if publish.exchange:
            exchanges[publish.exchange] = None
        for name in filter(None, (publish.queue, *publish.copies)):
            if name not in declared or not declared[name].no_declare:
                queues[name, delayed] = None
    return Shipment(messages, list(queues), tuple(declarations), tuple(exchanges))


def new(publishes: Sequence[Publish]) -> Shipment:
    """Return messages that have been through nothing yet."""
    return shipment((one, NEW) for publish in publishes for one in _ways(publish))


def _ways(publish: Publish) -> Iterable[Publish]:
    """Return it as it is if it goes through its exchange, else one for each queue."""
    if publish.exchange:
        delayed = publish.due is not None and publish.due > wall()
        if not delayed or not publish.queue or publish.exchange_type == "fanout":
            return (publish,)
        publish = structs.replace(publish, exchange="")
    return spread((publish,))


def _outgoing(publish: Publish, record: Record) -> tuple[Outgoing, bool]:
    message, due, seconds = publish.message, publish.due, 0
    if due is not None and (delay := due - wall()) > 0:
        record = structs.replace(record, due=due)
        seconds = int(delay)
    properties = encode_properties(message, record, publish.delivery_mode)
    if publish.exchange:
        outgoing = Outgoing(
            publish.exchange,
            publish.routing_key,
            properties,
            message.body,
            mandatory=not publish.broadcast,
        )
        return outgoing, False
    if seconds:
        key = delayed_key(seconds, publish.queue)
        return Outgoing(FIRST, key, properties, message.body), True
    return Outgoing("", publish.queue, properties, message.body), False
