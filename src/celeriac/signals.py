"""Signals: named moments at which user code may be called (SIG-01 to SIG-08).

The catalogue below has Celery's names. A signal without receivers costs one truth test at the place
that fires it (``if signals.task_prerun.receivers: ...``). Receivers are called one after another
with ``signal=``, ``sender=`` and the signal's own arguments; what a receiver raises is logged and
swallowed (SIG-02), except for ``import_modules`` (SIG-07). Thread-safe.
"""

import logging
import threading
import weakref
from collections.abc import Callable
from typing import Any

log = logging.getLogger("celeriac.signals")

Receiver = Callable[..., Any]

_VARKEYWORDS = 0x08  # co_flags of a function that takes **kwargs; the inspect module costs 7 ms
_changing = threading.Lock()


class Signal:
    """One signal. ``receivers`` is a tuple, replaced on change, so that a loop over it is safe."""

    __slots__ = ("name", "propagates", "receivers")

    def __init__(self, name: str, *, propagates: bool = False) -> None:
        self.name = name
        self.propagates = propagates
        self.receivers: tuple[_Registration, ...] = ()

    def connect(
        self,
        receiver: Receiver | None = None,
        *,
        sender: Any = None,
        weak: bool = True,
        dispatch_uid: object = None,
    ) -> Any:
        """Register a receiver; usable as a decorator with or without arguments (SIG-01).

        ``sender`` limits the receiver to one sender, compared by identity or equality.
        ``weak`` receivers vanish when nothing else refers to them.
        A second registration with the same ``dispatch_uid`` (or of the same receiver for the same
        sender) is ignored. Raises ValueError for a receiver that does not take ``**kwargs``: signals
        may have more arguments in a later version.
        """
        if receiver is None:
            return lambda later: self.connect(
                later, sender=sender, weak=weak, dispatch_uid=dispatch_uid
            )
        if not _takes_any_keyword(receiver):
            raise ValueError(
                f"receiver {receiver!r} of signal {self.name} must take any keyword argument: "
                "write **kwargs at the end of its parameters"
            )
        entry = _Registration(receiver, sender, weak, dispatch_uid)
        with _changing:
            alive = self._alive()
            if not any(known.key == entry.key for known in alive):
                self.receivers = (*alive, entry)
        return receiver

    def disconnect(
        self, receiver: Receiver | None = None, *, sender: Any = None, dispatch_uid: object = None
    ) -> bool:
        """Remove a receiver; return whether it was there."""
        key = _key(receiver, sender, dispatch_uid)
        with _changing:
            alive = self._alive()
            self.receivers = tuple(entry for entry in alive if entry.key != key)
            return len(self.receivers) < len(alive)

    def send(self, sender: Any, **arguments: Any) -> list[tuple[Receiver, Any]]:
        """Call the receivers; return pairs of receiver and response (or the exception it raised)."""
        answers: list[tuple[Receiver, Any]] = []
        for entry in self.receivers:
            receiver = entry.target()
            if receiver is None or not entry.hears(sender):
                continue
            try:
                answers.append((receiver, receiver(signal=self, sender=sender, **arguments)))
            except Exception as error:  # one receiver's fault must not reach the task or the others
                if self.propagates:
                    raise
                log.exception("receiver %r of signal %s failed", receiver, self.name)
                answers.append((receiver, error))
        return answers

    def _alive(self) -> tuple["_Registration", ...]:
        return tuple(entry for entry in self.receivers if entry.target() is not None)

    def __repr__(self) -> str:
        return f"<Signal {self.name}: {len(self.receivers)} receivers>"


class _Registration:
    """A receiver as it was connected."""

    __slots__ = ("key", "sender", "target")

    def __init__(self, receiver: Receiver, sender: Any, weak: bool, uid: object) -> None:
        self.sender = sender
        self.key = _key(receiver, sender, uid)
        self.target: Callable[[], Receiver | None] = lambda: receiver
        if weak:
            bound = hasattr(receiver, "__self__") and hasattr(receiver, "__func__")
            self.target = weakref.WeakMethod(receiver) if bound else weakref.ref(receiver)

    def hears(self, sender: Any) -> bool:
        return self.sender is None or self.sender is sender or bool(self.sender == sender)


def _takes_any_keyword(receiver: Receiver) -> bool:
    function = receiver if hasattr(receiver, "__code__") else getattr(receiver, "__func__", None)
    code = getattr(function or type(receiver).__call__, "__code__", None)
    return code is None or bool(code.co_flags & _VARKEYWORDS)


def _key(receiver: Receiver | None, sender: Any, uid: object) -> object:
    # Names are senders too, and equal ones need not be one object.
    who = sender if isinstance(sender, str) else id(sender)
    if uid is not None:
        return (uid, who)
    owner = getattr(receiver, "__self__", None)
    return (id(owner), id(getattr(receiver, "__func__", receiver)), who)


before_task_publish = Signal("before_task_publish")
after_task_publish = Signal("after_task_publish")
task_received = Signal("task_received")
task_prerun = Signal("task_prerun")
task_postrun = Signal("task_postrun")
task_success = Signal("task_success")
task_retry = Signal("task_retry")
task_failure = Signal("task_failure")
task_internal_error = Signal("task_internal_error")
task_revoked = Signal("task_revoked")
task_rejected = Signal("task_rejected")
task_unknown = Signal("task_unknown")
task_sent = Signal("task_sent")
celeryd_init = Signal("celeryd_init")
celeryd_after_setup = Signal("celeryd_after_setup")
import_modules = Signal("import_modules", propagates=True)
worker_init = Signal("worker_init")
worker_before_create_process = Signal("worker_before_create_process")
worker_process_init = Signal("worker_process_init")
worker_process_shutdown = Signal("worker_process_shutdown")
worker_ready = Signal("worker_ready")
worker_shutdown = Signal("worker_shutdown")
worker_shutting_down = Signal("worker_shutting_down")

CATALOGUE: dict[str, Signal] = {
    name: value for name, value in list(globals().items()) if isinstance(value, Signal)
}
"""Every signal that this version fires, by name."""
