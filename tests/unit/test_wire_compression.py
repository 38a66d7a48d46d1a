"""wire/compression.py: every method both ways, and nothing that grows without bounds."""

import sys
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac.exceptions import DecodeError, EncodeError, ImproperlyConfigured
from celeriac.wire import compression
from celeriac.wire.compression import compress, decompress, mime_of

METHODS = {
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
EACH = pytest.mark.parametrize("method", ["gzip", "bzip2", "lzma", "brotli", "zstd"])


@pytest.mark.follows("SER-05")
@pytest.mark.parametrize("method", METHODS)
def test_names_are_those_of_kombu(method: str) -> None:
    assert mime_of(method) == METHODS[method]
    assert mime_of(METHODS[method]) == METHODS[method]
    packed, mime = compress(b"x" * 100, method)
    assert (mime, decompress(packed, mime), decompress(packed, method)) == (
        METHODS[method],
        b"x" * 100,
        b"x" * 100,
    )


@pytest.mark.follows("SER-05")
def test_gzip_is_a_bare_zlib_stream() -> None:
    assert compress(b"x", "gzip")[0][:2] == b"\x78\x9c"


@EACH
@pytest.mark.parametrize("size", [0, 1, 2**16, 3 * 2**20 + 1])
def test_every_size_survives(method: str, size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    packed, mime = compress(data, method)
    assert decompress(packed, mime) == data


@EACH
def test_a_bomb_is_refused_before_it_grows(method: str) -> None:
    limit = 2**20
    bomb, mime = compress(bytes(64 * limit), method)
    decompress(compress(b"", method)[0], mime)  # The library is loaded.
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError, match=f"larger than {limit} bytes"):
            decompress(bomb, mime, limit)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * limit, "the dictionary of lzma alone has 8 MiB"


@EACH
def test_what_is_just_as_large_as_it_may_be_is_read(method: str) -> None:
    packed, mime = compress(bytes(5000), method)
    assert decompress(packed, mime, 5000) == bytes(5000)
    with pytest.raises(DecodeError, match="larger than 4999 bytes"):
        decompress(packed, mime, 4999)


@EACH
def test_damage_is_told(method: str) -> None:
    packed, mime = compress(b"hello" * 1000, method)
    for end in range(0, len(packed), max(1, len(packed) // 20)):
        with pytest.raises(DecodeError, match="cannot decompress"):
            decompress(packed[:end], mime)


@EACH
@given(data=st.binary(max_size=300))
@settings(deadline=None)
def test_garbage_gives_bytes_or_a_decode_error(method: str, data: bytes) -> None:
    try:
        decompress(data, method, 2**20)
    except DecodeError:
        pass


@pytest.mark.parametrize("mime", ["application/x-nothing", "", None, 5, ["gzip"], "zip"])
def test_an_unknown_method_is_named(mime: object) -> None:
    with pytest.raises(DecodeError, match=r"no compression is called .*; there are brotli, "):
        decompress(b"x", mime)


def test_an_unknown_method_of_a_caller_is_named() -> None:
    with pytest.raises(EncodeError, match="no compression is called 'rar'"):
        compress(b"x", "rar")
    with pytest.raises(
        ImproperlyConfigured, match=r"^result_compression: no compression is called"
    ):
        compression.require("rar", "result_compression")
    compression.require("zstd", "result_compression")


@pytest.mark.follows("SER-05")
def test_a_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    packed, mime = compress(b"x", "brotli")
    monkeypatch.setitem(sys.modules, "brotli", None)
    with pytest.raises(EncodeError, match=r"pip install 'celeriac\[brotli\]'"):
        compress(b"x", "brotli")
    with pytest.raises(DecodeError, match=r"pip install 'celeriac\[brotli\]'"):
        decompress(packed, mime)


@pytest.mark.follows("SER-05")
def test_a_method_of_the_program_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "_METHODS", dict(compression._METHODS))
    monkeypatch.setattr(compression, "_ALIASES", dict(compression._ALIASES))
    compression.register(lambda data: data[::-1], lambda data: data[::-1], "x/back", ["back"])
    assert compress(b"abc", "back") == (b"cba", "x/back")
    assert decompress(b"cba", "x/back") == b"abc"
    with pytest.raises(DecodeError, match="larger than 2 bytes"):
        decompress(b"cba", "x/back", 2)
