"""A session: one connection as long as it lasts, with what was opened and declared on it.

In the I/O thread. When the connection is lost the session goes with everything in it; the next one
begins from nothing.
"""

from collections.abc import Sequence

from celeriac.brokers.amqp.connection import (
    Channel,
    ChannelClosedByBroker,
    Connection,
    Outgoing,
)
from celeriac.brokers.amqp.declarations import LOCKED, Declarations, Look
from celeriac.brokers.amqp.publisher import Publisher
from celeriac.brokers.amqp.replies import Reply
from celeriac.exceptions import OperationalError, QueueNotFound

AGAIN = 0.02
"""Seconds between attempts to have a turn."""


class Session:
    """One connection, its publisher, and what it knows to be declared."""

    def __init__(self, connection: Connection, look: Look, kind: str) -> None:
        self.connection = connection
        self.declarations = Declarations(connection, look, kind)
        self._publisher: Reply[Publisher] | None = None

    async def publish(
        self, messages: Sequence[Outgoing], queues: Sequence[tuple[str, bool]]
    ) -> None:
        """Declare these queues (True: for delayed messages), and publish with confirms.

        A queue that has been deleted meanwhile is declared again, and its messages sent again.
        Raises OperationalError for messages that no queue takes even so, and QueueNotFound for those
        to queues of others.
        """
        for _ in range(2):
            for queue, delayed in queues:
                await self._declare(queue, delayed=delayed)
            publisher = await self._open_publisher()
            messages = await publisher.publish(messages)
            if not messages:
                return
            _refuse_strangers(messages, {queue for queue, _ in queues})
            for queue, _ in queues:
                self.declarations.forget(queue)
        lost = sorted({one.routing_key.rpartition(".")[2] for one in messages})
        raise OperationalError(
            f"no queue takes {len(messages)} messages for {', '.join(lost)}: declared, but gone again, "
            "or a binding of celery_delayed_delivery was removed; look who deletes queues"
        )

    async def take_turn(self, name: str) -> Channel:
        """Wait until nobody else has this turn, on any machine; it ends when the channel is closed.

        It is a queue that one connection can have at a time. Threads of one process, which share a
        connection, keep each other out by ``Link.exclusive``.
        """
        while True:
            channel = await self.connection.open()
            try:
                await channel.ask("queue_declare", queue=name, exclusive=True, auto_delete=True)
                await channel.subscribe(name)
            except ChannelClosedByBroker as error:
                if error.reply_code != LOCKED:
                    raise
            else:
                return channel
            pause: Reply[None] = Reply()
            self.connection.ioloop.call_later(AGAIN, pause.set)
            await pause

    async def _declare(self, queue: str, *, delayed: bool) -> None:
        if delayed:
            await self.declarations.delayed(queue)
        else:
            await self.declarations.queue(queue)

    async def _open_publisher(self) -> Publisher:
        """Return the publisher; several who ask at once get the same."""
        if self._publisher is not None:
            publisher: Publisher = await self._publisher
            if publisher.alive:
                return publisher
        reply: Reply[Publisher] = Reply()
        self._publisher = reply
        try:
            reply.set(await Publisher.open(await self.connection.open()))
        except BaseException as error:
            reply.fail(error)
            self._publisher = None
            raise
        return await reply


def _refuse_strangers(returned: Sequence[Outgoing], declared: set[str]) -> None:
    """Raise QueueNotFound for messages to a queue that is not ours to declare, and that is gone."""
    gone = {one.routing_key for one in returned if not one.exchange} - declared
    if gone:
        raise QueueNotFound(
            f"there is no queue {', '.join(sorted(gone))}: whoever waited there has gone"
        )
