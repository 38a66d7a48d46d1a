"""Chores: what needs user code but belongs to no run, done in a spare child.

Two kinds: a worker signal with receivers, and the failure handlers of a run that was killed.
"""

import logging
from typing import Any

from msgspec import Struct

from celeriac import exceptions, execution, signals
from celeriac.app import Celery
from celeriac.exceptions import TaskError, TimeLimitExceeded, WorkerLostError
from celeriac.message import Delivery, Message
from celeriac.told import NodeName, delivery_info, told_message, told_request

log = logging.getLogger("celeriac.pools")

CHORE_SECONDS = 30.0
"""How long one chore may take before its process is killed."""


class Chore(Struct, frozen=True, kw_only=True):
    """One chore. Either ``signal`` is set, or ``message``."""

    number: int
    signal: str = ""
    sender: str = ""
    arguments: dict[str, Any] = {}
    """For a signal: its arguments, as data. ``exc``, class and text, is made into an exception."""
    delivery: Delivery | None = None
    """For a signal: what it is about; its request and its message are made of that."""
    message: Message | None = None
    """For the handlers of a killed run: its message."""
    text: str = ""
    """What happened to the run, in words."""
    overtime: float | None = None
    """The hard limit in seconds, if that was it."""


def do_chore(app: Celery, chore: Chore, hostname: str) -> None:
    """Do one chore, in the spare child. What goes wrong is logged."""
    try:
        _do(app, chore, hostname)
    except Exception:  # a message that cannot be read, a task that went away: the next chore is due
        log.exception("chore %r failed", chore)


def _do(app: Celery, chore: Chore, hostname: str) -> None:
    if chore.message is not None:
        execution.mourn(app, chore.message, chore.text, death(chore.overtime, chore.text), hostname)
        return
    arguments = dict(chore.arguments)
    sender: Any = NodeName(chore.sender, app)
    if chore.delivery is not None:
        arguments |= _about(chore.delivery, chore.signal, hostname)
        if chore.signal in ("task_revoked", "task_retry"):
            name = chore.delivery.message.task
            sender = app.tasks.get(name) or name
    if "exc" in arguments:
        kind, text = arguments["exc"]
        arguments["exc"] = getattr(exceptions, kind)(text)
    signals.CATALOGUE[chore.signal].send(sender, **arguments)
    if chore.signal == "worker_shutdown":
        app.loader.on_worker_shutdown()


def _about(delivery: Delivery, signal: str, hostname: str) -> dict[str, Any]:
    """Return what a signal tells of a delivery."""
    message = delivery.message
    info = delivery_info(delivery.queue, message.priority, delivery.claims > 1)
    if "request" in signals.CATALOGUE[signal].providing_args:
        return {"request": told_request(message, hostname, info)}
    return {"message": told_message(message, info)}


def death(overtime: float | None, text: str) -> TaskError:
    """Return the exception that stands for a run whose process was killed or lost."""
    return WorkerLostError(text) if overtime is None else TimeLimitExceeded(overtime)
