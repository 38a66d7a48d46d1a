"""Task messages of protocol 2: what a caller writes, and what a worker must know to run one.

A message is a mapping of headers and a body ``[args, kwargs, embed]``, in the form of any
serializer, perhaps compressed. The worker's parent reads the headers only; the body stays bytes
until it reaches the process that runs the task. What protocol 1 has in place of headers is read by
``protocol1``. Thread-safe; times come in as text, and no clock is read.
"""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Annotated, Any

import msgspec

from celeriac import clock, imports
from celeriac.exceptions import DecodeError, EncodeError
from celeriac.message import Message
from celeriac.wire import json, serializers
from celeriac.wire.repr import saferepr

__all__ = [
    "Body",
    "Call",
    "PROTOCOL_HEADERS",
    "Headers",
    "Packed",
    "decode_body",
    "decode_headers",
    "encode_body",
    "encode_headers",
    "format_time",
    "pack_body",
    "parse_time",
]

_Name = Annotated[str, msgspec.Meta(min_length=1)]


class Headers(msgspec.Struct, frozen=True, gc=False):
    """What a received message says about its task, before the body is opened (TASK-25).

    ``timelimit`` is ``(hard, soft)`` in seconds, ``eta`` and ``expires`` are ISO 8601 text for
    ``parse_time``. ``ignore_result`` of None means: as the task says.
    """

    task: _Name
    id: _Name
    eta: str | None = None
    expires: str | None = None
    retries: int = 0
    timelimit: tuple[float | None, float | None] = (None, None)
    ignore_result: bool | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    shadow: str | None = None
    origin: str | None = None
    argsrepr: str | None = None
    kwargsrepr: str | None = None
    compression: str | None = None


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the headers of one task message say.

    ``eta`` and ``expires`` are ISO 8601 text from ``format_time``; limits are seconds. ``extra``
    are the caller's own headers, merged last: they can replace any other. ``root_id`` of None means
    that the task starts a tree of its own. ``compression`` is the MIME name that ``pack_body`` tells.
    ``argsrepr`` and ``kwargsrepr`` are what logs and dashboards show; a caller may give texts of his
    own, to hide what is secret (SER-11).
    """

    task: str
    id: str
    origin: str
    argsrepr: str
    kwargsrepr: str
    root_id: str | None = None
    parent_id: str | None = None
    retries: int = 0
    eta: str | None = None
    expires: str | None = None
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None
    group: str | None = None
    group_index: int | None = None
    shadow: str | None = None
    replaced_task_nesting: int = 0
    stamped_headers: Sequence[str] | None = None
    stamps: Mapping[str, Any] = {}
    extra: Mapping[str, Any] = {}
    compression: str | None = None


class Body(msgspec.Struct, frozen=True):
    """The body of a task message: arguments, and the signatures that follow the task.

    ``embed`` holds ``callbacks``, ``errbacks``, ``chain`` (the next task is the last), ``chord``.
    """

    args: Sequence[Any]
    kwargs: dict[str, Any]
    embed: dict[str, Any]
    arguments: bytes = b""
    """The fields ``args`` and ``kwargs`` of a result document, where they can be cut out of the body
    as they are in it; else empty.
    """


class Packed(msgspec.Struct, frozen=True):
    """A body as bytes, and what its message says of their form."""

    body: bytes
    content_type: str = serializers.JSON
    content_encoding: str = "utf-8"
    compression: str | None = None
    """MIME name for the header ``compression``; None if it is not compressed."""


class _Document(msgspec.Struct, frozen=True):
    """The headers as they are written, keys in Celery's order."""

    lang: str
    task: str
    id: str
    shadow: str | None
    eta: str | None
    expires: str | None
    group: str | None
    group_index: int | None
    retries: int
    timelimit: tuple[float | None, float | None]
    root_id: str
    parent_id: str | None
    argsrepr: str
    kwargsrepr: str
    origin: str
    ignore_result: bool | None
    replaced_task_nesting: int
    stamped_headers: Sequence[str] | None
    stamps: Mapping[str, Any]


PROTOCOL_HEADERS = frozenset(_Document.__struct_fields__)
"""The headers that every message of protocol 2 has; all others are the caller's own."""

_HEADERS = msgspec.json.Decoder(Headers)
_DOCUMENT = msgspec.json.Encoder()
_PLAIN_BODY = msgspec.json.Decoder(tuple[list[Any], dict[str, Any], dict[str, Any]])
_PARTS = ("args", "kwargs", "embed")
_LINKS = ("callbacks", "errbacks", "chain", "chord")
_EMPTY_EMBED = b', {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
_ONLY_ARGS = b", {}" + _EMPTY_EMBED
"""How a body ends that has no keyword arguments; what stands before is ``[`` and the others."""
_CUT = -len(_ONLY_ARGS)


