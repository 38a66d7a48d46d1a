"""The inline pool: jobs run in the process of the worker itself, one at a time.

They run in the thread that calls ``supervise``, so that a debugger, a patched object and a database
transaction of that thread hold for tasks too; reports go to another thread, or to the same one, step
by step. For tests and for development. It is no shelter: what runs cannot be ended from outside, so
that time limits are not kept (a task that has one is told so, once), ``cancel`` and ``halt`` only
drop the outcome, and a task that ends the process ends the worker with it.
"""

import itertools
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any

from celeriac import execution, mourning, signals
from celeriac.app import Celery
from celeriac.completion import Put
from celeriac.exceptions import ImproperlyConfigured
from celeriac.outcome import Outcome
from celeriac.pools.base import (
    NO_LIMITS,
    Chores,
    ExecutorPool,
    Finished,
    Job,
    Limits,
    Report,
    Started,
    Stored,
    Unrun,
)
from celeriac.pools.chores import Chore, do_chore
from celeriac.told import NodeName

log = logging.getLogger("celeriac.pools")

MOST = 1000
"""Jobs that may be submitted and not yet reported."""


class _Unanswered(BaseException):
    """Leaves a run that asked and has no answer yet; it is begun anew when there is one."""


class InlinePool(ExecutorPool):
    """Runs jobs of an app in the supervising thread. One slot, however many are asked for.

    ``supervise`` returns after each job, and takes as long as that does. ``ran`` is called after each
    run that came to its end, with the job and its outcome.
    """

    def __init__(
        self,
        app: Celery,
        hostname: str,
        ran: Callable[[Job, Outcome], None] = lambda job, outcome: None,
    ) -> None:
        self.spare: Chores = _Errands(self)
        self._app = app
        self._port = _Port(self, hostname)
        self._ran = ran
        self._slots = 0
        # Guards all of the below; told of every change.
        self._changed = threading.Condition()
        self._waiting: deque[Job] = deque()
        self._asking: Job | None = None
        self._leave: bool | None = None
        """The answer to the job that asks, once there is one."""
        self._running: tuple[int, float] | None = None
        self._outstanding: dict[int, Job] = {}
        self._news: deque[Report] = deque()
        self._chores: deque[Chore] = deque()
        self._doing = False
        self._woken = self._nudged = self._draining = self._stopped = self._warned = False

    def start(self, slots: int) -> None:
        self._slots = _checked(slots)
        self._app.loader.on_worker_process_init()
        signals.worker_process_init.send(NodeName(self._port.hostname, self._app))

    # -- the submitting thread

    def submit(self, job: Job, limits: Limits = NO_LIMITS) -> bool:
        with self._changed:
            if self._draining or len(self._outstanding) >= MOST:
                return False
            if limits is not NO_LIMITS and not self._warned:
                self._warned = True
                log.warning(
                    "task %s has a time limit, which is not kept in a pool without processes",
                    job.message.task,
                )
            self._outstanding[job.number] = job
            self._waiting.append(job)
            self._changed.notify_all()
        return True

    def recall(self) -> list[int]:
        with self._changed:
            numbers = [job.number for job in self._waiting]
            self._waiting.clear()
            self._forget(*numbers)
        return numbers

    # -- the reporting thread

    def reports(self, timeout: float | None) -> list[Report]:
        with self._changed:
            self._changed.wait_for(lambda: self._news or self._woken, timeout)
            self._woken = False
            told = [report for report in self._news if report.number in self._outstanding]
            self._news.clear()
            self._forget(*(r.number for r in told if isinstance(r, Finished | Unrun)))
        return told

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    def permit(self, number: int, allowed: bool) -> None:
        with self._changed:
            if self._asking is None or self._asking.number != number:
                return
            if allowed:
                self._leave = True
            else:
                self._forget(number)
            self._changed.notify_all()

    def tell(self, report: Report) -> None:
        """Have ``reports`` return this."""
        with self._changed:
            self._news.append(report)
            self._changed.notify_all()

    # -- the supervising thread

    def supervise(self, timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._nudged or self._due(), timeout)
            self._nudged = False
            chores = list(self._chores)
            self._chores.clear()
            self._doing = bool(chores)
            job = self._next()
        for chore in chores:
            do_chore(self._app, chore, self._port.hostname)
        self._doing = False
        if job is not None:
            self._run(job)

    def nudge(self) -> None:
        # From a signal handler as well, which may have come amid another step: the lock lets the
        # thread that holds it in again.
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def _due(self) -> bool:
        """Whether there is something to do."""
        if self._chores or self._leave:
            return True
        return bool(self._slots and self._waiting and self._asking is None)

    def _next(self) -> Job | None:
        """Take the next job that may begin, or go on."""
        if self._asking is not None:
            job, self._asking = (self._asking, None) if self._leave else (None, self._asking)
        else:
            job = self._waiting.popleft() if self._slots and self._waiting else None
        if job is not None:
            self._running = (job.number, monotonic())
        return job

    def _run(self, job: Job) -> None:
        try:
            outcome = execution.run(self._app, job, self._port)
        except _Unanswered:
            with self._changed:
                self._running, self._asking = None, job
                self.tell(Started(job.number))
            return
        except Exception as error:  # noqa: BLE001 - our fault or a receiver's: the job must not hang
            outcome = mourning.broken(self._app, job, self._port, error)
        with self._changed:
            self._running = self._leave = None
            if outcome is not None:
                self.tell(Finished(job.number, outcome))
        if outcome is not None:
            self._ran(job, outcome)

    # -- the two ways out of a run

    def answer(self) -> bool:
        """Return the answer to the run that asks now, or leave it until there is one."""
        if self._leave is None:
            raise _Unanswered
        return self._leave

    def keep(self, put: Put) -> None:
        """Report a document of the job that runs now."""
        with self._changed:
            if self._running is not None:
                self.tell(Stored(self._running[0], put))

    def errand(self, chore: Chore) -> None:
        """Take in a chore."""
        with self._changed:
            self._chores.append(chore)
            self._changed.notify_all()

    @property
    def has_errands(self) -> bool:
        """Whether a chore is not done yet."""
        return self._doing or bool(self._chores)

    # -- any thread

    def cancel(self, number: int) -> None:
        """Drop a job. One that runs comes to its end all the same, and nothing is heard of it."""
        with self._changed:
            self._waiting = deque(job for job in self._waiting if job.number != number)
            self._forget(number)

    def resize(self, slots: int) -> None:
        self._slots = _checked(slots)

    def running(self) -> dict[int, float]:
        with self._changed:
            if self._asking is not None:
                return {self._asking.number: 0.0}
            if self._running is None or self._running[0] not in self._outstanding:
                return {}
            return {self._running[0]: monotonic() - self._running[1]}

    @property
    def outstanding(self) -> int:
        """How many jobs were submitted and not yet reported. Any thread."""
        return len(self._outstanding)

    def _forget(self, *numbers: int) -> None:
        for number in numbers:
            self._outstanding.pop(number, None)
            if self._asking is not None and self._asking.number == number:
                self._asking = self._leave = None

    # -- the end

    def drain(self) -> None:
        with self._changed:
            self._draining = True
            if not self._slots:
                self._news.extend(Unrun(job.number) for job in self._waiting)
                self._waiting.clear()
            self._changed.notify_all()

    def halt(self) -> None:
        """Forget what waits, and what runs if that is in another thread. Supervisor."""
        with self._changed:
            self._draining = True
            self._waiting.clear()
            self._forget(*self._outstanding)

    def stop(self) -> list[int]:
        with self._changed:
            if self._stopped:
                return []
            self._stopped = self._draining = True
            self._waiting.clear()
            left = list(self._outstanding)
        sender = NodeName(self._port.hostname, self._app)
        signals.worker_process_shutdown.send(sender, pid=os.getpid(), exitcode=0)
        self.wake()
        return left


class _Port:
    """The way of a run to its pool: in the same process."""

    def __init__(self, pool: InlinePool, hostname: str) -> None:
        self.inside = False
        self.hostname = hostname
        self._pool = pool

    def ask(self, number: int) -> bool:
        return self._pool.answer()

    def store(self, put: Put) -> None:
        self._pool.keep(put)


class _Errands:
    """Where chores are done: in the same thread as jobs, between two of them."""

    def __init__(self, pool: InlinePool) -> None:
        self._pool = pool
        self._numbers = itertools.count(1)

    def do(self, **fields: Any) -> None:
        self._pool.errand(Chore(number=next(self._numbers), **fields))

    @property
    def busy(self) -> bool:
        return self._pool.has_errands


def _checked(slots: int) -> int:
    if slots >= 0:
        return slots
    raise ImproperlyConfigured(f"a pool cannot have {slots} slots; ask for one")
