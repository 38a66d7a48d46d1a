"""The broker on RabbitMQ, as its clients see it.

Publishing waits for the server's confirms, so what ``publish`` returned from survives what a durable
queue survives. A batch is no transaction: if it fails in the middle, a part may have been taken. The
server does not say how much is delayed, nor what others hold in their hands: ``sizes`` tells what is
ready, and what this process holds. The consumer's side is ``consumer.py``.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from weakref import WeakSet

from celeriac.brokers.amqp import delays, shipping
from celeriac.brokers.amqp.addresses import addresses
from celeriac.brokers.amqp.connection import Connection
from celeriac.brokers.amqp.consumer import AmqpConsumer
from celeriac.brokers.amqp.declarations import Found
from celeriac.brokers.amqp.hold import Returns
from celeriac.brokers.amqp.intake import PRESENCE
from celeriac.brokers.amqp.letters import DEAD, DeadLetters
from celeriac.brokers.amqp.link import Link
from celeriac.brokers.amqp.session import Session
from celeriac.brokers.base import LEASE, Broker
from celeriac.clock import wall
from celeriac.exceptions import ImproperlyConfigured
from celeriac.message import (
    ALL_DEAD,
    DeadLetter,
    DeadSelection,
    Publish,
    QueueSize,
)
from celeriac.queues import Exchange, Queue
from celeriac.settings import masked_url

NO_OPTIONS: Mapping[str, Any] = {}


class AmqpBroker(Broker):
    """Queues of RabbitMQ.

    ``options`` are ``broker_transport_options``, and what settings say of queues: ``queue_arguments``
    and ``exchange_type`` (of those that nobody has declared), ``delayed_queue_type``.
    """

    routes = True
    counts_delayed = False
    leases_lapse = False
    consumers = AmqpConsumer
    """The class of its consumers."""

    def __init__(
        self, url: str, timeout: float = 5.0, options: Mapping[str, Any] = NO_OPTIONS
    ) -> None:
        servers = addresses(url, options)
        self.url = masked_url(url)
        self._location = min(server.location for server in servers)
        self._kind = _kind(options.get("delayed_queue_type", delays.KINDS[0]))
        self._arguments: Mapping[str, Any] = options.get("queue_arguments") or {}
        self._exchange_type: str = options.get("exchange_type") or "direct"
        self._used: dict[str, None] = {}
        self._link = Link(servers, timeout, self._begin)
        self._letters = DeadLetters(self._link)
        self._returns = Returns()
        self._consumers: WeakSet[AmqpConsumer] = WeakSet()

    def _begin(self, connection: Connection) -> Session:
        return Session(connection, self.declaration, self._kind)

    @property
    def location(self) -> str:
        """Identity of the server: of several addresses the first by name, and its virtual host."""
        return self._location

    def declaration(self, name: str) -> Queue:
        if name == DEAD:
            return Queue(name)
        declared = self.queues.get(name)
        if declared is None:
            exchange = Exchange(name, self._exchange_type)
            declared = Queue(name, exchange, name, queue_arguments=self._arguments)
        return declared

    @property
    def _known(self) -> list[str]:
        """The queues that one can be told of: those that are configured, and those that were used."""
        names = dict.fromkeys([*self.queues, *self._used])
        return [name for name in names if not self.declaration(name).passing]

    def publish(self, publishes: Sequence[Publish]) -> None:
        if publishes:
            self._ship(shipping.new(publishes))

    def _ship(self, shipment: shipping.Shipment) -> None:
        self._used.update((queue, None) for queue, _ in shipment.queues)
        self._link.call(lambda session: session.publish(shipment))

    def consumer(
        self, queues: Sequence[str], *, lease: float = LEASE, turns: bool = True
    ) -> AmqpConsumer:
        self._used.update(dict.fromkeys(queues))
        consumer = self.consumers(
            self._link, queues, lease, self._returns, self._ship, self._letters.bury, turns=turns
        )
        self._consumers.add(consumer)
        return consumer

    def sizes(self) -> dict[str, QueueSize]:
        sizes = {
            queue: QueueSize(ready=found.ready) for queue, found in self._look(self._known).items()
        }
        for consumer in list(self._consumers):
            for queue, (ready, later, held) in consumer.counts().items():
                if self.declaration(queue).passing:
                    continue
                size = sizes.get(queue, QueueSize())
                sizes[queue] = QueueSize(
                    ready=size.ready + ready,
                    delayed=size.delayed + later,
                    leased=size.leased + held,
                )
        return {queue: size for queue, size in sorted(sizes.items()) if size != QueueSize()}

    def _look(self, queues: Iterable[str]) -> dict[str, Found]:
        """Return what the server says of those queues that it has."""
        names = list(queues)

        async def look(session: Session) -> dict[str, Found]:
            found = {name: await session.declarations.look_at(name) for name in names}
            return {name: one for name, one in found.items() if one is not None}

        return self._link.call(look)

    def purge(self, queue: str) -> int:
        dropped = sum(consumer.drop(queue) for consumer in list(self._consumers))
        return dropped + self._link.call(lambda session: session.declarations.purge(queue))

    def dead(self, limit: int = 100, which: DeadSelection = ALL_DEAD) -> list[DeadLetter]:
        return self._letters.newest(limit, which)

    def revive(self, which: DeadSelection) -> int:
        return self._letters.revive(which)

    def delete_dead(self, which: DeadSelection) -> int:
        return self._letters.delete(which)

    def release(self, queue: str) -> int:
        """Do nothing: what is delayed on RabbitMQ cannot be seen. Celery's workers get it when due."""
        return 0

    def worker_seen(self) -> float | None:
        # Celery's workers are not in the queue of presence, but they do consume.
        found = self._look([PRESENCE, *self._known])
        return wall() if any(one.consumers for one in found.values()) else None

    def close(self) -> None:
        self._link.close()


def _kind(kind: Any) -> str:
    if kind not in delays.KINDS:
        raise ImproperlyConfigured(
            f"broker_native_delayed_delivery_queue_type is {kind!r}; write {' or '.join(delays.KINDS)}"
        )
    return str(kind)
