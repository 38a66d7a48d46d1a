"""The nursery: the parent's hold on the template, and the birth and death of every child.

Each child is a ``Kin``: its process, its stream, its lifeline. A child is dead when its pidfd says
so, never by end-of-file, since a process that it started may hold the stream. Its wait status comes
from the template; if the template is gone, the parent, a subreaper, waits for the child itself.
"""

import ctypes
import logging
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from time import monotonic

import msgspec

from celeriac.backoff import exponential
from celeriac.exceptions import ImproperlyConfigured
from celeriac.pools import packets
from celeriac.pools.manifest import AppFailed, Manifest
from celeriac.pools.slots import Slots
from celeriac.pools.template import (
    Exited,
    Forked,
    ForkRequest,
    TemplateConfig,
    decode_hello,
    decode_notice,
)

log = logging.getLogger("celeriac.pools")

PR_SET_CHILD_SUBREAPER = 36
STABLE_AFTER = 1.0
"""Seconds that a child must live, or one job that it must take, for its start to count as a
success.
"""

_encode = msgspec.msgpack.Encoder().encode


class AppFailedError(ImproperlyConfigured):
    """The template could not load the app; ``traceback`` is the user's."""

    def __init__(self, failed: AppFailed) -> None:
        super().__init__(failed.message)
        self.traceback = failed.traceback


class Kin:
    """One child, as the parent knows it."""

    __slots__ = (
        "born",
        "doomed",
        "lifeline",
        "pid",
        "pidfd",
        "reader",
        "signalled",
        "slot",
        "status",
        "stream",
    )

    def __init__(self, slot: int, stream: socket.socket, lifeline: int) -> None:
        self.slot = slot
        self.stream = stream
        self.lifeline = lifeline
        self.reader = packets.FrameReader()
        self.pid = 0
        self.pidfd = -1
        self.born = monotonic()
        self.status: int | None = None
        self.doomed: tuple[int, float | None] | None = None
        """The job it is killed for, and the hard limit if that was the reason."""
        self.signalled = 0.0
        """When it was last told of a soft limit."""

    def kill(self) -> None:
        """Kill it with all processes of its group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def send_signal(self, number: int) -> None:
        """Send a signal to the child alone; nothing happens if it is dead."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except (ProcessLookupError, OSError):
            pass

    def last_words(self) -> str:
        """Return how it died."""
        if self.status is None:
            return "its process vanished"
        code = os.waitstatus_to_exitcode(self.status)
        if code >= 0:
            return f"its process exited with status {code}"
        try:
            return f"its process was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"its process was killed by signal {-code}"

    def close(self) -> None:
        """Let go of descriptors, after its death."""
        self.stream.close()
        os.close(self.lifeline)
        if self.pidfd >= 0:
            os.close(self.pidfd)


