"""The child: takes one job at a time from the shared socket, runs it, and sends back its outcome.

A child holds four things of the house: the shared job socket, its own stream to the parent, its
slot in the shared memory, and its lifeline. It writes the outcome of a job before it takes the next
one. What a task starts inherits none of them.

Soft limits come as SIGUSR1. The signal carries no meaning: the handler raises only if the parent
wants the very job that runs, and user code runs now. It raises once per job, again only if the
first one was swallowed where Python cannot raise (``__del__``, callbacks from C). SIGTERM ends a
child after its job.
"""

import fcntl
import io
import logging
import os
import select
import signal
import socket
import sys
import threading
from typing import Any, NoReturn

import msgspec

from celeriac import execution, log_setup, mourning, signals
from celeriac.app import Celery
from celeriac.completion import Put
from celeriac.exceptions import SoftTimeLimitExceeded
from celeriac.outcome import Outcome
from celeriac.pools import packets
from celeriac.pools.base import Job
from celeriac.pools.chores import Chore, do_chore
from celeriac.pools.slots import UNFENCED, Slots
from celeriac.told import NodeName

F_SETSIG = 10  # Linux; not in the fcntl module

_jobs = msgspec.msgpack.Decoder(tuple[int, Job])
_chores = msgspec.msgpack.Decoder(Chore)
_encode = msgspec.msgpack.Encoder().encode


class ChildConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What every child of a pool is told."""

    hostname: str
    loglevel: int | str = "WARNING"
    logfile: str | None = None
    """The log file, with ``%n`` and its like; None is standard error."""
    max_tasks: int | None = None
    """Jobs after which a child is replaced."""
    max_memory: int | None = None
    """KiB of resident memory over which a child is replaced after its job (PROT-06)."""


class _Retire(BaseException):
    """Breaks the wait of an idle child that is to end."""


class Child:
    """One child process; also the ``Port`` of the runs in it."""

    def __init__(
        self, app: Celery, config: ChildConfig, slots: Slots, slot: int, stream: socket.socket
    ) -> None:
        self.inside = False
        self.hostname = config.hostname
        self._app = app
        self._config = config
        self._slots = slots
        self._slot = slot
        self._stream = stream
        self._writing = threading.Lock()
        self._in_frame = False
        self._raised = False
        self._idle = False
        self._retiring = False
        self._done = 0

    # -- the port of a run

    def ask(self, number: int) -> bool:
        self._slots.hold(self._slot)
        self._write(packets.frame(packets.ASK, number))
        allowed = self._stream.recv(1) == b"\1"
        self._slots.resume(self._slot)
        return allowed

    def store(self, put: Put) -> None:
        number = self._slots.job(self._slot)
        self._write(packets.frame(packets.STORE, number, _encode(put)))

    def _write(self, frame: bytes) -> None:
        """Send a frame: whole, whatever threads and time limits the task has."""
        with self._writing:
            try:
                self._in_frame = True
                self._stream.sendall(frame)
            finally:
                self._in_frame = False

    # -- serving

    def serve(self, jobs: socket.socket) -> None:
        """Run jobs until there are no more, or this child is to be replaced."""
        receiver = packets.Receiver(jobs)
        while not self._retires() and (taken := self._take(receiver)):
            serial, job = taken
            if not self._slots.begin(self._slot, job.number, serial):
                self._write(packets.frame(packets.VOID, job.number, _encode(serial)))
                continue
            outcome = self._run(job)
            if outcome is not None:
                self._write(packets.frame(packets.OUTCOME, job.number, _encode(outcome)))
            self._slots.end(self._slot)
            self._done += 1

    def serve_chores(self, jobs: socket.socket) -> None:
        """Do chores until there are no more."""
        receiver = packets.Receiver(jobs)
        while packet := self._wait(receiver):
            chore = _chores.decode(packet)
            self._slots.begin(self._slot, chore.number, UNFENCED)
            do_chore(self._app, chore, self.hostname)
            self._write(packets.frame(packets.DONE, chore.number))
            self._slots.end(self._slot)

    def _take(self, receiver: packets.Receiver) -> tuple[int, Job] | None:
        packet = self._wait(receiver)
        return None if packet is None else _jobs.decode(packet)

    def _wait(self, receiver: packets.Receiver) -> bytes | None:
        """Wait for a packet; None if there will be none, or this child is to end."""
        try:
            # A job that arrives in the very moment of SIGTERM is taken and not begun; the parent
            # finds that out when this process has ended, and submits it again.
            self._idle = True
            packet = None if self._retiring else receiver.receive()
            self._idle = False
        except _Retire:
            return None
        return None if packet is None else packet[0]

    def _run(self, job: Job) -> Outcome | None:
        self._raised = False
        try:
            return execution.run(self._app, job, self)
        except Exception as error:  # noqa: BLE001 - our fault or a receiver's: the job must not hang
            return mourning.broken(self._app, job, self, error)

    def _retires(self) -> bool:
        if self._retiring:
            return True
        limit = self._config.max_tasks
        if limit is not None and self._done >= limit:
            return True
        cap = self._config.max_memory
        return cap is not None and self._done > 0 and resident_kib() > cap

    # -- signals

    def install_signals(self) -> None:
        """Take over the two signals, and let all others have their default meaning."""
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGUSR1, self._on_soft_limit)
        signal.signal(signal.SIGTERM, self._on_term)
        sys.unraisablehook = self._on_unraisable

    def _on_soft_limit(self, *_: Any) -> None:
        job = self._slots.job(self._slot)
        if not self.inside or self._in_frame or self._raised:
            return  # Where it could do harm, or once more: the parent will come back to it.
        if job and self._slots.wanted(self._slot) == job:
            self._raised = True
            raise SoftTimeLimitExceeded()

    def _on_term(self, *_: Any) -> None:
        self._retiring = True
        if self._idle:
            self._idle = False
            raise _Retire

    def _on_unraisable(self, unraisable: Any) -> None:
        if isinstance(unraisable.exc_value, SoftTimeLimitExceeded):
            # Swallowed where nobody can catch it: the parent's next signal may raise again.
            self._raised = False
        else:
            sys.__unraisablehook__(unraisable)


def main(
    child: Child,
    name: str,
    jobs: socket.socket,
    stream: socket.socket,
    lifeline: int,
    *,
    chores: bool,
) -> NoReturn:
    """Be a child, from just after the fork to the end of the process."""
    status = 1
    try:
        hold_lifeline(lifeline, group=True)
        child.install_signals()
        _shed_in_grandchildren(jobs, stream, child._slots, lifeline)
        # What a task prints is to be seen when it prints it, also through a pipe.
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(line_buffering=True)
        set_up_logging(child._app, child._config, name, 0 if chores else child._slot + 1)
        child._app.loader.on_worker_process_init()
        signals.worker_process_init.send(NodeName(child.hostname, child._app))
        if chores:
            child.serve_chores(jobs)
        else:
            child.serve(jobs)
        status = 0
    except BrokenPipeError:
        pass  # The parent has gone; so do we.
    except BaseException:
        logging.getLogger("celeriac.pools").exception("child process failed")
    finally:
        try:
            _take_leave(NodeName(child.hostname, child._app), status)
        finally:
            os._exit(status)


def _take_leave(worker: NodeName, status: int) -> None:
    signals.worker_process_shutdown.send(worker, pid=os.getpid(), exitcode=status)
    for flush in (sys.stdout.flush, sys.stderr.flush, logging.shutdown):
        try:
            flush()
        except (OSError, ValueError):
            pass


def hold_lifeline(descriptor: int, *, group: bool) -> None:
    """Have the kernel kill this process (with its group) when the other end of a pipe is closed.

    The other end is the parent's; the kernel closes it however the parent ends. Works while C code
    runs, and needs no thread.
    """
    os.setpgid(0, 0)
    owner = -os.getpid() if group else os.getpid()
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, owner)
    fcntl.fcntl(descriptor, F_SETSIG, signal.SIGKILL)
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
    poll = select.poll()
    poll.register(descriptor, 0)
    if poll.poll(0):
        os._exit(1)  # It was closed before: no signal will come.


def set_up_logging(
    app: Celery, config: ChildConfig, process: str, index: int | None = None
) -> None:
    """Log as the app's settings say, under this process name.

    In a child, which has an ``index``, what it prints becomes a part of the log; the spare child,
    whose index is 0, shares the file of the worker's parent.
    """
    log_setup.name_process(process)
    if index and log_setup.differs_by_child(config.logfile):
        log_setup.again()
    settings, logging_ = app.settings, log_setup.Logging(app)
    logging_.index = index or 0
    logging_.setup(
        config.loglevel,
        config.logfile,
        index is not None and settings.worker_redirect_stdouts,
        settings.worker_redirect_stdouts_level,
        hostname=config.hostname,
    )


def resident_kib() -> int:
    """Return the resident memory of this process."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def _shed_in_grandchildren(
    jobs: socket.socket, stream: socket.socket, slots: Slots, lifeline: int
) -> None:
    """See to it that processes forked by tasks hold no descriptor of ours.

    Programs that tasks start close them anyway: all of them are close-on-exec.
    """
    pipes = [lifeline]

    def shed() -> None:
        jobs.close()
        stream.close()
        slots.close()
        while pipes:
            # Once: in a fork of the fork this number may be somebody else's.
            os.close(pipes.pop())
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    os.register_at_fork(after_in_child=shed)
