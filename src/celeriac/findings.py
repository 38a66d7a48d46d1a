"""What a look at an app finds that is wrong with it, or worth to be decided. Nothing is run or sent.

``findings`` goes from an app to values; what they are called, why they matter and what to do is in
``KINDS``. An *error* is a mistake for certain; a *note* is something that may well be meant. Places
and texts are for people: secrets in them are masked.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any

from msgspec import Struct

from celeriac import zones
from celeriac.app import Celery
from celeriac.brokers.urls import open_broker
from celeriac.exceptions import CeleriacError, DuplicateTaskNameWarning, EncodeError, QueueNotFound
from celeriac.results.urls import open_store
from celeriac.settings.masking import shown
from celeriac.settings.table import DEFAULTS, entries
from celeriac.task import Task as BaseTask
from celeriac.wire import serializers

AnyTask = BaseTask[Any, Any]


class Level(StrEnum):
    """How sure it is that something is wrong."""

    ERROR = "error"
    NOTE = "note"


class Kind(Struct, frozen=True):
    """What all findings of one code have in common."""

    level: Level
    why: str
    remedy: str


KINDS = {
    "address": Kind(
        Level.ERROR,
        "neither a caller nor a worker can open it",
        "write the address as the message says",
    ),
    "broker-in-memory": Kind(
        Level.ERROR,
        "memory:// lives inside one process, and a worker is another one",
        "leave broker_url out for the embedded file, or name a server",
    ),
    "unknown-timezone": Kind(
        Level.ERROR,
        "times without an offset cannot be understood",
        "set timezone to a name such as Europe/Berlin, and install tzdata if it has no such file",
    ),
    "unknown-content": Kind(
        Level.ERROR,
        "no serializer of this version has that name, so nothing is accepted for it",
        "correct the name in accept_content, or leave it out",
    ),
    "duplicate-name": Kind(
        Level.ERROR,
        "only the first function is registered; calls of the second one run the first",
        "give one of them a name of its own: @app.task(name=...)",
    ),
    "self-without-bind": Kind(
        Level.ERROR,
        "without bind=True nothing fills this parameter: every call must pass a value for it",
        "write @app.task(bind=True)",
    ),
    "bind-without-self": Kind(
        Level.ERROR,
        "bind=True passes the task as the first argument, so every run fails with a TypeError",
        "add the parameter self, or leave out bind=True",
    ),
    "soft-limit-not-below-hard": Kind(
        Level.ERROR,
        "the hard limit ends the run first, so the task never sees SoftTimeLimitExceeded",
        "make soft_time_limit smaller than time_limit",
    ),
    "not-an-exception": Kind(
        Level.ERROR,
        "isinstance() refuses it, so a run that raises ends with a TypeError in place of its error",
        "give a tuple of classes of exceptions",
    ),
    "queue-not-found": Kind(
        Level.ERROR,
        "no queue gets its messages, so every call of it raises QueueNotFound",
        "define the queue in task_queues, or let task_create_missing_queues be on",
    ),
    "acks-late-default": Kind(
        Level.NOTE,
        "they are acknowledged when they have ended: if a worker dies meanwhile they run twice",
        "say acks_late=True where that does no harm, acks_late=False where a lost run is better",
    ),
    "retry-options-without-autoretry": Kind(
        Level.NOTE,
        "only retries that autoretry_for makes obey them; retry() takes a countdown of its own",
        "add autoretry_for, or leave them out",
    ),
    "option-without-effect": Kind(
        Level.NOTE,
        "the message is acknowledged before the run begins (acks_late is off): it is too late then",
        "say acks_late=True, or leave the option out",
    ),
    "unserialisable-default": Kind(
        Level.NOTE,
        "no caller can pass such a value: it cannot be written into a message",
        "make None the default, and the value inside of the task",
    ),
    "setting-not-read": Kind(
        Level.NOTE,
        "this version understands the setting, but nothing reads it",
        "do not rely on it, or leave it out",
    ),
    "pickle-accepted": Kind(
        Level.NOTE,
        "to read pickle is to run what it says: whoever can write to the broker is in the worker",
        "use json, or let only those write to the broker whom you trust that much",
    ),
}
"""Every finding that there is, by its code."""


class Finding(Struct, frozen=True, order=True):
    """One thing that was found."""

    code: str
    place: str
    """A task, a setting, or a line of the user's code."""
    what: str

    @property
    def kind(self) -> Kind:
        """Why it matters, and what to do."""
        return KINDS[self.code]


Found = Iterator[Finding]


def findings(app: Celery, warned: Iterable[Any] = ()) -> list[Finding]:
    """Return what is found: errors first, then by code and place.

    ``warned`` are the warnings that importing the app has issued, as ``warnings`` records them.
    """
    found = [*_duplicates(warned)]
    for look in SETTINGS_CHECKS:
        found += look(app)
    for task in app.tasks.values():
        for check in TASK_CHECKS:
            found += check(app, task)
    order = list(KINDS)
    return sorted(found, key=lambda one: (order.index(one.code), one.place, one.what))


