"""The worker: makes its parts in order, looks after the pool, and stops everything in reverse.

Its main thread supervises the pool and obeys signals: TERM and INT stop warm (finish what runs),
QUIT or a second signal stops cold (end what runs, give it back). A part that fails ends the worker:
what it held is redelivered when its leases end.
"""

import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from itertools import count
from time import monotonic, sleep
from typing import Any

from celeriac.backoff import exponential, spread
from celeriac.brokers.base import Broker
from celeriac.brokers.urls import open_broker
from celeriac.exceptions import (
    CeleriacError,
    ImproperlyConfigured,
    OperationalError,
    StorageCorrupt,
)
from celeriac.message import Delivery
from celeriac.pools.base import ExecutorPool
from celeriac.pools.manifest import Manifest
from celeriac.results.base import ResultStore
from celeriac.results.urls import open_store
from celeriac.service import Service
from celeriac.settings import Settings
from celeriac.wire import serializers
from celeriac.worker.banner import banner
from celeriac.worker.dispatcher import Find
from celeriac.worker.options import WorkerOptions
from celeriac.worker.parts import Parts, Post

log = logging.getLogger("celeriac.worker")

LONGEST_PAUSE = 4.0
"""Seconds between two attempts to reach the broker at the start."""
LAST_COMMIT = 10.0
"""Seconds that a stopping worker gives its last commits and chores."""
CLOGGED = 1.0
"""Seconds for which every slot must have been busy before what waits behind them is given back."""
STALLED = 10.0
"""Seconds without a round of the lease thread that end the worker."""


class Worker:
    """One worker. ``run`` returns when it has stopped.

    It opens what the manifest names, unless it is given a broker, with the store that goes with it:
    those of the app that shares its process. ``find`` finds tasks in place of the manifest.
    """

    def __init__(
        self,
        pool: ExecutorPool,
        manifest: Manifest,
        options: WorkerOptions,
        *,
        broker: Broker | None = None,
        store: ResultStore | None = None,
        find: Find | None = None,
    ) -> None:
        self.settings = settings = Settings(**manifest.settings)
        if manifest.signing is not None:
            serializers.sign_later(manifest.signing)
        self.manifest = manifest
        self.options = options
        self.pool = pool
        self.slots = options.concurrency or _concurrency(settings.worker_concurrency)
        self.queues = manifest.queues
        attempts = 1.0
        if broker is None:
            broker, store = _opened(manifest, settings)
            attempts = _attempts(broker, settings)
        post = Post(hostname=options.hostname, queues=self.queues, slots=self.slots)
        make = partial(Parts, pool, manifest, broker, store, post, self._fire, self._failed, find)
        self.parts = parts = _reached(make, attempts)
        self.consumer, self.flights, self.window = parts.consumer, parts.flights, parts.window
        self.completer, self.consumption = parts.completer, parts.consumption
        self.leases = parts.leases
        self.failure: BaseException | None = None
        self._signals: list[int] = []
        self._warm = False
        self._cold = False
        self._cold_at = float("inf")

    # -- life

    def run(self) -> int:
        """Work until a signal says to stop; return the exit status. The main thread."""
        self._install_signals()
        return self.work()

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ask for the stop that this signal stands for. Any thread, and signal handlers."""
        self._signals.append(number)
        self.pool.nudge()

    def work(self) -> int:
        """Work until told to stop; return the exit status. The thread that supervises the pool."""
        try:
            self.pool.start(self.slots)
            for service in (self.leases, self.completer, self.consumption):
                service.start()
            self._greet()
            while not self._finished():
                self.pool.supervise(self._patience())
                self._obey()
                self._watch()
                self._unclog()
            self._wind_up()
        finally:
            self.pool.stop()
        if self.failure is None:
            return 0
        # What is ours says itself what to do; the trace of anything else is wanted in a report.
        known = isinstance(self.failure, CeleriacError)
        log.critical("the worker ends: %s", self.failure, exc_info=None if known else self.failure)
        return 1

    def _greet(self) -> None:
        if not self.options.quiet:
            text = banner(self.manifest, self.options.hostname, self.slots, self.queues)
            print(text, flush=True)  # noqa: T201 - the banner is for people, logs are for the rest
        if self.manifest.threads:
            log.warning(
                "importing the app started threads (%s), which forked processes do not have; start them "
                "in a receiver of worker_process_init",
                ", ".join(self.manifest.threads),
            )
        if self.manifest.sockets:
            log.warning(
                "importing the app opened %d sockets, which forked processes would share; open them in a "
                "receiver of worker_process_init",
                self.manifest.sockets,
            )
        for old, new in self.manifest.deprecated.items():
            log.warning("the setting %s is deprecated; write %s instead", old, new)
        log.info("%s ready.", self.options.hostname)
        self._fire("worker_ready", {})

    def _finished(self) -> bool:
        if self._cold or self.failure is not None:
            return True
        return self._warm and self.parts.idle

    def _patience(self) -> float:
        return 0.05 if self._warm else min(1.0, max(0.0, self._cold_at - monotonic()))

    def _wind_up(self) -> None:
        """Bring the last outcomes home, give back what is left, and end the services."""
        if self.failure is None:
            self._fire("worker_shutdown", {})
            deadline = monotonic() + LAST_COMMIT
            while self.pool.spare.busy and monotonic() < deadline:
                self.pool.supervise(0.05)
        self.consumption.stop()
        self.pool.stop()
        self.completer.stop()
        self.leases.stop()
        services: tuple[Service, ...] = (self.consumption, self.completer, self.leases)
        for service in services:
            service.join(LAST_COMMIT)
        try:
            # Whatever is still held (ended by a cold stop) goes back, uncounted.
            self.consumer.close()
        except OperationalError as error:
            log.error("cannot give back %d tasks: %s", len(self.flights), error)

    # -- signals

    def _install_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _: Any) -> None:
        self.stop(number)

    def _obey(self) -> None:
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGQUIT or self._warm:
                self._stop_cold(number)
            else:
                self._stop_warm(number)
        if self._warm and monotonic() >= self._cold_at:
            self._stop_cold(signal.SIGTERM)

    def _stop_warm(self, number: int) -> None:
        """Claim nothing more, give back what has not begun, let finish what runs (WORK-15)."""
        log.warning("stopping: waiting for %d running tasks", len(self.pool.running()))
        self._warm = True
        grace = self.options.grace
        grace = self.settings.worker_grace if grace is None else grace
        if grace is not None:
            self._cold_at = monotonic() + grace
        self._announce_stop(number, "Warm")
        self._stop_claiming()
        self.pool.drain()

    def _stop_cold(self, number: int) -> None:
        """End what runs, too; its messages go back, uncounted (WORK-17)."""
        if self._cold:
            return
        log.warning("stopping now: ending %d running tasks", len(self.pool.running()))
        self._announce_stop(number, "Cold")
        self._stop_claiming()
        self.pool.halt()
        self._cold = True

    def _announce_stop(self, number: int, how: str) -> None:
        self._fire(
            "worker_shutting_down", {"sig": signal.Signals(number).name, "how": how, "exitcode": 0}
        )

    def _stop_claiming(self) -> None:
        """End the consumption, and give back every message that has not begun to run."""
        if self.consumption.stopping:
            return
        self.consumption.stop()
        self.consumption.join(LAST_COMMIT)
        unsent = (flight.job.number for flight in self.consumption.unsent())
        self.parts.give_back([*self.pool.recall(), *unsent])

    def _unclog(self) -> None:
        """Give back what waits behind runs that take much longer than was thought."""
        running = self.pool.running()
        waits = self.pool.outstanding > len(running) >= self.slots
        if waits and min(running.values()) > CLOGGED:
            self.window.clogged()
            self.parts.give_back(self.pool.recall())

    # -- faults

    def _failed(self, service: Service) -> None:
        """A part has failed: the worker ends. Called in that part's thread."""
        self.failure = self.failure or service.failure
        self.pool.nudge()

    def _watch(self) -> None:
        """End a worker whose lease thread hangs: its leases lapse, and others take its messages."""
        silent = monotonic() - self.leases.beat
        if silent > STALLED + self.broker_patience and self.leases.alive:
            self._stalled += 1
            # Not at once: after a stop of the whole process both threads wake in any order.
            if self._stalled > 2:
                self.failure = RuntimeError(f"the lease thread has not moved for {silent:.0f} s")
        else:
            self._stalled = 0

    _stalled = 0

    @property
    def broker_patience(self) -> float:
        """Seconds that one call of the broker may take."""
        return self.settings.broker_timeout

    def _fire(self, name: str, arguments: dict[str, Any], delivery: Delivery | None = None) -> None:
        """Have the receivers of a signal called in the spare child, if there are any."""
        if name in self.manifest.receivers:
            sender = self.options.hostname
            self.pool.spare.do(signal=name, sender=sender, arguments=arguments, delivery=delivery)


