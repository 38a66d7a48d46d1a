"""JSON as kombu 5.7 writes it: the serialisation of task bodies and result documents by default.

The text is the standard library's (``", "`` and ``": "``, ASCII only), so that bytes written here
and bytes written by Celery are the same. What JSON has no word for travels as
``{"__type__": name, "__value__": text}`` (SER-03), and a class may say itself how it is written
with ``__json__()`` (SER-04). Tuples come back as lists and keys as text (SER-06).

Reading never imports anything and never builds anything but the types of the table below and those
that the program has registered. Both directions are pure and thread-safe. Other serialisers
(``serializers``) and compression are not done here.
"""

import json
import sys
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from celeriac import imports
from celeriac.exceptions import DecodeError
from celeriac.wire.repr import saferepr

__all__ = ["TYPED", "decode", "encode", "register_type", "text"]

LONG = 2048
"""Characters from which a text is worth a look (the standard library takes 3 ns for each, msgspec 0.5)."""
_FEW = 20
_fast = msgspec.json.Encoder().encode

_TYPE = "__type__"
_VALUE = "__value__"
TYPED = b'"__type__"'
"""What JSON does not contain if it holds no value that ``decode`` revives."""
_TYPE_TEXT = '"__type__"'

# A datetime is a date too, so it must come first.
_WRITERS: dict[type, tuple[str | None, Callable[[Any], Any]]] = {
    datetime: ("datetime", datetime.isoformat),
    date: ("date", date.isoformat),
    time: ("time", time.isoformat),
    Decimal: ("decimal", str),
    UUID: ("uuid", lambda value: {"hex": value.hex}),
}


def encode(value: Any, root: str | tuple[str, ...] = "result") -> bytes:
    """Return the value as JSON.

    Raises EncodeError (SER-07, SER-08) naming the path to what cannot be written. The path starts
    at ``root``; a tuple of names stands for the items of the sequence or mapping ``value`` instead.
    """
    try:
        kind = type(value)
        if kind is str:
            return text(value)
        if kind is int:
            return b"%d" % value
        return _in_parts(value) if _holds_long_text(value) else _plain(value)
    except MemoryError:
        raise
    except Exception as error:  # __json__() is the user's code and may raise anything
        explained = imports.load("celeriac.wire.culprit:explained")
        raise explained(value, root, error, _ENCODER.encode, ABOUT) from error


def _holds_long_text(value: Any) -> bool:
    """Whether a long text is found at a glance: among a few values, or those in them.

    In one go, since each call counts on this road.
    """
    kind = type(value)
    if kind is dict:
        value = value.values()
    elif kind is not tuple and kind is not list:
        return kind is str and len(value) >= LONG
    for item in value if len(value) <= _FEW else ():
        kind = type(item)
        if kind is str:
            if len(item) >= LONG:
                return True
        elif (kind is list or kind is tuple or kind is dict) and len(item) <= _FEW:
            for inner in item.values() if kind is dict else item:
                if type(inner) is str and len(inner) >= LONG:
                    return True
    return False


def _in_parts(value: Any) -> bytes:
    """Return the same as the encoder does, with long texts written by a faster one."""
    kind = type(value)
    if kind is str:
        return text(value)
    if kind is not dict:
        return b"[%b]" % b", ".join(_items(value))
    pieces: list[bytes] = []
    rest: dict[Any, Any] = {}
    for key, item in value.items():
        if _holds_long_text(item):
            pieces += _texts(rest)
            rest = {}
            pieces.append(_plain({key: 0})[1:-2] + _in_parts(item))
        else:
            rest[key] = item
    return b"{%b}" % b", ".join([*pieces, *_texts(rest)])


def text(value: str) -> bytes:
    """Return a text as JSON."""
    # What msgspec writes as it is, the standard library escapes.
    return _fast(value) if value.isascii() and "\x7f" not in value else _plain(value)


def _items(values: Sequence[Any]) -> list[bytes]:
    pieces: list[bytes] = []
    start = 0
    for n, item in enumerate(values):
        if _holds_long_text(item):
            pieces += _texts(values[start:n])
            pieces.append(_in_parts(item))
            start = n + 1
    return [*pieces, *_texts(values[start:])]


def _texts(values: Any) -> tuple[bytes, ...]:
    """Return the text of plain values without the brackets around it, if there are any."""
    return (_plain(values)[1:-1],) if values else ()


def _plain(value: Any) -> bytes:
    return "".join(_write(value, 0)).encode("ascii")


def decode(data: bytes | str) -> Any:
    """Return the value that the JSON text stands for, typed values revived.

    Accepts what Celery accepts: NaN, Infinity and lone surrogates included. Raises DecodeError for
    everything else, nesting too deep for the interpreter included.
    """
    if (TYPED in data) if isinstance(data, bytes) else (_TYPE_TEXT in data):
        return _read(data, _TYPED_DECODER)
    try:
        return msgspec.json.decode(data)
    except (ValueError, RecursionError):
        return _read(data, _PLAIN_DECODER)


