"""Signals: named moments at which user code may be called (SIG-01 to SIG-08).

The catalogue below has Celery's names. A signal without receivers costs one truth test at the place
that fires it (``if signals.task_prerun.receivers: ...``). Receivers are called one after another
with ``signal=``, ``sender=`` and the signal's own arguments; what a receiver raises is logged and
swallowed (SIG-02), except for ``import_modules`` (SIG-07). Thread-safe.
"""

import itertools
import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import sleep
from typing import Any

log = logging.getLogger("celeriac.signals")

Receiver = Callable[..., Any]

_VARKEYWORDS = 0x08  # co_flags of a function that takes **kwargs; the inspect module costs 7 ms
_changing = threading.Lock()


class Signal:
    """One signal. ``receivers`` is a tuple, replaced on change, so that a loop over it is safe (SIG-08).

    Made with a name, or as in Celery: ``Signal(providing_args=[...], name=...)``. The names of the
    arguments are for readers only; ``use_caching`` is accepted and means nothing.
    """

    __slots__ = ("__weakref__", "name", "propagates", "providing_args", "receivers")

    def __init__(
        self,
        providing_args: Iterable[str] | str | None = None,
        use_caching: bool = False,
        name: str | None = None,
        *,
        propagates: bool = False,
    ) -> None:
        if isinstance(providing_args, str):
            name, providing_args = providing_args, ()
        self.name = name
        self.providing_args = set(providing_args or ())
        self.propagates = propagates
        self.receivers: tuple[_Registration, ...] = ()

    def connect(
        self,
        receiver: Receiver | None = None,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: object = None,
        retry: bool = False,
    ) -> Any:
        """Register a receiver; usable as a decorator with or without arguments (SIG-01).

        ``sender`` limits the receiver to one sender, compared by identity, names by their letters.
        ``weak`` receivers vanish when nothing else refers to them. ``retry`` calls a receiver that
        raises again, after 2, 4, 6 ... 30 seconds, until it does not; it blocks whoever sends, and
        such a receiver is never weak.
        A second registration with the same ``dispatch_uid`` (or of the same receiver for the same
        sender) is ignored. Raises ValueError for a receiver that does not take ``**kwargs``: signals
        may have more arguments in a later version.
        """
        if receiver is None:
            return lambda later: self.connect(later, sender, weak, dispatch_uid, retry)
        if not _takes_any_keyword(receiver):
            raise ValueError(
                f"receiver {receiver!r} of signal {self.name} must take any keyword argument: "
                "write **kwargs at the end of its parameters"
            )
        with _changing:
            alive = self._alive()
            if not any(known.matches(receiver, sender, dispatch_uid) for known in alive):
                entry = _Registration(receiver, sender, weak, dispatch_uid, retry)
                self.receivers = (*alive, entry)
        return receiver

    def disconnect(
        self,
        receiver: Receiver | None = None,
        sender: Any = None,
        weak: bool | None = None,
        dispatch_uid: object = None,
    ) -> bool:
        """Remove a receiver; return whether it was there. ``weak`` means nothing."""
        with _changing:
            alive = self._alive()
            self.receivers = tuple(
                entry for entry in alive if not entry.matches(receiver, sender, dispatch_uid)
            )
            return len(self.receivers) < len(alive)

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether somebody would hear this sender; without one, whether anybody listens at all."""
        return any(sender is None or entry.hears(sender) for entry in self._alive())

    def send(self, sender: Any, **named: Any) -> list[tuple[Receiver, Any]]:
        """Call the receivers; return pairs of receiver and response (or the exception it raised)."""
        answers: list[tuple[Receiver, Any]] = []
        for entry in self.receivers:
            receiver = entry.target()
            if receiver is None or not entry.hears(sender):
                continue
            call = partial(_persist, receiver) if entry.retry else receiver
            try:
                answers.append((receiver, call(signal=self, sender=sender, **named)))
            except Exception as error:  # one receiver's fault must not reach the task or the others
                if self.propagates:
                    raise
                log.exception("receiver %r of signal %s failed", receiver, self.name)
                answers.append((receiver, error))
        return answers

    send_robust = send

    def _alive(self) -> tuple["_Registration", ...]:
        # Users read and replace the receivers, with lists too.
        return tuple(entry for entry in self.receivers if entry.target() is not None)

    def __repr__(self) -> str:
        return f"<Signal {self.name}: {len(self.receivers)} receivers>"


class _Registration:
    """A receiver as it was connected. Read as a pair: a key, and what returns the receiver."""

    __slots__ = ("retry", "sender", "target", "uid")

    def __init__(
        self, receiver: Receiver, sender: Any, weak: bool, uid: object, retry: bool
    ) -> None:
        self.sender = sender
        self.uid = uid
        self.retry = retry
        self.target: Callable[[], Receiver | None] = lambda: receiver
        if weak and not retry:
            bound = hasattr(receiver, "__self__") and hasattr(receiver, "__func__")
            self.target = weakref.WeakMethod(receiver) if bound else weakref.ref(receiver)

    def hears(self, sender: Any) -> bool:
        """Whether this sender is one for it."""
        return self.sender is None or _same(self.sender, sender)

    def matches(self, receiver: Receiver | None, sender: Any, uid: object) -> bool:
        """Whether somebody who connects or disconnects that means this registration."""
        if uid is not None or self.uid is not None:
            same = self.uid is not None and self.uid == uid
        else:
            same = _identity(self.target()) == _identity(receiver)
        # The sender last: to look into a task that is made later makes it now.
        return same and _same(self.sender, sender)

    def __iter__(self) -> Iterator[Any]:
        return iter(((_identity(self.target()), id(self.sender)), self.target))


def _same(one: Any, other: Any) -> bool:
    one, other = _bare(one), _bare(other)
    # Names are senders too, and equal ones need not be one object.
    return one is other or (isinstance(one, str) and isinstance(other, str) and one == other)


def _bare(sender: Any) -> Any:
    """Return what stands behind a proxy."""
    behind = getattr(type(sender), "_get_current_object", None)
    return sender if behind is None else behind(sender)


def _identity(receiver: Receiver | None) -> tuple[int, int]:
    return id(getattr(receiver, "__self__", None)), id(getattr(receiver, "__func__", receiver))


def _persist(receiver: Receiver, **named: Any) -> Any:
    """Call a receiver until it raises nothing."""
    for pause in itertools.chain(range(2, 30, 2), itertools.repeat(30)):
        try:
            return receiver(**named)
        except Exception as error:  # noqa: BLE001 - asked for: whatever it raises, it is called again
            text = "receiver %r of signal %s failed and is called again in %d s: %r"
            log.error(text, receiver, named["signal"].name, pause, error)
            sleep(pause)
    raise AssertionError("the pauses do not end")


def _takes_any_keyword(receiver: Receiver) -> bool:
    function = receiver if hasattr(receiver, "__code__") else getattr(receiver, "__func__", None)
    code = getattr(function or type(receiver).__call__, "__code__", None)
    return code is None or bool(code.co_flags & _VARKEYWORDS)


# -- publishing: in the process that sends ---------------------------------------------------------

before_task_publish = Signal(
    ("body", "exchange", "routing_key", "headers", "properties", "declare", "retry_policy"),
    name="before_task_publish",
)
"""A message is about to be sent. Sender: the task's name. Headers and properties may be changed."""
after_task_publish = Signal(
    ("body", "headers", "exchange", "routing_key"), name="after_task_publish"
)
"""The broker has taken a message. Sender: the task's name."""
task_sent = Signal(("task_id", "task", "args", "kwargs", "eta", "taskset"), name="task_sent")
"""The same in an old form, which Celery has deprecated in favour of ``after_task_publish``."""

