"""Message properties on RabbitMQ: a message as Celery writes it there, and back (celery-wire, 2).

Everything is Celery's but one header, ``celeriac``: what a message has been through that the server
does not remember (claims, losses, parkings), and the moment it is due, which Celery's delay levels
round down. Others carry it along unread. Pure.
"""

import struct
from typing import Any

from msgspec import Struct, convert, structs

from celeriac.brokers.amqp.tables import decode_table, encode_entries, encode_table
from celeriac.clock import parse_iso, wall
from celeriac.exceptions import DecodeError, EncodeError
from celeriac.message import DeadLetter, Message
from celeriac.wire import json

OURS = "celeriac"
"""The header of our own."""
DEAD = "dead"
"""In it: the last words of a dead letter."""

TRACES = (
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
)
"""What the server notes on its way through the delay levels. It is taken off: a message that came
through them once and bears the note would be dropped the second time, as one that goes in circles.
"""
COUNT = "x-delivery-count"
"""In quorum queues: how often the message has come back."""

LONGEST = 2**32 - 1
"""Milliseconds: the server closes the channel on which a message is to expire any later."""

# In the order in which they stand in a message; the bit that says that one is there.
_CONTENT_TYPE, _CONTENT_ENCODING, _HEADERS, _MODE, _PRIORITY = (1 << n for n in range(15, 10, -1))
_CORRELATION_ID, _REPLY_TO, _EXPIRATION = (1 << n for n in range(10, 7, -1))


