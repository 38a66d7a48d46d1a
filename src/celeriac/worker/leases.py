"""Leases: the thread that keeps ours alive and takes back those that others let lapse.

It renews every quarter of a lease, sweeps every tenth, and clears old results away now and then. It
has connections of its own, so that neither a long claim nor a long commit can let a lease lapse.
"""

import logging
import threading
from collections.abc import Callable
from time import monotonic

from celeriac.brokers.base import Consumer
from celeriac.exceptions import OperationalError, StorageCorrupt
from celeriac.pools.base import ExecutorPool
from celeriac.results.base import ResultStore
from celeriac.service import Service
from celeriac.worker.flights import Flights

log = logging.getLogger("celeriac.worker")

EXPIRE_EVERY = 60.0
"""Seconds between clearances of old results."""
SOON = 1.0
"""Seconds after which a duty that could not be done is tried again: what is not renewed is lost."""


class Leases(Service):
    """Renews, sweeps, expires."""

    name = "leases"

    def __init__(
        self,
        consumer: Consumer,
        store: ResultStore | None,
        pool: ExecutorPool,
        flights: Flights,
        freed: Callable[[], None],
        on_failure: Callable[[Service], None],
    ) -> None:
        super().__init__(on_failure)
        self._consumer = consumer
        self._store = store
        self._pool = pool
        self._flights = flights
        self._freed = freed
        self._asked = threading.Event()
        self._ailing: set[Callable[[], None]] = set()
        self.beat = monotonic()
        """When it last went round; the worker ends if that is too long ago."""

    def run(self) -> None:
        duties = {
            self.renew: self._consumer.lease / 4,
            self.sweep: self._consumer.lease / 10,
            self.expire: EXPIRE_EVERY,
        }
        due = dict.fromkeys(duties, monotonic())
        while not self.stopping:
            self.beat = monotonic()
            for duty, interval in duties.items():
                if due[duty] <= monotonic():
                    done = self._attempt(duty)
                    due[duty] = monotonic() + (interval if done else min(interval, SOON))
            self._asked.wait(max(0.0, min(due.values()) - monotonic()))

    def wake(self) -> None:
        self._asked.set()

    def renew(self) -> None:
        """Extend our leases; end the runs whose lease is lost, for somebody else has their message."""
        receipts = self._flights.receipts()
        lost = self._consumer.renew(list(receipts))
        for receipt in lost:
            number = receipts[receipt]
            flight = self._flights.get(number)
            # One that has gone, or is being settled, has lost its receipt in the regular way.
            if flight is not None and not flight.settling:
                self._flights.remove(number)
                self._pool.cancel(number)
                log.warning("task %s: its lease was lost, its run is ended", flight.label)
        if lost:
            # No commit will follow that would tell the consumption so.
            self._freed()

    def sweep(self) -> None:
        """Take back messages whose holder has not renewed."""
        if taken := self._consumer.sweep():
            log.warning("%d tasks of a lost worker are ready again", taken)

    def expire(self) -> None:
        """Clear away results that have outlived their time."""
        if self._store is not None:
            while self._store.expire() and not self.stopping:
                pass

    def _attempt(self, duty: Callable[[], None]) -> bool:
        """Do it; return whether it could be done."""
        try:
            duty()
            self._ailing.discard(duty)
            return True
        except StorageCorrupt:
            raise
        except OperationalError as error:
            # Said once for each duty: sweeping may go well, while renewing does not.
            if duty not in self._ailing:
                log.error("cannot look after leases, trying again: %s", error)
            self._ailing.add(duty)
            return False