class Nursery:
    """Starts the template and, through it, children. All methods are for the supervising thread.

    ``on_birth`` and ``on_death`` are called with the child; a death only when its status is known.
    """

    def __init__(
        self,
        config: TemplateConfig,
        slots: Slots,
        jobs: socket.socket,
        on_birth: Callable[[Kin], None],
        on_death: Callable[[Kin], None],
    ) -> None:
        self.config = config
        self._slots = slots
        self._jobs = jobs
        self._on_birth = on_birth
        self._on_death = on_death
        self._unborn: dict[int, Kin] = {}
        self._living: dict[int, Kin] = {}
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake, select.EPOLLIN)
        self._template: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._receiver: packets.Receiver | None = None
        self._lifeline = -1
        self._serial = 0
        self._failed_starts = 0
        self._not_before = 0.0
        self._ready = False
        _become_subreaper()

    # -- the template

    def launch(self) -> None:
        """Start the template program. Returns at once; ``manifest`` waits for it."""
        ours, theirs = packets.pair()
        lifeline_in, self._lifeline = os.pipe()
        descriptors = [theirs.fileno(), self._jobs.fileno(), self._slots.descriptor, lifeline_in]
        # Not -m: runpy would cost time, and load the module a second time under another name.
        program = f"from celeriac.pools.template import run; run({descriptors})"
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        command = [sys.executable, *flags, "-c", program]
        self._template = subprocess.Popen(command, pass_fds=descriptors, stdin=subprocess.DEVNULL)
        theirs.close()
        os.close(lifeline_in)
        self._control, self._receiver = ours, packets.Receiver(ours)
        packets.send(ours, _encode(self.config))

    def manifest(self) -> Manifest:
        """Wait for the template to load the app. Raises AppFailedError."""
        assert self._receiver is not None, "launch() comes first"
        packet = self._receiver.receive()
        if packet is None:
            raise AppFailedError(
                AppFailed(message=f"-A {self.config.spec}: its process ended while importing it")
            )
        hello = decode_hello(packet[0])
        if isinstance(hello, AppFailed):
            raise AppFailedError(hello)
        assert self._control is not None
        self._poll.register(self._control, select.EPOLLIN)
        self._ready = True
        return hello

    def _template_lost(self) -> None:
        """Start another template; running children go on and are reaped here."""
        assert self._template is not None and self._control is not None
        log.error("the template process ended; starting another one")
        self._poll.unregister(self._control)
        self._control.close()
        os.close(self._lifeline)
        self._template.wait()
        for kin in self.living:
            # One that died together with the template: nobody else will tell.
            self._reap_orphan(kin)
        for kin in self._unborn.values():
            kin.close()
        self._unborn.clear()
        self._ready = False
        self.launch()
        self.manifest()

    # -- children

    def can_fork(self) -> float:
        """Return the seconds to wait before the next fork: longer each time a start has failed."""
        return max(0.0, self._not_before - monotonic())

    def fork(self, slot: int, *, jobs: socket.socket | None = None) -> None:
        """Ask for a child in this slot; with ``jobs`` a spare one, which reads chores from there."""
        assert self._control is not None
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        lifeline_in, lifeline = os.pipe()
        self._serial += 1
        self._slots.clear(slot)
        beside = [theirs.fileno(), lifeline_in] + ([jobs.fileno()] if jobs else [])
        request = ForkRequest(slot, self._serial, jobs is not None)
        self._unborn[slot] = Kin(slot, ours, lifeline)
        try:
            packets.send(self._control, _encode(request), beside)
        except OSError:
            pass  # The template has gone; its end is noticed by the poll.
        theirs.close()
        os.close(lifeline_in)

    def expects(self, slot: int) -> bool:
        """Whether a child for this slot is on its way."""
        return slot in self._unborn

    def poll(self, timeout: float) -> None:
        """Wait for births, deaths or ``wake``, and deal with them."""
        for descriptor, _ in self._poll.poll(timeout):
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            elif self._control is not None and descriptor == self._control.fileno():
                self._notice()
            elif (kin := self._living.get(descriptor)) is not None:
                self._reap_orphan(kin)

    def wake(self) -> None:
        """Make ``poll`` return. Any thread."""
        try:
            os.eventfd_write(self._wake, 1)
        except OSError:
            pass  # Closed: nobody polls any more.

    def _notice(self) -> None:
        assert self._receiver is not None
        try:
            packet = self._receiver.receive(block=False)
        except BlockingIOError:
            return
        except ConnectionError:
            packet = None
        if packet is None:
            self._template_lost()
            return
        notice = decode_notice(packet[0])
        if isinstance(notice, Forked):
            self._born(notice, packet[1][0])
        elif isinstance(notice, Exited):
            kin = next((k for k in self._living.values() if k.pid == notice.pid), None)
            if kin is not None:
                self._dead(kin, notice.status)
        else:
            self._unborn.pop(notice.slot).close()
            log.error("cannot fork a child: %s", notice.error)
            self._failed_start()

    def _born(self, notice: Forked, pidfd: int) -> None:
        kin = self._unborn.pop(notice.slot)
        kin.pid, kin.pidfd = notice.pid, pidfd
        self._living[pidfd] = kin
        self._poll.register(pidfd, select.EPOLLIN | select.EPOLLONESHOT)
        self._on_birth(kin)

    def _reap_orphan(self, kin: Kin) -> None:
        """A child has ended. Its status comes from the template, or from here if it is ours now."""
        try:
            pid, status = os.waitpid(kin.pid, os.WNOHANG)
        except ChildProcessError:
            return  # The template's child: its notice is on the way.
        if pid:
            self._dead(kin, status)

    def _dead(self, kin: Kin, status: int) -> None:
        kin.status = status
        del self._living[kin.pidfd]
        self._poll.unregister(kin.pidfd)
        taken = self._slots.taken(kin.slot) > 0
        if taken or monotonic() - kin.born > STABLE_AFTER:
            self._failed_starts = 0
        elif status != 0:
            log.error("a child process failed at its start: %s", kin.last_words())
            self._failed_start()
        self._on_death(kin)

    def _failed_start(self) -> None:
        self._not_before = monotonic() + exponential(self._failed_starts, factor=0.1, maximum=10.0)
        self._failed_starts += 1

    @property
    def living(self) -> list[Kin]:
        """The children that live now."""
        return list(self._living.values())

    def close(self) -> None:
        """Kill every child with its group, and end the template."""
        for kin in self.living:
            kin.kill()
        if self._control is not None:
            self._control.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        if self._template is not None:
            self._template.wait()
        self._poll.close()
        os.close(self._wake)


def _become_subreaper() -> None:
    """Have orphans of the template handed to this process."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