# -- headers --


def decode_headers(raw: bytes) -> Headers:
    """Return what the headers say; fields that are not needed here are skipped.

    Raises DecodeError if they are not headers of protocol 2; the text says which field is wrong.
    """
    try:
        return _HEADERS.decode(raw)
    except (ValueError, RecursionError):
        return _decode_loosely(raw)


def _decode_loosely(raw: bytes) -> Headers:
    """Decode what the strict decoder refused but Celery accepts: null for absent, NaN."""
    document = json.decode(raw)
    if not isinstance(document, dict):
        raise DecodeError(f"cannot read task headers: {_shape(document)} instead of a mapping")
    names = Headers.__struct_fields__
    given = {name: document[name] for name in names if document.get(name) is not None}
    try:
        found = msgspec.convert(given, Headers)
        for text in (found.task, found.id):
            text.encode()  # lone surrogates can be no name and no key
        if any(map(isnan, filter(None, found.timelimit))):
            raise ValueError("timelimit is no number of seconds")
    except ValueError as error:  # of a surrogate where a number should be, too
        raise DecodeError(
            f"cannot read task headers: {error} (task {saferepr(given.get('task'), 80)}, "
            f"id {saferepr(given.get('id'), 80)})"
        ) from error
    return found


def encode_headers(call: Call) -> bytes:
    """Return the headers as JSON, with exactly the keys that Celery writes, in its order.

    Raises EncodeError naming the path to a stamp or an extra header that cannot be written.
    """
    document = _document(call)
    if not call.extra and not call.stamps and call.compression is None:
        try:
            return _DOCUMENT.encode(document)
        except (ValueError, TypeError):
            pass  # lone surrogates, and types that only the slower encoder knows
    mapping = msgspec.structs.asdict(document)
    mapping["stamps"] = dict(call.stamps)
    mapping.update(call.extra)
    if call.compression is not None:
        mapping["compression"] = call.compression
    return json.encode(mapping, "headers")


def _document(call: Call) -> _Document:
    return _Document(
        "py",
        call.task,
        call.id,
        call.shadow,
        call.eta,
        call.expires,
        call.group,
        call.group_index,
        call.retries,
        (call.time_limit, call.soft_time_limit),
        call.root_id or call.id,
        call.parent_id,
        call.argsrepr,
        call.kwargsrepr,
        call.origin,
        call.ignore_result,
        call.replaced_task_nesting,
        call.stamped_headers,
        call.stamps,
    )


# -- body --


def encode_body(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chain: Sequence[Any] | None = None,
    chord: Any = None,
) -> bytes:
    """Return the body as JSON. ``args`` is a list or tuple, ``kwargs`` a dict.

    Raises EncodeError naming the path to what cannot be written, such as ``args[1]["when"]``.
    """
    if callbacks is None and errbacks is None and chain is None and chord is None:
        return json.encode((args, kwargs), _PARTS[:2])[:-1] + _EMPTY_EMBED
    embed = {"callbacks": callbacks, "errbacks": errbacks, "chain": chain, "chord": chord}
    return json.encode((args, kwargs, embed), _PARTS)


def pack_body(
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chain: Sequence[Any] | None = None,
    chord: Any = None,
    *,
    serializer: str = "json",
    compression: str | None = None,
) -> Packed:
    """Return the body in the form of any serializer, compressed if a method is named (SER-05).

    Raises EncodeError as ``encode_body`` does, and for a serializer or a method that is unknown or
    lacks its library.
    """
    if serializer == "json":
        data = encode_body(args, kwargs, callbacks, errbacks, chain, chord)
        if compression is None:
            return Packed(data)
        encoded = serializers.Encoded(serializers.JSON, "utf-8", data)
    else:
        embed = {"callbacks": callbacks, "errbacks": errbacks, "chain": chain, "chord": chord}
        encoded = serializers.encode((args, kwargs, embed), serializer, _PARTS)
    return packed(encoded, compression)


def packed(encoded: serializers.Encoded, compression: str | None) -> Packed:
    """Return an encoded body as a message has it, compressed if a method is named."""
    data, mime = encoded.data, None
    if compression is not None:
        data, mime = imports.load("celeriac.wire.compression:compress")(data, compression)
    return Packed(data, encoded.content_type, encoded.content_encoding, mime)


