"""Requests, messages and workers as receivers of signals see them (SIG-06).

The worker's parent, who decides about deliveries, runs no user code: receivers are called in another
process, and get values made from the message. Nothing here settles anything.
"""

from typing import TYPE_CHECKING, Any

from msgspec import Struct

from celeriac.context import Context
from celeriac.exceptions import DecodeError, SecurityError, SerializationError
from celeriac.message import Message
from celeriac.wire import json
from celeriac.wire import task as wire_task

if TYPE_CHECKING:
    from celeriac.app import Celery


class NodeName(str):
    """The name of a worker, as the sender of its signals: equal to its text, and with its app."""

    app: "Celery"

    def __new__(cls, name: str, app: "Celery") -> "NodeName":
        """Make a name."""
        self = super().__new__(cls, name)
        self.app = app
        return self

    @property
    def hostname(self) -> str:
        """The name."""
        return str(self)


class ToldMessage(Struct, frozen=True, kw_only=True):
    """A message as it was delivered."""

    body: bytes
    headers: dict[str, Any]
    """Empty if they could not be read."""
    properties: dict[str, Any]
    delivery_info: dict[str, Any]
    content_type: str
    content_encoding: str

    @property
    def payload(self) -> Any:
        """The decoded body, if it is JSON. Raises DecodeError."""
        return json.decode(self.body)


def told_message(message: Message, delivery_info: dict[str, Any]) -> ToldMessage:
    """Return a message as signals tell of it."""
    return ToldMessage(
        body=message.body,
        headers=_headers(message),
        properties={
            "correlation_id": message.id,
            "content_type": message.content_type,
            "content_encoding": message.content_encoding,
            "priority": message.priority,
            "reply_to": message.reply_to,
            "delivery_mode": 2,
            "delivery_info": delivery_info,
        },
        delivery_info=delivery_info,
        content_type=message.content_type,
        content_encoding=message.content_encoding,
    )


def told_request(
    message: Message,
    hostname: str,
    delivery_info: dict[str, Any],
    accept: frozenset[str] | None = None,
) -> Context:
    """Return the request of a run that is not to be made here: what can be read of it.

    Beside the fields of every request it has ``name`` and ``task_name``, ``task_id``, ``request_dict``
    (the headers) and ``message``. ``accept`` are the content types that are read.
    """
    told = told_message(message, delivery_info)
    fields = told.headers
    request = Context(
        task=message.task,
        id=message.id,
        name=message.task,
        task_name=message.task,
        task_id=message.id,
        request_dict=fields,
        message=told,
        properties=told.properties,
        hostname=hostname,
        delivery_info=delivery_info,
        reply_to=message.reply_to,
        correlation_id=message.id,
        called_directly=False,
    )
    request.__dict__.update(fields)
    own = fields.keys() - wire_task.PROTOCOL_HEADERS
    request.headers = {name: fields[name] for name in own}
    try:
        tell_body(request, message, accept)
    except (SerializationError, SecurityError):
        pass  # It is told without arguments.
    return request


def tell_body(request: Context, message: Message, accept: frozenset[str] | None) -> None:
    """Put what a message's body says into a request. Raises as ``wire.task.decode_body`` does."""
    body = wire_task.open_body(message, request.get("compression"), accept)
    request.update(body.embed, args=body.args, kwargs=body.kwargs)


def delivery_info(queue: str, priority: int, redelivered: bool) -> dict[str, Any]:
    """Return where a message came from, as requests show it."""
    return {
        "exchange": "",
        "routing_key": queue,
        "priority": priority,
        "redelivered": redelivered,
    }


def _headers(message: Message) -> dict[str, Any]:
    try:
        headers = json.decode(message.headers)
    except DecodeError:
        return {}
    return headers if isinstance(headers, dict) else {}
