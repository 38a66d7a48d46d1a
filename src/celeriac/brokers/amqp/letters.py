"""Dead letters on RabbitMQ: messages in a durable queue, their last words in a header of our own.

A queue can only be read from its head, so whoever looks takes all letters into his hands and puts
back what he keeps; meanwhile others do not see them. Readers take turns, by an exclusive queue that
one connection can have at a time. Each call costs as much as there are letters.
"""

import os
from collections.abc import Callable, Sequence

from msgspec import Struct, convert

from celeriac.brokers.amqp import shipping
from celeriac.brokers.amqp.connection import Arrival, Channel, Outgoing
from celeriac.brokers.amqp.hold import Entry
from celeriac.brokers.amqp.link import Link
from celeriac.brokers.amqp.properties import (
    NEW,
    Received,
    decode_properties,
    encode_properties,
    entomb,
)
from celeriac.brokers.amqp.session import Session
from celeriac.clock import wall
from celeriac.message import DeadLetter, DeadSelection, Publish

DEAD = "celeriac.dead"
"""The queue of dead letters."""
READER = "celeriac.dead.reader"
"""The queue that only the reader of the moment has."""


class _Words(Struct, frozen=True):
    """What is written on a letter."""

    id: str
    queue: str
    reason: str
    died: float
    losses: int


class _Read(Struct, frozen=True):
    """A letter in our hands."""

    letter: DeadLetter
    received: Received
    arrival: Arrival


class DeadLetters:
    """The dead letters of one broker. Thread-safe."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def bury(self, entries: Sequence[tuple[Entry, str]]) -> None:
        """Put claimed messages among the dead, with their last words."""
        letters = [_letter(entry, reason) for entry, reason in entries]
        self._link.call(
            lambda session: session.publish(shipping.Shipment(letters, [(DEAD, False)]))
        )

    def newest(self, limit: int, which: DeadSelection) -> list[DeadLetter]:
        """Return the newest of these letters, newest first."""
        found = self._exhume(which, None)
        return [one.letter for one in reversed(found)][:limit]

    def revive(self, which: DeadSelection) -> int:
        """Put letters back to the tails of their queues; return how many."""

        async def publish(session: Session, read: Sequence[_Read]) -> None:
            back = [_alive(one) for one in read]
            queues = dict.fromkeys((one.letter.queue, False) for one in read)
            await session.publish(shipping.Shipment(back, list(queues)))

        return len(self._exhume(which, publish))

    def delete(self, which: DeadSelection) -> int:
        """Delete letters; return how many."""

        async def nothing(*_: object) -> None:
            return

        return len(self._exhume(which, nothing))

    def _exhume(
        self, which: DeadSelection, before: "Callable[..., object] | None"
    ) -> Sequence[_Read]:
        """Read all letters and return the selected; if ``before`` has been done they are gone."""

        async def work(session: Session) -> Sequence[_Read]:
            if await session.declarations.look_at(DEAD) is None:
                return []
            turn = await session.take_turn(READER)
            channel = await session.connection.open()
            try:
                read = await _read_all(channel)
                chosen = [one for one in read if _selected(one.letter, which)]
                if before is not None and chosen:
                    await before(session, chosen)  # type: ignore[misc]
                    channel.ack(one.arrival.tag for one in chosen)
                await channel.give_back(list(channel.unsettled))
            finally:
                for one in (channel, turn):
                    if one.is_open:
                        one.close()
            return chosen

        with self._link.exclusive:
            return self._link.call(work)


async def _read_all(channel: Channel) -> list[_Read]:
    """Take the letters that there are now into our hands."""
    read = []
    for arrival in await channel.get_all(DEAD):
        received = decode_properties(arrival.properties, arrival.body)
        if (letter := _read_letter(received)) is not None:
            read.append(_Read(letter, received, arrival))
    return read


def _read_letter(received: Received) -> DeadLetter | None:
    """Return the letter in a message; None for one that somebody else put there."""
    try:
        words = convert(received.dead, _Words)
    except ValueError:
        return None
    return DeadLetter(
        id=words.id,
        message=received.message,
        queue=words.queue,
        reason=words.reason,
        died=words.died,
        losses=words.losses,
    )


def _letter(entry: Entry, reason: str) -> Outgoing:
    delivery = entry.delivery
    assert delivery is not None, "it was claimed"
    letter = DeadLetter(
        id=os.urandom(8).hex(),
        message=delivery.message,
        queue=delivery.queue,
        reason=reason,
        died=wall(),
        losses=delivery.losses,
    )
    legible = entry.received.legible
    properties = (
        encode_properties(delivery.message, NEW, dead=letter)
        if legible
        else entomb(entry.arrival.properties, letter)
    )
    return Outgoing("", DEAD, properties, delivery.message.body)


def _alive(read: _Read) -> Outgoing:
    """Return a letter as a message of its queue again."""
    queue = read.letter.queue
    if not read.received.legible:
        return Outgoing("", queue, read.arrival.properties, read.arrival.body)
    publish = Publish(queue=queue, message=read.received.message)
    return shipping.new([publish]).messages[0]


def _selected(letter: DeadLetter, which: DeadSelection) -> bool:
    message = letter.message
    return (
        (which.ids is None or letter.id in which.ids)
        and (which.task_ids is None or message.id in which.task_ids)
        and which.task in (None, message.task)
        and which.queue in (None, letter.queue)
    )
