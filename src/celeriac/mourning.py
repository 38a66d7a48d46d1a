"""Runs that did not come to their end by themselves: what is told of them, in their name.

``broken`` is for runs that failed outside of the task, ``mourn`` for those whose process was killed
or lost. Both in a process that has the user's code.
"""

import logging

from celeriac import clock, run_log, signals, states
from celeriac.canvas.follow_up import errbacks
from celeriac.context import current
from celeriac.exceptions import NotRegistered
from celeriac.execution import call_of, safely, tell_failure
from celeriac.message import Message
from celeriac.outcome import Ending, Outcome
from celeriac.pools.base import Job
from celeriac.run import AnyTask, ExceptionInfo, Host, Port, delivery_info_of
from celeriac.told import tell_body, told_request
from celeriac.wire import result as wire_result
from celeriac.wire import serializers

log = logging.getLogger("celeriac.execution")


def broken(host: Host, job: Job, port: Port, error: Exception) -> Outcome:
    """Return the outcome of a run that failed outside of the task: ours, or a receiver's fault."""
    request = told_request(job.message, port.hostname, delivery_info_of(job))
    einfo = ExceptionInfo(error, error.__traceback__)
    run_log.broke(request, einfo)
    if signals.task_internal_error.receivers:
        signals.task_internal_error.send(
            _find(host, job.message.task),
            task_id=job.message.id,
            args=request.args,
            kwargs=request.kwargs,
            request=request,
            exception=error,
            traceback=error.__traceback__,
            einfo=einfo,
        )
    document = wire_result.ResultDocument(
        status=states.FAILURE,
        traceback=einfo.traceback,
        date_done=clock.iso(clock.wall()),
        task_id=job.message.id,
    )
    settings = host.settings
    data = wire_result.encode_failure(
        document, error, False, settings.result_serializer, settings.result_compression
    )
    return Outcome(ending=Ending.FAILED, state=states.FAILURE, document=data, reason=repr(error))


def _find(host: Host, name: str) -> AnyTask | str:
    """Return the task of this name, or the name of one that is not there."""
    try:
        return host.find_task(name)
    except NotRegistered:
        return name


def mourn(host: Host, message: Message, text: str, error: BaseException, hostname: str) -> None:
    """Call the failure handlers of a run whose process was killed or lost (PROT-01).

    Raises as ``wire.task.decode_body`` does for a message that cannot be read.
    """
    task = host.find_task(message.task)
    accept = serializers.accepted(host.settings.accept_content)
    request = told_request(message, hostname, {}, accept=frozenset())
    tell_body(request, message, accept)
    request.instance = task
    token = current.set(request)
    info = ExceptionInfo(error, None, text)
    try:
        tell_failure(task, request, info)
        if "after_return" in task.handlers:
            told = (states.FAILURE, error, *call_of(request), info)
            safely(task, "after_return", *told)
        if request.errbacks:
            host.client.send(errbacks(host, request, error, text))
    finally:
        current.reset(token)
