"""Result documents that the parent writes itself, for runs that could not tell their outcome."""

from typing import Any

from celeriac import clock, states
from celeriac.backend import lifetime
from celeriac.completion import Put
from celeriac.exceptions import ContentDisallowed, DecodeError
from celeriac.message import Message
from celeriac.results.base import task_key
from celeriac.settings import Settings
from celeriac.wire import result as wire_result
from celeriac.wire import serializers
from celeriac.wire import task as wire_task


class Documents:
    """Writes documents in the name of one worker."""

    def __init__(self, settings: Settings, hostname: str) -> None:
        self._ttl = lifetime(settings, states.SUCCESS)
        self._failure_ttl = lifetime(settings, states.FAILURE)
        self._extended = settings.result_extended
        # A serializer that the program registers is not known where no user module is imported.
        known = serializers.is_known(settings.result_serializer)
        self._serializer = settings.result_serializer if known else "json"
        self._compression = settings.result_compression
        self._hostname = hostname

    def put(self, message: Message, document: bytes, state: str) -> Put:
        """Return a document of a child, ready for the store."""
        ttl = self._failure_ttl if state == states.FAILURE else self._ttl
        return Put(task_key(message.id), document, ttl, state, message.reply_to)

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
        args, kwargs = _arguments(message, headers) if extended else (None, None)
        document = wire_result.ResultDocument(
            status=state,
            traceback=str(error) if state == states.FAILURE else None,
            date_done=clock.iso(clock.wall()) if state in states.READY_STATES else None,
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
        data = wire_result.encode_failure(
            document, error, extended, self._serializer, self._compression
        )
        return self.put(message, data, state)


def _headers(message: Message) -> wire_task.Headers | None:
    try:
        return wire_task.decode_headers(message.headers)
    except DecodeError:
        return None


def _arguments(message: Message, headers: wire_task.Headers | None) -> tuple[Any, Any]:
    """Return the arguments, if they can be read without running code of anybody's."""
    compression = headers.compression if headers else None
    try:
        body = wire_task.decode_body(
            message.body,
            message.content_type,
            message.content_encoding,
            compression,
            serializers.PLAIN,
        )
    except (DecodeError, ContentDisallowed):
        return None, None
    return body.args, body.kwargs
