"""Compression of message bodies and result documents, under kombu's names (SER-05).

Each library is loaded when it is first used. Reading is bounded: what would grow beyond the limit
is refused as soon as it does, so that a few bytes cannot fill the memory. ``gzip`` is a bare zlib
stream, as Celery writes it, and no gzip file.
"""

import io
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from msgspec import Struct

from celeriac import imports
from celeriac.exceptions import DecodeError, EncodeError, ImproperlyConfigured
from celeriac.wire.repr import saferepr

__all__ = ["LARGEST", "compress", "decompress", "mime_of", "register", "require"]

LARGEST = 256 * 2**20
"""Bytes to which a message or document may grow when nothing else is said."""

_STEP = 2**20
"""Bytes that are taken out of a decompressor at once."""
_PIECE = 2**16
"""Bytes that are put into a decompressor at once."""

Chunks = Callable[[bytes, int], Iterator[bytes]]


class Method(Struct, frozen=True):
    """One way to compress. ``chunks`` yields what the bytes stand for, piece by piece."""

    mime: str
    encoder: Callable[[bytes], bytes] | str
    chunks: Chunks
    library: str = ""
    extra: str = ""


class _Truncated(Exception):
    """The data ends too early."""


# -- one piece after the other --


def _pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    for start in range(0, len(view), _PIECE):
        yield view[start : start + _PIECE]


def _zlib_chunks(data: bytes, _: int) -> Iterator[bytes]:
    reader = imports.load("zlib:decompressobj")()
    for piece in _pieces(data):
        yield reader.decompress(piece, _STEP)
        while reader.unconsumed_tail:
            yield reader.decompress(reader.unconsumed_tail, _STEP)
        if reader.eof:
            return
    raise _Truncated


def _stepwise(reader: Any, data: bytes) -> Iterator[bytes]:
    """Read with a decompressor of the kind that bz2, lzma and zstd have."""
    for piece in _pieces(data):
        yield reader.decompress(piece, _STEP)
        while not reader.eof and not reader.needs_input:
            yield reader.decompress(b"", _STEP)
        if reader.eof:
            return
    raise _Truncated


def _bz2_chunks(data: bytes, _: int) -> Iterator[bytes]:
    return _stepwise(imports.load("bz2:BZ2Decompressor")(), data)


def _lzma_chunks(data: bytes, limit: int) -> Iterator[bytes]:
    # A header of a few bytes may ask for a dictionary of 4 GiB.
    return _stepwise(imports.load("lzma:LZMADecompressor")(memlimit=max(limit, 2**26)), data)


_ZSTD = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"


def _zstd_chunks(data: bytes, limit: int) -> Iterator[bytes]:
    window = imports.load(f"{_ZSTD}:DecompressionParameter").window_log_max
    options = {window: min(27, max(10, limit.bit_length()))}
    return _stepwise(imports.load(f"{_ZSTD}:ZstdDecompressor")(options=options), data)


def _brotli_chunks(data: bytes, _: int) -> Iterator[bytes]:
    reader = imports.load("brotli:Decompressor")()
    for piece in _pieces(data):
        yield reader.process(bytes(piece), output_buffer_limit=_STEP)
        while not reader.can_accept_more_data():
            yield reader.process(b"", output_buffer_limit=_STEP)
    # It takes all input before it has given all output.
    while not reader.is_finished():
        chunk = reader.process(b"", output_buffer_limit=_STEP)
        if not chunk:
            raise _Truncated
        yield chunk


# -- the table --

_METHODS: dict[str, Method] = {
    method.mime: method
    for method in (
        Method("application/x-gzip", "zlib:compress", _zlib_chunks),
        Method("application/x-bz2", "bz2:compress", _bz2_chunks, "bz2"),
        Method("application/x-lzma", "lzma:compress", _lzma_chunks, "lzma"),
        Method("application/x-brotli", "brotli:compress", _brotli_chunks, "brotli", "brotli"),
        Method("application/zstd", f"{_ZSTD}:compress", _zstd_chunks, _ZSTD, "zstd"),
    )
}
_ALIASES = {
    "gzip": "application/x-gzip",
    "zlib": "application/x-gzip",
    "bzip2": "application/x-bz2",
    "bzip": "application/x-bz2",
    "lzma": "application/x-lzma",
    "xz": "application/x-lzma",
    "brotli": "application/x-brotli",
    "zstd": "application/zstd",
    "zstandard": "application/zstd",
}


def register(
    encoder: Callable[[bytes], bytes],
    decoder: Callable[[bytes], bytes],
    content_type: str,
    aliases: Sequence[str] = (),
) -> None:
    """Add a method. Its decoder must bound itself: the limit is checked when it is done."""

    def chunks(data: bytes, _: int) -> Iterator[bytes]:
        yield decoder(data)

    _METHODS[content_type] = Method(content_type, encoder, chunks)
    _ALIASES.update(dict.fromkeys(aliases, content_type))


def mime_of(method: str) -> str:
    """Return the MIME name of a method, which messages carry. Raises ImproperlyConfigured."""
    mime = _ALIASES.get(method, method)
    if mime not in _METHODS:
        raise ImproperlyConfigured(_unknown(method))
    return mime


def require(method: str, setting: str) -> None:
    """See that what this setting names can be used here. Raises ImproperlyConfigured otherwise."""
    try:
        _encoder(_METHODS[mime_of(method)])
    except ImproperlyConfigured as error:
        raise ImproperlyConfigured(f"{setting}: {error}") from error


def _unknown(method: object) -> str:
    names = ", ".join(sorted(_ALIASES))
    return f"no compression is called {saferepr(method, 80)}; there are {names}"


def _missing(method: Method) -> str:
    how = f"pip install 'celeriac[{method.extra}]'" if method.extra else "this Python was built so"
    return f"compression {method.mime} needs the module {method.library}, which is missing: {how}"


def _encoder(method: Method) -> Any:
    if not isinstance(method.encoder, str):
        return method.encoder
    try:
        return imports.load(method.encoder)
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(_missing(method)) from error


# -- both directions --


def compress(data: bytes, method: str) -> tuple[bytes, str]:
    """Return the compressed bytes and the MIME name of the method.

    Raises EncodeError for an unknown method, or one whose library is missing.
    """
    try:
        mime = mime_of(method)
        return _encoder(_METHODS[mime])(data), mime
    except ImproperlyConfigured as error:
        raise EncodeError(str(error)) from error


def decompress(data: bytes, mime: Any, limit: int = LARGEST) -> bytes:
    """Return what the bytes were before; ``mime``, as a message says it, may be an alias too.

    Raises DecodeError for an unknown method, for bytes that are damaged, and for what would be
    larger than ``limit`` bytes; no more than about that is ever held.
    """
    known = _METHODS.get(_ALIASES.get(mime, mime)) if isinstance(mime, str) else None
    if known is None:
        raise DecodeError(_unknown(mime))
    whole = io.BytesIO()
    try:
        for chunk in known.chunks(data, limit):
            if whole.tell() + len(chunk) > limit:
                raise DecodeError(
                    f"refused content of {len(data)} bytes: decompressed by {known.mime} it is "
                    f"larger than {limit} bytes"
                )
            whole.write(chunk)
    except DecodeError:
        raise
    except ModuleNotFoundError as error:
        raise DecodeError(_missing(known)) from error
    except _Truncated:
        raise DecodeError(f"cannot decompress {known.mime}: the data ends too early") from None
    except Exception as error:  # each library has errors of its own, a registered one any
        shown = saferepr(str(error), 200)
        raise DecodeError(f"cannot decompress {known.mime}: {shown}") from error
    return whole.getvalue()
