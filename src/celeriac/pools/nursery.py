"""The nursery: the parent's hold on the template, and the birth and death of every child.

Each child is a ``Kin``: its process, its stream, its lifeline. A child is dead when its pidfd says
so, never by end-of-file, since a process that it started may hold the stream. Its wait status comes
from the template; if the template is gone, the parent, a subreaper, waits for the child itself.
"""

import logging
import os
import select
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep

from celeriac.backoff import exponential
from celeriac.exceptions import ImproperlyConfigured
from celeriac.pools import packets
from celeriac.pools.manifest import AppFailed, Manifest
from celeriac.pools.reaping import become_subreaper
from celeriac.pools.slots import Slots
from celeriac.pools.template import Exited, Forked, ForkRequest, Notice, TemplateConfig
from celeriac.pools.template_process import TemplateProcess

log = logging.getLogger("celeriac.pools")

STABLE_AFTER = 1.0
"""Seconds that a child must live, or one job that it must take, for its start to count as a
success.
"""
MOST_UNBORN = 16
"""Forks that may be asked for at a time: requests and answers must find room in their socket."""
SILENCE = 5.0
"""Seconds after a child's death without a word from the template: it hangs, or is stopped."""
LAST_GASP = 0.01
"""Seconds in which a process has felt its SIGKILL, amply."""
CLOSING = 5.0
"""Seconds that killed children may take to die at the end."""


class AppFailedError(ImproperlyConfigured):
    """The template could not load the app; ``traceback`` is the user's."""

    def __init__(self, failed: AppFailed) -> None:
        super().__init__(failed.message)
        self.traceback = failed.traceback


