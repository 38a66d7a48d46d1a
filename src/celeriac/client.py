"""The client: the one road out of a process, from a call to a published message.

It knows tasks only by what is given to it (name, arguments, options), so that everything that sends
(tasks, retries, ``send_task``, later canvas and beat) sends alike. Thread-safe; usable after a
fork.
"""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from time import time_ns
from typing import Any, TypedDict

import msgspec
from msgspec import Struct

from celeriac import clock, imports, signals
from celeriac.brokers.base import Broker
from celeriac.context import Context, running
from celeriac.exceptions import NoWorkerSeenWarning
from celeriac.message import Message, Publish
from celeriac.queues import Exchange, Queue
from celeriac.routing.router import Router, TaskRouter
from celeriac.settings import Settings
from celeriac.wire import json
from celeriac.wire import task as wire
from celeriac.wire.repr import saferepr

Moment = datetime | str
"""A point in time: a datetime (naive is in the app's zone) or ISO 8601 text."""

_WORKER_SEEN_WITHIN = 60.0


Arguments = list[Any] | tuple[Any, ...]
"""Positional arguments of a call. No other sequence: text would be taken to pieces."""


class RunOptions(TypedDict, total=False):
    """The options of ``retry``, by name: those of a call, but for its time."""

    task_id: str | None
    expires: float | Moment | None
    queue: str | Queue | None
    exchange: str | Exchange | None
    exchange_type: str | None
    routing_key: str | None
    priority: int | None
    delivery_mode: int | str | None
    declare: Sequence[Queue | Exchange] | None
    router: TaskRouter | None
    headers: Mapping[str, Any] | None
    ignore_result: bool | None
    time_limit: float | None
    soft_time_limit: float | None
    shadow: str | None
    root_id: str | None
    parent_id: str | None
    reply_to: str | None


class CallOptions(RunOptions, total=False):
    """The options of ``apply_async``, by name (CALL-02)."""

    countdown: float | None
    eta: Moment | None


class Options(Struct, frozen=True, kw_only=True):
    """The options of one call (CALL-02). What is None is decided by the task or the settings."""

    task_id: str | None = None
    countdown: float | None = None
    """Seconds from now before which it does not run."""
    eta: Moment | None = None
    """The moment before which it does not run."""
    expires: float | Moment | None = None
    """Seconds from now, or the moment, after which it is not run any more."""
    queue: str | Queue | None = None
    exchange: str | Exchange | None = None
    exchange_type: str | None = None
    routing_key: str | None = None
    priority: int | None = None
    delivery_mode: int | str | None = None
    declare: Sequence[Queue | Exchange] | None = None
    """Further queues and exchanges that must be there before it is sent (ROUTE-20)."""
    router: TaskRouter | None = None
    """Routes this call in place of ``task_routes``."""
    headers: Mapping[str, Any] | None = None
    ignore_result: bool | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    shadow: str | None = None
    retries: int = 0
    root_id: str | None = None
    parent_id: str | None = None
    reply_to: str | None = None


