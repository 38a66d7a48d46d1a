"""A whole worker in a thread of this process, for tests of what threads and processes do together.

The worker of production, but for three things: it shares broker and store with the app (so that
``memory://`` works), runs its tasks in one thread and never forks, and is stopped by the test.
"""

import os
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from celeriac import log_setup, signals
from celeriac.app import Celery
from celeriac.exceptions import CeleriacWarning, OperationalError
from celeriac.pools.inline import InlinePool
from celeriac.pools.manifest import Manifest, TaskOptions
from celeriac.pools.template import build_manifest, task_options
from celeriac.signals import Signal
from celeriac.testing.apps import loud, make_current
from celeriac.testing.clocks import sleepers
from celeriac.testing.tasks import PING, add_ping
from celeriac.worker.dispatcher import Find
from celeriac.worker.options import WorkerOptions
from celeriac.worker.worker import Worker

WORKER_LOGLEVEL = os.environ.get("WORKER_LOGLEVEL", "error")
"""The level at which a worker of a test logs, if it logs at all (TESTH-08)."""

INLINE = ("solo", "inline")

test_worker_starting = Signal("test_worker_starting")
test_worker_started = Signal("test_worker_started")
test_worker_stopped = Signal("test_worker_stopped")


def manifest_of(app: Celery) -> Manifest:
    """Return what a worker must know of an app in its own process; receivers may come any time."""
    manifest = build_manifest(app, (), 0)
    return msgspec.structs.replace(manifest, receivers=frozenset(signals.CATALOGUE))


def find_in(app: Celery) -> Find:
    """Return a function that finds the tasks of an app, those as well that are made later."""

    def find(name: str) -> TaskOptions | None:
        return task_options(app, name) if name in app.tasks else None

    return find


class EmbeddedWorker(Worker):
    """A worker in a thread. Make it, ``start`` it, and ``finish`` it."""

    def __init__(self, app: Celery, *, hostname: str, queues: tuple[str, ...] = ()) -> None:
        self.app = app
        pool = InlinePool(app, hostname)
        options = WorkerOptions(hostname=hostname, concurrency=1, quiet=True)
        manifest = manifest_of(app)
        if queues:
            manifest = msgspec.structs.replace(manifest, queues=queues)
        super().__init__(
            pool, manifest, options, broker=app.broker, store=app.store, find=find_in(app)
        )
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._live, name=hostname, daemon=True)
        sleepers.add(self)

    def start(self) -> None:
        """Begin, in a thread."""
        self._thread.start()

    def ensure_started(self) -> None:
        """Wait until it takes tasks. Raises what has kept it from that."""
        self._started.wait()
        if self.failure is not None:
            raise self.failure

    def reload(self) -> None:
        """Do nothing: tasks that are made while it runs are known at once."""

    def wake(self) -> None:
        """Look for what is due: a clock was moved."""
        self.consumer.wake()

    def finish(self, timeout: float | None = 10.0) -> None:
        """Stop, when the running task has come to its end.

        Raises what the worker has failed with, RuntimeError if it has not stopped in ``timeout``
        seconds.
        """
        self.stop()
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise RuntimeError(
                f"the worker's thread has not come to its end in {timeout:g} s; if a task may run "
                "longer, give more time as shutdown_timeout"
            )
        if self.failure is not None:
            raise self.failure

    def _live(self) -> None:
        try:
            self.work()
        except BaseException as error:  # noqa: BLE001 - the edge of a thread: raised by ``finish``
            self.failure = self.failure or error
        finally:
            self._started.set()

    def _greet(self) -> None:
        super()._greet()
        self._started.set()


@contextmanager
def start_worker(
    app: Celery,
    concurrency: int = 1,
    pool: Any = "solo",
    loglevel: str | int = WORKER_LOGLEVEL,
    logfile: str | None = None,
    perform_ping_check: bool = True,
    ping_task_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    **kwargs: Any,
) -> Iterator[EmbeddedWorker]:
    """Have a worker run in a thread while the block does (TESTH-03).

    Tasks run one at a time, whatever ``concurrency`` and ``pool`` say; CeleriacWarning is issued for
    a pool other than ``solo``. Of ``kwargs``, ``hostname`` and ``queues`` are heeded. With
    ``perform_ping_check`` a task ``celery.ping`` is run first, if results are kept; it has
    ``ping_task_timeout`` seconds. At the end the worker has ``shutdown_timeout`` seconds; what it
    failed with, or RuntimeError if it has not stopped, is raised then.
    """
    if pool not in INLINE:
        warnings.warn(
            f"pool {pool!r} is not used in tests: tasks run one at a time in a thread of the test's "
            "process; start a worker of its own for what depends on the pool",
            CeleriacWarning,
            stacklevel=3,
        )
    test_worker_starting.send(sender=app)
    worker: EmbeddedWorker | None = None
    try:
        make_current(app)
        add_ping(app)
        hostname = kwargs.get("hostname") or "celery@testing"
        worker = EmbeddedWorker(app, hostname=hostname, queues=_names(kwargs.get("queues")))
        with _logging(app, loglevel, logfile, hostname), _running(worker, shutdown_timeout):
            if perform_ping_check:
                _ping(worker, ping_task_timeout)
            yield worker
    finally:
        test_worker_stopped.send(sender=app, worker=worker)


@contextmanager
def _running(worker: EmbeddedWorker, shutdown_timeout: float) -> Iterator[None]:
    worker.start()
    try:
        worker.ensure_started()
        test_worker_started.send(sender=worker.app, worker=worker, consumer=worker.consumer)
        yield
    except BaseException as error:
        # It is stopped all the same; what went wrong in the block is the better story.
        try:
            worker.finish(shutdown_timeout)
        except (Exception, KeyboardInterrupt) as further:  # noqa: BLE001 - told as a note
            if further is not error:
                error.add_note(f"and the worker: {further!r}")
        raise
    else:
        worker.finish(shutdown_timeout)


def _ping(worker: EmbeddedWorker, timeout: float) -> None:
    if worker.app.store is None:
        return
    answer = worker.app.send_task(PING, queue=worker.queues[0]).get(timeout=timeout)
    if answer != "pong":
        raise OperationalError(f"the task {PING} answered {answer!r} in place of 'pong'")


@contextmanager
def _logging(
    app: Celery, loglevel: str | int, logfile: str | None, hostname: str
) -> Iterator[None]:
    """Log as a worker does, if that was asked for; put back afterwards what was changed."""
    if app not in loud and logfile is None:
        yield
        return
    logging_ = log_setup.Logging(app)
    ours = not logging_.already_setup
    logging_.setup(loglevel, logfile, hostname=hostname)
    try:
        yield
    finally:
        if ours:
            log_setup.undo()


def _names(queues: str | Iterable[str] | None) -> tuple[str, ...]:
    return tuple(queues.split(",") if isinstance(queues, str) else queues or ())
