"""Orphans: copies that were on trial with a worker that is lost (see ``trials``).

Nobody can put a message at the head of a queue, and at the tail it would wait for all that came after
it. So they wait in a queue apart, and whoever has room for messages of their queues claims them before
others. What nobody has claimed for some time is put back to the tail all the same: there may be no
worker left that looks here, or only workers of Celery.

All in the I/O thread.
"""

from collections.abc import Callable, Collection, Sequence
from time import monotonic

from msgspec import structs

from celeriac.brokers.amqp import shipping
from celeriac.brokers.amqp.connection import Arrival, Channel, Outgoing
from celeriac.brokers.amqp.properties import Received, decode_properties
from celeriac.brokers.amqp.session import Session
from celeriac.message import Publish

ORPHANS = "celeriac.orphans"
"""The queue that they wait in."""
PATIENCE = 10.0
"""Seconds after which a consumer puts back what it has seen there before."""

Wanted = Callable[[str, Received], object]
"""Chooses among orphans, by the queue that each is of and what it is."""


class Orphans:
    """What one consumer knows of orphans."""

    def __init__(self) -> None:
        self.waiting = False
        """Whether there are any that may be claimed, as far as is known. For any thread to read."""
        self._seen: set[str] = set()
        """Those that were there when it looked, by the names of their trials."""
        self._looked = 0.0

    async def look(self, session: Session) -> None:
        """Find out whether there are any; put back those that have waited too long."""
        found = await session.declarations.look_at(ORPHANS)
        self.waiting = found is not None and found.ready > 0
        if not self.waiting:
            self._seen.clear()
        elif self._looked <= monotonic() - PATIENCE:
            self._looked = monotonic()
            channel = await session.connection.open()
            try:
                self._seen = await _put_back(session, channel, self._seen)
            finally:
                if channel.is_open:
                    channel.close()

    async def claim(self, channel: Channel, most: int | None, wanted: Wanted) -> list[Arrival]:
        """Take those of the first ``most``, or of all, that are wanted."""
        taken, left = [], []
        for orphan in await channel.get_all(ORPHANS, most):
            received = decode_properties(orphan.properties, orphan.body)
            home = received.record.home
            if home is not None and wanted(home, received):
                taken.append(orphan)
            else:
                left.append(orphan.tag)
        await channel.give_back(left)
        # What is not wanted may hide what is: the next look tells.
        self.waiting = bool(taken)
        return taken


async def take_in(session: Session, channel: Channel, found: Sequence[Arrival]) -> None:
    """Have what was found on trial wait for somebody to claim it."""
    if found:
        moved = [Outgoing("", ORPHANS, one.properties, one.body) for one in found]
        await session.publish(shipping.Shipment(moved, [(ORPHANS, False)]))
        channel.ack(one.tag for one in found)


async def release(session: Session) -> None:
    """Put back all: there may be nobody left who would claim them."""
    found = await session.declarations.look_at(ORPHANS)
    if found is not None and found.ready:
        channel = await session.connection.open()
        try:
            await _put_back(session, channel, None)
        finally:
            if channel.is_open:
                channel.close()


async def _put_back(session: Session, channel: Channel, names: Collection[str] | None) -> set[str]:
    """Put these back into their queues, or all; return the names of the others, which stay."""
    back, gone, left, others = [], [], [], set()
    for orphan in await channel.get_all(ORPHANS):
        received = decode_properties(orphan.properties, orphan.body)
        name, home = received.record.trial or "", received.record.home
        if home is None or (names is not None and name not in names):
            others.add(name)
            # A crash while it was moved may have left two of one name.
            left.append(orphan.tag)
            continue
        record = structs.replace(received.record, home=None, trial=None)
        back.append((Publish(queue=home, message=received.message), record))
        gone.append(orphan.tag)
    if back:
        await session.publish(shipping.shipment(back))
        channel.ack(gone)
    await channel.give_back(left)
    return others
