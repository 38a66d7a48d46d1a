"""wire/task.py: headers, bodies and times of protocol 2."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac.exceptions import ContentDisallowed, DecodeError, EncodeError
from celeriac.message import Message
from celeriac.wire.task import (
    Body,
    Call,
    Headers,
    decode_body,
    decode_headers,
    encode_body,
    encode_headers,
    format_time,
    open_body,
    parse_time,
)

MINIMAL = {"task": "demo.add", "id": "one"}
KEYS = [
    *("lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries"),
    *("timelimit", "root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result"),
    *("replaced_task_nesting", "stamped_headers", "stamps"),
]

texts = st.text(st.characters(), min_size=1)  # surrogates included
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def call(**changes: Any) -> Call:
    given = {"task": "demo.add", "id": "one", "origin": "gen1@host", "argsrepr": "(1,)"}
    return Call(**{**given, "kwargsrepr": "{}", **changes})


def headers(**changes: Any) -> bytes:
    return json.dumps({**MINIMAL, **changes}).encode()


def opened(body: bytes, accept: frozenset[str] | None = None) -> Body:
    return open_body(Message(id="one", task="demo.add", headers=b"{}", body=body), None, accept)


# -- headers, written --


def test_headers_have_celerys_keys_in_its_order() -> None:
    written = json.loads(encode_headers(call()))
    assert list(written) == KEYS
    assert written == {
        **dict.fromkeys(KEYS),
        "lang": "py",
        "task": "demo.add",
        "id": "one",
        "root_id": "one",
        "retries": 0,
        "timelimit": [None, None],
        "argsrepr": "(1,)",
        "kwargsrepr": "{}",
        "origin": "gen1@host",
        "replaced_task_nesting": 0,
        "stamps": {},
    }


def test_limits_are_hard_then_soft() -> None:
    written = json.loads(encode_headers(call(time_limit=9, soft_time_limit=2.5)))
    assert written["timelimit"] == [9, 2.5]


def test_extra_headers_come_last_and_may_replace() -> None:
    written = json.loads(encode_headers(call(extra={"my": [1], "origin": "me", "task": "other"})))
    assert list(written) == [*KEYS, "my"]
    assert (written["my"], written["origin"], written["task"]) == ([1], "me", "other")


def test_stamps_are_written() -> None:
    written = json.loads(encode_headers(call(stamped_headers=["s"], stamps={"s": ["v"]})))
    assert (written["stamped_headers"], written["stamps"]) == (["s"], {"s": ["v"]})


def test_the_path_to_a_bad_header_is_named() -> None:
    with pytest.raises(EncodeError, match=r'cannot write headers\["x"\]\[0\] as JSON'):
        encode_headers(call(extra={"x": [{1}]}))
    with pytest.raises(EncodeError, match=r'cannot write headers\["stamps"\]\["s"\] as JSON'):
        encode_headers(call(stamped_headers=["s"], stamps={"s": {1}}))


@given(
    st.fixed_dictionaries(
        {"task": texts, "id": texts},
        optional={
            "eta": texts,
            "expires": texts,
            "retries": st.integers(0, 10**6),
            "ignore_result": st.booleans(),
            "root_id": texts,
            "parent_id": texts,
            "group": texts,
            "group_index": st.integers(0, 10**6),
            "shadow": texts,
            "argsrepr": texts,
            "kwargsrepr": texts,
        },
    ),
    st.dictionaries(st.text().map("x-{}".format), values),
)
@settings(deadline=None, max_examples=50)
def test_headers_survive(fields: dict[str, Any], extra: dict[str, Any]) -> None:
    read = decode_headers(encode_headers(call(**fields, extra=extra)))
    for name, value in fields.items():
        assert getattr(read, name) == value
    assert read.root_id == fields.get("root_id", fields["id"])


# -- headers, read --


def test_only_task_and_id_are_needed() -> None:
    assert decode_headers(headers()) == Headers(task="demo.add", id="one")


def test_null_stands_for_absent() -> None:
    nothing: dict[str, Any] = dict.fromkeys(KEYS)
    assert decode_headers(json.dumps({**nothing, **MINIMAL}).encode()) == decode_headers(headers())


@pytest.mark.parametrize(
    "extra",
    [b'"n": NaN', b'"n": "\\ud800"', b'"n": 1e400', b'"lang": 5', b'"n": [{"a": [null]}]'],
)
def test_other_headers_are_skipped_whatever_they_are(extra: bytes) -> None:
    raw = b'{"task": "demo.add", ' + extra + b', "id": "one"}'
    assert decode_headers(raw) == decode_headers(headers())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"task": 5}, r"Expected `str`, got `int` - at `\$.task`"),
        ({"task": None}, "missing required field `task`"),
        ({"task": ""}, r"Expected `str` of length >= 1 - at `\$.task`"),
        ({"id": ""}, r"Expected `str` of length >= 1 - at `\$.id`"),
        ({"id": {}}, r"Expected `str`, got .* - at `\$.id`"),
        ({"retries": "1"}, r"Expected `int`, got `str` - at `\$.retries`"),
        ({"timelimit": [1]}, r"Expected `array` of length 2.* - at `\$.timelimit`"),
        ({"timelimit": ["1", None]}, r"at `\$.timelimit\[0\]`"),
        ({"eta": 5.0}, r"Expected `str \| null`, got `float` - at `\$.eta`"),
        ({"group_index": True}, r"at `\$.group_index`"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], text: str) -> None:
    with pytest.raises(DecodeError, match="cannot read task headers: .*" + text):
        decode_headers(headers(**change))


def test_the_error_names_the_message() -> None:
    with pytest.raises(DecodeError, match=r"\(task 'demo.add', id 'one'\)"):
        decode_headers(headers(eta=1))


@pytest.mark.parametrize("raw", [b"[]", b"null", b'"x"', b"5", b"[1, 2]"])
def test_headers_that_are_no_mapping_are_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError, match=r"cannot read task headers: .* instead of a mapping"):
        decode_headers(raw)


@pytest.mark.parametrize("raw", [b"", b"{", b"\xff", b'{"task": ' + b"[" * 100_000])
def test_headers_that_are_no_json_are_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError, match="cannot read JSON"):
        decode_headers(raw)


@given(st.binary() | values.map(lambda value: json.dumps(value).encode()))
@settings(deadline=None)
def test_garbage_headers_are_refused(raw: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_headers(raw)


# -- bodies --


def test_a_body_has_celerys_text() -> None:
    assert encode_body((1, "ä"), {"y": None}) == (
        b'[[1, "\\u00e4"], {"y": null}, '
        b'{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
    )


signatures_of = st.dictionaries(st.text(), values)


@given(
    st.lists(values),
    st.dictionaries(st.text(), values),
    st.none() | st.lists(signatures_of),
    st.none() | signatures_of,
)
@settings(deadline=None, max_examples=50)
def test_bodies_survive(args: Any, kwargs: Any, signatures: Any, chord: Any) -> None:
    body = decode_body(encode_body(tuple(args), kwargs, signatures, None, signatures, chord))
    assert (body.args, body.kwargs) == (args, kwargs)
    assert body.embed == {
        "callbacks": signatures,
        "errbacks": None,
        "chain": signatures,
        "chord": chord,
    }
    assert list(body.embed) == ["callbacks", "errbacks", "chain", "chord"]


def test_an_absent_embed_is_empty() -> None:
    assert decode_body(b"[[1], {}, null]").embed == {}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"{}", r"a mapping with the keys \(\) instead of \[args, kwargs, embed\]"),
        (b'{"task": 1}', r"a mapping with the keys \('task',\) instead of"),
        (b"[[], {}]", r"a list of 2 instead of \[args, kwargs, embed\]"),
        (b"[[], {}, {}, 4]", "a list of 4 instead of"),
        (b"null", "NoneType None instead of"),
        (b'["ab", {}, {}]', "args is str 'ab' instead of a list"),
        (b"[{}, {}, {}]", r"args is a mapping with the keys \(\) instead of a list"),
        (b"[[], [], {}]", "kwargs is a list of 0 instead of a mapping"),
        (b"[[], {}, []]", "embed is a list of 0 instead of a mapping"),
    ],
)
def test_a_body_of_the_wrong_shape_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(DecodeError, match="cannot read task body: " + text):
        decode_body(data)


@given(st.binary())
@settings(deadline=None)
def test_a_garbage_body_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode_body(data)


def test_a_bomb_of_brackets_is_refused() -> None:
    with pytest.raises(DecodeError, match="nested too deeply"):
        decode_body(b"[[" * 100_000)


@pytest.mark.parametrize(
    ("arguments", "path"),
    [
        (((1, {"when": {1}}), {}), 'args[1]["when"]'),
        (((), {"x": {1}}), 'kwargs["x"]'),
        (((), {}, [{"args": [{1}]}]), 'embed["callbacks"][0]["args"][0]'),
    ],
)
def test_the_path_to_a_bad_argument_is_named(arguments: tuple[Any, ...], path: str) -> None:
    with pytest.raises(EncodeError) as caught:
        encode_body(*arguments)
    assert str(caught.value).startswith(f"cannot write {path} as JSON: set has no JSON form")


# -- times --


@given(st.integers(-62_135_596_800_000_000, 253_402_300_799_000_000))
@settings(deadline=None)
def test_times_survive_to_the_microsecond(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    assert parse_time(format_time(seconds)) == pytest.approx(seconds, abs=2e-6, rel=0)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01.500000+00:00", 1.5),
        ("1970-01-01T00:00:01Z", 1.0),
        ("1970-01-01T00:00:01", 1.0),
        ("1970-01-01T02:00:01+02:00", 1.0),
        ("1970-01-02", 86400.0),
    ],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


def test_times_are_written_with_their_offset() -> None:
    assert format_time(1795208182.133632) == "2026-11-20T20:56:22.133632+00:00"
    assert format_time(1795208182) == "2026-11-20T20:56:22+00:00"


@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "12", "2026-11-20T25:00:00+00:00"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(DecodeError, match=re.escape(f"cannot read '{text}' as a time")):
        parse_time(text)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), 1e20, -1e20])
def test_a_time_beyond_the_calendar_is_refused(seconds: float) -> None:
    with pytest.raises(EncodeError, match="cannot write the time"):
        format_time(seconds)


@pytest.mark.follows("SER-11")
def test_what_is_shown_of_the_arguments_is_the_callers_to_say() -> None:
    call = Call(task="t", id="i", origin="", argsrepr="(***)", kwargsrepr="{'pin': ***}")
    headers = decode_headers(encode_headers(call))
    assert (headers.argsrepr, headers.kwargsrepr) == ("(***)", "{'pin': ***}")


# -- bodies of messages --

NOTHING = b', {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'


@given(st.lists(values), st.dictionaries(st.text(), values))
@settings(deadline=None)
def test_a_body_is_opened_as_it_is_read(args: list[Any], kwargs: dict[str, Any]) -> None:
    body = encode_body(args, kwargs)
    assert body.endswith(NOTHING)
    found, read = opened(body), decode_body(body)
    assert (found.args, found.kwargs, found.embed) == (read.args, read.kwargs, read.embed)


@given(st.lists(values))
@settings(deadline=None)
def test_arguments_are_cut_out_of_it(args: list[Any]) -> None:
    found = opened(encode_body(args, {}))
    assert found.arguments == json.dumps({"args": args, "kwargs": {}}).encode()[1:-1]
    assert opened(encode_body(args, {"x": {}})).arguments == b""


@pytest.mark.parametrize(
    "arguments",
    [
        b'[{"__type__": "date", "__value__": "2026-11-26"}], {}',
        b"[NaN], {}",
        b"[[Infinity, -Infinity]], {}",
        b'["\\ud800"], {}',
        b"[1], {}",
        b"[1],  {}",
        b"[1],{}",
        b"[[], {}], {}",
        b'[1], {"x": {}}',
    ],
)
def test_what_only_one_way_reads_is_read_the_same(arguments: bytes) -> None:
    body = b"[" + arguments + NOTHING
    found, read = opened(body), decode_body(body)
    assert repr((found.args, found.kwargs, found.embed)) == repr(
        (read.args, read.kwargs, read.embed)
    )


@pytest.mark.parametrize("body", [b"[1, {}", b'["x", {}', b"[[1], []", b"[{}, {}", b"[[1], {}, {}"])
def test_one_that_only_ends_like_a_body_is_refused(body: bytes) -> None:
    with pytest.raises(DecodeError, match="cannot read"):
        opened(body + NOTHING)


def test_nothing_is_opened_that_is_not_accepted() -> None:
    with pytest.raises(ContentDisallowed):
        opened(encode_body([1], {}), frozenset({"application/x-yaml"}))