def _duplicates(warned: Iterable[Any]) -> Found:
    for warning in warned:
        if isinstance(warning.message, DuplicateTaskNameWarning):
            yield Finding(
                "duplicate-name", f"{warning.filename}:{warning.lineno}", str(warning.message)
            )


# -- settings


def _addresses(app: Celery) -> Found:
    settings = app.settings
    roads: dict[str, Callable[[], Any]] = {
        "broker_url": lambda: open_broker(app.broker_url, settings),
        "result_backend": lambda: open_store(app.store_url, settings, lambda: app.broker),
    }
    for name, open_it in roads.items():
        try:
            opened = open_it()
        except CeleriacError as error:
            yield Finding("address", name, str(error))
        else:
            if opened is not None:
                opened.close()
            if name == "broker_url" and app.broker_url.startswith("memory:"):
                yield Finding("broker-in-memory", name, "the broker is memory://")


def _timezone(app: Celery) -> Found:
    try:
        zones.zone(app.settings.timezone)
    except ValueError as error:
        yield Finding("unknown-timezone", "timezone", str(error))


def _content(app: Celery) -> Found:
    for name in app.settings.accept_content:
        if name in PICKLE:
            yield Finding("pickle-accepted", "accept_content", f"{name!r} is accepted")
        if not serializers.is_known(name) and not serializers.is_type(name):
            yield Finding("unknown-content", "accept_content", f"{name!r} names no serializer")


PICKLE = frozenset(("pickle", "application/x-python-serialize"))


def _unread(app: Celery) -> Found:
    for line in entries():
        if not line.setting.read and app.conf.is_set(line.name):
            value = app.conf[line.name]
            if value != getattr(DEFAULTS, line.name):
                yield Finding("setting-not-read", line.name, f"it is {shown(line.name, value)}")


SETTINGS_CHECKS: tuple[Callable[[Celery], Found], ...] = (_addresses, _timezone, _content, _unread)


# -- tasks


def _signature(app: Celery, task: AnyTask) -> Found:
    unbound = isinstance(inspect.getattr_static(type(task), "run"), staticmethod)
    try:
        parameters = inspect.signature(task.run).parameters
    except ValueError:
        yield Finding("bind-without-self", task.name, "its function takes no positional argument")
        return
    except TypeError:
        return  # Something that can be called and does not say how.
    if unbound and next(iter(parameters), None) == "self":
        yield Finding("self-without-bind", task.name, "its first parameter is self")
    serializer = task.serializer or app.settings.task_serializer
    for name, parameter in parameters.items():
        if parameter.default is not parameter.empty:
            try:
                serializers.encode(parameter.default, serializer, name)
            except EncodeError as error:
                yield Finding("unserialisable-default", f"{task.name}({name})", str(error))


def _limits(app: Celery, task: AnyTask) -> Found:
    settings = app.settings
    hard = settings.task_time_limit if task.time_limit is None else task.time_limit
    soft = settings.task_soft_time_limit if task.soft_time_limit is None else task.soft_time_limit
    if soft is not None and hard is not None and soft >= hard:
        what = f"its soft limit is {soft:g} s, its hard limit {hard:g} s"
        yield Finding("soft-limit-not-below-hard", task.name, what)


def _acks(app: Celery, task: AnyTask) -> Found:
    undecided = task.acks_late is None and not app.conf.is_set("task_acks_late")
    if undecided and not task.name.startswith("celery."):
        yield Finding("acks-late-default", task.name, "it leaves acks_late to the default")
    late = app.settings.task_acks_late if task.acks_late is None else task.acks_late
    if late:
        return
    for option, value in LATE_OPTIONS.items():
        if getattr(task, option) is value:
            yield Finding("option-without-effect", task.name, f"{option}={value}")


LATE_OPTIONS = {
    "acks_on_failure": False,
    "acks_on_timeout": False,
    "acks_on_failure_or_timeout": False,
    "reject_on_worker_lost": True,
}
"""Options, with the value, that ask for something only late acknowledgement can do."""


def _retries(app: Celery, task: AnyTask) -> Found:
    given = [name for name in ("retry_backoff", "retry_kwargs") if getattr(task, name)]
    if given and not task.autoretry_for:
        what = f"it has {' and '.join(given)}, and no autoretry_for"
        yield Finding("retry-options-without-autoretry", task.name, what)
    policy = task.retry_policy
    listed: dict[str, Any] = {
        "autoretry_for": policy.autoretry_for,
        "dont_autoretry_for": policy.dont_autoretry_for,
        "throws": task.throws,
    }
    for option, classes in listed.items():
        try:
            isinstance(None, classes)
        except TypeError:
            yield Finding("not-an-exception", task.name, f"{option} is {classes!r}")


def _route(app: Celery, task: AnyTask) -> Found:
    try:
        app.amqp.router.find(task.options, task.name, (), {})
    except QueueNotFound as error:
        yield Finding("queue-not-found", task.name, str(error))
    except Exception:  # noqa: BLE001 - a function in task_routes that wants to see arguments
        pass


TASK_CHECKS: tuple[Callable[[Celery, AnyTask], Found], ...] = (
    _signature,
    _limits,
    _route,
    _acks,
    _retries,
)
