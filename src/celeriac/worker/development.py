"""A worker for development: one process at the terminal, begun anew when a source file is saved.

Two processes: the *keeper* starts the other one again and again; it loads nothing of the user's. The
*serving* process loads the app and runs tasks in its main thread, so that ``breakpoint()`` works,
while a thread of its own looks for changes and ends what does not end itself. What is ended gives
its messages back, uncounted, unless it was killed from outside.
"""

import io
import os
import select
import signal
import socket
import sys
import termios
import threading
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from celeriac import log_setup
from celeriac.app import Celery
from celeriac.exceptions import ImproperlyConfigured
from celeriac.pools.inline import InlinePool
from celeriac.pools.manifest import AppFailed, Manifest
from celeriac.pools.template import TemplateConfig, app_failed, build_manifest, load_app
from celeriac.worker.changes import Changes
from celeriac.worker.options import WorkerOptions
from celeriac.worker.worker import Worker

AGAIN = 3
"""Exit status of a serving process that is to be begun anew."""
AGAIN_AT_ONCE = 4
"""The same, because a file was saved while it was being loaded."""
EXPECTED = (0, 1, 2)
"""Statuses of a worker that has ended in the regular way: as it was told, by a fault, by a mistake."""
GRACE = 5.0
"""Seconds that a running task has after a save, unless the user says otherwise."""
TICK = 0.1
LOOK = 0.5
"""Seconds between looks for changes."""
LAST_COMMIT = 2.0
STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)

Say = Callable[[str], None]


class Development(Struct, frozen=True, kw_only=True):
    """What the serving process is told."""

    config: TemplateConfig
    options: WorkerOptions
    say: Say
    """Tells the user something, in one line."""
    failed: Callable[[AppFailed], None]
    """Tells the user that the app could not be loaded. May raise, to end."""


def develop(development: Development) -> int:
    """Be the keeper, until the worker has ended; return its exit status. The main thread.

    In the serving process this returns as well, with the status that it is to exit with.
    """
    keeper = Keeper(development.say)
    while True:
        ready = keeper.begin()
        if ready is not None:
            return serve(development, keeper.beginning, ready)
        status = keeper.wait()
        if status is not None:
            return status


class Beginning(Struct, frozen=True, kw_only=True):
    """How a serving process has come to begin."""

    first: bool = True
    at_once: bool = False
    """The one before was ended for what was saved while it was being loaded."""


class Keeper:
    """Starts serving processes, passes signals on, and gives the terminal back as it was."""

    def __init__(self, say: Say) -> None:
        self.beginning = Beginning()
        self._say = say
        self._child = 0
        self._ready = -1
        self._stopping = False
        self._terminal = _terminal()
        for number in STOPS:
            signal.signal(number, self._pass_on)

    def begin(self) -> int | None:
        """Fork; return None in the keeper, and in the child where to write that it is ready."""
        self._ready, ready = os.pipe()
        os.set_blocking(self._ready, False)
        self._child = os.fork()
        if self._child:
            os.close(ready)
            return None
        os.close(self._ready)
        _usual_signals()
        return ready

    def wait(self) -> int | None:
        """Wait for the end of the child; return the status to exit with, None to begin anew."""
        _, raw = os.waitpid(self._child, 0)
        self._child = 0
        was_ready = self._was_ready()
        _restore(self._terminal)
        status = os.waitstatus_to_exitcode(raw)
        self.beginning = Beginning(first=False, at_once=status == AGAIN_AT_ONCE)
        if self._stopping:
            return max(status, 0)
        if status in (AGAIN, AGAIN_AT_ONCE):
            return None
        if status in EXPECTED or not was_ready:
            return status if status >= 0 else 1
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended ({status})"
        self._say(f"the worker {how}, starting again; what it ran is free when its lease ends")
        return None

    def _was_ready(self) -> bool:
        try:
            return bool(os.read(self._ready, 1))
        except BlockingIOError:
            return False  # It was not, and has left behind a process that has the other end.
        finally:
            os.close(self._ready)

    def _pass_on(self, number: int, _: FrameType | None) -> None:
        # Ctrl-C at the terminal has reached the child already, and a second one would end it cold.
        if number != signal.SIGINT:
            self._stopping = True
            if self._child:
                os.kill(self._child, number)


def serve(development: Development, beginning: Beginning, ready: int) -> int:
    """Load the app and work; return the status to exit with."""
    changes = Changes(os.getcwd())
    config = development.config
    try:
        app = load_app(config)
        manifest = build_manifest(app, (), 0)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's module may raise anything
        return _wait_for_mending(development, app_failed(config.spec, error), beginning, changes)
    if beginning.at_once:
        changes.forgive()
    if manifest.broker.startswith("memory:"):
        raise ImproperlyConfigured(
            "memory:// lives inside one process, so nobody could send this worker anything; leave "
            "broker_url out for the embedded file"
        )
    # What a task prints is to be seen when it prints it, however this process ends.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)
    log_setup.name_process("MainProcess")
    serving = Serving(app, manifest, changes, development, beginning)
    os.write(ready, b"r")
    os.close(ready)
    status = serving.run()
    app.close()
    return status


def _wait_for_mending(
    development: Development, failure: AppFailed, beginning: Beginning, changes: Changes
) -> int:
    """Tell what is wrong, and wait until something is saved. May raise, at the first beginning."""
    if beginning.first and not failure.traceback:
        raise ImproperlyConfigured(failure.message)
    development.failed(failure)
    development.say("waiting for the next save")
    parent, pause = os.getppid(), threading.Event()
    while not changes.anywhere():
        pause.wait(LOOK)
        if os.getppid() != parent:
            return 1
    return AGAIN


