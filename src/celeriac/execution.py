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
from typing import Any

from celeriac import run_log, signals, states
from celeriac.backend import lifetime
from celeriac.canvas.follow_up import callbacks, errbacks
from celeriac.completion import Put
from celeriac.context import Context, current
from celeriac.exceptions import (
    Ignore,
    ImproperlyConfigured,
    NotRegistered,
    Reject,
    Retry,
    SecurityError,
    SerializationError,
    TaskPredicate,
)
from celeriac.lineage import ResultBase
from celeriac.outcome import Ending, Outcome
from celeriac.pools.base import Job
from celeriac.results.base import task_key
from celeriac.run import (
    AnyTask,
    ExceptionInfo,
    Host,
    Port,
    Run,
    encoded,
    failure_document,
    prepare,
)
from celeriac.task import Task
from celeriac.wire import result as wire_result
from celeriac.wire.links import beyond
from celeriac.wire.repr import saferepr

log = logging.getLogger("celeriac.execution")

OVER = (Ending.SUCCEEDED, Ending.FAILED)
"""Endings after which nothing more comes of a run."""


def run(host: Host, job: Job, port: Port) -> Outcome | None:
    """Run a job and return how it ended; None if the parent did not permit it to begin."""
    try:
        this = prepare(host, job, port)
    except (SerializationError, SecurityError, NotRegistered) as error:
        message = job.message
        text = "Task %s[%s] of queue %s cannot be run and is dead-lettered: %s"
        log.error(text, message.task, message.id, job.queue, error)
        return Outcome(ending=Ending.UNDECODABLE, reason=str(error))
    if job.asks and not port.ask(job.number):
        return None
    return perform(this)


def perform(this: Run) -> Outcome:
    """Take a run that may begin through its steps, and return how it ended."""
    request = this.request
    token = current.set(request)
    try:
        begin(this)
        links = request.callbacks or request.errbacks or request.chain or request.chord
        ending = failed if links and _is_beyond(this) else call(this)
        outcome = ending(this)
        return finish(this, outcome)
    finally:
        current.reset(token)


def _is_beyond(this: Run) -> bool:
    """Whether more is to follow than can: then it fails before its function is called."""
    why = beyond(vars(this.request))
    if why is not None:
        this.error = _info(ImproperlyConfigured(f"{why}, which this version cannot follow"))
    return why is not None


# -- before ----------------------------------------------------------------------------------------


def begin(this: Run) -> None:
    """Tell that the run begins."""
    if this.job.tells and this.keeps:
        meta = {"pid": os.getpid(), "hostname": this.port.hostname}
        document = encoded(this, states.STARTED, meta)
        ttl = lifetime(this.settings, states.STARTED)
        message = this.job.message
        key = task_key(message.id)
        this.port.store(Put(key, document, ttl, states.STARTED, message.reply_to))
    if signals.task_prerun.receivers:
        signals.task_prerun.send(this.task, **_names(this), task=this.task)
    if this.host.loader_hooks:
        this.host.loader.on_task_init(this.job.message.id, this.task)


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
    request = this.request
    try:
        # A result is stored as the tuple from which it can be made again (RES-21).
        value = this.value.as_tuple() if isinstance(this.value, ResultBase) else this.value
        if (request.callbacks or request.chain) and not request.is_eager:
            request.follow_ups += callbacks(this.host, request, value)
        document = encoded(this, states.SUCCESS, value)
    except Exception as error:  # noqa: BLE001 - what follows from it cannot be written or routed
        this.error = _info(error)
        return failed(this)
    if "on_success" in this.task.handlers:
        safely(this.task, "on_success", this.value, *call_of(request))
    if signals.task_success.receivers:
        signals.task_success.send(this.task, result=this.value, runtime=this.runtime)
    if log.isEnabledFor(logging.INFO):
        limit = this.task.resultrepr_maxsize
        run_log.succeeded(request, this.value, this.runtime, limit)
    return _outcome(this, Ending.SUCCEEDED, states.SUCCESS, document)


def failed(this: Run) -> Outcome:
    """It raised an exception, or what it returned cannot be written."""
    error = _error(this)
    expected = isinstance(error.exception, this.task.throws or ())
    run_log.failed(this.request, error, expected=expected)
    document = failure_document(this, error)
    tell_failure(this.task, this.request, error)
    _call_errbacks(this, error)
    return _outcome(this, Ending.FAILED, states.FAILURE, document, saferepr(error.exception))