def _opened(manifest: Manifest, settings: Settings) -> tuple[Broker, ResultStore | None]:
    """Return broker and store as the manifest names them. Raises ImproperlyConfigured."""
    if manifest.broker.startswith("memory:"):
        raise ImproperlyConfigured(
            "memory:// lives inside one process, and a worker is another one; leave broker_url out "
            "for the embedded file"
        )
    broker = open_broker(manifest.broker, settings)
    broker.queues = {queue.name: queue for queue in manifest.declared}
    return broker, open_store(manifest.store, settings, lambda: broker)


def _attempts(broker: Broker, settings: Settings) -> float:
    """Return how often to try to reach the broker at the start (BROK-11).

    Once, if it is a file: one that cannot be used now will not come back by itself.
    """
    if broker.url.startswith("sqlite:"):
        return 1
    again = settings.broker_connection_retry_on_startup
    if not (settings.broker_connection_retry if again is None else again):
        return 1
    return 1 + (settings.broker_connection_max_retries or float("inf"))


def _reached(make: Callable[[], Parts], attempts: float) -> Parts:
    """Make the parts, again and again while the broker is away. Signals end it as any program.

    Raises OperationalError if so many attempts have failed.
    """
    for attempt in count():
        try:
            return make()
        except StorageCorrupt:
            raise
        except OperationalError as error:
            if attempt + 1 >= attempts:
                raise
            if attempt == 0:
                log.error("cannot begin, trying again: %s", error)
        sleep(spread(exponential(attempt, factor=0.1, maximum=LONGEST_PAUSE)))
    raise AssertionError("a count has no end")


def _concurrency(setting: int | str | None) -> int:
    """Return how many children to run: as set, else one for each CPU that may be used."""
    if isinstance(setting, int) and setting > 0:
        return setting
    return len(os.sched_getaffinity(0))
