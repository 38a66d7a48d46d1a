"""Publishing on one channel: many callers' batches, confirmed by the server. In the I/O thread.

The server numbers what is published on a channel, and confirms by number, alone or all up to one; a
batch is through when each of its messages is. What no queue takes comes back before it is confirmed.
"""

from collections.abc import Sequence
from typing import Any

from pika import spec

from celeriac.brokers.amqp.connection import Channel, Outgoing
from celeriac.brokers.amqp.replies import Reply
from celeriac.exceptions import OperationalError


class _Batch:
    """What one caller waits for."""

    def __init__(self, messages: Sequence[Outgoing]) -> None:
        self.messages = messages
        self.left = len(messages)
        self.returned: list[Outgoing] = []
        self.refused = 0
        self.reply: Reply[list[Outgoing]] = Reply()


class Publisher:
    """The confirming channel of one connection."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._number = 0
        self._waiting: dict[int, _Batch] = {}
        channel.on_return = self._came_back
        channel.add_on_close_callback(self._closed)

    @classmethod
    async def open(cls, channel: Channel) -> "Publisher":
        """Return the publisher of this new channel."""
        publisher = cls(channel)
        await channel.confirm(publisher._confirmed)
        return publisher

    @property
    def alive(self) -> bool:
        """Whether its channel is open."""
        return self._channel.is_open

    async def publish(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Publish; return, once all are confirmed, those that no queue took.

        Raises OperationalError if the server refuses one.
        """
        if not messages:
            return []
        batch = _Batch(messages)
        self._channel.publish(messages)
        for _ in messages:
            self._number += 1
            self._waiting[self._number] = batch
        returned = await batch.reply
        if batch.refused:
            raise OperationalError(
                f"the broker refused {batch.refused} of {len(messages)} messages: a queue is full "
                "(x-max-length with reject-publish), or a node is going down; try again later"
            )
        return returned

    def _confirmed(self, frame: Any) -> None:
        method = frame.method
        refused = isinstance(method, spec.Basic.Nack)
        if not method.multiple:
            self._settle(method.delivery_tag, refused)
            return
        # In the order of publishing, so that the loop ends with the first that is not meant.
        for number in [n for n in self._waiting if n <= method.delivery_tag]:
            self._settle(number, refused)

    def _settle(self, number: int, refused: bool) -> None:
        batch = self._waiting.pop(number, None)
        if batch is None:
            return
        batch.left -= 1
        batch.refused += refused
        if batch.left == 0:
            batch.reply.set(batch.returned)

    def _came_back(self, exchange: str, key: str, properties: bytes) -> None:
        """Find whose message that was: the server says what it was, and not its number."""
        for batch in dict.fromkeys(self._waiting.values()):
            for one in batch.messages:
                same = one.exchange == exchange and one.routing_key == key
                if same and one.properties == properties and one not in batch.returned:
                    batch.returned.append(one)
                    return

    def _closed(self, _: Any, reason: Exception) -> None:
        waiting, self._waiting = self._waiting, {}
        for batch in dict.fromkeys(waiting.values()):
            batch.reply.fail(reason)