def _read(data: bytes | str, decoder: json.JSONDecoder) -> Any:
    """Decode with the standard library, which takes more than the fast decoder does."""
    try:
        return decoder.decode(data if isinstance(data, str) else data.decode())
    except DecodeError:
        raise
    except RecursionError:
        raise DecodeError("cannot read JSON: it is nested too deeply") from None
    except ValueError as error:
        raise DecodeError(f"cannot read JSON: {error}; it begins {data[:60]!r}") from error


# -- typed values --


def register_type(
    kind: type,
    marker: str | None,
    encoder: Callable[[Any], Any],
    decoder: Callable[[Any], Any] = lambda form: form,
) -> None:
    """Teach JSON a type of the program's own, under the name ``marker`` (SER-03).

    ``encoder`` returns the JSON form of a value, ``decoder`` the value of such a form. Without a
    marker the form alone is written, and comes back as what it is. Every process that reads such
    values must have made the same call, at import.
    """
    _WRITERS[kind] = marker, encoder
    if marker is not None:
        _READERS[marker] = decoder


def _write_typed(value: Any) -> Any:
    """Return the JSON form of a value that JSON has no word for."""
    reduce = getattr(value, "__json__", None)
    if reduce is not None:
        return reduce()
    for kind, (marker, write) in _WRITERS.items():
        if isinstance(value, kind):
            return write(value) if marker is None else {_TYPE: marker, _VALUE: write(value)}
    if isinstance(value, bytes):
        return _write_bytes(value)
    if _is_lazy_text(value):
        return str(value)
    raise TypeError(f"{type(value).__qualname__} has no JSON form")


def _is_lazy_text(value: Any) -> bool:
    """Whether this is a lazy text of Django, which is written as the text it stands for."""
    module = sys.modules.get("django.utils.functional")
    promise = getattr(module, "Promise", None)
    return isinstance(promise, type) and isinstance(value, promise)


def _write_bytes(value: bytes) -> dict[str, str]:
    """Return the JSON form of bytes: as text if they are UTF-8, so that people can read them."""
    try:
        return {_TYPE: "bytes", _VALUE: value.decode()}
    except UnicodeDecodeError:
        return {_TYPE: "base64", _VALUE: b2a_base64(value, newline=False).decode()}


_READERS: dict[str, Callable[[Any], Any]] = {
    "datetime": datetime.fromisoformat,
    "date": lambda text: datetime.fromisoformat(text).date(),
    "time": time.fromisoformat,
    "decimal": Decimal,
    "uuid": lambda fields: UUID(hex=fields["hex"]),
    "bytes": lambda text: text.encode(),
    "base64": lambda text: a2b_base64(text.encode()),
}


def _revive(mapping: dict[str, Any]) -> Any:
    """Return the typed value that a mapping stands for, or the mapping itself."""
    if len(mapping) != 2 or _TYPE not in mapping or _VALUE not in mapping:
        return mapping
    name = mapping[_TYPE]
    reader = _READERS.get(name) if isinstance(name, str) else None
    if reader is None:
        raise DecodeError(
            f"cannot read JSON: a value of the unknown type {saferepr(name, 80)}; "
            f"the types are {', '.join(_READERS)}"
        )
    try:
        return reader(mapping[_VALUE])
    except MemoryError:
        raise
    except Exception as error:  # a registered reader is the user's code and may raise anything
        shown = saferepr(mapping[_VALUE], 80)
        raise DecodeError(f"cannot read JSON: {shown} is not a {name}") from error


# What an error text says of this format: its name, what keys may be, what to pass instead.
ABOUT = (
    "JSON",
    "text, a number, a boolean or None",
    "Pass text, numbers, lists, mappings, dates, UUIDs, Decimals or bytes, "
    "or give the class a __json__() method",
)

_ENCODER = json.JSONEncoder(default=_write_typed)


def _chunks() -> Callable[[Any, int], Iterable[str]]:
    """Return what ``_ENCODER`` makes anew for each value, which takes longer than to write a small one.

    It does not look for what contains itself: that ends as a RecursionError, and is explained then.
    """
    compiled: Any = getattr(json.encoder, "c_make_encoder", None)
    if compiled is None:  # An interpreter without it.
        return lambda value, _: (_ENCODER.encode(value),)
    quoted = json.encoder.encode_basestring_ascii
    written: Callable[[Any, int], Iterable[str]] = compiled(
        None, _write_typed, quoted, None, ": ", ", ", False, False, True
    )
    return written


_write = _chunks()
_PLAIN_DECODER = json.JSONDecoder()
_TYPED_DECODER = json.JSONDecoder(object_hook=_revive)
