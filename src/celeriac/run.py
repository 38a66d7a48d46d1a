"""One run as a value: what it needs of its app and its pool, its request, and its documents.

Made in the process that runs the task. What is done with it, step by step, is ``execution``.
"""

import traceback
from types import TracebackType
from typing import Any, Protocol

from msgspec import Struct

from celeriac import run_log, states
from celeriac.backend import document_about
from celeriac.client import Client
from celeriac.completion import Put
from celeriac.context import Context
from celeriac.loaders import Loader
from celeriac.pools.base import Job
from celeriac.settings import Settings
from celeriac.task import Task
from celeriac.wire import json, serializers
from celeriac.wire import result as wire_result
from celeriac.wire import task as wire_task

AnyTask = Task[Any, Any]


class Host(Protocol):
    """What a run needs of its app."""

    @property
    def settings(self) -> Settings:
        """The settings now."""
        ...

    @property
    def loader(self) -> Loader:
        """The loader, for its hooks."""
        ...

    @property
    def loader_hooks(self) -> bool:
        """Whether the loader wants to know of runs."""
        ...

    @property
    def client(self) -> Client:
        """The road out, for what follows from a run."""
        ...

    def find_task(self, name: str) -> AnyTask:
        """Return the task of this name. Raises NotRegistered."""
        ...

    def known_task(self, name: str) -> AnyTask | None:
        """Return the task of this name, None if there is none here."""
        ...


class Port(Protocol):
    """A run's way to the parent, and its shelter from soft limits outside of user code."""

    inside: bool
    """Whether user code runs now: only then may a soft limit be raised."""
    hostname: str

    def ask(self, number: int) -> bool:
        """Report the start of a job and wait for leave to run it."""
        ...

    def store(self, put: Put) -> None:
        """Hand over a document to be stored before the outcome."""


class ExceptionInfo:
    """An exception with its traceback, as handlers and signals get it (``einfo``)."""

    __slots__ = ("exception", "tb", "traceback", "type")

    def __init__(self, exception: BaseException, tb: TracebackType | None, text: str = "") -> None:
        self.exception = exception
        self.type = type(exception)
        self.tb = tb
        self.traceback = text or "".join(traceback.format_exception(self.type, exception, tb))

    @property
    def exc_info(self) -> run_log.ExcInfo:
        """The three of ``sys.exc_info()``."""
        return self.type, self.exception, self.tb

    def __str__(self) -> str:
        return self.traceback


class Run(Struct):
    """One run on its way through the steps."""

    host: Host
    settings: Settings
    job: Job
    port: Port
    task: AnyTask
    request: Context
    keeps: bool
    """Whether documents are stored, unless it is that of a failure (TASK-11)."""
    arguments: bytes = b""
    """The arguments as documents have them, if they are at hand in that form."""
    runtime: float | None = None
    value: Any = None
    error: ExceptionInfo | None = None


def prepare(host: Host, job: Job, port: Port) -> Run:
    """Find the task and open the message.

    Raises NotRegistered, and for a message that cannot or must not be read DecodeError,
    ContentDisallowed (SER-10) and SecurityError.
    """
    message, settings = job.message, host.settings
    task = host.find_task(message.task)
    fields = json.decode(message.headers)
    accept = serializers.accepted(settings.accept_content)
    body = wire_task.open_body(message, fields.pop("compression", None), accept)
    alien = not wire_task.PROTOCOL_HEADERS.issuperset(fields)
    request = Context.having(
        {
            **fields,
            **body.embed,
            "args": body.args,
            "kwargs": body.kwargs,
            "headers": _own(fields) if alien else {},
            "hostname": port.hostname,
            "delivery_info": delivery_info_of(job),
            "reply_to": message.reply_to,
            "correlation_id": message.id,
            "called_directly": False,
            "instance": task,
            "port": port,
            "children": [],
            "follow_ups": [],
        }
    )
    if request.ignore_result is None:
        request.ignore_result = task.ignores_result
    keeps = not request.ignore_result
    return Run(host, settings, job, port, task, request, keeps, body.arguments)


def _own(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the headers that are the caller's own."""
    known = wire_task.PROTOCOL_HEADERS
    return {name: value for name, value in fields.items() if name not in known}


def delivery_info_of(job: Job) -> dict[str, Any]:
    """Return where a job's message came from, as its request shows it."""
    return {
        "exchange": "",
        "routing_key": job.queue,
        "priority": job.message.priority,
        "redelivered": job.redelivered,
    }


# -- documents -------------------------------------------------------------------------------------


def encoded(this: Run, state: str, result: Any, text: str | None = None) -> bytes:
    """Return the document of a state; empty if results are ignored. Raises EncodeError."""
    if not this.keeps:
        return b""
    settings = this.settings
    return wire_result.encode(
        document_about(this.job.message.id, result, state, text, this.request),
        settings.result_extended,
        settings.result_serializer,
        settings.result_compression,
        this.arguments,
    )


def failure_document(this: Run, error: ExceptionInfo) -> bytes:
    """Return the document of a failure; empty if not even failures are kept (TASK-11)."""
    if not this.keeps and (this.request.is_eager or not this.task.stores_errors):
        return b""
    settings = this.settings
    return wire_result.encode_failure(
        document_about(this.job.message.id, None, states.FAILURE, error.traceback, this.request),
        error.exception,
        settings.result_extended,
        settings.result_serializer,
        settings.result_compression,
    )
