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
from collections import deque
from collections.abc import Sequence
from time import monotonic, sleep

import msgspec

from celeriac.completion import Put
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
from celeriac.pools.manifest import Manifest
from celeriac.pools.nursery import Kin, Nursery
from celeriac.pools.slots import CAPACITY, Slots
from celeriac.pools.spare import SPARE_SLOT, Spare
from celeriac.pools.template import TemplateConfig

log = logging.getLogger("celeriac.pools")

SOFT_AGAIN = 0.5
"""Seconds after which an unheeded soft limit is signalled again."""
UNSTARTED = 0.05
"""Seconds between looks for the start of a job that has limits."""
AUDIT = 0.05
"""Seconds between looks for jobs that a dead child took and never marked."""
_READ = 1 << 18

_encode = msgspec.msgpack.Encoder().encode
_outcome = msgspec.msgpack.Decoder(Outcome).decode
_put = msgspec.msgpack.Decoder(Put).decode


class ProcessPool(ExecutorPool):
    """Runs each job in one of several child processes."""

    def __init__(self, config: TemplateConfig) -> None:
        self._slots = Slots()
        self._jobs_in, self._jobs_out = packets.pair()
        self._taker = packets.Receiver(self._jobs_out)
        self._nursery = Nursery(config, self._slots, self._jobs_out, self._born, self._died)
        self.spare = Spare(self._nursery)
        self._size = 0
        self._draining = False
        self._stopped = False
        self._jobs: dict[int, Job] = {}
        self._limits: dict[int, Limits] = {}
        self._kin: dict[int, Kin] = {}
        self._by_stream: dict[int, Kin] = {}
        self._asking: dict[int, Kin] = {}
        self._dead: deque[Kin] = deque()
        # Guards the job socket's count of packets; see _audit.
        self._sending = threading.Lock()
        self._backlog: deque[Job] = deque()
        self._unrun: deque[int] = deque()
        self._sent = 0
        self._taken_by_dead = 0
        self._audit_at: float | None = None
        self._streams = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._streams.register(self._wake, select.EPOLLIN)

    # -- starting

    def launch(self) -> None:
        """Start the template; it loads the app meanwhile."""
        self._nursery.launch()

    def manifest(self) -> Manifest:
        """Wait for the template and return what it says of the app. Raises AppFailedError."""
        return self._nursery.manifest()

    def start(self, slots: int) -> None:
        self._size = slots
        self._fill()

    # -- the submitting thread

    def submit(self, job: Job, limits: Limits = NO_LIMITS) -> bool:
        data = _encode(job)
        with self._sending:
            if self._backlog:
                return False
            # Known before it is sent: its outcome may be here before send() returns.
            self._jobs[job.number] = job
            if limits is not NO_LIMITS:
                self._limits[job.number] = limits
            if not packets.send(self._jobs_in, data, block=False):
                self._forget(job.number)
                return False
            self._sent += 1
        if limits is not NO_LIMITS:
            self._nursery.wake()
        return True

    def _forget(self, number: int) -> Job | None:
        self._limits.pop(number, None)
        return self._jobs.pop(number, None)

    def recall(self) -> list[int]:
        with self._sending:
            jobs = [*self._take_back(), *self._backlog]
            self._backlog.clear()
        return [job.number for job in jobs if self._forget(job.number) is not None]

    def _take_back(self) -> list[Job]:
        """Take the jobs out of the socket that no child has taken. Under the lock."""
        jobs = []
        try:
            while packet := self._taker.receive(block=False):
                jobs.append(msgspec.msgpack.decode(packet[0], type=Job))
        except BlockingIOError:
            pass
        self._sent -= len(jobs)
        return jobs

    def _send_again(self, jobs: Sequence[Job]) -> None:
        """Put jobs back into the socket, those that do not fit into the backlog. Under the lock."""
        if self._draining:
            # The socket is shut: nobody will take them from there any more.
            self._unrun.extend(job.number for job in jobs)
            self.wake()
            return
        self._backlog.extendleft(reversed(jobs))
        while self._backlog:
            job = self._backlog[0]
            if job.number in self._jobs:
                if not packets.send(self._jobs_in, _encode(job), block=False):
                    return
                self._sent += 1
            self._backlog.popleft()

    # -- the reporting thread

    def reports(self, timeout: float | None) -> list[Report]:
        news: list[Report] = []
        if self._audit_at is not None:
            timeout = AUDIT if timeout is None else min(timeout, AUDIT)
        for descriptor, _ in self._streams.poll(timeout):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            elif (kin := self._by_stream.get(descriptor)) is not None:
                self._read(kin, news)
        while self._dead:
            self._bury(self._dead.popleft(), news)
        if self._audit_at is not None and monotonic() >= self._audit_at:
            self._audit(news)
        if self._backlog:
            with self._sending:
                self._send_again(())
        while self._unrun:
            if self._forget(number := self._unrun.popleft()) is not None:
                news.append(Unrun(number))
        return news

    def wake(self) -> None:
        try:
            os.eventfd_write(self._wake, 1)
        except OSError:
            pass  # Closed: nobody waits for reports any more.

    def permit(self, number: int, allowed: bool) -> None:
        kin = self._asking.pop(number, None)
        if not allowed:
            self._forget(number)
        if kin is not None:
            try:
                kin.stream.send(b"\1" if allowed else b"\0")
            except OSError:
                pass  # It died while it waited; its death tells the rest.

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
                # It has closed its end. Whether it is dead is for the pidfd to say.
                if self._by_stream.pop(kin.stream.fileno(), None) is not None:
                    self._streams.unregister(kin.stream)
                return
            for kind, number, payload in kin.reader.feed(data):
                self._report(kin, kind, number, payload, news)
            if len(data) < _READ:
                return

    def _report(self, kin: Kin, kind: int, number: int, payload: bytes, news: list[Report]) -> None:
        if kind == packets.DONE:
            self.spare.done(number)
        elif kind == packets.OUTCOME:
            if self._forget(number) is not None:
                news.append(Finished(number, _outcome(payload)))
        elif number not in self._jobs:
            if kind == packets.ASK:
                kin.stream.send(b"\0")
        elif kind == packets.ASK:
            self._asking[number] = kin
            news.append(Started(number))
        else:
            news.append(Stored(number, _put(payload)))

    def _bury(self, kin: Kin, news: list[Report]) -> None:
        """Settle what a dead child leaves: its last words, and the job that it ran."""
        self._read(kin, news)
        if self._by_stream.pop(kin.stream.fileno(), None) is not None:
            self._streams.unregister(kin.stream)
        number = self._slots.job(kin.slot)
        self._taken_by_dead += self._slots.taken(kin.slot)
        self._slots.clear(kin.slot)
        job = self._jobs.get(number)
        if job is None:
            self._audit_at = monotonic()
        elif kin.doomed is None:
            self._forget(number)
            news.append(Lost(number, kin.last_words()))
        elif kin.doomed[0] != number:
            # It was killed for a job that ended in the last moment: this one did nothing wrong.
            with self._sending:
                self._send_again([job])
        elif self._forget(number) is not None and kin.doomed[1] is not None:
            news.append(
                Lost(number, f"its time limit of {kin.doomed[1]:g} s passed", kin.doomed[1])
            )
        self._asking.pop(number, None)
        del self._kin[kin.slot]
        kin.close()
        self._nursery.wake()

    def _audit(self, news: list[Report]) -> None:
        """Find the jobs that a dead child took out of the socket and never marked; send them again.

        Packets sent, less those still in the socket, less those marked by children: what remains
        was taken and not marked. A living child is in that state for some microseconds, a dead one
        for ever.
        """
        with self._sending:
            waiting = self._take_back()
            for kin in list(self._kin.values()):
                self._read(kin, news)
            marked = {self._slots.job(slot) for slot in self._kin}
            taken = self._taken_by_dead + sum(self._slots.taken(slot) for slot in self._kin)
            missing = self._sent - taken
            known = {job.number for job in waiting} | {job.number for job in self._backlog}
            lost = [j for n, j in self._jobs.items() if n not in known and n not in marked]
            if missing > 0 and missing == len(lost):
                self._sent -= missing
                waiting = lost + waiting
            self._audit_at = monotonic() + AUDIT if missing > 0 and missing != len(lost) else None
            self._send_again(waiting)

    # -- the supervising thread

    def supervise(self, timeout: float) -> None:
        self._nursery.poll(min(timeout, self._enforce(), self._fill(), self.spare.enforce()))

    def nudge(self) -> None:
        """Make ``supervise`` return. Any thread, and signal handlers."""
        self._nursery.wake()

    def _born(self, kin: Kin) -> None:
        if self._stopped:
            kin.kill()
        if kin.slot == SPARE_SLOT:
            self.spare.born(kin)
        self._kin[kin.slot] = kin
        self._by_stream[kin.stream.fileno()] = kin
        self._streams.register(kin.stream, select.EPOLLIN)

    def _died(self, kin: Kin) -> None:
        if kin.slot == SPARE_SLOT:
            self.spare.died(kin)
        self._dead.append(kin)
        self.wake()

    def _fill(self) -> float:
        """Ask for children in empty slots; return the seconds until it is worth to look again."""
        if self._draining or self._stopped:
            return 60.0
        pause = self._nursery.can_fork()
        if pause:
            return pause
        for slot in range(self._size):
            if slot not in self._kin and not self._nursery.expects(slot):
                self._nursery.fork(slot)
        return 60.0

    def _enforce(self) -> float:
        """Act on time limits that have passed; return the seconds until the next one may."""
        if not self._limits:
            return 60.0
        pause = UNSTARTED
        for slot, kin in list(self._kin.items()):
            number = self._slots.job(slot)
            limits = self._limits.get(number)
            if limits is None:
                continue
            seconds = self._slots.seconds(slot)
            if self._slots.job(slot) != number:
                continue  # The next job has begun meanwhile: these are its seconds.
            if limits.hard is not None and seconds >= limits.hard:
                self._kill(kin, number, limits.hard)
            elif limits.soft is not None and seconds >= limits.soft:
                self._remind(kin, number)
            for limit in (limits.soft, limits.hard):
                if limit is not None and limit > seconds:
                    pause = min(pause, limit - seconds)
        return pause

    def _remind(self, kin: Kin, number: int) -> None:
        if monotonic() - kin.signalled >= SOFT_AGAIN or self._slots.wanted(kin.slot) != number:
            kin.signalled = monotonic()
            self._slots.want(kin.slot, number)
            kin.send_signal(signal.SIGUSR1)

    def _kill(self, kin: Kin, number: int, overtime: float | None) -> None:
        """Kill a child for a job, unless that job ends just now: it is stopped first, then judged."""
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
        with self._sending:
            self._send_again([job for job in self._take_back() if job.number != number])
        for slot, kin in list(self._kin.items()):
            if self._slots.job(slot) == number:
                self._kill(kin, number, None)
        self._forget(number)

    def resize(self, slots: int) -> None:
        self._size = slots
        for slot, kin in list(self._kin.items()):
            if slots <= slot < CAPACITY - 1:
                kin.send_signal(signal.SIGTERM)
        self._nursery.wake()

    def running(self) -> dict[int, float]:
        found = {}
        for slot in list(self._kin):
            number = self._slots.job(slot)
            if number in self._jobs:
                found[number] = self._slots.seconds(slot)
        return found

    @property
    def outstanding(self) -> int:
        """How many jobs were submitted and not yet reported. Any thread."""
        return len(self._jobs)

    # -- the end

    def drain(self) -> None:
        self._draining = True
        try:
            self._jobs_in.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # Drained before.

    def halt(self) -> None:
        """End what runs, with all processes it started; none of it is reported. Supervisor.

        Chores go on, until ``stop``.
        """
        self._draining = True
        for slot, kin in list(self._kin.items()):
            if slot != SPARE_SLOT:
                kin.doomed = (self._slots.job(slot), None)
                kin.kill()

    def stop(self) -> list[int]:
        if self._stopped:
            return []
        self._stopped = True
        left = list(self._jobs)
        self._nursery.close()
        self._jobs_in.close()
        self._jobs_out.close()
        self.wake()
        return left


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
