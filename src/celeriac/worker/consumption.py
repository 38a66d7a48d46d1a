"""Consumption: the thread that claims messages and submits them to the pool.

It never holds more than the window allows, and gives back what turns out not to fit. When the
broker is away it waits and tries again; what is claimed already is the business of others.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from celeriac.backoff import exponential, spread
from celeriac.brokers.base import Consumer
from celeriac.clock import wall
from celeriac.exceptions import OperationalError, StorageCorrupt
from celeriac.message import Delivery
from celeriac.pools.base import ExecutorPool
from celeriac.service import Service
from celeriac.worker.completer import Completer
from celeriac.worker.dispatcher import Deferred, Dispatcher, Refused, unknown
from celeriac.worker.flights import Flight, Flights, on_trial
from celeriac.worker.window import MOST_AHEAD, MOST_BYTES, Window

log = logging.getLogger("celeriac.worker")

IDLE = 30.0
"""Seconds after which an idle wait begins anew."""
LONGEST_PAUSE = 2.0
"""Seconds between two attempts at a broker that is away."""
MOST_HELD = 2 * MOST_AHEAD
"""Messages in hand: as many that have run, and wait for their commit, as are ahead of the slots."""
TRIAL = 1.0
"""Seconds that a task which is on trial waits for another one to end: here, and then in its queue."""

Fire = Callable[[str, dict[str, Any], Delivery], None]
"""Fires a signal about a delivery; the arguments are data."""


class Consumption(Service):
    """Claims and submits."""

    name = "consumption"

    def __init__(
        self,
        consumer: Consumer,
        pool: ExecutorPool,
        dispatcher: Dispatcher,
        completer: Completer,
        flights: Flights,
        window: Window,
        fire: Fire,
        on_failure: Callable[[Service], None],
    ) -> None:
        super().__init__(on_failure)
        self._consumer = consumer
        self._pool = pool
        self._dispatcher = dispatcher
        self._completer = completer
        self._flights = flights
        self._window = window
        self._fire = fire
        self._unsent: deque[Flight] = deque()
        self._aside: deque[tuple[float, Flight]] = deque()
        """What waits here for a trial to end, and until when. Its lease is not renewed meanwhile."""
        self._trial = min(TRIAL, consumer.lease / 4)
        self._room = threading.Event()
        self._failures = 0

    def run(self) -> None:
        while not self.stopping:
            try:
                self.step()
                self._failures = 0
            except StorageCorrupt:
                raise
            except OperationalError as error:
                self._pause(error)
        with suppress(OperationalError):
            self._consumer.requeue([flight.delivery.receipt for _, flight in self._aside])

    def step(self, patience: float = IDLE) -> bool:
        """Submit, claim or wait, once; return whether something was claimed.

        Where there is nothing to do it waits up to ``patience`` seconds.
        """
        self._room.clear()
        self._send()
        if self._aside:
            patience = min(patience, self._try_next())
        held = self._unfinished
        full = self._unsent or len(self._flights) >= MOST_HELD or not self._window.low(held)
        if full or not self._completer.well:
            self._room.wait(patience)
            return False
        count = self._window.room(held)
        look = count and not self._consumer.exhausted
        if look and (deliveries := self._consumer.claim(count, MOST_BYTES)):
            self._receive(deliveries)
            return True
        if count:
            self._consumer.wait(patience)
        else:
            self._room.wait(patience)
        return False

    def wake(self) -> None:
        self._room.set()
        self._consumer.wake()

    def freed(self) -> None:
        """Something has finished: there may be room. Any thread; cheap."""
        if not self._room.is_set():
            self._room.set()
        if self._aside:
            self._consumer.wake()

    def unsent(self) -> list[Flight]:
        """Return the flights that were claimed and could not be submitted, once this has stopped."""
        return list(self._unsent)

    @property
    def _unfinished(self) -> int:
        """How many runs are still to end. What has ended waits for its commit, and keeps no slot."""
        return self._pool.outstanding + len(self._unsent)

    def _receive(self, deliveries: Sequence[Delivery]) -> None:
        self._window.reset([f.task.name for f in self._flights.all() if not f.settling])
        overflow = []
        unfinished = self._unfinished
        for delivery in deliveries:
            if not self._window.admits(delivery.message.task, unfinished):
                overflow.append(delivery.receipt)
                continue
            admission = self._dispatcher.admit(delivery)
            if isinstance(admission, Flight):
                unfinished += 1
                if delivery.losses and on_trial(delivery) and self._flights.on_trial:
                    # One at a time: if this worker dies again, only the one that did it is to blame.
                    self._aside.append((monotonic() + self._trial, admission))
                else:
                    self._launch(admission)
            elif isinstance(admission, Deferred):
                self._consumer.defer(admission.receipt, admission.due, unknown=admission.unknown)
                if admission.unknown:
                    self._fire("task_unknown", unknown(delivery), delivery)
            else:
                self._refuse(admission, delivery)
        if overflow:
            self._consumer.requeue(overflow)
            self._window.overflowed(len(deliveries) - len(overflow))
        else:
            self._window.fitted()

    def _launch(self, flight: Flight) -> None:
        self._window.enter(flight.task.name)
        self._flights.add(flight)
        if self._unsent or not self._pool.submit(flight.job, flight.limits):
            self._unsent.append(flight)
        self._fire("task_received", {}, flight.delivery)

    def _try_next(self) -> float:
        """Launch what waits for a trial to end, if there is none now; return how long it may wait.

        What has waited for too long goes to the tail of its queue: another worker may have it.
        """
        while self._aside:
            until, flight = self._aside[0]
            left = until - monotonic()
            if self._flights.on_trial and left > 0:
                return left
            self._aside.popleft()
            if self._flights.on_trial:
                self._consumer.defer(flight.delivery.receipt, wall() + TRIAL)
            else:
                self._launch(flight)
        return IDLE

    def _refuse(self, refused: Refused, delivery: Delivery) -> None:
        self._completer.complete(refused.completion)
        if refused.signal:
            self._fire(refused.signal, refused.arguments, delivery)

    def _send(self) -> None:
        while self._unsent:
            flight = self._unsent[0]
            if not self._pool.submit(flight.job, flight.limits):
                return
            self._unsent.popleft()

    def _pause(self, error: OperationalError) -> None:
        """Wait after an error, longer each time; said once, and again when it is over."""
        if self._failures == 0:
            log.error("cannot claim tasks, trying again: %s", error)
        pause = spread(exponential(self._failures, factor=0.1, maximum=LONGEST_PAUSE))
        self._failures += 1
        self._room.clear()
        self._room.wait(pause)
