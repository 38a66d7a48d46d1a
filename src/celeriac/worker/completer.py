"""The completer: the thread that makes outcomes true.

It reads the pool's reports, turns each into a completion by the settlement table, and commits in
batches. A batch that the broker or the store cannot take now is kept and tried again, leases
renewed meanwhile; nothing more is claimed until it is through. Held outcomes are bounded: beyond
``MOST_HELD`` bytes no report is read, and children wait with theirs.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic, sleep
from typing import Any

import msgspec
from msgspec import Struct

from celeriac import run_log, states
from celeriac.backoff import exponential, spread
from celeriac.brokers.base import Broker, Consumer
from celeriac.completion import Completion, Put, Settlement, Verdict, refused
from celeriac.exceptions import (
    CeleriacError,
    ImproperlyConfigured,
    OperationalError,
    StorageCorrupt,
)
from celeriac.message import Delivery, Publish
from celeriac.outcome import Ending, Outcome
from celeriac.pools.base import ExecutorPool, Finished, Lost, Report, Started, Stored
from celeriac.pools.chores import death
from celeriac.results.base import ResultStore
from celeriac.service import Service
from celeriac.worker.documents import Documents
from celeriac.worker.flights import Flight, Flights
from celeriac.worker.retries import next_run
from celeriac.worker.settlement import Decision, settle
from celeriac.worker.window import MOST, MOST_BYTES, Window

log = logging.getLogger("celeriac.worker")

MOST_HELD = 256 * 1024 * 1024
"""Bytes of outcomes that may wait for a commit."""
LONGEST_PAUSE = 2.0
"""Seconds between two attempts at a commit."""
ASIDE = 0.5
"""Seconds after which it is tried again to commit what has no message at the moment."""
LAST_TRIES = 3
"""Failed commits after which a stopping worker gives up; its messages are redelivered."""
CUT_SHORT = (Ending.LOST, Ending.TIMED_OUT, Ending.STOPPED)
"""Endings that may come before a run has begun."""
CROWD = 32
"""Jobs under way from which on a commit waits for company."""
GATHER = 0.001
"""Seconds that it waits."""
HEAVY = 64 * 1024
"""Bytes that came at once, after which it does not wait: what children have written fills their sockets,
and they cannot go on before it is read.
"""


class Item(Struct):
    """Something to be made true, in the order of the reports."""

    completion: Completion | None
    """None if the message was acknowledged before: only documents and messages are left."""
    flight: Flight | None = None
    outcome: Outcome | None = None
    """Set on the last item of a flight."""
    puts: tuple[Put, ...] = ()
    publishes: tuple[Publish, ...] = ()
    begins: bool = False
    """The run waits for this, to begin."""
    refusal: Verdict | None = None
    """Why it cannot be made true, if it has no completion that would be told."""

    @property
    def size(self) -> int:
        """Bytes of its documents and messages."""
        puts, publishes = self.puts, self.publishes
        if self.completion is not None:
            puts, publishes = self.completion.puts, self.completion.publishes
        # Loops, not sums over generators: those cost a call for each element, on the road of a task.
        size = 0
        for put in puts:
            size += len(put.value)
        for publish in publishes:
            size += len(publish.message.body)
        return size


class Completer(Service):
    """Commits."""

    name = "completer"

    def __init__(
        self,
        broker: Broker,
        consumer: Consumer,
        store: ResultStore | None,
        pool: ExecutorPool,
        flights: Flights,
        window: Window,
        documents: Documents,
        limit: int,
        on_failure: Callable[[Service], None],
    ) -> None:
        super().__init__(on_failure)
        self._broker = broker
        self._consumer = consumer
        self._store = store
        self._pool = pool
        self._flights = flights
        self._window = window
        self._documents = documents
        self._limit = limit
        self._items: deque[Item] = deque()
        self._given: deque[Item] = deque()
        self._aside: list[Item] = []
        """What waits for its message to come back."""
        self._recalled_at = 0.0
        self._failures = 0
        self._heavy = False
        self._retry_at = 0.0
        self._settled = threading.Condition()
        self.on_room: Callable[[], None] = lambda: None
        """Called when something has been settled."""
        self.fire: Callable[[str, dict[str, Any], Delivery], None] = lambda *_: None
        """Has the receivers of a signal called, if there are any."""

    @property
    def well(self) -> bool:
        """Whether commits go through. While they do not, nothing more is claimed."""
        return self._failures == 0

    def complete(self, completion: Completion) -> None:
        """Commit a completion that needed no run. Any thread."""
        self._given.append(Item(completion))
        self._pool.wake()

    def run(self) -> None:
        while not self.stopping:
            self.step(self._patience())
        # What children had written before they were ended counts.
        self.step(0.0)
        while self._items and self._failures <= LAST_TRIES:
            self.step(self._patience())

    def step(self, timeout: float | None) -> None:
        """Wait for reports, and commit what there is."""
        if timeout is None and self._pool.outstanding >= CROWD and not self._heavy:
            # Plenty is under way: let outcomes gather, so that one commit serves many.
            sleep(GATHER)
        if sum(item.size for item in self._items) < MOST_HELD:
            for report in self._pool.reports(timeout):
                self._take(report)
            # Its commit takes a while: what is to run next can be claimed meanwhile.
            self.on_room()
        elif timeout:
            threading.Event().wait(timeout)
        while self._given:
            self._items.append(self._given.popleft())
        if self._aside and monotonic() >= self._recalled_at:
            # A state that was set aside is no news after the outcome.
            self._items.extendleft(item for item in reversed(self._aside) if self._is_news(item))
            self._aside = []
        while self._items and monotonic() >= self._retry_at:
            self._commit()

    def _is_news(self, item: Item) -> bool:
        flight = item.flight
        return flight is None or self._flights.get(flight.job.number) is flight

    def wake(self) -> None:
        self._pool.wake()

    def idle(self) -> bool:
        """Whether everything reported is committed."""
        return not (self._items or self._given or self._aside)

    def _patience(self) -> float | None:
        if self._items:
            return max(0.0, self._retry_at - monotonic())
        if self._aside:
            return max(0.0, self._recalled_at - monotonic())
        return 0.0 if self.stopping or self._given else None

    # -- from reports to items

    def _take(self, report: Report) -> None:
        flight = self._flights.get(report.number)
        if flight is None:
            if isinstance(report, Started):
                self._pool.permit(report.number, False)
        elif isinstance(report, Finished):
            self._conclude(flight, report.outcome)
        elif isinstance(report, Stored):
            self._items.append(self._item(flight, Settlement.KEEP, (report.put,)))
        elif isinstance(report, Started):
            settlement = Settlement.KEEP if flight.task.acks_late else Settlement.ACK
            item = self._item(flight, settlement)
            item.begins = True
            self._items.append(item)
        elif isinstance(report, Lost):
            self._mourn(flight, report)
        else:
            self._conclude(flight, Outcome(ending=Ending.STOPPED))

    def _item(
        self, flight: Flight, settlement: Settlement | None, puts: tuple[Put, ...] = ()
    ) -> Item:
        if settlement is None or flight.acknowledged:
            return Item(None, flight, puts=puts)
        flight.settling = settlement is not Settlement.KEEP
        receipt = flight.delivery.receipt
        completion = Completion(receipt=receipt, settlement=settlement, puts=puts)
        return Item(completion, flight)

    def _conclude(self, flight: Flight, outcome: Outcome) -> None:
        """A run ended, in its child or with it."""
        decision = self._decide(flight, outcome.ending)
        message = flight.delivery.message
        puts: tuple[Put, ...] = ()
        if outcome.document and self._store is not None:
            puts = (self._documents.put(message, outcome.document, outcome.state),)
        self._items.append(self._final(flight, outcome, decision, puts))

    def _decide(self, flight: Flight, ending: Ending) -> Decision:
        if not flight.task.acks_late and not flight.settling and ending in CUT_SHORT:
            # It waited for leave to begin: the message is not acknowledged, and nothing has run.
            return Decision(Settlement.REQUEUE)
        return settle(ending, flight.task, flight.delivery.losses, self._limit, flight.retries)

    def _mourn(self, flight: Flight, lost: Lost) -> None:
        """A run died with its child, or was killed at its hard limit."""
        ending = Ending.LOST if lost.overtime is None else Ending.TIMED_OUT
        outcome = Outcome(ending=ending, reason=f"task {flight.label} was lost: {lost.reason}")
        decision = self._decide(flight, ending)
        puts: tuple[Put, ...] = ()
        if decision.fails:
            error = death(lost.overtime, outcome.reason)
            if self._store is not None and flight.keeps_errors:
                message = flight.delivery.message
                puts = (self._documents.failure(message, error, flight.delivery.queue),)
            self._tell(flight, outcome, lost)
        elif decision.retries:
            again = next_run(flight.delivery, flight.task.default_retry_delay)
            outcome = msgspec.structs.replace(outcome, publishes=(again,))
            puts = self._retry(flight, outcome.reason)
        if lost.overtime is not None:
            run_log.overran(flight.task.name, flight.job.message.id, lost.overtime)
        if lost.overtime is None or not decision.fails:
            log.error("%s (%s)", outcome.reason, "failed" if decision.fails else "to be run again")
        self._items.append(self._final(flight, outcome, decision, puts))

    def _retry(self, flight: Flight, reason: str) -> tuple[Put, ...]:
        """Tell of the retry of a run that died; return the document of its state."""
        delivery = flight.delivery
        self.fire("task_retry", {"reason": reason, "einfo": reason}, delivery)
        if self._store is None or not flight.keeps_errors:
            return ()
        error = death(None, reason)
        return (self._documents.failure(delivery.message, error, delivery.queue, states.RETRY),)

    def _tell(self, flight: Flight, outcome: Outcome, lost: Lost) -> None:
        """Have the handlers called that the dead run cannot call any more."""
        if flight.task.handlers:
            message = flight.delivery.message
            self._pool.spare.do(message=message, text=outcome.reason, overtime=lost.overtime)

    def _final(
        self, flight: Flight, outcome: Outcome, decision: Decision, puts: tuple[Put, ...]
    ) -> Item:
        if decision.settlement is None or flight.acknowledged:
            return Item(None, flight, outcome, puts, outcome.publishes)
        flight.settling = True
        completion = Completion(
            receipt=flight.delivery.receipt,
            settlement=decision.settlement,
            reason=outcome.reason,
            puts=puts,
            publishes=outcome.publishes,
        )
        return Item(completion, flight, outcome)

    # -- from items to facts

    def _commit(self) -> None:
        batch = self._batch()
        try:
            verdicts = self._make_true(batch)
        except StorageCorrupt:
            raise
        except OperationalError as error:
            self._postpone(error)
            return
        if self._failures:
            log.warning("results can be stored again")
        self._failures = 0
        again = []
        for item, verdict in zip(batch, verdicts, strict=True):
            self._items.popleft()
            if verdict is not None and verdict.kind == "refused":
                again.append(self._without_value(item, verdict.error))
            elif verdict is not None and verdict.kind == "away":
                self._aside.append(item)
                self._recalled_at = monotonic() + ASIDE
            else:
                self._done(item, verdict)
        self._items.extendleft(reversed(again))
        self.on_room()

    def _batch(self) -> list[Item]:
        batch: list[Item] = []
        size = 0
        for item in self._items:
            size += item.size
            if batch and (len(batch) >= MOST or size > MOST_BYTES):
                break
            batch.append(item)
        self._heavy = size > HEAVY
        return batch

    def _make_true(self, batch: list[Item]) -> list[Verdict | None]:
        """Commit a batch; the verdicts are None for items without a completion."""
        begins = [i for i in batch if i.begins and i.flight is not None and i.flight.task.acks_late]
        if begins:
            self._consumer.start([i.completion.receipt for i in begins if i.completion])
        completions = [item.completion for item in batch if item.completion is not None]
        if len(completions) < len(batch):
            self._make_loose_true([item for item in batch if item.completion is None])
        verdicts = iter(self._consumer.commit(completions, self._store))
        return [next(verdicts) if item.completion else item.refusal for item in batch]

    def _make_loose_true(self, items: list[Item]) -> None:
        """Publish and store what follows from runs whose message was acknowledged before."""
        for item in items:
            item.refusal = self._refusal(item.puts)
        items = [item for item in items if item.refusal is None]
        alone = [i for i in items if any(publish.exchange for publish in i.publishes)]
        for item in alone:
            try:
                self._send([item])
            except ImproperlyConfigured as error:
                item.refusal = refused(str(error))
        self._send([item for item in items if item.publishes and item.refusal is None])
        puts = [put for item in items if item.refusal is None for put in item.puts]
        if self._store is not None and puts:
            self._store.put(puts)

    def _send(self, items: Sequence[Item]) -> None:
        """Publish what follows: once, however often the store must be asked after that."""
        if publishes := [publish for item in items for publish in item.publishes]:
            self._broker.publish(publishes)
        for item in items:
            item.publishes = ()

    def _refusal(self, puts: tuple[Put, ...]) -> Verdict | None:
        """Return a refusal if the store will never take one of these documents."""
        errors = (self._store.refusal(put) for put in puts) if self._store is not None else ()
        return next((refused(error) for error in errors if error is not None), None)

    def _postpone(self, error: OperationalError) -> None:
        if self._failures == 0:
            log.error("cannot store results, keeping them and trying again: %s", error)
        pause = spread(exponential(self._failures, factor=0.1, maximum=LONGEST_PAUSE))
        self._failures += 1
        self._retry_at = monotonic() + pause

    def _done(self, item: Item, verdict: Verdict | None) -> None:
        flight = item.flight
        if flight is None:
            return
        number = flight.job.number
        stale = verdict is not None and verdict.kind == "stale"
        if item.begins:
            flight.acknowledged = not flight.task.acks_late and not stale
            self._pool.permit(number, not stale)
        if item.outcome is not None:
            self._flights.remove(number)
            if item.outcome.runtime is not None:
                self._window.learn(flight.task.name, item.outcome.runtime)
        elif stale:
            self._flights.remove(number)
            self._pool.cancel(number)
        if stale:
            log.warning("task %s: its lease was lost, its outcome is dropped", flight.label)

    def _without_value(self, item: Item, error: str) -> Item:
        """Turn a result that the store will never take, or that leads nowhere, into a failure.

        A document that is no result (a state, the end of a message that never ran) is left out.
        """
        flight, outcome = item.flight, item.outcome
        log.error("task %s: %s", flight.label if flight else "that did not run", error)
        if flight is None or outcome is None:
            completion = item.completion and msgspec.structs.replace(item.completion, puts=())
            return Item(completion, flight, outcome)
        failed = Outcome(ending=Ending.FAILED, reason=error, runtime=outcome.runtime)
        decision = settle(Ending.FAILED, flight.task, flight.delivery.losses, self._limit)
        return self._final(flight, failed, decision, self._failure_that_fits(flight, error))

    def _failure_that_fits(self, flight: Flight, error: str) -> tuple[Put, ...]:
        """Return a failure in place of a result, without the call if that is what is too large."""
        message, queue = flight.delivery.message, flight.delivery.queue
        for bare in (False, True):
            put = self._documents.failure(message, CeleriacError(error), queue, bare=bare)
            if self._refusal((put,)) is None:
                return (put,)
        return ()
