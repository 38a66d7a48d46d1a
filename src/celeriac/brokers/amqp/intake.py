"""The intake of a consumer: its channel, on which messages are got and settled. In the I/O thread.

Two ways lead in. A *pull* asks for as many messages as there is room for: exact, nothing is held that
nobody asked for, and a queue keeps its order. A *watch* is a subscription for one message per queue,
while a consumer has nothing to do: it wakes it. When to use which is the consumer's business.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from time import monotonic
from typing import Any, Protocol

from celeriac.brokers.amqp.connection import AMQPError, Arrival, Channel
from celeriac.brokers.amqp.declarations import Declarations
from celeriac.brokers.amqp.replies import Reply, Run
from celeriac.brokers.amqp.session import Session

PRESENCE = "celeriac.workers"
"""A queue that nothing is ever put into: who consumes it is a worker that is there."""
MEAN = 1024
"""Bytes that a message is thought to have before the first one has come."""


class Arrived(Protocol):
    """Takes what has come, because it was asked for or by a subscription."""

    def __call__(self, intake: "Intake", arrival: Arrival, *, asked: bool) -> None: ...


class Intake:
    """One channel of one consumer. It ends with the channel; the consumer then opens another."""

    def __init__(
        self, serial: int, channel: Channel, arrived: Arrived, ended: Callable[["Intake"], None]
    ) -> None:
        self.serial = serial
        self.channel = channel
        self.since = monotonic()
        self.alone: frozenset[str] = frozenset()
        """Queues that nobody else can have: what was held of them is nowhere when the channel has gone."""
        self.standing: frozenset[str] = frozenset()
        """Queues that end with their last subscription: to those there always is one."""
        self._arrived = arrived
        self._wanted: dict[str, int] = {}
        """The number of the watch that each queue should have."""
        self._tags: dict[str, str] = {}
        """The consumer tags of those that there are."""
        self._numbers = count(1)
        self._follow: dict[str, int] = {}
        """How many messages of each queue followed the last one that was got."""
        self._mean = MEAN
        """Bytes of a message, as far as is known."""
        channel.add_on_close_callback(lambda *_: ended(self))

    @classmethod
    async def open(
        cls,
        session: Session,
        serial: int,
        queues: Sequence[str],
        arrived: Arrived,
        ended: Callable[["Intake"], None],
    ) -> "Intake":
        """Return a new intake, its queues declared and its presence known."""
        for queue in queues:
            if session.declarations.ends_with_us(queue):
                # It has gone with the intake before this one.
                session.declarations.forget(queue)
            await session.declarations.queue(queue, consumed=True)
        await session.declarations.delayed_by_celery(queues)
        intake = cls(serial, await session.connection.open(), arrived, ended)
        channel = intake.channel
        await channel.ask("queue_declare", queue=PRESENCE, durable=True, auto_delete=True)
        await channel.subscribe(PRESENCE)
        channel.on_message = lambda arrival: arrived(intake, arrival, asked=False)
        return intake

    async def stand(self, declarations: Declarations, queues: Sequence[str]) -> None:
        """Subscribe for good to those of the queues that would be deleted without it."""
        self.standing = frozenset(queue for queue in queues if declarations.ends_with_us(queue))
        self.alone = frozenset(queue for queue in queues if declarations.is_single(queue))
        for queue in sorted(self.standing):
            await self.channel.subscribe(queue)

    # -- ways in

    async def pull(self, queues: Sequence[str], most: int, size: int) -> bool:
        """Get up to ``most`` messages, from these queues in order, of about ``size`` bytes.

        They arrive one by one, also if nobody waits for the end any more. Return whether the queues
        were found empty.
        """
        got: list[int] = []

        def one(arrival: Arrival) -> None:
            got.append(len(arrival.body))
            self._arrived(self, arrival, asked=True)

        for queue in queues:
            # At first one, unless the last answer said that more follow: then so many at once.
            more = max(1, self._follow.get(queue, 0))
            while more and len(got) < most and sum(got) < size:
                self._mean = sum(got) // len(got) if got else self._mean
                fit = (size - sum(got)) // max(1, self._mean)
                wanted = max(1, min(more, most - len(got), fit))
                more = await self.channel.get(queue, wanted, one)
                self._follow[queue] = more
        return len(got) < most and sum(got) < size

    def watch(self, queues: Iterable[str]) -> None:
        """Have the next message of each of these queues sent, without being asked for.

        A watch that there was before ends: it may have brought its message.
        """
        for queue in queues:
            self._end(queue)
            self._wanted[queue] = number = next(self._numbers)
            Run(self._subscribe(queue, number), _unheard)

    async def _subscribe(self, queue: str, number: int) -> None:
        tag = await self.channel.subscribe(queue)
        if self._wanted.get(queue) == number:
            self._tags[queue] = tag
        else:
            # Not wanted any more by the time it was there.
            await self.channel.unsubscribe(tag)

    def stand_down(self) -> None:
        """End all watches; what is on its way still arrives."""
        self._end_all()

    def _end_all(self) -> list[Reply[Any]]:
        return [reply for queue in list(self._wanted) if (reply := self._end(queue)) is not None]

    def _end(self, queue: str) -> Reply[Any] | None:
        self._wanted.pop(queue, None)
        tag = self._tags.pop(queue, None)
        return None if tag is None else self.channel.unsubscribe(tag)

    # -- ways out

    async def close(self) -> None:
        """Give back everything, and end."""
        for reply in self._end_all():
            await reply
        await self.channel.give_back(list(self.channel.unsettled))
        self.channel.close()


def _unheard(_: object, error: BaseException | None) -> None:
    """A subscription that failed has ended its channel, which the consumer hears of otherwise."""
    if error is not None and not isinstance(error, AMQPError):
        raise error
