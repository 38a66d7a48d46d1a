"""Where fuzzing begins: what Celery wrote, and what somebody with bad intentions would.

The inputs of each target, and the words that belong into them. Those that are large are made here
and kept nowhere.
"""

import bz2
import json
import lzma
import pickle
import zlib
from base64 import b64decode
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import brotli  # type: ignore[import-untyped]
import msgpack  # type: ignore[import-untyped]

from celeriac.imports import load
from celeriac.settings.table import NAMES
from celeriac.wire import compression
from celeriac.wire.task import Headers
from tests.fixtures.deliveries import NAME
from tests.fuzz.targets import METHODS, TYPES

GOLDEN = Path(__file__).parents[1] / "interop" / "golden"
DEEP = 100_000
"""Levels of nesting that no interpreter's stack holds."""
EMBED = b'{"callbacks": null, "errbacks": null, "chain": null, "chord": null}'
BOMB = bytes(4 << 20)
"""Four times as much as targets let content grow by decompression."""
_PLAIN = (
    b'{"lang": "py", "task": "%s", "id": "one", "eta": null, "expires": null, "retries": 0, '
    b'"timelimit": [null, null], "root_id": "one", "argsrepr": "()", "kwargsrepr": "{}"}'
) % NAME.encode()


@cache
def _golden(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((GOLDEN / name).read_text())
    return found


# -- values in JSON --

ODD_JSON = (
    b"",
    b"null",
    b"[]",
    b"{}",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-0.0",
    b"9" * 400,
    b"9" * 5000,
    b"1" + b"0" * 30,
    b'"\\ud800"',
    b'"\\ud800\\udc00"',
    b'"\xed\xa0\x80"',
    b'"\x00"',
    b'"\xff"',
    b"\xef\xbb\xbf[]",
    '["ü", 1]'.encode("utf-16"),
    b'{"a": 1, "a": 2}',
    b'{"__class__": {"__init__": {"__globals__": []}}}',
    b'{"py/object": "os.system"}',
    b'{"__type__": "datetime", "__value__": "2026-01-01T00:00:00+23:59"}',
    b'{"__type__": "datetime", "__value__": "0001-01-01T00:00:00"}',
    b'{"__type__": "date", "__value__": "2026-W01-1"}',
    b'{"__type__": "time", "__value__": "24:00"}',
    b'{"__type__": "decimal", "__value__": "sNaN"}',
    b'{"__type__": "decimal", "__value__": "1e999999999"}',
    b'{"__type__": "uuid", "__value__": {"hex": "' + b"0" * 32 + b'"}}',
    b'{"__type__": "uuid", "__value__": {}}',
    b'{"__type__": "bytes", "__value__": "\\udcff"}',
    b'{"__type__": "base64", "__value__": "AA=="}',
    b'{"__type__": "base64", "__value__": "A"}',
    b'{"__type__": "os.system", "__value__": "id"}',
    b'{"__type__": ["datetime"], "__value__": {"__type__": "date", "__value__": 1}}',
    b'{"\\u005f_type__": "uuid", "__value__": {"hex": 1}}',
    b"[" * DEEP,
    b"[" * DEEP + b"]" * DEEP,
    b'{"a":' * DEEP,
    b'[{"__type__": "x", "a":' * (DEEP // 10),
    b'"' + b"\\u0000" * 1000 + b'"',
)

# -- the parts of a message --

ODD_TIMES = (
    b"2026-11-21T04:11:33.238967+00:00",
    b"2026-11-21",
    b"9999-12-31T23:59:59.999999-23:59",
    b"0001-01-01T00:00:00+23:59",
    b"20261121T041133,5Z",
    b"2026-W47-6",
    b"\xed\xa0\x80",
    b"1" * 5000,
    b"tomorrow",
)


def _with(name: str, value: bytes) -> bytes:
    """Return headers in which one says something else."""
    return _PLAIN[:-1] + b', "%s": %s}' % (name.encode(), value)


def _odd_headers() -> Iterator[bytes]:
    yield _PLAIN
    for name in Headers.__struct_fields__:
        for value in (
            b"null",
            b"true",
            b"-1",
            b"1e999",
            b"NaN",
            b"[]",
            b"{}",
            b'"\\ud800\\n\\u001b["',
        ):
            yield _with(name, value)
    for limits in (
        b"[1, 2]",
        b"[-1, -2.5]",
        b"[NaN, Infinity]",
        b"[1e999, 1]",
        b"[1]",
        b'["1", 2]',
    ):
        yield _with("timelimit", limits)
    for huge in (b"9" * 30, b"9" * 400, b"9" * 5000, b"1.5"):
        yield _with("retries", huge)
    for text in ODD_TIMES:
        shown = b'"%s"' % text
        yield _with("eta", shown)
        yield _with("expires", shown)
    yield _with("stamps", b'{"a": [1, {"b": null}]}')
    yield _with("is_eager", b"true")
    yield _with("__dict__", b"{}")
    yield _with("deep", b"[" * DEEP + b"]" * DEEP)
    yield b'{"task": "' + b"x" * 100_000 + b'", "id": "one"}'
    yield from ODD_JSON


def _golden_messages() -> Iterator[tuple[bytes, str, str | None, bytes]]:
    """Yield headers, content type, compression and body of messages that Celery wrote."""
    for one in _golden("messages.json")["captured"]:
        envelope = json.loads(one["envelope"])
        held = envelope["headers"]
        kind = envelope["content-type"]
        yield json.dumps(held).encode(), kind, None, b64decode(envelope["body"])
    for one in _golden("codecs.json")["messages"]:
        message = one["message"]
        held = dict(message["headers"])
        method = held.pop("compression", None)
        text = json.dumps(held).encode()
        yield text, message["content_type"], method, b64decode(message["body"])


def _choice(kind: str, method: str | None = None) -> bytes:
    kinds, methods = list(TYPES), list(METHODS)
    return bytes((48 + kinds.index(kind), 48 + methods.index(method)))


def _json_bodies() -> Iterator[bytes]:
    yield b"[[1], {}, " + EMBED + b"]"
    yield b"[[], {}]"
    yield b'[[], {}, {"args": [1]}]'
    yield b'[[], {}, {"headers": 1, "retries": "x"}]'
    yield b"[{}, [], null]"
    for name in ("callbacks", "errbacks", "chain", "chord"):
        for link in (
            b"1",
            b'"x"',
            b"[1]",
            b"[{}]",
            b'{"task": 1}',
            b'[{"task": "other", "args": 1, "kwargs": [], "options": 3, "subtask_type": null}]',
            b'[{"task": "other", "args": [], "kwargs": {}, "options": {"queue": []}}]',
            b'[{"task": "other", "subtask_type": "chord"}]',
        ):
            yield b'[[], {}, {"%s": %s}]' % (name.encode(), link)
            yield b'[[], {"raises": 1}, {"%s": %s}]' % (name.encode(), link)
    yield b'{"task": "shop.pay", "id": "old", "args": [1], "kwargs": {}}'
    yield b'{"task": 1, "id": [], "args": "x"}'
    yield b'{"task": "shop.pay", "id": "old", "eta": 5, "expires": [], "timelimit": "x"}'
    yield b'{"task": "shop.pay", "id": "\\ud800", "args": [], "retries": "1"}'
    yield from ODD_JSON


def _bombs() -> Iterator[tuple[str, bytes]]:
    zstd = load(f"{compression._ZSTD}:compress")
    yield "application/x-gzip", zlib.compress(BOMB, 9)
    yield "application/x-bz2", bz2.compress(BOMB)
    yield "application/x-lzma", lzma.compress(BOMB)
    yield "application/x-brotli", brotli.compress(BOMB)
    yield "application/zstd", zstd(BOMB)


def _compressed(data: bytes) -> Iterator[tuple[str, bytes]]:
    for method in METHODS[1:-1]:
        assert method is not None
        yield method, compression.compress(data, method)[0]


def bodies() -> Iterator[bytes]:
    """Yield the inputs of ``body``: content type and compression by a byte each, then the bytes."""
    for _, kind, method, data in _golden_messages():
        yield _choice(kind, method) + data
    for data in _json_bodies():
        yield _choice(TYPES[0]) + data
    for kind, odd in ((TYPES[1], ODD_YAML), (TYPES[2], ODD_MSGPACK), (TYPES[4], ODD_PICKLES)):
        yield from (_choice(kind) + data for data in odd)
    for method, data in (*_bombs(), *_compressed(b"[[1], {}, {}]")):
        yield _choice(TYPES[0], method) + data
        yield _choice(TYPES[0], method) + data[:-3]
    yield _choice(TYPES[3]) + b"[[], {}, {}]"
    yield _choice(TYPES[5]) + b"[[], {}, {}]"


def messages() -> Iterator[bytes]:
    """Yield whole messages, as ``targets.message_of`` reads them."""
    for text, kind, method, data in _golden_messages():
        if b"\n" not in text:
            yield _choice(kind, method) + text + b"\n" + data
    for text in _odd_headers():
        yield _choice(TYPES[0]) + text + b"\n[[], {}, {}]"
    for choice_and_body in bodies():
        for text in (_PLAIN, b"{}"):
            yield choice_and_body[:2] + text + b"\n" + choice_and_body[2:]


# -- other forms --

_LAUGHS = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
)
_MERGES = b"a0: &a0 {x: 1, y: 2}\n" + b"".join(
    b"a%d: &a%d {<<: [%s]}\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
)
ODD_YAML = (
    b"a: 1\nb: [1, 2.5, null, true, 2026-01-01, 2026-01-01 00:00:00 +1]\n",
    b"- [1]\n- {}\n- {callbacks: null}\n",
    _LAUGHS,
    _MERGES,
    b"&a [*a]",
    b"&a {*a : 1}",
    b"? [1, 2]\n: x",
    b"? {a: 1}\n: x",
    b"!!python/object/apply:os.system ['id']",
    b"!!python/name:os.system",
    b"!!python/object/new:type [x, [], {}]",
    b"!!set {a, b}",
    b"!!omap [a: 1]",
    b"!!pairs [a: 1, a: 2]",
    b"!!binary '/w=='",
    b"!!int '1:1:1'",
    b"!!int ''",
    b"!!int '0x'",
    b"!!float '.'",
    b"!!bool maybe",
    b"!!timestamp x",
    b"2026-99-99",
    b"2026-01-01 00:00:00 +99:99",
    b"1" + b":1" * 100_000,
    b"1" + b":1" * 400 + b".5",
    b"[" * DEEP,
    b"- " * DEEP,
    b"? " * 3000,
    b"{? " * 3000,
    b"%YAML 9.9\n---\n",
    b"--- a\n--- b\n",
    b'"\\UFFFFFFFF"',
    b'"\\ud800"',
    "ü: 1".encode("utf-16"),
    b"\xff\xfe",
    b"\x00",
    b"=: 1",
    b"<<: 1",
    b"<<: [1]",
    b"a: |9\n x",
    b"&\xc3\xbc x",
    b"!<> x",
    b"!<%ff> x",
)
ODD_MSGPACK = (
    msgpack.packb([[1], {"x": 2.5}, {"y": None, "z": b"\xff"}]),
    b"",
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xffx",
    b"\xc6\xff\xff\xff\xffx",
    b"\xc9\xff\xff\xff\xff\x01x",
    b"\xdd\x0f\xff\xff\xff" + b"\xdd\x0f\xff\xff\xff" * 400,
    b"\x91" * DEEP,
    b"\x91" * 600 + b"\xc0",
    b"\x81\x01\x02",
    b"\x81\x90\x02",
    b"\x82\xa1a\x01\xa1a\x02",
    b"\xd6\xff\x00\x00\x00\x00",
    b"\xc7\x0c\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xd4\x01\x00",
    b"\xa1\xff",
    b"\xc1",
    b"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x01",
)


def _shared_pickle() -> bytes:
    """Return a pickle of a few hundred bytes that stands for 2**60 nodes."""
    node: Any = "x"
    for _ in range(60):
        node = [node, node]
    return pickle.dumps({"task": NAME, "id": "one", "args": (), "timelimit": node}, 4)


ODD_PICKLES = (
    pickle.dumps({"task": NAME, "id": "one", "args": (1,), "kwargs": {"x": {1, 2}}}, 4),
    pickle.dumps({"task": NAME, "id": "one", "args": [ValueError("x")], "eta": None}, 2),
    pickle.dumps([[1], {}, {}], 4),
    b"cos\nsystem\n(S'id'\ntR.",
    b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.",
    b"\x80\x02]r\xff\xff\xff\x1f.",
    b"]p4294967295\n.",
    b"\x80\x05\x96\xff\xff\xff\x7f\x00\x00\x00\x00.",
    b"\x80\x04\x8d\xff\xff\xff\x7f\x00\x00\x00\x00x.",
    b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    b"\x8b\xff\xff\xff\x7f\x00.",
    b"(" * DEEP + b".",
    b"]" * 1000 + b"a" * 999 + b".",
    b"\x82\x01.",
    b"Pid\n.",
    b"I" + b"9" * 5000 + b"\n.",
    b"}(U\x04taskU\x01xU\x02id]h\x00s.",
    _shared_pickle(),
    b"\x80\x04\x95\x0c" + bytes(7) + b"]\x95\x07" + bytes(7) + b"U\x05r\xff\xff\xff\x1fa.",
)


def compressed() -> Iterator[bytes]:
    """Yield the inputs of ``compression``."""
    for method, data in (*_bombs(), *_compressed(b"some text " * 20), *_compressed(b"")):
        kind = bytes((48 + METHODS.index(method) - 1,))
        for piece in (data, data[:-3], data + b"x", data[:5]):
            yield kind + piece
    # A header that asks for a dictionary of 4 GiB, and one for a window of 2 TiB.
    yield b"2" + b"\x5d\xff\xff\xff\xff" + b"\xff" * 8 + bytes(20)
    yield b"4" + b"\x28\xb5\x2f\xfd\x00\xf8" + bytes(20)


def _error(kind: str, module: str, message: str = "[]") -> bytes:
    described = f'"exc_type": {json.dumps(kind)}, "exc_message": {message}'
    described += f', "exc_module": {json.dumps(module)}'
    return ('{"status": "FAILURE", "result": {' + described + "}}").encode()


def _documents() -> Iterator[bytes]:
    for one in _golden("results.json")["captured"][::6]:
        yield b"0" + one["document"].encode()
    for one in _golden("codecs.json")["results"]:
        place = ("json", "yaml", "msgpack", "raw", "pickle").index(one.get("serializer"))
        yield bytes((48 + place,)) + b64decode(one["document"])
    for kind, module in (
        ("system", "os"),
        ("Popen", "subprocess"),
        ("SystemExit", "builtins"),
        ("BaseException", "builtins"),
        ("ExceptionGroup", "builtins"),
        ("UnicodeDecodeError", "builtins"),
        ("OSError", "builtins"),
        ("KeyError.__class__", "builtins"),
        ("modules.x", "sys"),
        ("", ""),
        ("a\0b", "c\0"),
        ("\ud800", "\ud800"),
        ("x" * 5000, "y" * 5000),
        ("Retry", "celery.exceptions"),
        ("UnpickleableExceptionWrapper", "celery.utils.serialization"),
        ("antigravity", "antigravity"),
    ):
        yield b"0" + _error(kind, module)
        yield b"0" + _error(kind, module, '["a", "b", [1], "d", {"e": 1}]')
        yield b"0" + _error(kind, module, '{"exc_type": 1}')
    for odd in (b"1", b'"x"', b"{}", b"[]", b'{"exc_type": []}', b'{"exc_type": null}'):
        yield b'0{"status": "FAILURE", "result": %s}' % odd
    yield b'0{"status": "SUCCESS", "stamped_headers": ["a", "status", 1], "a": 1, "stamps": 5}'
    yield b'0{"status": 1}'
    yield b'0{"status": "SUCCESS", "retries": 1e999}'
    for method, data in _bombs():
        yield b"0\x00celery-compressed\x00" + method.encode() + b"\x00" + data
    yield b"0\x00celery-compressed\x00"
    yield b"0\x00celery-compressed\x00unheard\x00of"
    yield from (b"0" + data for data in ODD_JSON)
    yield from (b"1" + data for data in ODD_YAML)
    yield from (b"2" + data for data in ODD_MSGPACK)


_VALUES = (
    b"null",
    b"true",
    b"1",
    b"-1.5",
    b'"5"',
    b'"yes"',
    b'"a,b"',
    b"[1]",
    b'["a"]',
    b'{"a": 1}',
)


def _settings() -> Iterator[bytes]:
    for number in range(len(NAMES)):
        yield b"\n".join(b"%d %s" % (number, value) for value in _VALUES[:1])
    for value in (*_VALUES, *ODD_JSON):
        yield b"\n".join(b"%d %s" % (number, value) for number in range(0, len(NAMES), 9))
    yield b'broker_url "redis://:pw@h/0;amqp://u:p@h?x=1"'
    yield b'CELERY_RESULT_BACKEND "redis://"\nresult_backend "x"'
    yield b'BROKER_URL "x"\nCELERYD_CONCURRENCY 3'
    yield b"x" * 50_000 + b" 1"
    yield b"CELERY_" + b"X" * 50_000 + b" 1"
    yield b"\xff 1\n\xed\xa0\x80 2"


def _words() -> Iterator[bytes]:
    for value in (
        b"4",
        b"(int)3",
        b"(json)[1, 2]",
        b"(float)nan",
        b"(bool)on",
        b"(x)1",
        b"(tuple)",
    ):
        yield b"worker.concurrency=" + value
        yield b".worker_concurrency=" + value
    for value in ODD_JSON:
        yield b"beat_schedule=(json)" + value
        yield value
    yield b"\n".join(ODD_TIMES)
    yield b"x" * 50_000 + b"=1"
    yield b"=\n==\n.=\n_=\n1=1\n\xff=\xff\n(int)=(int)"


def _signed() -> Iterator[bytes]:
    yield b"application/json\n[1, 2]"
    yield b"application/x-yaml\n[1, 2]"
    yield b"application/x-python-serialize\n" + ODD_PICKLES[3]
    yield b"application/data\nx"
    yield b"\xff\n"
    yield b"AAEAAQABAAE="
    yield b"c2lnbmF0dXJl\x00\x01application/json\x00\x01utf-8\x00\x01[]"
    for one in _golden("codecs.json")["messages"]:
        if one.get("serializer") == "json" and not one.get("compression"):
            yield b"application/json\n" + b64decode(one["message"]["body"])
    yield from (b"application/json\n" + data for data in ODD_JSON)
    yield from (b"application/x-yaml\n" + data for data in ODD_YAML[:12])


def _headers() -> Iterator[bytes]:
    yield from (text for text, *_ in _golden_messages())
    yield from _odd_headers()
    yield from ODD_TIMES


def _of_type(kind: str) -> Iterator[bytes]:
    return (data for _, found, method, data in _golden_messages() if found == kind and not method)


def seeds(target: str) -> list[bytes]:
    """Return the inputs that a target begins with, each once."""
    found: dict[str, Iterable[bytes]] = {
        "headers": _headers(),
        "body": bodies(),
        "protocol1": messages(),
        "pickle": (*_of_type(TYPES[4]), *ODD_PICKLES),
        "json": (*_of_type(TYPES[0]), *ODD_JSON),
        "yaml": (*_of_type(TYPES[1]), *ODD_YAML),
        "msgpack": (*_of_type(TYPES[2]), *ODD_MSGPACK),
        "signed": _signed(),
        "compression": compressed(),
        "result": _documents(),
        "settings": _settings(),
        "words": _words(),
        "letters": messages(),
        "admission": messages(),
        "run": messages(),
    }
    return list(dict.fromkeys(found[target]))


WORDS = (
    *Headers.__struct_fields__,
    *(
        "__type__",
        "__value__",
        "datetime",
        "date",
        "time",
        "decimal",
        "uuid",
        "bytes",
        "base64",
        "hex",
    ),
    *("status", "result", "traceback", "children", "stamped_headers", "stamps", "exc_type"),
    *("exc_message", "exc_module", "builtins", "sys", "os", "celery.exceptions", "SystemExit"),
    *("args", "kwargs", "callbacks", "errbacks", "chain", "chord", "taskset", "options", "raises"),
    *(
        "!!int ",
        "!!float ",
        "!!binary ",
        "!!timestamp ",
        "!!set ",
        "!!python/name:",
        "&a ",
        "*a",
        "<<: ",
    ),
    *("NaN", "Infinity", "null", "true", "\\ud800", "[[", "]]", "{}", "(json)", "(int)", "(float)"),
    *("subtask_type", "immutable", "celery-compressed", "application/json", "utf-8"),
)
"""What a mutation may put in: the words of all formats."""
