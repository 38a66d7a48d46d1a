"""One run of a task: from a message to an outcome, as named steps over one value.

Runs in the child. It reads and writes no socket of the queue: what it wants stored or asked goes to
its ``Port``, and the outcome it returns is bytes. Steps: prepare, begin, call, then one of the
endings, then finish. What the outcome means for the message is the parent's to decide.
"""

import logging
import os
import traceback
from collections.abc import Callable
from time import monotonic
from types import TracebackType
from typing import Any, Protocol

from celeriac import clock, signals, states
from celeriac.backend import lifetime
from celeriac.completion import Put
from celeriac.context import Context, current
from celeriac.exceptions import (
    DecodeError,
    EncodeError,
    Ignore,
    NotRegistered,
    Reject,
    Retry,
    TaskPredicate,
)
from celeriac.lineage import ResultBase
from celeriac.message import Message
from celeriac.outcome import Ending, Outcome
from celeriac.pools.base import Job
from celeriac.results.base import task_key
from celeriac.settings import Settings
from celeriac.task import Task
from celeriac.wire import json
from celeriac.wire import result as wire_result
from celeriac.wire import task as wire_task
from celeriac.wire.repr import saferepr

log = logging.getLogger("celeriac.execution")

AnyTask = Task[Any, Any]


class Host(Protocol):
    """What a run needs of its app."""

    @property
    def settings(self) -> Settings:
        """The settings now."""
        ...

    def find_task(self, name: str) -> AnyTask:
        """Return the task of this name. Raises NotRegistered."""
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

    def __str__(self) -> str:
        return self.traceback


class Run:
    """One run on its way through the steps."""

    __slots__ = ("error", "host", "job", "port", "request", "runtime", "task", "token", "value")

    def __init__(self, host: Host, job: Job, port: Port, task: AnyTask, request: Context) -> None:
        self.host = host
        self.job = job
        self.port = port
        self.task = task
        self.request = request
        self.runtime: float | None = None
        self.value: Any = None
        self.error: ExceptionInfo | None = None


def run(host: Host, job: Job, port: Port) -> Outcome | None:
    """Run a job and return how it ended; None if the parent did not permit it to begin."""
    try:
        this = prepare(host, job, port)
    except (DecodeError, NotRegistered) as error:
        return Outcome(ending=Ending.UNDECODABLE, reason=str(error))
    if job.asks and not port.ask(job.number):
        return None
    token = current.set(this.request)
    try:
        begin(this)
        ending = call(this)
        outcome = ending(this)
        return finish(this, outcome)
    finally:
        current.reset(token)


# -- before ----------------------------------------------------------------------------------------


def prepare(host: Host, job: Job, port: Port) -> Run:
    """Find the task and open the message. Raises DecodeError, NotRegistered."""
    message = job.message
    task = host.find_task(message.task)
    body = wire_task.decode_body(message.body)
    request = Context()
    fields = json.decode(message.headers)
    own = fields.keys() - wire_task.PROTOCOL_HEADERS
    request.__dict__.update(
        fields,
        **body.embed,
        args=body.args,
        kwargs=body.kwargs,
        headers={name: fields[name] for name in own} if own else {},
        hostname=port.hostname,
        delivery_info=_delivery_info(job),
        reply_to=message.reply_to,
        correlation_id=message.id,
        called_directly=False,
        port=port,
        children=[],
        follow_ups=[],
    )
    if request.ignore_result is None:
        request.ignore_result = task.ignores_result
    return Run(host, job, port, task, request)


def _delivery_info(job: Job) -> dict[str, Any]:
    return {
        "exchange": "",
        "routing_key": job.queue,
        "priority": job.message.priority,
        "redelivered": job.redelivered,
    }


def begin(this: Run) -> None:
    """Tell that the run begins."""
    if this.job.tells and not this.request.ignore_result:
        meta = {"pid": os.getpid(), "hostname": this.port.hostname}
        document = _encoded(this, states.STARTED, meta)
        ttl = lifetime(this.host.settings, states.STARTED)
        this.port.store(Put(task_key(this.job.message.id), document, ttl, states.STARTED))
    if signals.task_prerun.receivers:
        signals.task_prerun.send(this.task, **_names(this), task=this.task)


# -- the function ----------------------------------------------------------------------------------


def call(this: Run) -> "Callable[[Run], Outcome]":
    """Call the task's function; return the ending that follows from how it came back."""
    task, request, port = this.task, this.request, this.port
    function: Callable[..., Any] = task.run
    if type(task).__call__ is not Task.__call__:
        function, request.through_call = task, True
    started = monotonic()
    try:
        # The soft limit is raised in here or not at all; see ``pools/child.py``. Two levels, so that
        # one which comes in the last moment, in the inner ``finally``, is caught all the same.
        try:
            port.inside = True
            if "before_start" in task.handlers:
                task.before_start(request.id or "", request.args, request.kwargs)
            this.value = function(*request.args, **request.kwargs)
        finally:
            port.inside = False
            this.runtime = monotonic() - started
    except TaskPredicate as predicate:
        return _steered(this, predicate)
    except BaseException as error:  # noqa: BLE001 - whatever user code raises is an outcome
        return _raised(this, error)
    return succeeded


