"""The process pool: jobs in children that a template has forked.

All children take jobs from one shared socket, each exactly one at a time, so that no job waits
behind a running one while another child is idle. The pool knows what runs from the shared slots,
and blames a death only on the job that its slot names. Three threads meet here: ``submit`` (the
consumption), ``reports`` (the completer) and ``supervise`` (the main thread).
"""

import logging
import os
import select
import signal
import socket
import threading
import weakref
from collections import deque
from time import monotonic, sleep

import msgspec

from celeriac import run_log
from celeriac.completion import Put
from celeriac.exceptions import ImproperlyConfigured
from celeriac.outcome import Outcome
from celeriac.pools import packets
from celeriac.pools.base import (
    NO_LIMITS,
    ExecutorPool,
    Finished,
    Job,
    Limits,
    Lost,
    Report,
    Started,
    Stored,
    Unrun,
)
from celeriac.pools.job_queue import JobQueue
from celeriac.pools.manifest import Manifest
from celeriac.pools.nursery import Kin, Nursery
from celeriac.pools.slots import SPARE_SLOT, Slots
from celeriac.pools.spare import Spare
from celeriac.pools.template import TemplateConfig

log = logging.getLogger("celeriac.pools")

SOFT_AGAIN = 0.5
"""Seconds after which an unheeded soft limit is signalled again."""
UNSTARTED = 0.05
"""Seconds between looks for the start of a job that has limits."""
_READ = 1 << 18

_outcome = msgspec.msgpack.Decoder(Outcome).decode
_put = msgspec.msgpack.Decoder(Put).decode
_serial = msgspec.msgpack.Decoder(int).decode


