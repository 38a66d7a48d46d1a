"""MessagePack as kombu writes and reads it: text and bytes kept apart, keys text or bytes.

Loaded when the serializer ``msgpack`` is first used; needs the library of that name
(``celeriac[msgpack]``). Reading builds plain values only; lengths that the data cannot hold are
refused before anything is reserved for them. Dates and times have no form here (SER-08).
"""

from typing import Any

from celeriac import imports

__all__ = ["decode", "encode"]

_library: Any = imports.load("msgpack")


def encode(value: Any) -> bytes:
    """Return the value as MessagePack. Raises TypeError or ValueError for what has no form in it."""
    packed: bytes = _library.packb(value, use_bin_type=True)
    return packed


def decode(data: bytes) -> Any:
    """Return the value that the bytes stand for. Raises what the library raises."""
    return _library.unpackb(data, raw=False)
