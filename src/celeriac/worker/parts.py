"""The parts between a broker and a pool, wired together: what every worker is made of.

No thread is started here, and nothing is opened: ``worker.Worker`` runs the parts in threads, the
inbox of ``celeriac.testing`` steps them by hand.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from celeriac.brokers.base import LEASE, Broker, Consumer
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.pools.base import ExecutorPool
from celeriac.pools.manifest import Manifest
from celeriac.results.base import ResultStore
from celeriac.service import Service
from celeriac.settings import Settings
from celeriac.worker.completer import Completer
from celeriac.worker.consumption import Consumption, Fire
from celeriac.worker.dispatcher import Dispatcher, Find
from celeriac.worker.documents import Documents
from celeriac.worker.flights import Flights
from celeriac.worker.leases import Leases
from celeriac.worker.window import Window

log = logging.getLogger("celeriac.worker")

QUEUE_ORDERS = ("round_robin", "sorted", "priority")
"""Queues take turns; or the first by name, or in the order of ``-Q``, goes first."""


class Post(Struct, frozen=True, kw_only=True):
    """Who works, and on what."""

    hostname: str
    queues: tuple[str, ...]
    slots: int


class Parts:
    """Consumer, consumption, completer, leases, and what they share.

    ``fire`` has the receivers of a signal called, ``failed`` hears of a service that has failed,
    ``find`` finds tasks in place of the manifest. Broker and store may belong to somebody else;
    the consumer is this worker's own.
    """

    def __init__(
        self,
        pool: ExecutorPool,
        manifest: Manifest,
        broker: Broker,
        store: ResultStore | None,
        post: Post,
        fire: Fire,
        failed: Callable[[Service], None],
        find: Find | None = None,
    ) -> None:
        settings = Settings(**manifest.settings)
        documents = Documents(settings, post.hostname)
        self.consumer = make_consumer(broker, post.queues, settings.broker_transport_options)
        self.flights = flights = Flights()
        self.window = Window(post.slots, settings.worker_prefetch_multiplier)
        self.completer = Completer(
            broker,
            self.consumer,
            store,
            pool,
            flights,
            self.window,
            documents,
            settings.task_delivery_limit,
            failed,
        )
        self.consumption = Consumption(
            self.consumer,
            pool,
            Dispatcher(manifest, settings, documents, find),
            self.completer,
            flights,
            self.window,
            fire,
            failed,
        )
        self.completer.fire = fire
        self.completer.on_room = freed = self.consumption.freed
        self.leases = Leases(self.consumer, store, pool, flights, freed, failed)

    @property
    def idle(self) -> bool:
        """Whether nothing is in hand, and everything reported is committed."""
        return not len(self.flights) and self.completer.idle()

    def give_back(self, numbers: Iterable[int]) -> None:
        """Give back the messages of jobs that have not begun."""
        flights = [flight for n in numbers if (flight := self.flights.remove(n)) is not None]
        try:
            self.consumer.requeue([flight.delivery.receipt for flight in flights])
        except OperationalError as error:
            log.error("cannot give back %d tasks now: %s", len(flights), error)


def make_consumer(broker: Broker, queues: Sequence[str], options: Mapping[str, Any]) -> Consumer:
    """Return the consumer of these queues, as ``broker_transport_options`` wants it (ROUTE-16)."""
    order = options.get("queue_order_strategy", "round_robin")
    if order not in QUEUE_ORDERS:
        raise ImproperlyConfigured(
            f"queue_order_strategy in broker_transport_options is {order!r}; write "
            f"{', '.join(QUEUE_ORDERS)}"
        )
    queues = sorted(queues) if order == "sorted" else queues
    lease = float(options.get("lease", LEASE))
    return broker.consumer(queues, lease=lease, turns=order == "round_robin")