class Client:
    """Composes messages and hands them to the broker."""

    def __init__(
        self,
        settings: Settings,
        broker: Broker,
        app_name: str,
        router: Router | None = None,
        *,
        warned: bool = False,
    ) -> None:
        self.settings = settings
        """The snapshot that it was made under."""
        self.broker = broker
        self.warned = warned
        """Whether it has looked for workers, and need not do so again."""
        self._router = Router(settings) if router is None else router
        self._zone = _zone(settings.timezone)
        self._app_name = app_name
        self._host = os.uname().nodename  # What the socket module says, without its 4 ms.
        self._pid = 0
        self._origin = ""

    def compose(
        self, name: str, args: Sequence[Any], kwargs: Mapping[str, Any], options: Options
    ) -> Publish:
        """Return the message for a call, routed and encoded. Sends nothing.

        Raises EncodeError for arguments that cannot be written, ValueError for limits or times that
        contradict each other, QueueNotFound if it leads to no queue.
        """
        route = self._router.find(msgspec.structs.asdict(options), name, args, kwargs)
        if route.options:
            options = _filled(options, route.options)
        due = self._due(options)
        task_id = options.task_id or new_id()
        request = running()
        call = wire.Call(
            task=name,
            id=task_id,
            origin=self._sender(),
            argsrepr=saferepr(args),
            kwargsrepr=saferepr(kwargs),
            root_id=options.root_id or (request.root_id if request else None),
            parent_id=options.parent_id or (request.id if request else None),
            retries=options.retries,
            eta=None if due is None else clock.iso(due, self._zone),
            expires=None if options.expires is None else self._expiry(options.expires),
            time_limit=options.time_limit,
            soft_time_limit=options.soft_time_limit,
            ignore_result=options.ignore_result,
            shadow=options.shadow,
            extra=options.headers or {},
        )
        message = Message(
            id=task_id,
            task=name,
            headers=wire.encode_headers(call),
            body=wire.encode_body(args, kwargs),
            priority=route.priority or 0,
            reply_to=options.reply_to,
        )
        return Publish(
            queue=route.queues[0],
            message=message,
            due=due,
            exchange=route.exchange,
            routing_key=route.routing_key,
            copies=route.queues[1:],
            delivery_mode=route.delivery_mode,
        )

    def send(self, publishes: Sequence[Publish]) -> None:
        """Publish messages, all or none. Raises OperationalError within ``broker_timeout``."""
        if signals.before_task_publish.receivers:
            publishes = [_announced(publish) for publish in publishes]
        if not self.warned:
            # Before the message is out: where warnings are errors, an error then means "not sent".
            self.warned = True
            self._look_for_workers()
        self.broker.publish(publishes)
        if signals.after_task_publish.receivers:
            for publish in publishes:
                _confirmed(publish)

    def note_child(self, task_id: str) -> None:
        """Remember a sent task in the run that sent it (CALL-12)."""
        request = running()
        if request is not None:
            request.children.append([[task_id, None], None])

    def _due(self, options: Options) -> float | None:
        _check_limits(options)
        if options.countdown is not None:
            return clock.wall() + options.countdown
        return None if options.eta is None else self._moment(options.eta)

    def _expiry(self, expires: float | Moment) -> str:
        if isinstance(expires, int | float):
            expires = clock.wall() + expires
        else:
            expires = self._moment(expires)
        return clock.iso(expires, self._zone)

    def _moment(self, moment: Moment) -> float:
        if isinstance(moment, str):
            return clock.parse_iso(moment, self._zone)
        return clock.unix(moment, self._zone)

    def _sender(self) -> str:
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._origin = f"gen{self._pid}@{self._host}"
        return self._origin

    def _look_for_workers(self) -> None:
        """Warn once if nobody is there to do the work (embedded files only)."""
        if not self.broker.location.startswith("sqlite:"):
            return
        seen = self.broker.worker_seen()
        if seen is None or clock.wall() - seen > _WORKER_SEEN_WITHIN:
            warnings.warn(
                f"the task waits in {self.broker.location.removeprefix('sqlite:')}, where no worker has "
                f"been seen within a minute; start one with: celeriac -A {self._app_name} worker",
                NoWorkerSeenWarning,
                stacklevel=_level_of_caller(),
            )