class ProcessPool(ExecutorPool):
    """Runs each job in one of several child processes."""

    def __init__(self, config: TemplateConfig) -> None:
        self._slots = Slots()
        self._queue = JobQueue(self._slots)
        self._nursery = Nursery(config, self._slots, self._queue.exit, self._born, self._died)
        self._queue.on_full = self._await_room
        self._spare = Spare(self._nursery)
        self.spare = self._spare
        self._size = 0
        self._draining = False
        self._halted = False
        self._stopped = False
        self._kin: dict[int, Kin] = {}
        self._by_stream: dict[int, Kin] = {}
        self._asking: dict[int, Kin] = {}
        self._dead: deque[Kin] = deque()
        self._void: list[tuple[int, int]] = []
        """Numbers and serial numbers of packets that children found void."""
        self._suspicious = False
        """Whether a job may have vanished: the next ``reports`` makes an audit."""
        # One at a time: a child that is stopped to be judged must not be let go by somebody else.
        self._judging = threading.Lock()
        self._condemned: dict[int, int] = {}
        """Cancelled jobs that run in slots whose child has not been announced, by slot."""
        self._streams = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._streams.register(self._wake, select.EPOLLIN)
        # Not in stop(): other threads may look at the pool after that.
        weakref.finalize(self, _let_go, self._wake, self._slots)

    # -- starting

    def launch(self) -> None:
        """Start the template; it loads the app meanwhile."""
        self._nursery.launch()

    def manifest(self) -> Manifest:
        """Wait for the template and return what it says of the app. Raises AppFailedError."""
        return self._nursery.manifest()

    def start(self, slots: int) -> None:
        self._size = _checked(slots)
        self._fill()

    # -- the submitting thread

    def submit(self, job: Job, limits: Limits = NO_LIMITS) -> bool:
        if not self._queue.submit(job, limits):
            return False
        if limits is not NO_LIMITS:
            self._nursery.wake()
        return True

    def _await_room(self) -> None:
        """Have the supervising thread send more jobs when children have taken some: nobody else is free."""
        self._nursery.attend(self._queue.entry.fileno(), self._queue.flush)

    def recall(self) -> list[int]:
        return self._queue.recall()

    # -- the reporting thread

    def reports(self, timeout: float | None) -> list[Report]:
        news: list[Report] = []
        for descriptor, _ in self._streams.poll(timeout):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            elif (kin := self._by_stream.get(descriptor)) is not None:
                self._read(kin, news)
        while self._dead:
            self._bury(self._dead.popleft(), news)
        if self._suspicious:
            self._suspicious = False
            self._queue.audit(lambda: self._read_all(news))
        while self._void:
            self._queue.voided(*self._void.pop())
        self._queue.flush()
        while self._queue.unrun:
            if self._queue.forget(number := self._queue.unrun.popleft()) is not None:
                news.append(Unrun(number))
        return news

    def wake(self) -> None:
        os.eventfd_write(self._wake, 1)

    def permit(self, number: int, allowed: bool) -> None:
        kin = self._asking.pop(number, None)
        if not allowed:
            self._queue.forget(number)
        if kin is not None:
            _answer(kin, allowed)

    def _read_all(self, news: list[Report]) -> None:
        """Read what any child may have written, the unannounced ones included."""
        for kin in (*self._nursery.unborn, *self._kin.values()):
            self._read(kin, news)

    def _read(self, kin: Kin, news: list[Report]) -> None:
        """Take in what a child has written so far."""
        while True:
            try:
                data = kin.stream.recv(_READ, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self._unhear(kin)
                return
            for kind, number, payload in kin.reader.feed(data):
                self._report(kin, kind, number, payload, news)
            if len(data) < _READ:
                return

    def _unhear(self, kin: Kin) -> None:
        """It has closed its end. Whether it is dead is for the pidfd to say."""
        if self._by_stream.pop(kin.stream.fileno(), None) is not None:
            self._streams.unregister(kin.stream)

    def _report(self, kin: Kin, kind: int, number: int, payload: bytes, news: list[Report]) -> None:
        if kind == packets.DONE:
            self._spare.done(number)
        elif kind == packets.VOID:
            self._void.append((number, _serial(payload)))
        elif kind == packets.OUTCOME:
            if self._queue.forget(number) is not None:
                news.append(Finished(number, _outcome(payload)))
        elif number not in self._queue.jobs:
            if kind == packets.ASK:
                _answer(kin, allowed=False)
        elif kind == packets.ASK:
            self._asking[number] = kin
            news.append(Started(number))
        else:
            news.append(Stored(number, _put(payload)))

    def _bury(self, kin: Kin, news: list[Report]) -> None:
        """Settle what a dead child leaves: its last words, and the job that it ran."""
        self._read(kin, news)
        self._unhear(kin)
        number = self._slots.job(kin.slot)
        waited = self._slots.waits(kin.slot)
        self._slots.clear(kin.slot)
        self._asking.pop(number, None)
        if kin.slot == SPARE_SLOT:
            self._spare.died(kin, number)
        else:
            # It may have taken a job and not begun it. And if it was the last one, nobody will come
            # for those that a drained pool still holds.
            self._suspicious = not self._stopped
        if number in self._queue.jobs and not self._stopped:
            if kin.doomed is not None and kin.doomed[0] == number:
                self._condemn(number, kin.doomed[1], news)
            elif kin.doomed is None and not waited:
                self._queue.forget(number)
                news.append(Lost(number, kin.last_words()))
            # Else it was killed for another job that ended in the last moment, or this one had no
            # permission to run yet: it did nothing wrong. The audit sends it again.
        self._kin.pop(kin.slot, None)
        kin.close()
        self._nursery.wake()

    def _condemn(self, number: int, overtime: float | None, news: list[Report]) -> None:
        """A job was ended on purpose, together with its child."""
        self._queue.forget(number)
        if overtime is not None:
            news.append(Lost(number, f"its time limit of {overtime:g} s passed", overtime))

    # -- the supervising thread

    def supervise(self, timeout: float) -> None:
        self._nursery.poll(min(timeout, self._enforce(), self._fill(), self._spare.enforce()))

    def nudge(self) -> None:
        """Make ``supervise`` return. Any thread, and signal handlers."""
        self._nursery.wake()

    def _born(self, kin: Kin) -> None:
        self._kin[kin.slot] = kin
        self._by_stream[kin.stream.fileno()] = kin
        self._streams.register(kin.stream, select.EPOLLIN)
        if kin.slot == SPARE_SLOT:
            self._spare.born(kin)
        elif self._halted:
            self._end(kin)
        elif kin.slot >= self._size:
            _dismiss(kin)

    def _died(self, kin: Kin) -> None:
        self._dead.append(kin)
        self.wake()

    def _fill(self) -> float:
        """Ask for children in empty slots; return the seconds until it is worth to look again."""
        if self._draining:
            return 60.0
        for slot in range(self._size):
            if slot not in self._kin and not self._nursery.expects(slot):
                if pause := self._nursery.can_fork():
                    return pause
                self._nursery.fork(slot)
        return 60.0

    def _enforce(self) -> float:
        """Act on time limits that have passed; return the seconds until the next one may."""
        for slot in list(self._condemned):
            if (kin := self._kin.get(slot)) is not None:
                self._kill(kin, self._condemned.pop(slot), None)
        limits_of = self._queue.limits
        if not limits_of:
            return 60.0
        pause = UNSTARTED
        for slot, kin in list(self._kin.items()):
            number = self._slots.job(slot)
            limits = limits_of.get(number)
            seconds = self._slots.seconds(slot)
            if limits is None or self._slots.job(slot) != number:
                continue  # In the second case the next job has begun: these are its seconds.
            if limits.hard is not None and seconds >= limits.hard:
                self._kill(kin, number, limits.hard)
            elif limits.soft is not None and seconds >= limits.soft:
                self._remind(kin, number, limits.soft)
            for limit in (limits.soft, limits.hard):
                if limit is not None and limit > seconds:
                    pause = min(pause, limit - seconds)
        return pause

    def _remind(self, kin: Kin, number: int, soft: float) -> None:
        job = self._queue.jobs.get(number)
        if job is not None and self._slots.wanted(kin.slot) != number:
            run_log.reminded(job.message.task, job.message.id, soft)
        if monotonic() - kin.signalled >= SOFT_AGAIN or self._slots.wanted(kin.slot) != number:
            kin.signalled = monotonic()
            self._slots.want(kin.slot, number)
            kin.send_signal(signal.SIGUSR1)

    def _kill(self, kin: Kin, number: int, overtime: float | None) -> None:
        """Kill a child for a job, unless that job ends just now: it is stopped first, then judged."""
        with self._judging:
            if kin.doomed is not None:
                return
            kin.send_signal(signal.SIGSTOP)
            _await_stop(kin.pid)
            if self._slots.job(kin.slot) == number:
                kin.doomed = (number, overtime)
                kin.kill()
            else:
                kin.send_signal(signal.SIGCONT)

    def cancel(self, number: int) -> None:
        self._queue.forget(number)
        if number not in self._slots.jobs():
            # Not begun, and after this it never will.
            self._queue.void()
        for slot, running in enumerate(self._slots.jobs()):
            if running == number:
                self._condemned[slot] = number
                if (kin := self._kin.get(slot)) is not None:
                    del self._condemned[slot]
                    self._kill(kin, number, None)
        self._nursery.wake()

    def resize(self, slots: int) -> None:
        self._size = _checked(slots)
        for slot, kin in list(self._kin.items()):
            if slots <= slot < SPARE_SLOT:
                _dismiss(kin)
        self._nursery.wake()

    def running(self) -> dict[int, float]:
        found = {}
        # In every slot: a child may be at work before its birth is known here.
        for slot, number in enumerate(self._slots.jobs()):
            if number in self._queue.jobs:
                found[number] = self._slots.seconds(slot)
        return found

    @property
    def outstanding(self) -> int:
        """How many jobs were submitted and not yet reported. Any thread."""
        return len(self._queue.jobs)

    # -- the end

    def drain(self) -> None:
        self._draining = True
        self._queue.drain()
        if not self._kin:
            self._suspicious = True
        self.wake()

    def halt(self) -> None:
        """End what runs, with all processes it started; none of it is reported. Supervisor.

        Chores go on, until ``stop``.
        """
        self._halted = self._draining = True
        self._queue.drain()
        for slot, kin in list(self._kin.items()):
            if slot != SPARE_SLOT:
                self._end(kin)

    def _end(self, kin: Kin) -> None:
        """End a child and what it runs, without a word."""
        kin.doomed = (self._slots.job(kin.slot), None)
        kin.dismissed = True
        kin.kill()

    def stop(self) -> list[int]:
        if self._stopped:
            return []
        left = list(self._queue.jobs)
        self._stopped = self._halted = self._draining = True
        self._nursery.close()
        self._queue.close()
        self._spare.close()
        self.wake()
        return left


def _let_go(wake: int, slots: Slots) -> None:
    os.close(wake)
    slots.close()


def _checked(slots: int) -> int:
    if 0 <= slots <= SPARE_SLOT:
        return slots
    raise ImproperlyConfigured(
        f"a pool cannot have {slots} processes; ask for {SPARE_SLOT} at most, and start more workers"
    )


def _answer(kin: Kin, allowed: bool) -> None:
    try:
        kin.stream.send(b"\1" if allowed else b"\0")
    except OSError:
        pass  # It died while it waited; its death tells the rest.


def _dismiss(kin: Kin) -> None:
    """Tell a child to end after its job."""
    kin.dismissed = True
    kin.send_signal(signal.SIGTERM)


def _await_stop(pid: int) -> None:
    """Wait until a process has taken SIGSTOP, at most 50 ms."""
    for _ in range(100):
        try:
            with open(f"/proc/{pid}/stat", "rb") as file:
                if file.read().rpartition(b") ")[2][:1] in b"TtZX":
                    return
        except OSError:
            return
        sleep(0.0005)
