"""Every exception and warning of Celeriac, in one tree.

Nothing here does any work: modules above raise these, users catch them. The names that Celery users
already catch are kept, and so is the shape of the tree around them::

    CeleriacError (alias CeleryError)
    |- ImproperlyConfigured           a setting, URL, name or option that cannot be right
    |  |- AppNotFound                 -A names nothing that can be loaded
    |  `- QueueNotFound               a call or -Q names a queue that there is not (also a KeyError)
    |- OperationalError               broker or store out of reach, full or locked; try again later
    |  `- StorageCorrupt              the file is damaged; trying again will not help
    |- SerializationError
    |  |- EncodeError                 a value that cannot be written (also a TypeError)
    |  |- DecodeError                 bytes that cannot be read (also a ValueError)
    |  `- ContentDisallowed           a content type outside accept_content
    |- SecurityError                  data that asks for something unsafe
    |- TaskError
    |  |- NotRegistered               no task of that name (also a KeyError)
    |  |- AlreadyRegistered           a second task of that name
    |  |- MaxRetriesExceededError     retry() beyond max_retries
    |  |- TaskRevokedError            the task was revoked, or expired before it ran
    |  |- IncompleteStream            what a task has sent is not known before it is ready
    |  |- TimeoutError                a result did not come in time (also the builtin TimeoutError)
    |  |- WorkerLostError             the process that ran the task died
    |  |- TimeLimitExceeded           the hard limit ended the run
    |  `- SoftTimeLimitExceeded       raised inside the task at its soft limit
    `- TaskPredicate                  raised by tasks to steer, never an error
       |- Retry   |- Ignore   `- Reject

    CeleriacWarning (a UserWarning): SettingNotReadWarning, DuplicateTaskNameWarning,
                                     NoWorkerSeenWarning, AlwaysEagerIgnored,
                                     UnknownSerializerWarning
"""

import builtins
from typing import Any

__all__ = [
    "AlreadyRegistered",
    "AlwaysEagerIgnored",
    "AppNotFound",
    "CeleriacError",
    "CeleriacWarning",
    "CeleryError",
    "ContentDisallowed",
    "DecodeError",
    "DuplicateTaskNameWarning",
    "EncodeError",
    "Ignore",
    "ImproperlyConfigured",
    "IncompleteStream",
    "MaxRetriesExceededError",
    "NoWorkerSeenWarning",
    "NotRegistered",
    "OperationalError",
    "QueueNotFound",
    "Reject",
    "RemoteTraceback",
    "Retry",
    "SecurityError",
    "SerializationError",
    "SettingNotReadWarning",
    "SoftTimeLimitExceeded",
    "StorageCorrupt",
    "TaskError",
    "TaskPredicate",
    "TaskRevokedError",
    "TimeLimitExceeded",
    "TimeoutError",
    "UnknownSerializerWarning",
    "WorkerLostError",
]


class CeleriacError(Exception):
    """Base of every error that Celeriac raises."""


CeleryError = CeleriacError


class ImproperlyConfigured(CeleriacError):
    """A setting, URL, name or option that cannot be right. The text says what to write instead."""


class AppNotFound(ImproperlyConfigured):
    """The value of ``-A`` leads to no app (APP-39)."""


class QueueNotFound(ImproperlyConfigured, KeyError):
    """There is no such queue, and none may be created; or nothing is bound to an exchange (ROUTE-05)."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class OperationalError(CeleriacError):
    """The broker or the store cannot do its work now: away, full or locked (CALL-20).

    Nothing that was acknowledged before is affected. The same call may succeed later.
    """


class StorageCorrupt(OperationalError):
    """The storage is damaged. Trying again will not help; the text says how to recover."""


class SerializationError(CeleriacError):
    """A value or message cannot cross the wire."""


class EncodeError(SerializationError, TypeError):
    """A value that the serializer cannot write; the text names the path to it (SER-07, SER-08)."""


class DecodeError(SerializationError, ValueError):
    """Bytes that are not what they claim to be."""


class ContentDisallowed(SerializationError):
    """A message of a content type that ``accept_content`` does not list (SEC-01)."""


class SecurityError(CeleriacError):
    """Received data asks for something unsafe, and was refused."""


class TaskError(CeleriacError):
    """Base of the errors about one task."""


class NotRegistered(TaskError, KeyError):
    """No task of this name is registered (TASK-43)."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class AlreadyRegistered(TaskError):
    """A different task of this name is registered already."""