def _level_of_caller() -> int:
    """Return the ``stacklevel`` with which a warning points at the first line outside of here."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("celeriac."):
        level, frame = level + 1, frame.f_back
    return level


def new_id() -> str:
    """Return a fresh task id: a UUID of version 7 (RFC 9562) as text.

    Its first digits are the time, so that ids made one after the other stand together in the index of
    every store; a random id would touch another page for each result.
    """
    millis = f"{time_ns() // 1_000_000:012x}"
    digits = os.urandom(10).hex()
    variant = "89ab"[int(digits[3], 16) & 3]
    return f"{millis[:8]}-{millis[8:]}-7{digits[:3]}-{variant}{digits[4:7]}-{digits[7:19]}"


def changed(options: Options, by: CallOptions) -> Options:
    """Return the options, changed by those of one call. Raises TypeError for unknown ones."""
    given = {name: value for name, value in by.items() if value is not None}
    for name in given:
        if name not in Options.__struct_fields__:
            raise TypeError(
                f"a call has no option {name!r} in this version; "
                f"options are: {', '.join(sorted(Options.__struct_fields__))}"
            )
    return msgspec.structs.replace(options, **given) if given else options


def _filled(options: Options, by: Mapping[str, Any]) -> Options:
    """Return the options, with those that a route adds. Raises TypeError for unknown ones."""
    given: Any = {name: value for name, value in by.items() if getattr(options, name, None) is None}
    if options.eta is not None:
        # The call says when it runs, in another way.
        given.pop("countdown", None)
    return changed(options, given)


def arguments(
    args: Arguments | None, kwargs: Mapping[str, Any] | None
) -> tuple[Arguments, Mapping[str, Any]]:
    """Return the arguments of a call as they are sent. Raises TypeError if they are none."""
    if args is not None and not isinstance(args, list | tuple):
        raise TypeError(
            f"positional arguments are a list or a tuple, not {type(args).__name__}; write (value,) "
            "for a single one"
        )
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise TypeError(f"keyword arguments are a mapping, not {type(kwargs).__name__}")
    return () if args is None else args, dict(kwargs or {})


def retry_options(request: Context, options: dict[str, Any]) -> Options:
    """Return the options for the next run of this request, changed by ``options`` (TASK-27).

    Same id, queue, priority, limits and headers; its parent is the run itself (QUIRK-06).
    """
    queue = request.delivery_info.get("routing_key")
    # To the queue itself: through its exchange the message might reach others, too.
    direct = not options.keys() & {"queue", "exchange", "routing_key"}
    kept = Options(
        task_id=request.id,
        queue=queue,
        exchange="" if direct else None,
        routing_key=queue if direct else None,
        priority=request.delivery_info.get("priority"),
        headers=request.headers,
        ignore_result=request.ignore_result,
        time_limit=request.time_limit,
        soft_time_limit=request.soft_time_limit,
        shadow=request.shadow,
        expires=request.expires,
        retries=request.retries + 1,
        root_id=request.root_id,
        parent_id=request.id,
        reply_to=request.reply_to,
    )
    return msgspec.structs.replace(kept, **options)


def _check_limits(options: Options) -> None:
    soft, hard = options.soft_time_limit, options.time_limit
    if soft is not None and hard is not None and soft > hard:
        raise ValueError(
            f"soft_time_limit {soft:g} s is longer than time_limit {hard:g} s; the soft limit must "
            "come first"
        )
    if options.countdown is not None and options.eta is not None:
        raise ValueError("countdown and eta both say when to run; give one of them")


def _announced(publish: Publish) -> Publish:
    """Let receivers of before_task_publish see and change headers and properties (CALL-18)."""
    message = publish.message
    headers = json.decode(message.headers)
    properties = {
        "correlation_id": message.id,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "priority": message.priority,
        "reply_to": message.reply_to,
        "delivery_mode": publish.delivery_mode,
    }
    signals.before_task_publish.send(
        message.task,
        body=message.body,
        exchange=publish.exchange,
        routing_key=publish.routing_key or publish.queue,
        headers=headers,
        properties=properties,
        declare=[],
        retry_policy={},
    )
    changed = msgspec.structs.replace(
        message,
        headers=json.encode(headers, "headers"),
        priority=properties["priority"] or 0,
        reply_to=properties["reply_to"],
    )
    return msgspec.structs.replace(publish, message=changed)


def _confirmed(publish: Publish) -> None:
    signals.after_task_publish.send(
        publish.message.task,
        body=publish.message.body,
        headers=json.decode(publish.message.headers),
        exchange=publish.exchange,
        routing_key=publish.routing_key or publish.queue,
    )


def _zone(name: str | None) -> tzinfo:
    """Return the zone of naive times. Raises ValueError if nobody knows it."""
    if name is None or name.upper() == "UTC":
        return UTC
    zone: tzinfo = imports.load("celeriac.zones:zone")(name)
    return zone
