"""The dispatcher: what is to be done with a delivery, before it runs.

Run it, park it until somebody knows its task, put it back until its time, or refuse it. Decides
from the headers, the manifest and the clock; it moves nothing itself.
"""

import itertools
import logging
from collections.abc import Callable
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from celeriac import clock, run_log, states
from celeriac.completion import Completion, Put
from celeriac.exceptions import (
    ContentDisallowed,
    DecodeError,
    NotRegistered,
    SecurityError,
    TaskRevokedError,
    WorkerLostError,
)
from celeriac.message import Delivery, Message
from celeriac.outcome import Ending
from celeriac.pools.base import NO_LIMITS, Job, Limits
from celeriac.pools.manifest import Manifest, TaskOptions
from celeriac.settings import Settings
from celeriac.wire import serializers
from celeriac.wire import task as wire
from celeriac.wire.links import NOTHING_FOLLOWS, beyond
from celeriac.wire.protocol1 import upgraded
from celeriac.worker.documents import Documents
from celeriac.worker.flights import Flight
from celeriac.worker.settlement import DEAD, settle

log = logging.getLogger("celeriac.worker")

LONGEST_PARKING = 60.0
"""Seconds: the pause of a message that nobody knows grows from 1 to this."""
ROUNDED = 0.001
"""Seconds by which a time as text may differ from the time that the broker was told."""
AHEAD = 1.0
"""Seconds that the broker's clock may be ahead of ours."""


class Refused(Struct, frozen=True):
    """It will not run; this completion says what becomes of it."""

    completion: Completion
    signal: str = ""
    """The signal to fire, with ``arguments``; what it tells of the message is added later."""
    arguments: dict[str, Any] = {}


class Deferred(Struct, frozen=True):
    """Not now: back into the broker until ``due`` (wall time)."""

    receipt: str
    due: float
    unknown: bool = False


Admission = Flight | Deferred | Refused

Find = Callable[[str], TaskOptions | None]
"""Finds the options of a task by its name; None for one that is not known."""