def _steered(this: Run, predicate: TaskPredicate) -> "Callable[[Run], Outcome]":
    this.error = _info(predicate)
    if isinstance(predicate, Retry):
        return retried
    if isinstance(predicate, Reject):
        return returned if predicate.requeue else rejected
    return ignored if isinstance(predicate, Ignore) else failed


def _raised(this: Run, error: BaseException) -> "Callable[[Run], Outcome]":
    """Decide between failure and a retry that the task's policy asks for (TASK-32)."""
    policy = this.task.retry_policy
    if policy.autoretry_for and policy.covers(error):
        try:
            this.task.retry(exc=error, **policy.options(this.request.retries))
        except Retry as retry:
            this.error = _info(retry)
            return retried
        except BaseException as last:  # noqa: BLE001 - used up, or it cannot be sent
            error = last
    this.error = _info(error)
    return failed


def _info(error: BaseException) -> ExceptionInfo:
    """Describe an exception, without the frame of ours that called the task."""
    tb = error.__traceback__
    return ExceptionInfo(error, tb.tb_next if tb is not None and tb.tb_next is not None else tb)


# -- the endings -----------------------------------------------------------------------------------


def succeeded(this: Run) -> Outcome:
    """It returned a value."""
    try:
        # A result is stored as the tuple from which it can be made again (RES-21).
        value = this.value.as_tuple() if isinstance(this.value, ResultBase) else this.value
        document = _encoded(this, states.SUCCESS, value)
    except EncodeError as error:
        this.error = _info(error)
        return failed(this)
    if "on_success" in this.task.handlers:
        _safely(this.task, "on_success", this.value, *_call_of(this.request))
    if signals.task_success.receivers:
        signals.task_success.send(this.task, result=this.value, runtime=this.runtime)
    if log.isEnabledFor(logging.INFO):
        log.info("Task %s succeeded in %ss: %s", _name(this), this.runtime, saferepr(this.value))
    return _outcome(this, Ending.SUCCEEDED, states.SUCCESS, document)


def failed(this: Run) -> Outcome:
    """It raised an exception, or what it returned cannot be written."""
    error = _error(this)
    _log_failure(this, error)
    document = _failure_document(this, error)
    _tell_failure(this.task, this.request, error)
    return _outcome(this, Ending.FAILED, states.FAILURE, document, saferepr(error.exception))


def retried(this: Run) -> Outcome:
    """It asked for another run; the message for that one is among the follow-ups (TASK-27)."""
    error = _error(this)
    retry = error.exception
    cause = retry.exc if isinstance(retry, Retry) else retry
    log.info("Task %s retry: %s", _name(this), retry)
    this.request.children.append([[this.request.id, None], None])
    result = None if cause is None else wire_result.exception_document(cause)
    document = _encoded(this, states.RETRY, result, error.traceback)
    if "on_retry" in this.task.handlers:
        _safely(this.task, "on_retry", cause or retry, *_call_of(this.request), error)
    if signals.task_retry.receivers:
        signals.task_retry.send(this.task, request=this.request, reason=retry, einfo=error)
    return _outcome(this, Ending.RETRIED, states.RETRY, document, str(retry))


def ignored(this: Run) -> Outcome:
    """It raised Ignore: the state stays what it is (TASK-33)."""
    log.info("Task %s ignored", _name(this))
    return _outcome(this, Ending.IGNORED, states.IGNORED)


def rejected(this: Run) -> Outcome:
    """It raised Reject(requeue=False): a failure whose message is kept (TASK-34)."""
    error = _error(this)
    log.warning("Task %s rejected: %s", _name(this), error.exception)
    document = _failure_document(this, error)
    _fire_failure(this.task, this.request, error)
    reason = getattr(error.exception, "reason", None)
    return _outcome(this, Ending.REJECTED, states.FAILURE, document, f"rejected: {reason}")


def returned(this: Run) -> Outcome:
    """It raised Reject(requeue=True): its message goes back (TASK-34)."""
    log.info("Task %s rejected, to be delivered again: %s", _name(this), _error(this).exception)
    return _outcome(this, Ending.RETURNED, states.REJECTED)


# -- after -----------------------------------------------------------------------------------------


def finish(this: Run, outcome: Outcome) -> Outcome:
    """Tell that the run is over, and let go of what it held."""
    retval = this.value if this.error is None else this.error.exception
    over = outcome.ending in (Ending.SUCCEEDED, Ending.FAILED)
    if over and "after_return" in this.task.handlers:
        told = (outcome.state, retval, *_call_of(this.request), this.error)
        _safely(this.task, "after_return", *told)
    if signals.task_postrun.receivers:
        signals.task_postrun.send(
            this.task, **_names(this), task=this.task, retval=retval, state=outcome.state
        )
    if this.error is not None and this.error.tb is not None:
        # Frames hold every local variable of the failed call (WORK-38).
        traceback.clear_frames(this.error.tb)
    return outcome