def retried(this: Run) -> Outcome:
    """It asked for another run; the message for that one is among the follow-ups (TASK-27)."""
    error = _error(this)
    retry = error.exception
    cause = retry.exc if isinstance(retry, Retry) else retry
    run_log.retried(this.request, retry)
    this.request.children.append([[this.request.id, None], None])
    serializer = this.settings.result_serializer
    result = None if cause is None else wire_result.stored_exception(cause, serializer)
    document = encoded(this, states.RETRY, result, error.traceback)
    if "on_retry" in this.task.handlers:
        safely(this.task, "on_retry", cause or retry, *call_of(this.request), error)
    if signals.task_retry.receivers:
        signals.task_retry.send(this.task, request=this.request, reason=retry, einfo=error)
    return _outcome(this, Ending.RETRIED, states.RETRY, document, str(retry))


def _call_errbacks(this: Run, error: ExceptionInfo) -> None:
    request = this.request
    if request.errbacks and not request.is_eager:
        request.follow_ups += errbacks(this.host, request, error.exception, error.traceback)


def ignored(this: Run) -> Outcome:
    """It raised Ignore: the state stays what it is (TASK-33)."""
    run_log.ignored(this.request, _error(this))
    return _outcome(this, Ending.IGNORED, states.IGNORED)


def rejected(this: Run) -> Outcome:
    """It raised Reject(requeue=False): a failure whose message is kept (TASK-34)."""
    error = _error(this)
    run_log.rejected(this.request, error)
    document = failure_document(this, error)
    fire_failure(this.task, this.request, error)
    _call_errbacks(this, error)
    reason = getattr(error.exception, "reason", None)
    return _outcome(this, Ending.REJECTED, states.FAILURE, document, f"rejected: {reason}")


def returned(this: Run) -> Outcome:
    """It raised Reject(requeue=True): its message goes back (TASK-34)."""
    run_log.rejected(this.request, _error(this))
    return _outcome(this, Ending.RETURNED, states.REJECTED)


# -- after -----------------------------------------------------------------------------------------


def finish(this: Run, outcome: Outcome) -> Outcome:
    """Tell that the run is over, and let go of what it held."""
    retval = this.value if this.error is None else this.error.exception
    if "after_return" in this.task.handlers and outcome.ending in OVER:
        told = (outcome.state, retval, *call_of(this.request), this.error)
        safely(this.task, "after_return", *told)
    if signals.task_postrun.receivers:
        signals.task_postrun.send(
            this.task, **_names(this), task=this.task, retval=retval, state=outcome.state
        )
    if this.host.loader_hooks:
        this.host.loader.on_process_cleanup()
    if this.error is not None and this.error.tb is not None and not this.request.is_eager:
        # Frames hold every local variable of the failed call (WORK-38).
        traceback.clear_frames(this.error.tb)
    return outcome


def tell_failure(task: AnyTask, request: Context, error: ExceptionInfo) -> None:
    """Call the handler of a failure, and the receivers of its signal."""
    if "on_failure" in task.handlers:
        safely(task, "on_failure", error.exception, *call_of(request), error)
    fire_failure(task, request, error)


def fire_failure(task: AnyTask, request: Context, error: ExceptionInfo) -> None:
    """Tell the receivers of task_failure."""
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


def safely(task: AnyTask, handler: str, *arguments: Any) -> None:
    """Call a handler; what it raises is logged and changes nothing (TASK-35).

    In an eager run it is raised: whoever called is there to see it.
    """
    try:
        getattr(task, handler)(*arguments)
    except Exception:  # user code, after the outcome is known
        if task.request.is_eager:
            raise
        log.exception("handler %s of task %s failed", handler, task.name)


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


def _error(this: Run) -> ExceptionInfo:
    assert this.error is not None, "this ending comes with an exception"
    return this.error


def call_of(request: Context) -> tuple[str, Any, Any]:
    """Return id and arguments of a run, as handlers get them."""
    return request.id or "", request.args, request.kwargs


def _names(this: Run) -> dict[str, Any]:
    request = this.request
    return {"task_id": request.id, "args": request.args, "kwargs": request.kwargs}
