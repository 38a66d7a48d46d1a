"""The queue between the pool and its children: one shared socket, and the book of what is in it.

It knows every job that was submitted and not yet reported. Each packet has a serial number, so that
a job that may have vanished with a child can be sent again without ever running twice: the packets
out there are made void first (see ``Slots``). It knows nothing of processes.
"""

import socket
import threading
from collections import deque
from collections.abc import Callable, Sequence
from time import sleep

import msgspec

from celeriac.pools import packets
from celeriac.pools.base import NO_LIMITS, Job, Limits
from celeriac.pools.slots import Slots

BACKLOG = 200
"""Jobs that wait for room in the socket; more are refused."""
SETTLED = 0.001
"""Seconds after which what any processor has written is seen by all others, amply."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(tuple[int, Job]).decode


class JobQueue:
    """Jobs between ``submit`` and their report. Any thread."""

    def __init__(self, slots: Slots) -> None:
        self.jobs: dict[int, Job] = {}
        """What was submitted and not yet reported."""
        self.limits: dict[int, Limits] = {}
        self.unrun: deque[int] = deque()
        """Jobs that could not be sent again, since the queue is shut."""
        self.shut = False
        self.on_full: Callable[[], None] = lambda: None
        """Called when jobs wait for room, perhaps again and again: ``flush`` is to be called when ``entry``
        takes more. May not block.
        """
        self._slots = slots
        self.entry, self.exit = packets.pair()
        # The system gives what it allows, twice its default as a rule: some 300 small jobs, 25 of 10 KB.
        self.entry.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self._taker = packets.Receiver(self.exit)
        # Guards the socket, the backlog and the serial numbers.
        self._lock = threading.Lock()
        self._backlog: deque[Job] = deque()
        self._serial = 0
        self._again: dict[int, int] = {}
        """The serial number of the newest packet of jobs that were sent again; 0 in the backlog."""

    def submit(self, job: Job, limits: Limits) -> bool:
        """Send a job; False if there is no room, or the queue is shut."""
        number = job.number
        with self._lock:
            if len(self._backlog) >= BACKLOG or self.shut:
                return False
            # Known before it is sent: its outcome may be here before send() returns.
            self.jobs[number] = job
            if limits is not NO_LIMITS:
                self.limits[number] = limits
            if self._backlog or not self._send(job):
                self._backlog.append(job)
                self.on_full()
            return True

    def forget(self, number: int) -> Job | None:
        """Strike out a job and return it; None if it was not there."""
        self.limits.pop(number, None)
        self._again.pop(number, None)
        return self.jobs.pop(number, None)

    def recall(self) -> list[int]:
        """Take back and forget the jobs that no child has taken; return their numbers."""
        with self._lock:
            jobs = [*self._take_back(), *self._backlog]
            self._backlog.clear()
        return [job.number for job in jobs if self.forget(job.number) is not None]

    def void(self) -> None:
        """Make void what has not begun, and send again what is still known.

        After that a job has begun, or it is in a new packet, or it will never begin.
        """
        with self._lock:
            self._send_again(self._retract())
            self._arm()

    def audit(self, read_outcomes: Callable[[], None]) -> None:
        """Find the jobs that a dead child took and did not begin, and send them again.

        What a living child has taken and not yet begun is found as well: its packet is void now.
        ``read_outcomes`` is to call ``forget`` for every job whose outcome is there.
        """
        with self._lock:
            waiting = self._retract()
            # In this order: what has ended before the first line is read in the second.
            begun = self._slots.jobs()
            read_outcomes()
            here = {job.number for job in (*waiting, *self._backlog)}.union(begun)
            lost = [job for number, job in list(self.jobs.items()) if number not in here]
            self._send_again([*lost, *waiting])
            self._arm()

    def voided(self, number: int, serial: int) -> None:
        """Send a job again whose packet a child has found void, unless that has been done."""
        with self._lock:
            job = self.jobs.get(number)
            if job is not None and self._again.get(number, serial) == serial:
                self._send_again([job])
                self._arm()

    def flush(self) -> None:
        """Send what did not fit before. Any thread."""
        if self._backlog:
            with self._lock:
                before = len(self._backlog)
                self._send_again(())
                # If none fits although there is room, it is not the socket that is full: see ``send``.
                if len(self._backlog) < before:
                    self._arm()

    def drain(self) -> None:
        """Shut the queue: what is in it may be taken, nothing more is sent. Idempotent."""
        with self._lock:
            if not self.shut:
                self.shut = True
                self.entry.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close it, whatever is in it."""
        with self._lock:
            self.shut = True
            self.entry.close()
            self.exit.close()

    # -- under the lock

    def _arm(self) -> None:
        if self._backlog:
            self.on_full()

    def _send(self, job: Job) -> bool:
        if not packets.send(self.entry, _encode((self._serial + 1, job)), block=False):
            return False
        self._serial += 1
        return True

    def _take_back(self) -> list[Job]:
        """Take the jobs out of the socket that no child has taken."""
        jobs = []
        try:
            while packet := self._taker.receive(block=False):
                jobs.append(_decode(packet[0])[1])
        except OSError:
            pass  # Nothing is there any more, or it is closed.
        return jobs

    def _retract(self) -> list[Job]:
        """Make void what has not begun; return what no child has taken."""
        self._slots.fence(self._serial)
        waiting = self._take_back()
        sleep(SETTLED)
        return waiting

    def _send_again(self, jobs: Sequence[Job]) -> None:
        """Send jobs that are still known before those of the backlog, and keep what does not fit."""
        known = [job for job in jobs if job.number in self.jobs]
        if self.shut:
            self.unrun.extend(job.number for job in (*known, *self._backlog))
            self._backlog.clear()
            return
        self._backlog.extendleft(reversed(known))
        self._again.update((job.number, 0) for job in known)
        while self._backlog:
            job = self._backlog[0]
            if job.number in self.jobs:
                if not self._send(job):
                    return
                if job.number in self._again:
                    self._again[job.number] = self._serial
            self._backlog.popleft()