def broken(host: Host, job: Job, port: Port, error: Exception) -> Outcome:
    """Return the outcome of a run that failed outside of the task: ours, or a receiver's fault."""
    log.error("Task %s[%s] broke down", job.message.task, job.message.id, exc_info=error)
    if signals.task_internal_error.receivers:
        signals.task_internal_error.send(
            job.message.task,
            task_id=job.message.id,
            args=(),
            kwargs={},
            request=None,
            exception=error,
            traceback=error.__traceback__,
            einfo=ExceptionInfo(error, error.__traceback__),
        )
    document = wire_result.ResultDocument(
        status=states.FAILURE,
        result=wire_result.exception_document(error),
        traceback="".join(traceback.format_exception(error)),
        date_done=clock.iso(clock.wall()),
        task_id=job.message.id,
    )
    return Outcome(
        ending=Ending.FAILED,
        state=states.FAILURE,
        document=wire_result.encode(document),
        reason=repr(error),
    )


def mourn(host: Host, message: Message, text: str, error: BaseException, hostname: str) -> None:
    """Call the failure handlers of a run whose process was killed or lost (PROT-01)."""
    task = host.find_task(message.task)
    body = wire_task.decode_body(message.body)
    request = Context(
        **{**json.decode(message.headers), "called_directly": False, "hostname": hostname}
    )
    request.args, request.kwargs = body.args, body.kwargs
    token = current.set(request)
    info = ExceptionInfo(error, None, text)
    try:
        _tell_failure(task, request, info)
        if "after_return" in task.handlers:
            told = (states.FAILURE, error, *_call_of(request), info)
            _safely(task, "after_return", *told)
    finally:
        current.reset(token)


def _tell_failure(task: AnyTask, request: Context, error: ExceptionInfo) -> None:
    if "on_failure" in task.handlers:
        _safely(task, "on_failure", error.exception, *_call_of(request), error)
    _fire_failure(task, request, error)


def _fire_failure(task: AnyTask, request: Context, error: ExceptionInfo) -> None:
    if signals.task_failure.receivers:
        signals.task_failure.send(
            task,
            task_id=request.id,
            args=request.args,
            kwargs=request.kwargs,
            exception=error.exception,
            traceback=error.tb or error.traceback,
            einfo=error,
        )


def _safely(task: AnyTask, handler: str, *arguments: Any) -> None:
    """Call a handler; what it raises is logged and changes nothing (TASK-35)."""
    try:
        getattr(task, handler)(*arguments)
    except Exception:  # user code, after the outcome is known
        log.exception("handler %s of task %s failed", handler, task.name)


# -- documents -------------------------------------------------------------------------------------


def _document(
    this: Run, state: str, result: Any, text: str | None = None
) -> wire_result.ResultDocument:
    request = this.request
    final = state in states.READY_STATES
    return wire_result.ResultDocument(
        status=state,
        result=result,
        traceback=text,
        children=request.children,
        date_done=clock.iso(clock.wall()) if final else None,
        group_id=request.group,
        parent_id=request.parent_id,
        task_id=request.id,
        name=request.task,
        args=request.args,
        kwargs=request.kwargs,
        worker=this.port.hostname,
        retries=request.retries,
        queue=this.job.queue,
    )


def _encoded(this: Run, state: str, result: Any, text: str | None = None) -> bytes:
    """Return the document of a state; empty if results are ignored. Raises EncodeError."""
    if this.request.ignore_result:
        return b""
    extended = this.host.settings.result_extended
    return wire_result.encode(_document(this, state, result, text), extended)


def _failure_document(this: Run, error: ExceptionInfo) -> bytes:
    if this.request.ignore_result and not this.task.stores_errors:
        return b""
    result = wire_result.exception_document(error.exception)
    document = _document(this, states.FAILURE, result, error.traceback)
    return wire_result.encode(document, this.host.settings.result_extended)


def _outcome(
    this: Run, ending: Ending, state: str, document: bytes = b"", reason: str = ""
) -> Outcome:
    return Outcome(
        ending=ending,
        state=state,
        document=document,
        publishes=tuple(this.request.follow_ups),
        reason=reason,
        runtime=this.runtime,
    )


def _log_failure(this: Run, error: ExceptionInfo) -> None:
    if isinstance(error.exception, this.task.throws or ()):
        log.info("Task %s raised expected: %s", _name(this), saferepr(error.exception))
    else:
        shown = saferepr(error.exception)
        log.error("Task %s raised unexpected: %s\n%s", _name(this), shown, error.traceback)


def _error(this: Run) -> ExceptionInfo:
    assert this.error is not None, "this ending comes with an exception"
    return this.error


def _name(this: Run) -> str:
    return f"{this.request.shadow or this.task.name}[{this.request.id}]"


def _call_of(request: Context) -> tuple[str, Any, Any]:
    return request.id or "", request.args, request.kwargs


def _names(this: Run) -> dict[str, Any]:
    request = this.request
    return {"task_id": request.id, "args": request.args, "kwargs": request.kwargs}
