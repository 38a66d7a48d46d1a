"""What a test looks at: messages that wait, runs that were made, and what a test expects of them.

Values, and pure functions over them.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from difflib import SequenceMatcher
from types import EllipsisType
from typing import Any

from msgspec import Struct

from celeriac import clock
from celeriac.brokers.memory import Waiting
from celeriac.message import Message
from celeriac.wire import json
from celeriac.wire import task as wire
from celeriac.wire.repr import saferepr

CLOSE = 0.001
"""Seconds by which an expected moment may be missed: the clock stands still, and floats are rounded."""
MOST_SHOWN = 10


class Enqueued(Struct, frozen=True, kw_only=True):
    """A message that waits in the broker, with its arguments as a worker will read them."""

    id: str
    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str
    priority: int = 0
    due: datetime | None = None
    """Before which it does not run; None is now."""
    expires: datetime | None = None
    retries: int = 0
    headers: Mapping[str, Any] = {}
    """All of its headers, Celery's and the caller's own."""
    parked: bool = False
    """It was given back because the app has no task of this name."""

    def __str__(self) -> str:
        rest = [f"queue={self.queue!r}"]
        if self.priority:
            rest.append(f"priority={self.priority}")
        if self.due is not None:
            rest.append(f"due={self.due.isoformat()}")
        if self.retries:
            rest.append(f"retries={self.retries}")
        if self.parked:
            rest.append("(no task of this name is registered)")
        return f"{call(self.task, self.args, self.kwargs)} {' '.join(rest)}"

    def __repr__(self) -> str:
        return f"<Enqueued {self}>"


class Ran(Struct, frozen=True, kw_only=True):
    """One run that an inbox has made."""

    id: str
    task: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    queue: str
    state: str
    """The state it ended with: SUCCESS, FAILURE, RETRY, ... (``IGNORED``, ``REJECTED`` as well)."""
    result: Any = None
    """What the function returned, as it returned it."""
    exception: BaseException | None = None
    """What it raised: the failure, or what made it retry."""
    retries: int = 0
    at: datetime
    """When it ran, by the clock of the inbox."""

    def __str__(self) -> str:
        return f"{call(self.task, self.args, self.kwargs)} {self.state}"

    def __repr__(self) -> str:
        return f"<Ran {self}>"


class Expected(Struct, frozen=True, kw_only=True):
    """What a test says of a message. What is None, or ``...`` for ``due``, may be anything."""

    task: str
    args: Sequence[Any] | None = None
    kwargs: Mapping[str, Any] | None = None
    queue: str | None = None
    priority: int | None = None
    due: datetime | EllipsisType | None = ...
    id: str | None = None

    def differences(self, message: Enqueued) -> list[str]:
        """Return in what a message is not what is expected, most telling first."""
        found = []
        if message.task != self.task:
            found.append(f"task is {message.task!r}")
        for name in ("id", "args", "kwargs", "queue", "priority"):
            wanted, there = getattr(self, name), getattr(message, name)
            if wanted is not None and wanted != there:
                found.append(f"{name} is {saferepr(there)}")
        if not _same_moment(self.due, message.due):
            due = message.due
            found.append("it is due now" if due is None else f"it is due {due.isoformat()}")
        return found

    def distance(self, message: Enqueued) -> tuple[float, int]:
        """Return how far a message is from what is expected; smaller is nearer."""
        ratio = SequenceMatcher(None, self.task, message.task).ratio()
        return 1 - ratio, len(self.differences(message))

    def __str__(self) -> str:
        given = {
            name: getattr(self, name) for name in ("id", "args", "kwargs", "queue", "priority")
        }
        shown = [f"{name}={saferepr(v)}" for name, v in given.items() if v is not None]
        if not isinstance(self.due, EllipsisType):
            shown.append(f"due={self.due.isoformat() if self.due else 'now'}")
        return " ".join([self.task, *shown])


def expected(
    task: str, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None, **more: Any
) -> Expected:
    """Return what a test expects, its arguments as they would be read after the journey.

    Raises EncodeError for arguments that no message can carry.
    """
    body = wire.decode_body(wire.encode_body(args or (), kwargs or {}))
    return Expected(
        task=task,
        args=None if args is None else body.args,
        kwargs=None if kwargs is None else body.kwargs,
        **more,
    )


def enqueued(waiting: Waiting) -> Enqueued:
    """Return a waiting message, opened. Raises DecodeError."""
    message = waiting.message
    headers, args, kwargs = opened(message)
    expires = headers.get("expires")
    return Enqueued(
        id=message.id,
        task=message.task,
        args=args,
        kwargs=kwargs,
        queue=waiting.queue,
        priority=message.priority,
        due=None if waiting.due is None else datetime.fromtimestamp(waiting.due, UTC),
        expires=datetime.fromtimestamp(clock.parse_iso(expires), UTC) if expires else None,
        retries=headers.get("retries") or 0,
        headers=headers,
        parked=waiting.parked,
    )


def opened(message: Message) -> tuple[dict[str, Any], Sequence[Any], dict[str, Any]]:
    """Return headers and arguments of a message, whatever its form. Raises DecodeError."""
    headers: dict[str, Any] = json.decode(message.headers)
    accept = frozenset((message.content_type,))
    body = wire.open_body(message, headers.get("compression"), accept)
    return headers, body.args, body.kwargs


def mismatch(what: str, wanted: Expected, messages: Sequence[Enqueued]) -> str:
    """Return what to say when the messages are not what a test expects: the nearest come first."""
    if not messages:
        return f"{what}: {wanted}\nnothing is enqueued"
    lines = [f"{what}: {wanted}", "enqueued, the nearest first:"]
    nearest = sorted(messages, key=wanted.distance)
    for message in nearest[:MOST_SHOWN]:
        differences = "; ".join(wanted.differences(message))
        lines.append(f"  {message}" + (f"\n      {differences}" if differences else ""))
    if len(nearest) > MOST_SHOWN:
        lines.append(f"  and {len(nearest) - MOST_SHOWN} more")
    return "\n".join(lines)


def call(task: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """Return a call as it is written."""
    shown = [saferepr(value) for value in args]
    shown += [f"{name}={saferepr(value)}" for name, value in kwargs.items()]
    return f"{task}({', '.join(shown)})"


def _same_moment(wanted: datetime | EllipsisType | None, there: datetime | None) -> bool:
    if isinstance(wanted, EllipsisType):
        return True
    if wanted is None or there is None:
        return wanted is there
    return abs((wanted - there).total_seconds()) <= CLOSE
