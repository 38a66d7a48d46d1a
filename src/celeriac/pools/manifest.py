"""The manifest: what the template tells the parent about the app, as data.

The parent imports no user module; this is all that it knows of tasks, settings and receivers.
"""

from typing import Any

from msgspec import Struct

from celeriac.queues import Queue


class TaskOptions(Struct, frozen=True, kw_only=True):
    """What the parent must know of one task to decide about its deliveries."""

    name: str
    acks_late: bool
    acks_on_failure: bool
    acks_on_timeout: bool
    reject_on_worker_lost: bool
    retry_on_worker_lost: bool
    max_retries: int | None
    default_retry_delay: float
    track_started: bool
    ignore_result: bool
    store_errors_even_if_ignored: bool
    time_limit: float | None
    soft_time_limit: float | None
    handlers: bool
    """It, or a receiver of task_failure, wants to hear of runs that were killed."""


class Manifest(Struct, frozen=True, kw_only=True):
    """What the template found when it imported the app."""

    app: str
    broker: str
    """URL, with its password."""
    store: str
    """URL, with its password."""
    settings: dict[str, Any]
    """The settings that the parent reads, by name."""
    tasks: tuple[TaskOptions, ...]
    queues: tuple[str, ...]
    """The queues to consume."""
    declared: tuple[Queue, ...] = ()
    """How the queues that the app knows are declared, where the broker has declarations."""
    receivers: frozenset[str]
    """Names of the signals that have receivers."""
    content_types: frozenset[str] = frozenset({"application/json"})
    """What messages may be: ``accept_content``, by the serializers that the app has registered."""
    signing: dict[str, Any] | None = None
    """The arguments of ``setup_security``, with its password, if the app has called it."""
    threads: tuple[str, ...] = ()
    """Threads that importing the app started; children will not have them."""
    deprecated: dict[str, str] = {}
    """Deprecated settings in use, and what to write in their place."""
    texts: dict[str, str] = {}
    """The log's texts, which the app may have changed."""
    levels: dict[str, int] = {}
    """Levels that the app gave to our loggers, by name."""
    sockets: int = 0
    """Sockets that importing the app opened; children would share them."""


class AppFailed(Struct, frozen=True, kw_only=True):
    """The app could not be imported, or is not there."""

    message: str
    """One line that says what to do."""
    traceback: str = ""
    """The traceback of the user's code, if that is what failed."""
