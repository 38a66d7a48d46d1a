"""Envelopes: messages as they lie in Redis, in the form that kombu writes and reads.

An envelope is a JSON document with the body as base64 text. One of ours may end with what has befallen
the message (see ``entries.lua``); kombu keeps that when it writes an envelope anew. Pure.

Priorities are turned here. In a ``Message`` higher is sooner, with 0 for what nobody has given any. On
the wire of Redis 0 is the soonest (QUIRK-02): a message that came with 3 there is one with -3 here, and
one of ours above 0 has 0 on the wire and its priority in what has befallen it. With
``priority_direction`` "lower" the numbers are those of the wire, as with Celery (ROUTE-15).
"""

from binascii import Error as BadBase64
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from functools import lru_cache

import msgspec
from msgspec import Struct

from celeriac.message import Delivery, Message, Publish

_text = msgspec.json.Encoder().encode


class _Headers(Struct, frozen=True, gc=False):
    task: str = ""
    id: str = ""


class _Properties(Struct, frozen=True, gc=False):
    correlation_id: str | None = None
    reply_to: str | None = None
    priority: int | None = None
    body_encoding: str | None = None


class _Frame(
    Struct,
    frozen=True,
    kw_only=True,
    rename={"content_type": "content-type", "content_encoding": "content-encoding"},
):
    headers: msgspec.Raw = msgspec.Raw(b"{}")
    properties: _Properties = _Properties()
    content_type: str = ""
    content_encoding: str = ""
    celeriac: tuple[float, ...] = ()


class _Envelope(_Frame, frozen=True, kw_only=True):
    body: str = ""


class _Based(_Frame, frozen=True, kw_only=True):
    """As nearly all are: its body is turned from base64 as it is read (twice as fast as afterwards)."""

    body: bytes


_based = msgspec.json.Decoder(_Based).decode
_envelope = msgspec.json.Decoder(_Envelope).decode
_headers = msgspec.json.Decoder(_Headers).decode


class Fate(Struct, frozen=True):
    """What has befallen a message so far."""

    claims: int = 0
    suspect: bool = False
    losses: int = 0
    parked: float | None = None
    parkings: int = 0
    priority: int = 0
    """The one above 0 that the wire has no word for."""


UNHARMED = Fate()


def written(publish: Publish, tag: str, step: int, priority: int = 0) -> bytes:
    """Return the envelope of a message; ``step`` is its priority on the wire.

    ``tag`` tells it from all other envelopes; it needs no escaping. ``priority`` above 0 is told beside
    it.
    """
    message = publish.message
    form, where = _constant(
        message.content_type,
        message.content_encoding,
        publish.exchange,
        publish.routing_key or publish.queue,
        publish.delivery_mode,
    )
    reply = b"" if message.reply_to is None else b',"reply_to":' + _text(message.reply_to)
    return (
        b'{"body":"%b%b%b,"properties":{"correlation_id":%b%b%b%d,"body_encoding":"base64",'
        b'"delivery_tag":"%b"}%b}'
    ) % (
        b2a_base64(message.body, newline=False),
        form,
        message.headers,
        _text(message.id),
        reply,
        where,
        step,
        tag.encode(),
        b"" if priority <= 0 else b',"celeriac":[0,0,0,0,0,%d]' % priority,
    )


@lru_cache(maxsize=1000)
def _constant(
    content_type: str, encoding: str, exchange: str, key: str, mode: int
) -> tuple[bytes, bytes]:
    """Return two parts of an envelope that are the same in most: behind the body, behind the id."""
    form = b'","content-encoding":%b,"content-type":%b,"headers":' % (
        _text(encoding),
        _text(content_type),
    )
    where = b',"delivery_mode":%d,"delivery_info":{"exchange":%b,"routing_key":%b},"priority":' % (
        mode,
        _text(exchange),
        _text(key),
    )
    return form, where


def same(priority: int) -> int:
    """Turn nothing: higher is sooner."""
    return priority


def opposite(priority: int) -> int:
    """Turn a priority around: lower is sooner, as on the wire."""
    return -priority


def read(raw: bytes, turned: Callable[[int], int] = same) -> tuple[Message, Fate]:
    """Return the message in an envelope, and what has befallen it; its priority is ``turned``.

    What is no envelope comes as a message without id and name, whose body is all there was.
    """
    try:
        envelope, body = _opened(raw)
        headers = bytes(envelope.headers)
        named = _named(headers)
        properties = envelope.properties
    except (ValueError, RecursionError, LookupError):
        return Message(id="", task="", headers=b"", body=raw, content_type=""), UNHARMED
    fate = _fate(envelope.celeriac)
    wire = properties.priority or 0
    message = Message(
        id=named.id or properties.correlation_id or "",
        task=named.task,
        headers=headers,
        body=body,
        content_type=envelope.content_type,
        content_encoding=envelope.content_encoding,
        priority=turned(fate.priority if fate.priority > 0 else -wire),
        reply_to=properties.reply_to,
    )
    return message, fate


def _opened(raw: bytes) -> tuple[_Frame, bytes]:
    """Return an envelope and the bytes of its body."""
    try:
        based = _based(raw)
    except msgspec.ValidationError:
        # The body is text, or base64 with line ends in it.
        based = None
    if based is not None and based.properties.body_encoding == "base64":
        return based, based.body
    envelope = _envelope(raw)
    return envelope, _body(envelope)


def _named(headers: bytes) -> _Headers:
    try:
        return _headers(headers)
    except ValueError:
        return _Headers()  # Names of a wrong kind: the dispatcher says so.


def _body(envelope: _Envelope) -> bytes:
    if envelope.properties.body_encoding == "base64":
        try:
            return a2b_base64(envelope.body)
        except BadBase64 as error:
            raise ValueError(str(error)) from error
    encoding = envelope.content_encoding
    return envelope.body.encode("utf-8" if encoding in ("", "binary") else encoding)


def _fate(numbers: tuple[float, ...]) -> Fate:
    if len(numbers) != 6:
        return UNHARMED
    claims, suspect, losses, parked, parkings, priority = numbers
    return Fate(
        int(claims), bool(suspect), int(losses), parked or None, int(parkings), int(priority)
    )


def delivery(raw: bytes, receipt: str, queue: str, turned: Callable[[int], int]) -> Delivery:
    """Return the delivery of an envelope under a receipt; its priority is ``turned``."""
    message, fate = read(raw, turned)
    return Delivery(
        message=message,
        queue=queue,
        receipt=receipt,
        claims=fate.claims + 1,
        suspect=fate.suspect,
        losses=fate.losses,
        parked=fate.parked,
        parkings=fate.parkings,
    )


def entry(envelope: bytes, queue: str) -> bytes:
    """Return an envelope as it lies in ``unacked``, in the form that kombu restores."""
    return b'[%b,"",%b]' % (envelope, _text(queue))


def redelivered(raw: bytes) -> tuple[bytes, str, str] | None:
    """Return what an entry of a Celery worker goes back as, its exchange, and its key.

    It is marked as redelivered, as kombu does. None if it is no such entry.
    """
    try:
        envelope, exchange, key = msgspec.json.decode(raw)
        envelope["headers"]["redelivered"] = True
        envelope["properties"]["delivery_info"]["redelivered"] = True
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    if not isinstance(exchange, str) or not isinstance(key, str):
        return None
    return msgspec.json.encode(envelope), exchange, key


def wire_priority(raw: bytes) -> int:
    """Return the priority of an envelope on the wire; 0 if it has none."""
    try:
        return _envelope(raw).properties.priority or 0
    except (ValueError, RecursionError):
        return 0