class Record(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a message has been through: the header of our own."""

    claims: int = 0
    suspect: bool = False
    losses: int = 0
    parked: float | None = None
    parkings: int = 0
    due: float | None = None
    """Wall time before which it is not delivered."""
    task: str | None = None
    """The name of the task, where the headers do not say it."""
    home: str | None = None
    """Of the record of a start: the queue of the message."""
    trial: str | None = None
    """Of the record of a start: which one it is."""
    retries: int | None = None
    """Of the message that it is about: Celery copies headers into the next one when it retries."""


NEW = Record()


class Received(Struct, frozen=True, kw_only=True):
    """A message as it was read."""

    message: Message
    record: Record
    eta: float | None = None
    """Wall time before which the caller does not want it to run."""
    returns: int = 0
    """How often it came back, if the server counts that."""
    dead: dict[str, Any] | None = None
    """Its last words, in the queue of dead letters."""
    legible: bool = True
    """Whether its headers could be read."""


def encode_properties(
    message: Message, record: Record = NEW, mode: int = 2, dead: DeadLetter | None = None
) -> bytes:
    """Return the properties of a message, headers included. Raises EncodeError."""
    headers = json.decode(message.headers) if message.headers else {}
    if not isinstance(headers, dict):
        raise EncodeError(
            f"the headers of task {message.id} are no mapping: {message.headers[:60]!r}"
        )
    if headers.get("task", "") != message.task:
        record = structs.replace(record, task=message.task)
    if record != NEW and isinstance(headers.get("retries"), int):
        record = structs.replace(record, retries=headers["retries"])
    expires = None if dead is not None else headers.get("expires")
    entries = _ours(record, dead) + encode_table(headers)[4:]
    return _assembled(message, entries, mode, _expiration(expires))


def entomb(properties: bytes, dead: DeadLetter) -> bytes:
    """Return the properties of a dead letter whose headers cannot be read: they stay as they are.

    The header of our own stands before them, so that it can be.
    """
    offset = 2
    for bit in (_CONTENT_TYPE, _CONTENT_ENCODING):
        if int.from_bytes(properties[:2]) & bit:
            offset += 1 + properties[offset]
    size = int.from_bytes(properties[offset : offset + 4])
    entries = _ours(NEW, dead) + properties[offset + 4 : offset + 4 + size]
    return _assembled(dead.message, entries, 2, None)


def _ours(record: Record, dead: DeadLetter | None) -> bytes:
    ours: dict[str, Any] = {k: v for k, v in structs.asdict(record).items() if v != getattr(NEW, k)}
    if dead is not None:
        ours[DEAD] = {k: getattr(dead, k) for k in ("id", "queue", "reason", "died", "losses")}
    return encode_entries({OURS: ours}) if ours else b""


def _assembled(message: Message, entries: bytes, mode: int, expiration: str | None) -> bytes:
    flags = _CONTENT_TYPE | _CONTENT_ENCODING | _HEADERS | _MODE | _PRIORITY | _CORRELATION_ID
    pieces = [
        _short(message.content_type),
        _short(message.content_encoding),
        struct.pack(">I", len(entries)),
        entries,
        bytes((mode, message.priority)),
        _short(message.id),
    ]
    if message.reply_to is not None:
        flags |= _REPLY_TO
        pieces.append(_short(message.reply_to))
    if expiration is not None:
        flags |= _EXPIRATION
        pieces.append(_short(expiration))
    return struct.pack(">H", flags) + b"".join(pieces)


def _short(text: str) -> bytes:
    data = text.encode("utf-8", "surrogatepass")
    if len(data) > 255:
        raise EncodeError(f"AMQP takes at most 255 bytes of an id or a name: {text[:60]!r}...")
    return bytes((len(data),)) + data


def _expiration(expires: Any) -> str | None:
    """Return the milliseconds after which nobody wants the message any more.

    None for more than the server takes, which is 49 days: then only workers look at the header.
    """
    until = _moment(expires)
    left = None if until is None else max(0, int((until - wall()) * 1000))
    return None if left is None or left > LONGEST else str(left)


def decode_properties(properties: bytes, body: bytes) -> Received:
    """Return the message that was received. Never raises: what cannot be read stays empty."""
    try:
        return _decoded(properties, body)
    except (DecodeError, IndexError, struct.error, ValueError, TypeError):
        return Received(
            message=Message(id="", task="", headers=b"", body=body), record=NEW, legible=False
        )


def _decoded(properties: bytes, body: bytes) -> Received:
    (flags,) = struct.unpack_from(">H", properties)
    offset = 2
    fields: dict[int, str] = {}
    headers: dict[str, Any] = {}
    legible, priority = True, 0

    def short(bit: int) -> None:
        nonlocal offset
        if flags & bit:
            end = offset + 1 + properties[offset]
            fields[bit] = properties[offset + 1 : end].decode("utf-8", "replace")
            offset = end

    short(_CONTENT_TYPE)
    short(_CONTENT_ENCODING)
    if flags & _HEADERS:
        end = offset + 4 + int.from_bytes(properties[offset : offset + 4])
        try:
            offset = decode_table(properties, offset, headers)
        except DecodeError:
            offset, legible = end, False
    offset += bool(flags & _MODE)
    if flags & _PRIORITY:
        priority = properties[offset]
        offset += 1
    short(_CORRELATION_ID)
    short(_REPLY_TO)
    ours = headers.pop(OURS, None)
    ours = ours if isinstance(ours, dict) else {}
    returns = headers.pop(COUNT, 0)
    for trace in TRACES:
        headers.pop(trace, None)
    text = _headers_text(headers) if legible else None
    message = Message(
        id=str(headers.get("id") or fields.get(_CORRELATION_ID, "")),
        task=str(headers.get("task") or ours.get("task") or ""),
        headers=text or b"",
        body=body,
        content_type=fields.get(_CONTENT_TYPE, "application/data"),
        content_encoding=fields.get(_CONTENT_ENCODING, "binary"),
        priority=priority,
        reply_to=fields.get(_REPLY_TO),
    )
    return Received(
        message=message,
        record=_record(ours, headers.get("retries")),
        eta=_moment(headers.get("eta")),
        returns=returns if isinstance(returns, int) else 0,
        dead=ours.get(DEAD),
        legible=legible and text is not None,
    )


def _headers_text(headers: dict[str, Any]) -> bytes | None:
    """Return the headers as JSON, None for what JSON has no form for."""
    try:
        return json.encode(headers, "headers")
    except EncodeError:
        return None


def _record(ours: dict[str, Any], retries: Any) -> Record:
    """Return what a message has been through; that of another one that was retried does not count."""
    try:
        record = convert(ours, Record)
    except ValueError:
        return NEW  # Somebody else uses the header.
    if record.retries is None:
        return record
    return structs.replace(record, retries=None) if record.retries == retries else NEW


def _moment(text: Any) -> float | None:
    """Return the wall time that a header names; None for others, which the dispatcher judges."""
    try:
        return parse_iso(text) if isinstance(text, str) else None
    except ValueError:
        return None
