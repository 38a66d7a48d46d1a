"""Trials: how the start of a run is put on record on a server that keeps no records.

The message changes places: a copy that counts one loss more is put into a queue for all trials, the
worker takes it from there at once, and settles the original. From then on it holds the copy. If the
worker lives it settles that, and nobody ever sees the count. If it dies the copy is found in the
queue by the sweep of another: an orphan, one loss more. Starts are recorded for suspects only, so that
this may cost something. What becomes of orphans is told in ``orphans``.

A copy that counts nothing takes the place of what has been held for long: the server suffers no
message to be unsettled for ever.

Who puts something on trial and who sweeps take turns, or one might take what the other has just put
there. A crash between copy and settlement leaves both: the task runs twice, and none is lost.
"""

import os
from collections.abc import Sequence

from celeriac.brokers.amqp import orphans, shipping
from celeriac.brokers.amqp.connection import Arrival, Channel, Outgoing
from celeriac.brokers.amqp.hold import Entry
from celeriac.brokers.amqp.properties import Record, decode_properties, encode_properties
from celeriac.brokers.amqp.session import Session

TRIALS = "celeriac.trials"
"""The queue of what is on trial."""
TURN = "celeriac.trials.turn"


async def put_on_trial(
    session: Session, channel: Channel, entries: Sequence[Entry]
) -> dict[str, Arrival]:
    """Put copies of these messages on trial; return what is held in their place, by receipt."""
    named = {os.urandom(8).hex(): entry for entry in entries}
    copies = [_copy(entry, name) for name, entry in named.items()]
    turn = await session.take_turn(TURN)
    try:
        await session.publish(shipping.Shipment(copies, [(TRIALS, False)]))
        held: dict[str, Arrival] = {}
        found = []
        for arrival in await channel.get_all(TRIALS):
            entry = named.get(_record(arrival).trial or "")
            if entry is None or entry.delivery is None:
                found.append(arrival)
            else:
                held[entry.delivery.receipt] = arrival
        await orphans.take_in(session, channel, found)
    except BaseException:
        # Half done: the channel is given up, and whatever is in it is delivered again.
        if channel.is_open:
            channel.close()
        raise
    finally:
        if turn.is_open:
            turn.close()
    channel.ack(entry.arrival.tag for entry in entries)
    # Not before the server has heard of it may the run begin, and end us.
    await channel.settled()
    return held


async def sweep(session: Session) -> int | None:
    """Find what is on trial with nobody; return how many messages. None if nothing ever was."""
    found = await session.declarations.look_at(TRIALS)
    if found is None or not found.ready:
        return None if found is None else 0
    turn = await session.take_turn(TURN)
    channel = await session.connection.open()
    try:
        left = await channel.get_all(TRIALS)
        await orphans.take_in(session, channel, left)
        return len(left)
    finally:
        for one in (channel, turn):
            if one.is_open:
                one.close()


def _copy(entry: Entry, name: str) -> Outgoing:
    delivery = entry.delivery
    assert delivery is not None, "it was claimed"
    record = Record(
        claims=delivery.claims,
        suspect=True,
        losses=delivery.losses + entry.started,
        parked=delivery.parked,
        parkings=delivery.parkings,
        home=delivery.queue,
        trial=name,
    )
    properties = encode_properties(delivery.message, record)
    return Outgoing("", TRIALS, properties, delivery.message.body)


def _record(arrival: Arrival) -> Record:
    return decode_properties(arrival.properties, arrival.body).record