class Serving:
    """The serving process at work: a worker in the main thread, and one who watches over it."""

    def __init__(
        self,
        app: Celery,
        manifest: Manifest,
        changes: Changes,
        development: Development,
        beginning: Beginning,
    ) -> None:
        options = development.options
        # One banner is enough.
        options = replace(options, concurrency=1, quiet=options.quiet or not beginning.first)
        pool = InlinePool(app, options.hostname, lambda *_: self.take_signals())
        self._worker = worker = Worker(pool, manifest, options, broker=app.broker, store=app.store)
        self._changes = changes
        self._say = development.say
        grace = development.options.grace
        self._grace = worker.settings.worker_grace if grace is None else grace
        self._parent = os.getppid()
        self._main = threading.main_thread().ident
        self._signals: list[int] = []
        self._ear, self._told = socket.socketpair()
        self._told.setblocking(False)
        self._again = 0
        """The status to begin anew with, once a file was saved."""
        self._end_at = float("inf")
        self._told_of_debugger = False

    def run(self) -> int:
        """Work until a signal or a save; return the status to exit with. The main thread."""
        self.take_signals()
        # Written to by the interpreter itself, also while a task is deep in C code or at a prompt.
        signal.set_wakeup_fd(self._told.fileno(), warn_on_full_buffer=False)
        os.register_at_fork(
            before=_hold_signals, after_in_parent=_release_signals, after_in_child=_leave_signals
        )
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        status = self._worker.work()
        return self._again or status

    @staticmethod
    def take_signals() -> None:
        """Have signals come here. A debugger that is left keeps Ctrl-C to itself: so after each run."""
        for number in STOPS:
            signal.signal(number, _heed)

    # -- the thread that watches

    def _watch(self) -> None:
        look_at, first = 0.0, True
        while True:
            for number in self._told_signals():
                self._hear(number)
            if os.getppid() != self._parent and not self._signals:
                self._hear(signal.SIGTERM)  # The keeper was killed.
            now = monotonic()
            if now >= look_at and not self._signals and not self._again:
                look_at = now + LOOK
                if changed := self._changes.loaded():
                    self._begin_anew(changed, AGAIN_AT_ONCE if first else AGAIN)
                first = False
            if now >= self._end_at:
                self._end()

    def _told_signals(self) -> list[int]:
        """Wait a moment; return the signals that have come and are for this process to obey."""
        if not select.select([self._ear], [], [], TICK)[0]:
            return []
        return [n for n in self._ear.recv(100) if n in STOPS and signal.getsignal(n) is _heed]

    def _hear(self, number: int) -> None:
        """A signal has come: the main thread obeys it after the running task, this one meanwhile."""
        if number == signal.SIGHUP and number in self._signals:
            return  # From a terminal that has gone it may come twice: directly, and by the keeper.
        self._signals.append(number)
        running = bool(self._worker.pool.running())
        if self._cold:
            self._end_at = monotonic() + (0.0 if running else LAST_COMMIT)
        elif running:
            self._say("stopping when the running task has ended; once more ends it now")
        if not self._cold and self._grace is not None:
            self._end_at = monotonic() + self._grace
        self._worker.stop(number)

    @property
    def _cold(self) -> bool:
        return len(self._signals) > 1 or signal.SIGQUIT in self._signals

    def _begin_anew(self, changed: list[str], status: int) -> None:
        """A file was saved: stop in the regular way, for so long."""
        others = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        self._say(f"{changed[0]}{others} changed: starting again")
        self._again = status
        self._end_at = monotonic() + (GRACE if self._grace is None else self._grace)
        self._worker.stop()

    def _end(self) -> None:
        """End the running task, and this process with it; give back what it holds, uncounted."""
        if not self._cold and self._debugged():
            if not self._told_of_debugger:
                self._told_of_debugger = True
                self._say("a debugger is open: waiting for the end of its task")
            return
        parts = self._worker.parts
        if self._worker.pool.running():
            self._say("ending the running task")
        for service in (parts.consumption, parts.completer):
            service.stop()
            service.join(LAST_COMMIT)
        try:
            parts.consumer.close()
        finally:
            os._exit(self._again)

    def _debugged(self) -> bool:
        """Whether the main thread sits in a debugger."""
        frame = sys._current_frames().get(self._main or 0)
        while frame is not None:
            module = str(frame.f_globals.get("__name__"))
            if module.partition(".")[0] in DEBUGGERS:
                return True
            frame = frame.f_back
        return False


def _heed(number: int, frame: FrameType | None) -> None:
    """Do nothing: that a signal has come is told to the thread that watches."""


_held = threading.local()


def _hold_signals() -> None:
    """Let none come to a process that a task forks, before that has the usual ones."""
    _held.mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, _held.mask)


def _leave_signals() -> None:
    """Give a process that a task has forked the usual signals: it has nobody who watches."""
    signal.set_wakeup_fd(-1)
    _usual_signals()
    _release_signals()


def _usual_signals() -> None:
    for number in STOPS:
        usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
        signal.signal(number, usual)


DEBUGGERS = frozenset(("bdb", "pdb", "pydevd", "_pydevd_bundle", "debugpy"))
"""Modules in whose functions a thread is that a debugger has stopped; most others build on these."""


def _terminal() -> list[Any] | None:
    """Return how the terminal is set, None if there is none."""
    try:
        return termios.tcgetattr(0)
    except (termios.error, OSError, ValueError):
        return None


def _restore(terminal: list[Any] | None) -> None:
    """Set the terminal as it was: whoever was killed at a prompt has left it without echo."""
    if terminal is not None:
        try:
            termios.tcsetattr(0, termios.TCSADRAIN, terminal)
        except (termios.error, OSError):
            pass  # It has gone.
