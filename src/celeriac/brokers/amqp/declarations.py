"""Declarations on RabbitMQ: queues, exchanges and bindings as Celery makes them. In the I/O thread.

A queue that is there is used as it is, whatever its arguments: it is looked for first, and only a
missing one is made. Each piece of work has a channel of its own, because the server closes a channel
on which something does not fit.
"""

import logging
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from celeriac.brokers.amqp import delays
from celeriac.brokers.amqp.connection import Channel, ChannelClosedByBroker, Connection
from celeriac.exceptions import QueueNotFound
from celeriac.queues import Binding, Exchange, Queue

log = logging.getLogger("celeriac.broker")

NOT_FOUND, PRECONDITION_FAILED, LOCKED = 404, 406, 405

Look = Callable[[str], Queue]
"""Returns the declaration of a queue of this name."""


class Found(Struct, frozen=True):
    """What the server says of a queue."""

    ready: int
    consumers: int


class Declarations:
    """What has been declared on one connection, and how the rest is."""

    def __init__(self, connection: Connection, look: Look, kind: str) -> None:
        self._connection = connection
        self._look = look
        self._kind = kind
        self._queues: set[str] = set()
        self._bound: set[str] = set()
        self._delayed: set[str] = set()
        self._exchanges: set[str] = set()
        self._said: set[Queue] = set()
        self._levels = False

    def forget(self, queue: str) -> None:
        """Believe no longer that this queue is there."""
        self._queues.discard(queue)
        self._bound.discard(queue)
        self._delayed.discard(queue)
        self._said = {one for one in self._said if one.name != queue}

    def forget_exchanges(self) -> None:
        """Believe no longer that exchanges are there."""
        self._exchanges.clear()

    def ends_with_us(self, name: str) -> bool:
        """Whether the server deletes a queue when nobody is subscribed to it any more."""
        return self._look(name).auto_delete

    def is_single(self, name: str) -> bool:
        """Whether nobody else can have a queue."""
        return self._look(name).single

    def is_quorum(self, name: str) -> bool:
        """Whether a queue is declared as a quorum queue."""
        return is_quorum(self._look(name))

    async def queue(self, name: str, *, consumed: bool = False) -> None:
        """Make sure that a queue is there; one to be consumed has its bindings, too."""
        if name not in self._queues or (consumed and name not in self._bound):
            await self._declare(self._look(name), bound=consumed)

    async def said(self, queue: Queue) -> None:
        """Make sure that a queue is there with its bindings, as its sender declares it.

        Of a broadcast, which others consume, and of what has no name, only the exchanges.
        """
        if queue.name and not queue.broadcast:
            if queue not in self._said:
                await self._declare(queue, bound=True)
                self._said.add(queue)
            return
        for binding in queue.all_bindings:
            if binding.exchange.name not in self._exchanges:
                await self._make_exchange(binding.exchange)

    async def exchange(self, name: str) -> None:
        """Make sure that an exchange is there that nobody has declared. Raises QueueNotFound.

        To publish to one that is not would close the channel, with all that is under way on it.
        """
        if name not in self._exchanges and not await self._make_exchange(
            Exchange(name, passive=True)
        ):
            raise QueueNotFound(
                f"there is no exchange {name!r} on the server, and nothing says how to make it; give the "
                "call declare=[Exchange(...)], or add a Queue with that exchange to task_queues"
            )

    async def _make_exchange(self, exchange: Exchange) -> bool:
        """Declare an exchange; return whether it is there."""
        channel = await self._connection.open()
        try:
            await declare_exchange(channel, exchange)
        except ChannelClosedByBroker as error:
            if error.reply_code == NOT_FOUND:
                return False
            # It is another one than was thought, but there.
            log.warning("exchange %s is not as it is declared here: %s", exchange, error)
        else:
            channel.close()
        self._exchanges.add(exchange.name)
        return True

    async def _declare(self, queue: Queue, *, bound: bool) -> None:
        found = await self.look_at(queue.name)
        if found is None or bound:
            await self._bind(queue, missing=found is None)
            self._bound.add(queue.name)
        self._queues.add(queue.name)

    async def look_at(self, name: str) -> Found | None:
        """Return what the server says of a queue, None if it is not there."""
        channel = await self._connection.open()
        try:
            answer = await channel.ask("queue_declare", queue=name, passive=True)
        except ChannelClosedByBroker as error:
            if error.reply_code == NOT_FOUND:
                return None
            raise
        channel.close()
        method = answer.method
        return Found(method.message_count, method.consumer_count)

    async def delayed(self, queue: str) -> None:
        """Make sure that delayed messages find their way to this queue."""
        if queue in self._delayed:
            return
        await self.queue(queue)
        if not self._levels:
            await self._make_levels()
            self._levels = True
        channel = await self._connection.open()
        await channel.ask(
            "queue_bind",
            queue=queue,
            exchange=delays.DELIVERY,
            routing_key=delays.delivery_key(queue),
        )
        channel.close()
        self._delayed.add(queue)

    async def delayed_by_celery(self, queues: Sequence[str]) -> None:
        """Lead to these queues what Celery's callers delay, if one of them is a quorum queue (ROUTE-22).

        Only then do they delay anything, and take it for granted that a worker has seen to this. A
        server that does not let us is no obstacle: nothing of our own depends on it.
        """
        declared = [self._look(name) for name in queues]
        if not any(is_quorum(queue) for queue in declared):
            return
        for queue in declared:
            try:
                await self.delayed(queue.name)
                await self._bind_as_celery(queue)
            except ChannelClosedByBroker as error:
                log.warning("what Celery delays may not come to queue %r: %s", queue.name, error)

    async def _bind_as_celery(self, queue: Queue) -> None:
        """Lead what comes out of the levels to a queue by way of its exchanges, as Celery does."""
        channel = await self._connection.open()
        for binding in queue.all_bindings:
            exchange, key = binding.exchange, delays.celery_key(binding.routing_key)
            if exchange.type != "direct":
                await channel.ask(
                    "exchange_bind",
                    destination=exchange.name,
                    source=delays.DELIVERY,
                    routing_key=key,
                )
                await channel.ask(
                    "queue_bind", queue=queue.name, exchange=exchange.name, routing_key=key
                )
        channel.close()

    async def purge(self, queue: str) -> int:
        """Remove the ready messages of a queue; return how many there were."""
        if await self.look_at(queue) is None:
            return 0
        channel = await self._connection.open()
        answer = await channel.ask("queue_purge", queue=queue)
        channel.close()
        count: int = answer.method.message_count
        return count

    # -- queues

    async def _bind(self, queue: Queue, *, missing: bool) -> None:
        channel = await self._connection.open()
        if missing and not queue.no_declare:
            await channel.ask(
                "queue_declare",
                queue=queue.name,
                durable=queue.durable,
                exclusive=queue.exclusive,
                auto_delete=queue.auto_delete,
                arguments=queue_arguments(queue),
            )
        for binding in queue.all_bindings:
            try:
                await self._lead(channel, queue.name, binding)
            except ChannelClosedByBroker as error:
                # Messages of our own go by the name of the queue; the binding is for others.
                log.warning("queue %r is not bound to %s: %s", queue.name, binding, error)
                channel = await self._connection.open()
        channel.close()

    async def _lead(self, channel: Channel, queue: str, binding: Binding) -> None:
        await declare_exchange(channel, binding.exchange)
        self._exchanges.add(binding.exchange.name)
        await channel.ask(
            "queue_bind",
            queue=queue,
            exchange=binding.exchange.name,
            routing_key=binding.routing_key,
            arguments=dict(binding.arguments or {}),
        )

    # -- levels

    async def _make_levels(self) -> None:
        """Find Celery's levels, or make them, from the way out upwards: none leads nowhere."""
        channel = await self._connection.open()
        if await self.look_at(delays.FIRST) is not None:
            # Made last, so the others are there.
            channel.close()
            return
        await declare_exchange(channel, Exchange(delays.DELIVERY, "topic"))
        for number in range(delays.LEVELS):
            channel = await self._make_level(channel, delays.level(number, self._kind))
        channel.close()

    async def _make_level(self, channel: Channel, level: delays.Level) -> Channel:
        await declare_exchange(channel, Exchange(level.name, "topic"))
        try:
            await channel.ask(
                "queue_declare", queue=level.name, durable=True, arguments=level.arguments
            )
        except ChannelClosedByBroker as error:
            if error.reply_code != PRECONDITION_FAILED:
                raise
            # There already, of the other type: it keeps messages as well.
            channel = await self._connection.open()
        await channel.ask(
            "queue_bind", queue=level.name, exchange=level.name, routing_key=level.waiting_key
        )
        await channel.ask(
            "exchange_bind",
            destination=level.next,
            source=level.name,
            routing_key=level.passing_key,
        )
        return channel


async def declare_exchange(channel: Channel, exchange: Exchange) -> None:
    """Declare an exchange."""
    if exchange.no_declare:
        return
    await channel.ask(
        "exchange_declare",
        exchange=exchange.name,
        exchange_type=exchange.type,
        passive=exchange.passive,
        durable=exchange.durable,
        auto_delete=exchange.auto_delete,
        arguments=dict(exchange.arguments or {}),
    )


def is_quorum(queue: Queue) -> bool:
    """Whether this is declared as a quorum queue (ROUTE-21)."""
    return (queue.queue_arguments or {}).get("x-queue-type") == "quorum"


def queue_arguments(queue: Queue) -> dict[str, Any]:
    """Return the arguments of a queue as RabbitMQ calls them (celery-wire, 2)."""
    arguments = dict(queue.queue_arguments or {})
    for name, value in {
        "x-expires": _milliseconds(queue.expires),
        "x-message-ttl": _milliseconds(queue.message_ttl),
        "x-max-length": queue.max_length,
        "x-max-length-bytes": queue.max_length_bytes,
        "x-max-priority": queue.max_priority,
    }.items():
        if value is not None:
            arguments[name] = value
    return arguments


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)
