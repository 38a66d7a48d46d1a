"""Result documents that the parent writes itself, for runs that could not tell their outcome."""

from typing import Any

from celeriac import clock, states
from celeriac.backend import lifetime
from celeriac.completion import Put
from celeriac.exceptions import DecodeError
from celeriac.message import Message
from celeriac.results.base import task_key
from celeriac.settings import Settings
from celeriac.wire import result as wire_result
from celeriac.wire import task as wire_task


class Documents:
    """Writes documents in the name of one worker."""

    def __init__(self, settings: Settings, hostname: str) -> None:
        self._ttl = lifetime(settings, states.SUCCESS)
        self._failure_ttl = lifetime(settings, states.FAILURE)
        self._extended = settings.result_extended
        self._hostname = hostname

    def put(self, message: Message, document: bytes, state: str) -> Put:
        """Return a document of a child, ready for the store."""
        ttl = self._failure_ttl if state == states.FAILURE else self._ttl
        return Put(task_key(message.id), document, ttl, state)

    def failure(
        self,
        message: Message,
        error: BaseException,
        queue: str,
        state: str = states.FAILURE,
        *,
        bare: bool = False,
    ) -> Put:
        """Return the document of a run that ended with this exception, without its own words.

        ``bare`` leaves out what ``result_extended`` asks for, the arguments among it.
        """
        extended = self._extended and not bare
        headers = _headers(message)
        args, kwargs = _arguments(message) if extended else (None, None)
        document = wire_result.ResultDocument(
            status=state,
            result=wire_result.exception_document(error),
            traceback=str(error) if state == states.FAILURE else None,
            date_done=clock.iso(clock.wall()),
            group_id=headers.group if headers else None,
            parent_id=headers.parent_id if headers else None,
            task_id=message.id,
            name=message.task,
            args=args,
            kwargs=kwargs,
            worker=self._hostname,
            retries=headers.retries if headers else 0,
            queue=queue,
        )
        return self.put(message, wire_result.encode(document, extended), state)


def _headers(message: Message) -> wire_task.Headers | None:
    try:
        return wire_task.decode_headers(message.headers)
    except DecodeError:
        return None


def _arguments(message: Message) -> tuple[Any, Any]:
    try:
        body = wire_task.decode_body(message.body)
    except DecodeError:
        return None, None
    return body.args, body.kwargs
