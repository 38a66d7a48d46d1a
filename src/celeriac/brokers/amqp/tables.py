"""AMQP tables: the form that message headers have on RabbitMQ.

Written here rather than left to pika, which has no floats: it refuses to write them, and cuts them
to whole numbers when it reads them (a time limit of 0.5 s would be none). Pure; what a header means
is ``properties``' business.
"""

import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from celeriac.exceptions import DecodeError, EncodeError

_SHORT = 0x7FFFFFFF
_LONG = 0x7FFFFFFFFFFFFFFF
_LONGEST_NAME = 255
_DEEPEST = 100
"""Tables in tables, so many that nobody means it; well within what can be written again."""


def encode_table(table: Mapping[str, Any], path: str = "headers") -> bytes:
    """Return a table, its length in front. Raises EncodeError naming the path to what cannot be."""
    try:
        entries = encode_entries(table, path)
    except RecursionError:
        raise EncodeError(f"{path[:200]}... is nested too deeply for AMQP") from None
    return struct.pack(">I", len(entries)) + entries


def encode_entries(table: Mapping[str, Any], path: str = "headers") -> bytes:
    """Return the entries of a table, without a length. Raises EncodeError."""
    pieces: list[bytes] = []
    for name, value in table.items():
        key = name.encode()
        if len(key) > _LONGEST_NAME:
            raise EncodeError(
                f"{path} has a name of {len(key)} bytes, and AMQP takes at most {_LONGEST_NAME}: "
                f"{name[:40]!r}..."
            )
        pieces += (bytes((len(key),)), key, _encode(value, path, name))
    return b"".join(pieces)


def _encode(value: Any, path: str, name: object) -> bytes:
    """Return a value with its type in front."""
    match value:
        case str():
            text = value.encode("utf-8", "surrogatepass")
            return b"S" + struct.pack(">I", len(text)) + text
        case None:
            return b"V"
        case bool():
            return b"t\1" if value else b"t\0"
        case int():
            return _encode_int(value, f"{path}[{name!r}]")
        case float():
            return b"d" + struct.pack(">d", value)
        case bytes():
            return b"x" + struct.pack(">I", len(value)) + value
        case dict():
            return b"F" + encode_table(value, f"{path}[{name!r}]")
        case list() | tuple():
            inside = f"{path}[{name!r}]"
            items = b"".join(_encode(item, inside, index) for index, item in enumerate(value))
            return b"A" + struct.pack(">I", len(items)) + items
    raise EncodeError(
        f"{path}[{name!r}] is a {type(value).__qualname__}, which AMQP has no form for"
    )


def _encode_int(value: int, path: str) -> bytes:
    if -_SHORT <= value <= _SHORT:
        return b"I" + struct.pack(">i", value)
    if -_LONG <= value <= _LONG:
        return b"l" + struct.pack(">q", value)
    raise EncodeError(
        f"{path} is {str(value)[:40]}, and AMQP has no whole numbers beyond 64 bits; send it as text"
    )


def decode_table(data: bytes, offset: int, into: dict[str, Any]) -> int:
    """Fill ``into`` with the table that begins at ``offset``; return where it ends.

    Raises DecodeError; what could be read until then is filled in.
    """
    try:
        return _decode_table(data, offset, into)
    except (IndexError, KeyError, RecursionError, ValueError, OverflowError, struct.error) as error:
        raise DecodeError(f"cannot read the headers of a message: {error!r}") from error


def _decode_table(data: bytes, offset: int, into: dict[str, Any], depth: int = 0) -> int:
    if depth > _DEEPEST:
        raise ValueError(f"nested more than {_DEEPEST} deep")
    end = offset + 4 + int.from_bytes(data[offset : offset + 4])
    offset += 4
    while offset < end:
        start = offset + 1
        offset = start + data[offset]
        name = data[start:offset].decode("utf-8", "replace")
        into[name], offset = _decode(data, offset, depth)
    return offset


def _decode(data: bytes, offset: int, depth: int) -> tuple[Any, int]:
    """Return the value at ``offset``, which begins with its type, and where it ends."""
    kind = data[offset]
    offset += 1
    if (fixed := _FIXED.get(kind)) is not None:
        (value,) = fixed.unpack_from(data, offset)
        return value, offset + fixed.size
    if kind == _TABLE:
        table: dict[str, Any] = {}
        return table, _decode_table(data, offset, table, depth + 1)
    if kind == _NOTHING:
        return None, offset
    if kind in _CONVERTED:
        form, convert = _CONVERTED[kind]
        return convert(*form.unpack_from(data, offset)), offset + form.size
    end = offset + 4 + int.from_bytes(data[offset : offset + 4])
    offset += 4
    if end > len(data):
        raise ValueError(f"{end - len(data)} bytes are missing")
    if kind == _TEXT:
        return _text(data[offset:end]), end
    if kind == _BYTES:
        return data[offset:end], end
    if kind == _LIST:
        return _decode_list(data, offset, end, depth + 1), end
    raise ValueError(f"a value of the unknown type {chr(kind)!r}")


def _decode_list(data: bytes, offset: int, end: int, depth: int) -> list[Any]:
    if depth > _DEEPEST:
        raise ValueError(f"nested more than {_DEEPEST} deep")
    items = []
    while offset < end:
        item, offset = _decode(data, offset, depth)
        items.append(item)
    return items


def _text(data: bytes) -> str | bytes:
    """Return text; what is none, though it says so, stays bytes."""
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data


_TEXT, _BYTES, _LIST, _TABLE, _NOTHING = b"SxAFV"

# The types as RabbitMQ reads them, which is not in all cases what the specification says.
_FIXED = {
    ord(kind): struct.Struct(f">{form}")
    for kind, form in {
        "t": "?",
        "b": "b",
        "B": "B",
        "s": "h",
        "u": "H",
        "I": "i",
        "i": "I",
        "l": "q",
        "L": "q",
        "f": "f",
        "d": "d",
    }.items()
}
_CONVERTED: dict[int, tuple[struct.Struct, Callable[..., Any]]] = {
    ord("D"): (struct.Struct(">Bi"), lambda scale, digits: Decimal(digits).scaleb(-scale)),
    ord("T"): (struct.Struct(">Q"), lambda seconds: datetime.fromtimestamp(seconds, UTC)),
}
