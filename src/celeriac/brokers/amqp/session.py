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
from celeriac.brokers.amqp.declarations import LOCKED, NOT_FOUND, Declarations, Look
from celeriac.brokers.amqp.delays import FIRST
from celeriac.brokers.amqp.publisher import Publisher
from celeriac.brokers.amqp.replies import Reply
from celeriac.brokers.amqp.shipping import Shipment
from celeriac.exceptions import OperationalError, QueueNotFound

AGAIN = 0.02
"""Seconds between attempts to have a turn."""


class Session:
    """One connection, its publisher, and what it knows to be declared."""

    def __init__(self, connection: Connection, look: Look, kind: str) -> None:
        self.connection = connection
        self.declarations = Declarations(connection, look, kind)
        self._publisher: Reply[Publisher] | None = None

    async def publish(self, shipment: Shipment) -> None:
        """Declare what must be there, and publish with confirms.

        A queue that has been deleted meanwhile is declared again, and its messages sent again.
        Raises OperationalError for messages that no queue takes even so, and QueueNotFound for those
        to queues of others, and to exchanges that are not there or lead nowhere.
        """
        messages: Sequence[Outgoing] = shipment.messages
        queues = {name for name, _ in shipment.queues}
        for _ in range(2):
            await self._declare(shipment)
            messages = await self._publish(messages)
            if not messages:
                return
            _refuse_strangers(messages, queues)
            for name in (*queues, *(queue.name for queue in shipment.declarations)):
                self.declarations.forget(name)
        _refuse_astray(messages)
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

    async def _declare(self, shipment: Shipment) -> None:
        for declared in shipment.declarations:
            await self.declarations.said(declared)
        for exchange in shipment.exchanges:
            await self.declarations.exchange(exchange)
        for queue, delayed in shipment.queues:
            if delayed:
                await self.declarations.delayed(queue)
            else:
                await self.declarations.queue(queue)

    async def _publish(self, messages: Sequence[Outgoing]) -> list[Outgoing]:
        """Publish; return what no queue took."""
        publisher = await self._open_publisher()
        try:
            return await publisher.publish(messages)
        except ChannelClosedByBroker as error:
            if error.reply_code == NOT_FOUND:
                # An exchange that was there: whoever tries again looks for it.
                self.declarations.forget_exchanges()
            raise

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


def _refuse_astray(returned: Sequence[Outgoing]) -> None:
    """Raise QueueNotFound for messages that the server's own exchanges led nowhere."""
    astray = {(m.exchange, m.routing_key) for m in returned if m.exchange not in ("", FIRST)}
    if astray:
        raise QueueNotFound(
            "nothing takes messages of "
            + ", ".join(
                f"exchange {where!r} with routing key {key!r}" for where, key in sorted(astray)
            )
            + ", here or on the server; add a Queue with that exchange to task_queues, or name a queue"
        )


def _refuse_strangers(returned: Sequence[Outgoing], declared: set[str]) -> None:
    """Raise QueueNotFound for messages to a queue that is not ours to declare, and that is gone."""
    gone = {one.routing_key for one in returned if not one.exchange} - declared
    if gone:
        raise QueueNotFound(
            f"there is no queue {', '.join(sorted(gone))}: whoever waited there has gone"
        )