class MaxRetriesExceededError(TaskError):
    """``retry()`` was called once more than ``max_retries`` allows (TASK-28)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.task_args: Any = kwargs.pop("task_args", ())
        self.task_kwargs: Any = kwargs.pop("task_kwargs", {})
        super().__init__(*args)


class TaskRevokedError(TaskError):
    """The task will not run: it was revoked, or it expired before it could start (QUIRK-22)."""


class TimeoutError(TaskError, builtins.TimeoutError):
    """A result did not arrive within the time that ``get()`` was given (RES-02)."""


class IncompleteStream(TaskError):
    """The children of a result were asked for before it was ready (RES-09)."""


class WorkerLostError(TaskError):
    """The process that ran the task died before it could tell the outcome (PROT-08)."""


class TimeLimitExceeded(TaskError):
    """The task ran past its hard time limit, in seconds, and its process was killed (PROT-01)."""

    def __str__(self) -> str:
        limit = self.args[0] if self.args else None
        if not isinstance(limit, int | float):
            return super().__str__()
        return f"the hard time limit of {limit:g} s passed"


class SoftTimeLimitExceeded(TaskError):
    """Raised inside the task when its soft time limit is reached (PROT-02)."""


class TaskPredicate(CeleriacError):
    """Base of what a task raises to steer its own fate; never an error."""


class Retry(TaskPredicate):
    """The task is to be run again later; raised by ``Task.retry()`` (TASK-27).

    ``when`` is the delay in seconds, or the aware datetime, of the next run; ``exc`` the exception
    that caused the retry, if any; ``follow_up`` the message that carries the next run.
    """

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: Any = None,
        follow_up: Any = None,
    ) -> None:
        self.message = message
        self.exc = exc if isinstance(exc, BaseException) else None
        self.excs = None if exc is None else (exc if isinstance(exc, str) else repr(exc))
        self.when = when
        self.follow_up = follow_up
        super().__init__(message, self.excs, when)

    def __str__(self) -> str:
        if self.message:
            return self.message
        moment = f"in {self.when}s" if isinstance(self.when, int | float) else f"at {self.when}"
        return f"Retry {moment}" + (f": {self.excs}" if self.excs else "")


class Ignore(TaskPredicate):
    """The run ends here and its state is left as it is (TASK-33)."""


class Reject(TaskPredicate):
    """The message is refused: given back (``requeue=True``) or dead-lettered (TASK-34)."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue
        super().__init__(reason, requeue)

    def __repr__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class RemoteTraceback(Exception):
    """The traceback text of a failure in a worker; the ``__cause__`` of what ``get()`` raises.

    It stands beside the tree on purpose: nobody raises it, and no ``except`` should catch it.
    """

    def __str__(self) -> str:
        return "\n\nraised in the worker:\n" + str(self.args[0] if self.args else "").rstrip()


class CeleriacWarning(UserWarning):
    """Base of the warnings that Celeriac issues."""


class SettingNotReadWarning(CeleriacWarning):
    """A known setting was given a value, but nothing reads it in this version."""


class DuplicateTaskNameWarning(CeleriacWarning):
    """Two functions were registered under one task name; the first one is kept (APP-16)."""


class NoWorkerSeenWarning(CeleriacWarning):
    """A task was sent to an embedded file in which no worker has been seen within a minute."""


class AlwaysEagerIgnored(CeleriacWarning):
    """``task_always_eager`` is set, but ``send_task`` sends all the same (APP-20)."""


class UnknownSerializerWarning(CeleriacWarning):
    """A name in ``accept_content`` that no serializer has, or an entry point that cannot be used."""
