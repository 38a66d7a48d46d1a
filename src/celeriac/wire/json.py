"""JSON as kombu 5.7 writes it: the one serialisation of task bodies and result documents.

The text is the standard library's (``", "`` and ``": "``, ASCII only), so that bytes written here
and bytes written by Celery are the same. What JSON has no word for travels as
``{"__type__": name, "__value__": text}`` (SER-03), and a class may say itself how it is written
with ``__json__()`` (SER-04). Tuples come back as lists and keys as text (SER-06).

Reading never imports anything and never builds anything but the types of the table below. Both
directions are pure and thread-safe. Other serialisers and compression are not done here.
"""

import json
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Iterable, Iterator
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

from celeriac.exceptions import DecodeError, EncodeError
from celeriac.wire.repr import saferepr

__all__ = ["decode", "encode"]

_TYPE = "__type__"
_VALUE = "__value__"
_TYPE_BYTES = b'"__type__"'
_TYPE_TEXT = '"__type__"'

# A path longer than this helps nobody, and finding each step encodes what lies below it once more.
_LONGEST_PATH = 24

# A datetime is a date too, so it must come first.
_WRITERS: tuple[tuple[type, str, Callable[[Any], Any]], ...] = (
    (datetime, "datetime", datetime.isoformat),
    (date, "date", date.isoformat),
    (time, "time", time.isoformat),
    (Decimal, "decimal", str),
    (UUID, "uuid", lambda value: {"hex": value.hex}),
)


def encode(value: Any, root: str | tuple[str, ...] = "result") -> bytes:
    """Return the value as JSON.

    Raises EncodeError (SER-07, SER-08) naming the path to what cannot be written. The path starts
    at ``root``; a tuple of names stands for the items of the sequence or mapping ``value`` instead.
    """
    try:
        return _ENCODER.encode(value).encode("ascii")
    except MemoryError:
        raise
    except Exception as error:  # __json__() is the user's code and may raise anything
        raise _explained(value, root, error) from error


def decode(data: bytes | str) -> Any:
    """Return the value that the JSON text stands for, typed values revived.

    Accepts what Celery accepts: NaN, Infinity and lone surrogates included. Raises DecodeError for
    everything else, nesting too deep for the interpreter included.
    """
    if (_TYPE_BYTES in data) if isinstance(data, bytes) else (_TYPE_TEXT in data):
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


def _write_typed(value: Any) -> Any:
    """Return the JSON form of a value that JSON has no word for."""
    reduce = getattr(value, "__json__", None)
    if reduce is not None:
        return reduce()
    for kind, name, write in _WRITERS:
        if isinstance(value, kind):
            return {_TYPE: name, _VALUE: write(value)}
    if isinstance(value, bytes):
        return _write_bytes(value)
    raise TypeError(f"{type(value).__qualname__} has no JSON form")


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
    except (ValueError, TypeError, AttributeError, LookupError, ArithmeticError) as error:
        shown = saferepr(mapping[_VALUE], 80)
        raise DecodeError(f"cannot read JSON: {shown} is not a {name}") from error


_ENCODER = json.JSONEncoder(default=_write_typed)
_PLAIN_DECODER = json.JSONDecoder()
_TYPED_DECODER = json.JSONDecoder(object_hook=_revive)


# -- what went wrong, worked out only after a failure --


def _explained(value: Any, root: str | tuple[str, ...], error: Exception) -> EncodeError:
    """Return the error that names the path to what could not be written, and why."""
    for path, part in _roots(value, root):
        reason = _failure(part)
        if isinstance(reason, RecursionError):
            return EncodeError(f"cannot write {path} as JSON: it is nested too deeply")
        if reason is not None:
            return _located(path, part, reason)
    return EncodeError(f"cannot write {_named(root)} as JSON: {_cause(error)}")


def _roots(value: Any, root: str | tuple[str, ...]) -> Iterable[tuple[str, Any]]:
    if isinstance(root, str):
        return [(root, value)]
    return zip(root, value.values() if isinstance(value, dict) else value, strict=True)


def _named(root: str | tuple[str, ...]) -> str:
    return root if isinstance(root, str) else ", ".join(root)


def _located(path: str, value: Any, reason: Exception) -> EncodeError:
    """Walk down to the innermost part that fails, and say what it is."""
    seen = {id(value)}
    for _ in range(_LONGEST_PATH):
        inner = next(_failing(path, value), None)
        if inner is None:
            break
        path, value, reason = inner
        if id(value) in seen:
            return EncodeError(f"cannot write {path} as JSON: it contains itself")
        seen.add(id(value))
    if isinstance(value, dict) and (key := _bad_key(value)) is not None:
        return EncodeError(
            f"cannot write {path} as JSON: its key {key} is not text, a number, a boolean or None"
        )
    return EncodeError(
        f"cannot write {path} as JSON: {_cause(reason)} (the value: {saferepr(value, 80)}). "
        "Pass text, numbers, lists, mappings, dates, UUIDs, Decimals or bytes, "
        "or give the class a __json__() method"
    )


def _failing(path: str, value: Any) -> Iterator[tuple[str, Any, Exception]]:
    """Yield the parts of a container that cannot be written, with their paths."""
    for step, part in _parts(value):
        reason = _failure(part)
        if reason is not None:
            yield path + step, part, reason


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{_key(key)}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))


def _key(key: Any) -> str:
    return json.dumps(key[:40]) if isinstance(key, str) else saferepr(key, 40)


def _bad_key(value: dict[Any, Any]) -> str | None:
    bad = (key for key in value if not isinstance(key, str | int | float | None))
    return next((saferepr(key, 80) for key in bad), None)


def _failure(value: Any) -> Exception | None:
    """Return why the value cannot be written, or None if it can."""
    try:
        _ENCODER.encode(value)
    except Exception as error:  # noqa: BLE001 - as in encode()
        return error
    return None


def _cause(error: Exception) -> str:
    if isinstance(error, TypeError | ValueError) and error.args:
        return str(error)
    return f"{type(error).__name__}: {error}"
