"""The inbox: what an app enqueues is kept in memory, and run when the test says so.

The road is the real one: messages are encoded, routed and published, a worker's dispatcher,
``execution``, completer and settlement take them from there, and results are stored. Only three
things are others than in production: the broker and the store are in memory, the pool runs jobs in
the thread of the test, and the clock is moved by hand. What tasks wait for themselves (``sleep``)
takes its time.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import EllipsisType
from typing import Any

import msgspec

from celeriac import clock, signals
from celeriac.app import Celery
from celeriac.brokers.memory import MemoryBroker
from celeriac.exceptions import ImproperlyConfigured, OperationalError, TaskError
from celeriac.message import DeadLetter, Delivery
from celeriac.outcome import Ending, Outcome
from celeriac.pools.base import Job
from celeriac.pools.inline import InlinePool
from celeriac.results.memory import MemoryStore
from celeriac.service import Service
from celeriac.settings import Settings
from celeriac.task import Task
from celeriac.testing.apps import connect, disconnect
from celeriac.testing.clocks import FakeClock, length, seconds_of
from celeriac.testing.messages import Enqueued, Ran, enqueued, expected, mismatch, opened
from celeriac.testing.worker import find_in, manifest_of
from celeriac.worker.parts import Parts, Post

ENDLESS = 10_000
"""Runs without a move of the clock after which tasks are taken to enqueue each other for ever."""

Tasks = Task[Any, Any] | str


class Inbox:
    """The messages of an app, in the hands of a test. A context manager; one thread.

    Meanwhile the app uses a broker and a store in memory in place of its own, empty at first, and
    ``clock`` is the wall clock of Celeriac in this process, standing still at ``at`` (an aware
    datetime; without it, now). At the end all of this is undone, and what is still enqueued is
    gone. Raises ImproperlyConfigured for an app that calls its tasks eagerly.
    """

    def __init__(self, app: Celery, *, at: datetime | None = None, hostname: str = "inbox") -> None:
        self.app = app
        self.clock = FakeClock(at)
        self.ran: list[Ran] = []
        """Every run so far."""
        self._hostname = hostname
        self._broker = MemoryBroker()
        self._log = _RunLog(self.ran)
        self._pool = InlinePool(app, hostname, self._log.add)
        self._worker: _Worker | None = None

    def __enter__(self) -> "Inbox":
        if self.app.settings.task_always_eager:
            raise ImproperlyConfigured(
                "task_always_eager is on: tasks are run when they are called, and none is enqueued; "
                "turn it off for tests with an inbox"
            )
        disabled = self.app.store_url.startswith("disabled:")
        self.clock.__enter__()
        connect(self.app, self._broker, None if disabled else MemoryStore())
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._pool.stop()
        disconnect(self.app)
        self.clock.__exit__()

    @property
    def now(self) -> datetime:
        """The time by the clock of the inbox, in UTC."""
        return self.clock.now

    # -- running

    def run_pending(self, max: int | None = None, *, propagate: bool = True) -> list[Ran]:
        """Run what is ready, and what that enqueues, until nothing is; return the runs in order.

        Queues take turns, and within a queue priorities count, as in a worker with one slot.
        ``max`` ends it after so many runs. The first failure (no retry is one) is raised here as the
        task raised it, once its outcome is stored; the rest stays enqueued. With ``propagate`` off
        failures are found in what is returned. Raises RuntimeError if tasks enqueue tasks endlessly.
        """
        begun = len(self.ran)
        worker = self._ready_worker()
        while max is None or len(self.ran) - begun < max:
            count = len(self.ran)
            with self._log.listening():
                busy = worker.step()
            if not busy:
                worker = self._ready_worker()
                if not worker.more:
                    break
            elif propagate and len(self.ran) > count:
                self._log.raise_failure()
            if max is None and len(self.ran) - begun >= ENDLESS:
                last = ", ".join(sorted({ran.task for ran in self.ran[-100:]}))
                raise RuntimeError(
                    f"{ENDLESS} tasks have run and more are ready; do they enqueue each other for ever? "
                    f"The last ones were: {last}. Give max= to run a part of them"
                )
        return self.ran[begun:]

    def advance(
        self,
        *,
        seconds: float = 0,
        minutes: float = 0,
        hours: float = 0,
        days: float = 0,
        propagate: bool = True,
    ) -> list[Ran]:
        """Move the clock, and run everything when it is due, in that order; return the runs.

        First what is ready now. Whenever something is due, the clock stands at its moment. After a
        failure that is raised, it stands at the moment of the failure.
        """
        begun = len(self.ran)
        until = self.clock.seconds + length(seconds, minutes, hours, days)
        self.run_pending(propagate=propagate)
        while (due := self._broker.next_due()) is not None and due <= until:
            self.clock.move_to(due)
            self.run_pending(propagate=propagate)
        self.clock.move_to(until)
        return self.ran[begun:]

    # -- looking

    def enqueued(self, task: Tasks | None = None, queue: str | None = None) -> list[Enqueued]:
        """Return what waits, the ready ones first and then in the order in which they are due.

        ``task`` and ``queue`` choose among them. Raises DecodeError for what is no task message.
        """
        messages = [enqueued(waiting) for waiting in self._broker.waiting()]
        name = None if task is None else _name(task)
        return [
            message
            for message in messages
            if name in (None, message.task) and queue in (None, message.queue)
        ]

    def dead(self) -> list[DeadLetter]:
        """Return what was dead-lettered, the latest first."""
        return self._broker.dead()

    def assert_enqueued(
        self,
        task: Tasks,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
        priority: int | None = None,
        eta: datetime | EllipsisType | None = ...,
        countdown: float | None = None,
        count: int | None = None,
        id: str | None = None,
    ) -> Enqueued:
        """Fail unless such a message waits; return the first one.

        What is left out may be anything. ``args`` and ``kwargs`` are compared as they arrive, so
        that a tuple equals a list. ``eta`` is met to the millisecond, None means now; ``countdown``
        gives it in seconds from now. ``count`` is how many there must be; without it, one or more.
        """
        __tracebackhide__ = True
        if count is not None and count < 1:
            raise ValueError("to look for no message at all, use refute_enqueued()")
        wanted = expected(
            _name(task),
            args,
            kwargs,
            queue=queue,
            priority=priority,
            due=self._due(eta, countdown),
            id=id,
        )
        messages = self.enqueued()
        found = [message for message in messages if not wanted.differences(message)]
        if not found or count not in (None, len(found)):
            what = "no such message is enqueued"
            if found:
                what = f"{len(found)} such messages are enqueued, not {count}"
            raise AssertionError(mismatch(what, wanted, messages))
        return found[0]

    def refute_enqueued(
        self,
        task: Tasks,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        queue: str | None = None,
    ) -> None:
        """Fail if such a message waits. What is left out may be anything."""
        __tracebackhide__ = True
        wanted = expected(_name(task), args, kwargs, queue=queue)
        found = [message for message in self.enqueued() if not wanted.differences(message)]
        if found:
            raise AssertionError(mismatch("such a message is enqueued", wanted, found))

    def _due(
        self, eta: datetime | EllipsisType | None, countdown: float | None
    ) -> datetime | EllipsisType | None:
        if countdown is not None:
            return datetime.fromtimestamp(self.clock.seconds + countdown, UTC)
        if isinstance(eta, datetime):
            return datetime.fromtimestamp(seconds_of(eta), UTC)
        return eta

    def _ready_worker(self) -> "_Worker":
        """Return a worker for the settings of now and for all queues with something to do."""
        worker, ready = self._worker, self._broker.ready()
        if worker is None or not worker.serves(self.app.settings, ready):
            queues = (*(worker.queues if worker else ()), *ready)
            if worker is None:
                self._pool.start(1)
            else:
                worker.stop()
            self._worker = worker = _Worker(self.app, self._pool, self._hostname, queues)
        worker.more = bool(ready)
        return worker


class _Worker:
    """A worker without threads: its parts, stepped one job at a time."""

    def __init__(
        self, app: Celery, pool: InlinePool, hostname: str, queues: tuple[str, ...]
    ) -> None:
        manifest = manifest_of(app)
        # Those of the app in their order, and whatever else has got a message.
        self.queues = tuple(dict.fromkeys((*manifest.queues, *queues)))
        self.more = False
        """Whether something is ready that has not been claimed."""
        self._settings = app.settings
        self._hostname = hostname
        self._pool = pool
        # One message at a time: what is not to be run now stays with the broker, in its order.
        settings = {**manifest.settings, "worker_prefetch_multiplier": 1}
        manifest = msgspec.structs.replace(manifest, settings=settings)
        post = Post(hostname=hostname, queues=self.queues, slots=1)
        self._parts = Parts(
            pool, manifest, app.broker, app.store, post, self._fire, _failed, find_in(app)
        )

    def serves(self, settings: Settings, queues: Sequence[str]) -> bool:
        return settings is self._settings and set(queues) <= set(self.queues)

    def step(self) -> bool:
        """Claim, run and commit once; return whether there was anything to do."""
        claimed = self._parts.consumption.step(0)
        busy = claimed or not self._parts.idle or self._pool.spare.busy
        if busy:
            self._pool.supervise(0)
            self._parts.completer.step(0)
            if not self._parts.completer.well:
                raise OperationalError(
                    "an outcome cannot be stored: broker or store was put to sleep"
                )
        return busy

    def stop(self) -> None:
        self._parts.consumer.close()

    def _fire(self, name: str, arguments: dict[str, Any], delivery: Delivery | None = None) -> None:
        if signals.CATALOGUE[name].receivers:
            self._pool.spare.do(
                signal=name, sender=self._hostname, arguments=arguments, delivery=delivery
            )


class _RunLog:
    """Writes down runs: from outcomes, and what tasks return and raise, as objects, from a signal."""

    def __init__(self, ran: list[Ran]) -> None:
        self._ran = ran
        self._told: dict[str, Any] = {}
        self._outcome: Outcome | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        signals.task_postrun.connect(self._over, weak=False)
        try:
            yield
        finally:
            signals.task_postrun.disconnect(self._over)

    def _over(self, *, task_id: str, retval: Any = None, **_: Any) -> None:
        self._told[task_id] = retval

    def add(self, job: Job, outcome: Outcome) -> None:
        """Write down a run; a message that cannot be opened has had none."""
        told = self._told.pop(job.message.id, None)
        if outcome.ending is Ending.UNDECODABLE:
            return
        self._outcome = outcome
        headers, args, kwargs = opened(job.message)
        raised = isinstance(told, BaseException) and outcome.ending is not Ending.SUCCEEDED
        self._ran.append(
            Ran(
                id=job.message.id,
                task=job.message.task,
                args=args,
                kwargs=kwargs,
                queue=job.queue,
                state=outcome.state,
                result=None if raised else told,
                exception=told if raised else None,
                retries=headers.get("retries") or 0,
                at=datetime.fromtimestamp(clock.wall(), UTC),
            )
        )

    def raise_failure(self) -> None:
        """Raise what the last run has raised, if it failed, with the traceback of the task's code."""
        ran, outcome = self._ran[-1], self._outcome
        if outcome is None or outcome.ending not in (Ending.FAILED, Ending.REJECTED):
            return
        error = ran.exception
        if error is None:
            raise TaskError(f"{ran}: {outcome.reason}")
        tb = error.__traceback__
        raise error.with_traceback(tb.tb_next if tb is not None else None)


def _failed(service: Service) -> None:
    raise AssertionError(f"{service.name} has failed, though it has no thread of its own")


def _name(task: Tasks) -> str:
    return task if isinstance(task, str) else task.name