class Dispatcher:
    """Admits deliveries. One thread.

    ``find`` finds tasks in place of the manifest, where tasks may come later than that.
    """

    def __init__(
        self,
        manifest: Manifest,
        settings: Settings,
        documents: Documents,
        find: Find | None = None,
    ) -> None:
        self._find: Find = find or {task.name: task for task in manifest.tasks}.get
        self._settings = settings
        self._documents = documents
        self._accepted = manifest.content_types
        self._numbers = itertools.count(1)

    def admit(self, delivery: Delivery) -> Admission:
        """Decide on one delivery."""
        message = delivery.message
        try:
            if message.content_type not in self._accepted:
                raise ContentDisallowed(
                    f"content type {message.content_type!r} is not in accept_content"
                )
            if message.body[:1] == b"{" or b'"task"' not in message.headers:
                # Protocol 1 says in the body what belongs into the headers. From here on it does.
                message = upgraded(message, self._accepted)
                delivery = replace(delivery, message=message)
            headers = wire.decode_headers(message.headers)
            task = self._find(headers.task)
            keeps = _keeps_errors(task, headers.ignore_result)
            if delivery.losses >= self._settings.task_delivery_limit:
                return self._given_up(delivery, keeps)
            if headers.expires is not None and wire.parse_time(headers.expires) <= clock.wall():
                run_log.discarded(headers)
                return self._expired(delivery, task, keeps)
            if task is None:
                return self._unknown(delivery, keeps)
            if not message.body.endswith(NOTHING_FOLLOWS) and (why := _beyond(message, headers)):
                return self._waits_for_others(delivery, keeps, why)
            if headers.eta is not None and (eta := wire.parse_time(headers.eta)) > _now(delivery):
                return Deferred(delivery.receipt, eta)
        except (DecodeError, ContentDisallowed, SecurityError) as error:
            return self._undecodable(delivery, error)
        return self._flight(delivery, task, headers, keeps)

    def _flight(
        self, delivery: Delivery, task: TaskOptions, headers: wire.Headers, keeps: bool
    ) -> Flight:
        message = delivery.message
        hard, soft = headers.timelimit
        job = Job(
            next(self._numbers),
            message,
            delivery.queue,
            delivery.claims > 1,
            delivery.suspect or not task.acks_late,
            task.track_started,
        )
        soft = task.soft_time_limit if soft is None else soft
        hard = task.time_limit if hard is None else hard
        limits = NO_LIMITS if soft is None and hard is None else Limits(soft, hard)
        if run_log.received_log.isEnabledFor(logging.INFO):
            run_log.received(headers)
        return Flight(job, delivery, task, limits, headers.retries, keeps)

    def _given_up(self, delivery: Delivery, keeps: bool) -> Refused:
        message = delivery.message
        reason = f"lost {delivery.losses} times with the process or worker that ran it"
        log.error("Task %s[%s] is dead-lettered: %s", message.task, message.id, reason)
        put = self._documents.failure(message, WorkerLostError(reason), delivery.queue)
        return Refused(_dead(delivery, reason, (put,) if keeps else ()))

    def _expired(self, delivery: Delivery, task: TaskOptions | None, keeps: bool) -> Refused:
        message = delivery.message
        error = TaskRevokedError("expired")
        put = self._documents.failure(message, error, delivery.queue, states.REVOKED)
        settlement = settle(Ending.EXPIRED, task, 0, 1).settlement
        assert settlement is not None, "an expired message has not been acknowledged"
        puts = (put,) if keeps else ()
        return Refused(
            Completion(receipt=delivery.receipt, settlement=settlement, puts=puts),
            "task_revoked",
            {"terminated": False, "signum": None, "expired": True},
        )

    def _unknown(self, delivery: Delivery, keeps: bool) -> Deferred | Refused:
        name = delivery.message.task
        reason = f"no worker knew task {name!r}"
        if refused := self._waited_too_long(delivery, keeps, reason):
            return refused
        return _parked(
            delivery,
            "is not known here and waits in the broker for %g s, for a worker that knows it. "
            "Is its module imported by the app (imports, include)?",
        )

    def _waits_for_others(self, delivery: Delivery, keeps: bool, why: str) -> Deferred | Refused:
        """Leave a message to Celery's workers, if there are any: what follows from it is theirs."""
        reason = f"no worker could follow {delivery.message.task!r}: {why}"
        if refused := self._waited_too_long(delivery, keeps, reason):
            return refused
        return _parked(
            delivery,
            f"cannot be followed here ({why}) and waits in the broker for %g s, for a worker of Celery.",
        )

    def _waited_too_long(self, delivery: Delivery, keeps: bool, reason: str) -> Refused | None:
        """Return what becomes of a message that nobody could run for ``task_unknown_ttl``."""
        message, now = delivery.message, clock.wall()
        since = now if delivery.parked is None else delivery.parked
        if now - since <= self._settings.task_unknown_ttl:
            return None
        reason = f"{reason} for {now - since:.0f} s"
        log.error("Task %s[%s] is dead-lettered: %s", message.task, message.id, reason)
        put = self._documents.failure(message, NotRegistered(reason), delivery.queue)
        return Refused(
            _dead(delivery, reason, (put,) if keeps else ()), "task_unknown", unknown(delivery)
        )

    def _undecodable(self, delivery: Delivery, error: Exception) -> Refused:
        name = delivery.message.id or delivery.receipt
        log.error(
            "message %s of queue %s cannot be read and is dead-lettered: %s",
            name,
            delivery.queue,
            error,
        )
        exc = (type(error).__name__, str(error))
        return Refused(_dead(delivery, str(error), ()), "task_rejected", {"exc": exc})


def _parked(delivery: Delivery, how: str) -> Deferred:
    """Return the message to the broker, for longer each time; ``how`` says so in the log."""
    pause = min(LONGEST_PARKING, 2.0 ** min(delivery.parkings, 6))
    message = delivery.message
    log.warning("Task %s[%s] " + how, message.task, message.id, pause)
    return Deferred(delivery.receipt, clock.wall() + pause, unknown=True)


def _beyond(message: Message, headers: wire.Headers) -> str | None:
    """Return what is to follow from a message and cannot; None too if only its child can tell."""
    if message.content_type != serializers.JSON or headers.compression is not None:
        return None
    try:
        return beyond(wire.decode_body(message.body).embed)
    except DecodeError:
        return None  # Its child says what is wrong with it.


def _now(delivery: Delivery) -> float:
    """Return the time up to which things are due.

    What the broker gives out again, it may have kept until its time by a clock that is ahead of
    ours; were it sent back for that, it would go round until our clock is as far.
    """
    return clock.wall() + (AHEAD if delivery.claims > 1 else ROUNDED)


def _keeps_errors(task: TaskOptions | None, ignored: bool | None) -> bool:
    """Whether a failure is stored; ``ignored`` is what the call says of its result, if anything."""
    if task is None:
        return not ignored
    if ignored is None:
        ignored = task.ignore_result
    return not ignored or task.store_errors_even_if_ignored


def _dead(delivery: Delivery, reason: str, puts: tuple[Put, ...]) -> Completion:
    return Completion(receipt=delivery.receipt, settlement=DEAD, reason=reason, puts=puts)


def unknown(delivery: Delivery) -> dict[str, Any]:
    """Return the arguments of ``task_unknown``, as data."""
    name = delivery.message.task
    exc = (NotRegistered.__name__, f"no task {name!r} is registered here")
    return {"name": name, "id": delivery.message.id, "exc": exc}