class Kin:
    """One child, as the parent knows it."""

    __slots__ = (
        "born",
        "dismissed",
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
        self.dismissed = False
        """Whether it is to end though it did nothing wrong."""
        self.signalled = 0.0
        """When it was last told of a soft limit."""

    def kill(self) -> None:
        """Kill it with all processes of its group."""
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            self.send_signal(signal.SIGKILL)  # It does not lead a group yet, or it is dead.

    def send_signal(self, number: int) -> None:
        """Send a signal to the child alone; nothing happens if it is dead."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except OSError:
            pass

    def ended(self) -> bool:
        """Whether it is dead."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return bool(poll.poll(0))

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

    def cut(self) -> None:
        """Cut its lifeline: it dies, with its group, if it lives. Idempotent."""
        if self.lifeline >= 0:
            os.close(self.lifeline)
            self.lifeline = -1

    def close(self) -> None:
        """Let go of descriptors, after its death. Idempotent."""
        self.stream.close()
        self.cut()
        if self.pidfd >= 0:
            pidfd, self.pidfd = self.pidfd, -1
            os.close(pidfd)


class Nursery:
    """Starts the template and, through it, children. Methods are for the supervising thread, unless
    they say otherwise.

    ``on_birth`` and ``on_death`` are called with the child; a death also for a child of which no
    birth was told, when the template died over it.
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
        self._overdue: dict[int, float] = {}
        """By pidfd of those that have died unreported: when to believe it without a report."""
        self._poll = select.epoll()
        self._acts: dict[int, Callable[[], None]] = {}
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake, select.EPOLLIN)
        self._template: TemplateProcess | None = None
        self._launch_at = float("inf")
        self._failed_launches = 0
        self._serial = 0
        self._failed_starts = 0
        self._not_before = 0.0
        become_subreaper()

    # -- the template

    def launch(self) -> None:
        """Start the template program. Returns at once; ``manifest`` waits for it."""
        self._launch_at = float("inf")
        self._template = TemplateProcess(self.config, self._jobs, self._slots)
        self._poll.register(self._template.control, select.EPOLLIN)
        self._poll.register(self._template.pidfd, select.EPOLLIN)

    def manifest(self) -> Manifest:
        """Wait for the template to load the app. Raises AppFailedError."""
        assert self._template is not None, "launch() comes first"
        hello = self._template.hello()
        if isinstance(hello, AppFailed):
            raise AppFailedError(hello)
        return hello

    def _template_lost(self, template: TemplateProcess) -> None:
        """Have another template started; running children go on and are reaped here."""
        log.error("the template process ended; starting another one")
        self._poll.unregister(template.control)
        self._poll.unregister(template.pidfd)
        template.kill()
        template.close()
        self._template = None
        stable = template.ready and monotonic() - template.born > STABLE_AFTER
        pause = 0.0 if stable else exponential(self._failed_launches, factor=0.1, maximum=10.0)
        self._failed_launches = 0 if stable else self._failed_launches + 1
        self._launch_at = monotonic() + pause
        for kin in self.living:
            self._adopt(kin)
        self._give_up_unborn()

    def _adopt(self, kin: Kin) -> None:
        """A child is ours now. It may have died with the template: nobody else will tell."""
        try:
            pid, status = os.waitpid(kin.pid, os.WNOHANG)
        except ChildProcessError:
            if kin.ended():
                self._dead(kin, None)
            return
        if pid:
            self._dead(kin, status)

    def _give_up_unborn(self) -> None:
        """Children that were asked for: the template may have forked one without a word of it."""
        lost = self.unborn
        for kin in lost:
            kin.cut()
        if lost:
            sleep(LAST_GASP)
        for kin in lost:
            # Whatever it did in its short life was not its fault.
            kin.doomed = (0, None)
            self._on_death(kin)
            del self._unborn[kin.slot]

    # -- children

    def can_fork(self) -> float:
        """Return the seconds to wait before the next fork: longer each time a start has failed."""
        if self._template is None or not self._template.ready or len(self._unborn) >= MOST_UNBORN:
            return 60.0  # What changes that ends the poll.
        return max(0.0, self._not_before - monotonic())

    def fork(self, slot: int, *, jobs: socket.socket | None = None) -> None:
        """Ask for a child in this slot; with ``jobs`` a spare one, which reads chores from there."""
        assert self._template is not None, "see can_fork()"
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        # The system gives what it allows, twice its default as a rule.
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        lifeline_in, lifeline = os.pipe()
        self._serial += 1
        self._slots.clear(slot)
        beside = [theirs.fileno(), lifeline_in] + ([jobs.fileno()] if jobs else [])
        self._unborn[slot] = Kin(slot, ours, lifeline)
        self._template.request(ForkRequest(slot, self._serial, jobs is not None), beside)
        theirs.close()
        os.close(lifeline_in)

    def expects(self, slot: int) -> bool:
        """Whether a child for this slot is on its way."""
        return slot in self._unborn

    @property
    def unborn(self) -> list[Kin]:
        """The children that were asked for; they may live and work already. Any thread."""
        return list(self._unborn.values())

    @property
    def living(self) -> list[Kin]:
        """The children that live now."""
        return list(self._living.values())

    def poll(self, timeout: float) -> None:
        """Wait for births, deaths or ``wake``, and deal with them."""
        for descriptor, _ in self._poll.poll(min(timeout, self._do_what_is_due())):
            template = self._template
            if descriptor == self._wake:
                os.eventfd_read(self._wake)
            elif template and descriptor in (template.control.fileno(), template.pidfd):
                self._hear(template)
                if template.ended:
                    self._template_lost(template)
            elif (kin := self._living.get(descriptor)) is not None:
                self._ended(kin)
            elif (act := self._acts.get(descriptor)) is not None:
                act()

    def attend(self, descriptor: int, act: Callable[[], None]) -> None:
        """Have ``poll`` do something, once, as soon as a descriptor takes more data. Any thread."""
        self._acts[descriptor] = act
        events = select.EPOLLOUT | select.EPOLLONESHOT
        # Either is closed while the pool ends: then nobody polls, and nothing is left to be done.
        with suppress(ValueError):
            try:
                self._poll.modify(descriptor, events)
            except FileNotFoundError:
                self._poll.register(descriptor, events)

    def wake(self) -> None:
        """Make ``poll`` return. Any thread."""
        try:
            os.eventfd_write(self._wake, 1)
        except OSError:
            pass  # Closed: nobody polls any more.

    def _do_what_is_due(self) -> float:
        """Start a template, believe in deaths; return the seconds until there is more to do."""
        if self._launch_at <= monotonic():
            self.launch()
        for pidfd, due in list(self._overdue.items()):
            if due <= monotonic():
                self._dead(self._living[pidfd], None)
        due = min([self._launch_at, *self._overdue.values()])
        return min(60.0, max(0.0, due - monotonic()))

    def _hear(self, template: TemplateProcess) -> None:
        while said := template.hear():
            message, descriptors = said
            if isinstance(message, Manifest):
                log.warning("another template process is ready")
            elif isinstance(message, AppFailed):
                text = f"{message.message}\n{message.traceback}".rstrip()
                log.error("the app cannot be loaded again: %s", text)
            else:
                self._take(message, descriptors)

    def _take(self, notice: Notice, descriptors: list[int]) -> None:
        if isinstance(notice, Forked):
            self._born(notice, descriptors[0])
        elif isinstance(notice, Exited):
            kin = next((k for k in self._living.values() if k.pid == notice.pid), None)
            if kin is not None:
                self._dead(kin, notice.status)
        else:
            self._unborn.pop(notice.slot).close()
            log.error("cannot fork a child: %s", notice.error)
            self._failed_start()

    def _born(self, notice: Forked, pidfd: int) -> None:
        kin = self._unborn[notice.slot]
        kin.pid, kin.pidfd = notice.pid, pidfd
        self._living[pidfd] = kin
        self._poll.register(pidfd, select.EPOLLIN | select.EPOLLONESHOT)
        self._on_birth(kin)
        # Last: a child that may have taken a job is always found somewhere.
        del self._unborn[notice.slot]

    def _ended(self, kin: Kin) -> None:
        """A child has ended. Its status comes from the template, or from here if it is ours now."""
        try:
            _, status = os.waitpid(kin.pid, os.WNOHANG)
        except ChildProcessError:
            self._overdue[kin.pidfd] = monotonic() + SILENCE
        else:
            self._dead(kin, status)

    def _dead(self, kin: Kin, status: int | None) -> None:
        kin.status = status
        self._overdue.pop(kin.pidfd, None)
        del self._living[kin.pidfd]
        self._poll.unregister(kin.pidfd)
        if self._slots.used(kin.slot) or monotonic() - kin.born > STABLE_AFTER:
            self._failed_starts = 0
        elif not kin.dismissed:
            if status != 0:
                log.error("a child process failed at its start: %s", kin.last_words())
            self._failed_start()
        self._on_death(kin)

    def _failed_start(self) -> None:
        """Let time pass before the next fork. Those that fail together count once."""
        if monotonic() >= self._not_before:
            pause = exponential(self._failed_starts, factor=0.1, maximum=10.0)
            self._not_before = monotonic() + pause
            self._failed_starts += 1

    # -- the end

    def close(self) -> None:
        """Kill every child with its group, and end the template. Returns when all are dead."""
        for kin in self.living:
            kin.dismissed = True
            kin.kill()
        if self._template is not None:
            self._template.kill()
            self._hear(self._template)
            self._template.close()
            self._template = None
        self._give_up_unborn()
        deadline = monotonic() + CLOSING
        for kin in self.living:
            kin.dismissed = True
            kin.kill()
            self._await(kin, deadline)
        self._poll.close()
        os.close(self._wake)

    def _await(self, kin: Kin, deadline: float) -> None:
        """Wait for the end of a killed child; give up at the deadline: it hangs in the system."""
        poll = select.poll()
        poll.register(kin.pidfd, select.POLLIN)
        if poll.poll(max(0.0, deadline - monotonic()) * 1000):
            self._adopt(kin)