def decode_body(
    data: bytes,
    content_type: str = serializers.JSON,
    content_encoding: str = "utf-8",
    compression: str | None = None,
    accept: frozenset[str] | None = None,
) -> Body:
    """Return the parts of a body, of either protocol.

    ``compression`` is the header of that name, ``accept`` the content types that are read, from
    ``serializers.accepted``. Raises DecodeError if it is not what it claims to be, or no body;
    ContentDisallowed and SecurityError as ``serializers.decode`` does.
    """
    if compression is not None:
        data = imports.load("celeriac.wire.compression:decompress")(data, compression)
    if content_type == serializers.JSON and (accept is None or content_type in accept):
        body = json.decode(data)
    else:
        body = serializers.decode(data, content_type, content_encoding, accept)
    return _parts(body)


def open_body(message: Message, compression: str | None, accept: frozenset[str] | None) -> Body:
    """Return the parts of a message's body, as ``decode_body`` does; raises as it does."""
    data, content_type = message.body, message.content_type
    if (
        data.endswith(_EMPTY_EMBED)
        and content_type == serializers.JSON
        and compression is None
        and (accept is None or content_type in accept)
        and json.TYPED not in data
        and (body := _plain_body(data)) is not None
    ):
        return body
    return decode_body(data, content_type, message.content_encoding, compression, accept)


def _plain_body(data: bytes) -> Body | None:
    """Return the parts of a body from which nothing follows; None for what ``decode_body`` is to read.

    Nearly all are such bodies, and the decoder checks their form.
    """
    try:
        args, kwargs, embed = _PLAIN_BODY.decode(data)
    except (ValueError, RecursionError):
        return None
    bare = data.endswith(_ONLY_ARGS)
    return Body(args, kwargs, embed, b'"args": %b, "kwargs": {}' % data[1:_CUT] if bare else b"")


def _parts(body: Any) -> Body:
    """Return the parts of a body of either protocol, if it is one."""
    if isinstance(body, dict) and ("args" in body or {"task", "id"} <= body.keys()):
        return _body(
            body.get("args", ()),
            body.get("kwargs", {}),
            {name: body.get(name) for name in ("callbacks", "errbacks", "chord")} | {"chain": None},
        )
    if not isinstance(body, list | tuple) or len(body) != 3:
        raise DecodeError(f"cannot read task body: {_shape(body)} instead of [args, kwargs, embed]")
    args, kwargs, embed = body
    return _body(args, kwargs, {} if embed is None else embed)


def _body(args: Any, kwargs: Any, embed: Any) -> Body:
    if not isinstance(args, list | tuple):
        raise DecodeError(f"cannot read task body: args is {_shape(args)} instead of a list")
    if not isinstance(kwargs, dict):
        raise DecodeError(f"cannot read task body: kwargs is {_shape(kwargs)} instead of a mapping")
    if not isinstance(embed, dict):
        raise DecodeError(f"cannot read task body: embed is {_shape(embed)} instead of a mapping")
    links = {name: embed[name] for name in _LINKS if name in embed}
    for name, link in links.items():
        _check_link(name, link)
    return Body(args, kwargs, links)


def _check_link(name: str, link: Any) -> None:
    """Refuse what cannot be followed: better before the task runs than after it."""
    if not link or isinstance(link, dict):
        return
    if name == "chord" or not isinstance(link, list | tuple):
        raise DecodeError(f"cannot read task body: {name} is {_shape(link)} instead of signatures")
    for one in link:
        if not isinstance(one, dict):
            raise DecodeError(f"cannot read task body: {_shape(one)} among {name} is no signature")


def _shape(value: Any) -> str:
    """Return the kind of a decoded value, with its size where that is what may be wrong."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"a mapping with the keys {saferepr(tuple(value), 80)}"
    return f"{type(value).__name__} {saferepr(value, 80)}"


# -- times --


def format_time(seconds: float) -> str:
    """Return a wall time, in seconds since 1970, as a message names it.

    Raises EncodeError for a time that no calendar holds.
    """
    try:
        return clock.iso(seconds)
    except (ValueError, OverflowError, OSError) as error:
        raise EncodeError(f"cannot write the time {seconds!r}: {error}") from error


def parse_time(text: str) -> float:
    """Return the wall time, in seconds since 1970, that a message names; without a zone it is UTC.

    Raises DecodeError for text that is no time.
    """
    try:
        return clock.parse_iso(text)
    except (ValueError, TypeError, OverflowError) as error:
        shown = saferepr(str(error), 80)
        raise DecodeError(f"cannot read {saferepr(text, 80)} as a time: {shown}") from error