# -- deliveries: in the spare child. Sender: the worker's name, which knows its ``app`` ------------

task_received = Signal(("request",), name="task_received")
"""A delivery will be run. ``request`` is like ``self.request``, and has ``name``, ``message`` ... too."""
task_revoked = Signal(("request", "terminated", "signum", "expired"), name="task_revoked")
"""A delivery will not be run: revoked, or expired. Sender: the task, or its name if it is unknown."""
task_rejected = Signal(("message", "exc"), name="task_rejected")
"""A message cannot be read, or has a content type that is not accepted. ``exc``: why."""
task_unknown = Signal(("message", "exc", "name", "id"), name="task_unknown")
"""A message names a task that is not known here. ``exc``: NotRegistered."""

# -- runs: in the child that runs the task. Sender: the task ---------------------------------------

task_prerun = Signal(("task_id", "task", "args", "kwargs"), name="task_prerun")
"""The function is about to be called."""
task_postrun = Signal(("task_id", "task", "args", "kwargs", "retval", "state"), name="task_postrun")
"""A run is over, whatever came of it. ``retval``: the value, or the exception."""
task_success = Signal(("result", "runtime"), name="task_success")
"""The function returned. ``runtime``: seconds."""
task_retry = Signal(("request", "reason", "einfo"), name="task_retry")
"""It asked for another run. ``reason``: the Retry."""
task_failure = Signal(
    ("task_id", "exception", "args", "kwargs", "traceback", "einfo"), name="task_failure"
)
"""It failed, or was rejected; in the spare child, if its process was lost or killed.

``traceback`` is then a text."""
task_internal_error = Signal(
    ("task_id", "args", "kwargs", "request", "exception", "traceback", "einfo"),
    name="task_internal_error",
)
"""Something failed that is not the task. ``request`` has what could be read of it."""

