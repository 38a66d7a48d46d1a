"""Task messages of protocol 1, and of the form between the two: read, and written if wanted (OLD-05).

Such a message says everything in its body, one mapping; its headers are the caller's own, or in the
hybrid form those of protocol 2. ``upgraded`` puts what the body says into headers, so that whoever
reads headers only need not know that there ever was another protocol. The body itself is left as it
is: ``task.decode_body`` reads both forms.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from celeriac import imports
from celeriac.exceptions import DecodeError, EncodeError
from celeriac.message import Message
from celeriac.wire import json, serializers
from celeriac.wire.repr import saferepr
from celeriac.wire.task import Call, Packed, packed

__all__ = ["encode_v1", "upgraded"]

_FROM_BODY = (
    "lang",
    "task",
    "id",
    "root_id",
    "parent_id",
    "group",
    "group_index",
    "shadow",
    "eta",
    "expires",
    "retries",
    "timelimit",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "ignore_result",
)
_CONTAINERS = (dict, list, tuple, set, frozenset)


def encode_v1(
    call: Call,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chord: Any = None,
    *,
    serializer: str = "json",
    compression: str | None = None,
) -> tuple[bytes, Packed]:
    """Return headers and body of a message in protocol 1 (``task_protocol=1``).

    The headers hold the caller's own and the compression only. Protocol 1 has no chain: what
    follows must be a callback. Raises EncodeError as ``task.pack_body`` does.
    """
    body = {
        "task": call.task,
        "id": call.id,
        "args": args,
        "kwargs": kwargs,
        "group": call.group,
        "group_index": call.group_index,
        "retries": call.retries,
        "eta": call.eta,
        "expires": call.expires,
        "utc": True,
        "callbacks": callbacks,
        "errbacks": errbacks,
        "timelimit": (call.time_limit, call.soft_time_limit),
        "taskset": call.group,
        "chord": chord,
    }
    whole = packed(serializers.encode(body, serializer, tuple(body)), compression)
    headers = dict(call.extra)
    if whole.compression is not None:
        headers["compression"] = whole.compression
    return json.encode(headers, "headers"), whole


def upgraded(message: Message, accept: frozenset[str]) -> Message:
    """Return the message with headers of protocol 2; one that has them already is returned as it is.

    Opens the body. Of a pickled one only the plain values are looked at, and nothing of it is run.
    Raises DecodeError if it is a message of neither protocol, ContentDisallowed and SecurityError
    as ``serializers.decode`` does.
    """
    headers = json.decode(message.headers)
    if not isinstance(headers, dict):
        raise DecodeError(f"cannot read task headers: {saferepr(headers, 80)} is not a mapping")
    body = _opened(message, headers.get("compression"), accept)
    if not isinstance(body, dict):
        if "task" in headers:
            return message
        raise DecodeError(
            "cannot read task headers: they name no task, and the body is none of protocol 1: "
            f"{saferepr(body, 80)}"
        )
    given = {name: body[name] for name in _FROM_BODY if name in body} | _texts(body)
    if "taskset" in body:
        given["group"] = body["taskset"]
    found = {name: _plain(name, value) for name, value in given.items()} | headers
    found["root_id"] = found.get("root_id") or found.get("id")
    found.setdefault("lang", None)
    try:
        written = json.encode(found, "headers")
    except EncodeError as error:
        raise DecodeError(f"cannot read a message of protocol 1: {error}") from error
    name, id_ = found.get("task"), found.get("id")
    if not isinstance(name, str) or not isinstance(id_, str):
        raise DecodeError(
            f"cannot read a message of protocol 1: its task is {saferepr(name, 80)}, "
            f"its id {saferepr(id_, 80)}"
        )
    return msgspec.structs.replace(message, task=name, id=id_, headers=written)


def _opened(message: Message, compression: Any, accept: frozenset[str]) -> Any:
    data = message.body
    if compression is not None:
        data = imports.load("celeriac.wire.compression:decompress")(data, compression)
    if message.content_type != serializers.PICKLE or serializers.PICKLE not in accept:
        return serializers.decode(data, message.content_type, message.content_encoding, accept)
    try:
        return imports.load("celeriac.wire.pickled:outline")(data)
    except Exception as error:  # a damaged pickle raises many kinds of errors
        raise DecodeError(f"cannot read pickle: {saferepr(str(error), 200)}") from error


def _texts(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the texts that show the arguments, where the caller has not sent any."""
    return {
        "argsrepr": body.get("argsrepr") or saferepr(body.get("args", ())),
        "kwargsrepr": body.get("kwargsrepr") or saferepr(body.get("kwargs", {})),
    }


def _plain(name: str, value: Any) -> Any:
    """Return a time as text: a serializer may know dates.

    No header is more than a pair of limits. Raises DecodeError for what is nested deeper: a few
    bytes of a pickle can stand for more nodes than can ever be written.
    """
    parts = value if isinstance(value, list | tuple) else (value,)
    if len(parts) > 2 or any(isinstance(part, _CONTAINERS) for part in parts):
        raise DecodeError(
            f"cannot read a message of protocol 1: its {name} is {saferepr(value, 80)}"
        )
    return value.isoformat() if isinstance(value, datetime) else value
