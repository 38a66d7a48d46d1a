"""The options of a call: their names, their values, and how one set of them changes another.

What they become in a message is ``client``; which of them a task sets beforehand is
``task_options``.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypedDict

import msgspec
from msgspec import Struct

from celeriac.context import Context
from celeriac.queues import Exchange, Queue
from celeriac.routing.router import TaskRouter

if TYPE_CHECKING:
    from uuid import UUID  # Not at run time: it is slow to import.

Moment = datetime | str
"""A point in time: a datetime (naive is in the app's zone) or ISO 8601 text."""

Arguments = list[Any] | tuple[Any, ...]
"""Positional arguments of a call. No other sequence: text would be taken to pieces."""

Links = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""One signature, or several."""


class RunOptions(TypedDict, total=False):
    """The options of ``retry``, by name: those of a call, but for its time."""

    task_id: "str | UUID | None"
    expires: float | Moment | None
    queue: str | Queue | None
    exchange: str | Exchange | None
    routing_key: str | None
    exchange_type: str | None
    delivery_mode: int | str | None
    priority: int | None
    serializer: str | None
    compression: str | None
    headers: Mapping[str, Any] | None
    ignore_result: bool | None
    time_limit: float | None
    soft_time_limit: float | None
    shadow: str | None
    link: Links | None
    link_error: Links | None
    add_to_parent: bool | None
    argsrepr: str | None
    kwargsrepr: str | None
    retry: bool | None
    retry_policy: Mapping[str, Any] | None
    root_id: str | None
    parent_id: str | None
    reply_to: str | None
    router: TaskRouter | None
    result_cls: Any
    producer: Any
    connection: Any
    publisher: Any
    declare: Sequence[Queue | Exchange] | None
    mandatory: bool | None
    immediate: bool | None
    timeout: float | None
    confirm_timeout: float | None


class CallOptions(RunOptions, total=False):
    """The options of ``apply_async``, by name (CALL-02)."""

    countdown: float | None
    eta: Moment | None


class Options(Struct, frozen=True, kw_only=True):
    """The options of one call (CALL-02). What is None is decided by the task or the settings."""

    task_id: str | None = None
    """Any text; a second call of the same id shares its result with the first (CALL-21)."""
    countdown: float | None = None
    """Seconds from now before which it does not run."""
    eta: Moment | None = None
    """The moment before which it does not run."""
    expires: float | Moment | None = None
    """Seconds from now, or the moment, after which it is not run any more."""
    queue: str | Queue | None = None
    exchange: str | Exchange | None = None
    routing_key: str | None = None
    exchange_type: str | None = None
    delivery_mode: int | str | None = None
    priority: int | None = None
    serializer: str | None = None
    compression: str | None = None
    headers: Mapping[str, Any] | None = None
    ignore_result: bool | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    shadow: str | None = None
    """The name that logs and monitors show instead of the task's (TASK-41)."""
    link: Links | None = None
    """Signatures that are called with the result (CALL-09)."""
    link_error: Links | None = None
    """Signatures that are called when the task has failed (CALL-10)."""
    chain: Sequence[Any] | None = None
    chord: Any = None
    group_id: str | None = None
    group_index: int | None = None
    replaced_task_nesting: int = 0
    add_to_parent: bool | None = None
    """Off: it is no child of the run that sends it (CALL-12)."""
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    retry: bool | None = None
    """Whether publishing is tried again after a failure (CALL-06)."""
    retry_policy: Mapping[str, Any] | None = None
    retries: int = 0
    root_id: str | None = None
    parent_id: str | None = None
    reply_to: str | None = None
    declare: Sequence[Queue | Exchange] | None = None
    """Further queues and exchanges that must be there before it is sent (ROUTE-20)."""
    router: TaskRouter | None = None
    """Routes this call in place of ``task_routes``."""
    result_cls: Any = None
    """The class of the result that is returned."""


WITHOUT_EFFECT = frozenset(
    (
        "producer",
        "connection",
        "publisher",
        "mandatory",
        "immediate",
        "timeout",
        "confirm_timeout",
    )
)
"""Options that Celery hands to its driver. Connections are pooled here, so that there is nothing to
hand over (CALL-13).
"""

CLEARED = frozenset(("expires", "time_limit", "soft_time_limit"))
"""Options for which None is an answer: this call has none, whatever the task says."""


def changed(options: Options, by: Mapping[str, Any]) -> Options:
    """Return the options, changed by those of one call; None leaves one as it is, but ``CLEARED``.

    Raises TypeError for unknown ones.
    """
    given = {}
    for name, value in by.items():
        if name not in _NAMES:
            if name in WITHOUT_EFFECT:
                continue
            raise TypeError(
                f"a call has no option {name!r} in this version; "
                f"options are: {', '.join(sorted(_NAMES))}"
            )
        if value is not None or name in CLEARED:
            # Any text is an id (CALL-21); a UUID is given as it is.
            given[name] = str(value) if name == "task_id" else value
    return msgspec.structs.replace(options, **given) if given else options


_NAMES = frozenset(Options.__struct_fields__)


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


def retry_options(request: Context, options: Mapping[str, Any]) -> Options:
    """Return the options for the next run of this request, changed by ``options`` (TASK-27).

    Same id, queue, priority, limits, headers and links; its parent is the run itself (QUIRK-06).
    """
    where = request.delivery_info
    kept = Options(
        task_id=request.id,
        priority=where.get("priority"),
        headers=request.headers,
        ignore_result=request.ignore_result,
        time_limit=request.time_limit,
        soft_time_limit=request.soft_time_limit,
        shadow=request.shadow,
        link=request.callbacks,
        link_error=request.errbacks,
        chain=request.chain,
        chord=request.chord,
        group_id=request.group,
        group_index=request.group_index,
        expires=request.expires,
        retries=request.retries + 1,
        replaced_task_nesting=request.replaced_task_nesting,
        root_id=request.root_id,
        parent_id=request.id,
        reply_to=request.reply_to,
    )
    if not any(options.get(name) for name in ("queue", "exchange", "routing_key")):
        # To the queue itself: through its exchange the message might reach others, too.
        queue = where.get("routing_key")
        kept = msgspec.structs.replace(kept, queue=queue, exchange="", routing_key=queue)
    return changed(kept, options)


def filled(options: Options, by: Mapping[str, Any]) -> Options:
    """Return the options, with those that a route adds. Raises TypeError for unknown ones."""
    given = {name: value for name, value in by.items() if getattr(options, name, None) is None}
    if options.eta is not None:
        # The call says when it runs, in another way.
        given.pop("countdown", None)
    return changed(options, given)


def listed(links: Links | None) -> list[Any] | None:
    """Return signatures as the list that a message holds; None if there are none."""
    if links is None:
        return None
    return [links] if isinstance(links, Mapping) else (list(links) or None)


def check_limits(options: Options) -> None:
    """Raise ValueError for limits or times that contradict each other."""
    soft, hard = options.soft_time_limit, options.time_limit
    if soft is not None and hard is not None and soft > hard:
        raise ValueError(
            f"soft_time_limit {soft:g} s is longer than time_limit {hard:g} s; the soft limit must "
            "come first"
        )
    if options.countdown is not None and options.eta is not None:
        raise ValueError("countdown and eta both say when to run; give one of them")