# -- the worker ------------------------------------------------------------------------------------

import_modules = Signal(name="import_modules", propagates=True)
"""In the template, before the modules of ``imports`` and ``include``. Sender: the app (SIG-07)."""
celeryd_init = Signal(("instance", "conf", "options"), name="celeryd_init")
"""In the template, first of all: settings may be changed. Sender and ``instance``: the worker's name,
which has ``app`` and ``hostname``. ``options``: what the command line says."""
worker_init = Signal(name="worker_init")
"""In the template, before logging is set up. Sender: the worker's name."""
celeryd_after_setup = Signal(("instance", "conf"), name="celeryd_after_setup")
"""In the template, when logging is set up. Sender and ``instance``: the worker's name."""
worker_before_create_process = Signal(name="worker_before_create_process")
"""In the template, before each fork. Sender: the app."""
worker_process_init = Signal(name="worker_process_init")
"""In every child, spare ones included, before its first task (SIG-05). Sender: the worker's name."""
worker_process_shutdown = Signal(("pid", "exitcode"), name="worker_process_shutdown")
"""In every child that ends by itself. Sender: the worker's name."""
worker_ready = Signal(name="worker_ready")
"""In the spare child: the worker takes tasks. Sender: the worker's name."""
worker_shutting_down = Signal(("sig", "how", "exitcode"), name="worker_shutting_down")
"""In the spare child: the worker was told to stop, ``Warm`` or ``Cold``. Sender: the worker's name."""
worker_shutdown = Signal(name="worker_shutdown")
"""In the spare child: the worker has nothing more to do. Sender: the worker's name."""
heartbeat_sent = Signal(name="heartbeat_sent")
"""A worker sent its heartbeat event."""

# -- logging: in the template; in each child if it has a log file of its own; sender None ----------

setup_logging = Signal(("loglevel", "logfile", "format", "colorize"), name="setup_logging")
"""Logging is to be set up. If anybody listens, we do nothing more; an exception ends the set-up."""
after_setup_logger = Signal(
    ("logger", "loglevel", "logfile", "format", "colorize"), name="after_setup_logger"
)
"""The root logger, or ours if that is left alone, is set up."""
after_setup_task_logger = Signal(
    ("logger", "loglevel", "logfile", "format", "colorize"), name="after_setup_task_logger"
)
"""The logger above those of ``get_task_logger`` is set up."""

# -- beat, green pools, programs -------------------------------------------------------------------

beat_init = Signal(name="beat_init")
"""Beat starts. Sender: its service."""
beat_embedded_init = Signal(name="beat_embedded_init")
"""Beat starts inside a worker, besides ``beat_init``. Sender: its service."""
eventlet_pool_started = Signal(name="eventlet_pool_started")
"""A pool of green threads is up. Sender: the pool."""
eventlet_pool_preshutdown = Signal(name="eventlet_pool_preshutdown")
"""It is about to wait for its threads. Sender: the pool."""
eventlet_pool_postshutdown = Signal(name="eventlet_pool_postshutdown")
"""They have ended. Sender: the pool."""
eventlet_pool_apply = Signal(("target", "args", "kwargs"), name="eventlet_pool_apply")
"""It takes a task. Sender: the pool."""
user_preload_options = Signal(("app", "options"), name="user_preload_options")
"""A command was given options that the app has added. Sender: the command."""

CATALOGUE: dict[str, Signal] = {
    name: value for name, value in list(globals().items()) if isinstance(value, Signal)
}
"""Every signal, by name (SIG-03)."""
