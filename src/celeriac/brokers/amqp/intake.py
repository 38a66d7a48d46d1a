"""The intake of a consumer: its channel, on which messages are got and settled. In the I/O thread.

Three ways lead in. A *pull* asks for as many messages as there is room for: exact, nothing is
held that nobody asked for, and a queue keeps its order. A *watch* is a subscription for one message
per queue, while a consumer has nothing to do: it wakes it. A *stream* is a subscription with a
prefetch of what is claimed at a time: the fastest, for a worker that is busy all the time. When to
use which is the consumer's business.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, Protocol

from celeriac.brokers.amqp.connection import AMQPError, Arrival, Channel
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
        self._arrived = arrived
        self._wanted: dict[str, int] = {}
        """The number of the subscription that each queue should have."""
        self._tags: dict[str, str] = {}
        """The consumer tags of those that there are."""
        self._numbers = count(1)
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
            await session.declarations.queue(queue, consumed=True)
        await session.declarations.delayed_by_celery(queues)
        intake = cls(serial, await session.connection.open(), arrived, ended)
        channel = intake.channel
        await channel.ask("queue_declare", queue=PRESENCE, durable=True, auto_delete=True)
        await channel.subscribe(PRESENCE, 1)
        channel.on_message = lambda arrival: arrived(intake, arrival, asked=False)
        return intake

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
            wanted, more = 1, 1
            while more and len(got) < most and sum(got) < size:
                more = await self.channel.get(queue, wanted, one)
                mean = max(1, sum(got) // len(got)) if got else MEAN
                wanted = max(1, min(more, most - len(got), (size - sum(got)) // mean))
        return len(got) < most and sum(got) < size

    def subscribe(self, queues: Iterable[str], prefetch: int) -> None:
        """Have messages of these queues sent, without being asked for each, from now on.

        A subscription that there was before ends: its prefetch may be used up, or another one.
        """
        for queue in queues:
            self._end(queue)
            self._wanted[queue] = number = next(self._numbers)
            Run(self._subscribe(queue, prefetch, number), _unheard)

    async def _subscribe(self, queue: str, prefetch: int, number: int) -> None:
        tag = await self.channel.subscribe(queue, prefetch)
        if self._wanted.get(queue) == number:
            self._tags[queue] = tag
        else:
            # Not wanted any more by the time it was there.
            await self.channel.unsubscribe(tag)

    def unsubscribe(self) -> list[Reply[Any]]:
        """End all subscriptions; what is on its way still arrives."""
        return [reply for queue in list(self._wanted) if (reply := self._end(queue)) is not None]

    def _end(self, queue: str) -> Reply[Any] | None:
        self._wanted.pop(queue, None)
        tag = self._tags.pop(queue, None)
        return None if tag is None else self.channel.unsubscribe(tag)

    # -- ways out

    async def close(self) -> None:
        """Give back everything, and end."""
        for reply in self.unsubscribe():
            await reply
        await self.channel.give_back(list(self.channel.unsettled))
        self.channel.close()


def _unheard(_: object, error: BaseException | None) -> None:
    """A subscription that failed has ended its channel, which the consumer hears of otherwise."""
    if error is not None and not isinstance(error, AMQPError):
        raise error
