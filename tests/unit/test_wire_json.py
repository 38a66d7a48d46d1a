"""wire/json.py: the text it writes, what it reads, and how it says what is wrong."""

import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac.exceptions import DecodeError, EncodeError
from celeriac.wire.json import LONG, decode, encode

TYPED = [
    (
        datetime(2026, 11, 20, 20, 56, 22, 133632, UTC),
        "datetime",
        "2026-11-20T20:56:22.133632+00:00",
    ),
    (datetime(2026, 11, 20, 20, 56), "datetime", "2026-11-20T20:56:00"),
    (
        datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=5.5))),
        "datetime",
        "2026-01-01T00:00:00+05:30",
    ),
    (date(2026, 11, 20), "date", "2026-11-20"),
    (time(20, 56, 1, 5), "time", "20:56:01.000005"),
    (Decimal("1.10"), "decimal", "1.10"),
    (UUID(int=5), "uuid", {"hex": "00000000000000000000000000000005"}),
    (b"plain \xc3\xa4", "bytes", "plain ä"),
    (b"\x00\xff", "base64", "AP8="),
]

plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
typed_values = st.recursive(
    st.none()
    | st.integers()
    | st.text()
    | st.binary()
    | st.datetimes(timezones=st.none() | st.just(UTC))
    | st.dates()
    | st.times()
    | st.decimals(allow_nan=False)
    | st.uuids(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


class Hooked:
    def __init__(self, form: Any) -> None:
        self.form = form

    def __json__(self) -> Any:
        return self.form() if callable(self.form) else self.form


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


# -- writing and reading --


@pytest.mark.follows("SER-03")
@pytest.mark.parametrize(("value", "name", "form"), TYPED)
def test_typed_values_are_written_as_celery_writes_them(value: Any, name: str, form: Any) -> None:
    written = encode({"v": [value]})
    assert written == json.dumps({"v": [{"__type__": name, "__value__": form}]}).encode()
    assert decode(written) == {"v": [value]}
    assert type(decode(encode(value))) is type(value)


@given(plain_values)
@settings(deadline=None)
def test_plain_values_have_the_text_of_the_standard_library(value: Any) -> None:
    written = encode(value)
    assert written == json.dumps(value).encode()
    assert decode(written) == value
    assert decode(written.decode()) == value


@pytest.mark.parametrize(
    "text",
    [
        "x" * LONG,
        "".join(map(chr, range(128))) * 100,
        '"\\/\t' * LONG,
        "ä" * LONG,
        "\ud800" * LONG,
        "x" * LONG + "\x7f",
    ],
)
def test_long_texts_have_the_text_of_the_standard_library(text: str) -> None:
    """They are written by another encoder."""
    values: list[Any] = [
        text,
        [text],
        (text, 1, {"x": text}),
        {"result": text, "args": (1, text), "kwargs": {"deep": [[[text]]]}, 3: text},
        {text: [text], "empty": [{}, [], ()]},
        [text] * 100,
        {"result": None, "args": [*range(100), text]},
    ]
    for value in values:
        assert encode(value) == json.dumps(value).encode()
    typed = {"1": UUID(int=5), "text": [text, b"x"]}
    assert decode(encode(typed)) == typed


def test_what_contains_itself_beside_a_long_text_is_refused() -> None:
    value: list[Any] = ["x" * LONG]
    value.append(value)
    with pytest.raises(EncodeError, match=r"contains itself|nested too deeply"):
        encode(value)


@pytest.mark.follows("SER-03")
@given(typed_values)
@settings(deadline=None)
def test_typed_values_survive(value: Any) -> None:
    assert decode(encode(value)) == value


@pytest.mark.follows("SER-06")
def test_tuples_become_lists_and_keys_text() -> None:
    assert decode(encode((1, {2: (3,)}))) == [1, {"2": [3]}]


@pytest.mark.follows("SER-04")
def test_the_hook_decides_how_an_object_is_written() -> None:
    assert decode(encode([Hooked({"when": date(2026, 1, 1)})])) == [{"when": date(2026, 1, 1)}]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"[Infinity, -Infinity]", [math.inf, -math.inf]),
        (b"1e400", math.inf),
        (b'"\\ud800"', "\ud800"),
        (b"123456789012345678901234567890", 123456789012345678901234567890),
        (b"1" * 4000, int("1" * 4000)),
        (b'{"a": 1, "a": 2}', {"a": 2}),
        (b" [1 ,\t2\r\n] ", [1, 2]),
    ],
)
def test_what_celery_accepts_is_read(text: bytes, value: Any) -> None:
    assert decode(text) == value


def test_nan_is_read_and_written() -> None:
    assert encode(math.nan) == b"NaN"
    assert math.isnan(decode(b"NaN"))


@pytest.mark.parametrize(
    "mapping",
    [{"__type__": "date"}, {"__type__": "x", "__value__": 1, "more": 2}, {"t": "__type__"}],
)
def test_only_mappings_of_exactly_two_keys_are_typed_values(mapping: dict[str, Any]) -> None:
    assert decode(json.dumps(mapping)) == mapping


# -- what cannot be read --


@pytest.mark.parametrize("name", ["module", "", "object", None, 1, ["date"], {"a": 1}])
def test_an_unknown_type_is_refused(name: Any) -> None:
    with pytest.raises(DecodeError, match=r"a value of the unknown type .*; the types are"):
        decode(json.dumps([{"__type__": name, "__value__": "x"}]))


@pytest.mark.parametrize("name", ["datetime", "date", "time", "decimal", "uuid", "bytes", "base64"])
@pytest.mark.parametrize("form", [None, {}, {"hex": 1}, {"int": 5}, [], ["x"], "\ud800"])
def test_a_typed_value_of_the_wrong_form_is_refused(name: str, form: Any) -> None:
    with pytest.raises(DecodeError, match=f"is not a {name}"):
        decode(json.dumps({"__type__": name, "__value__": form}))


@pytest.mark.parametrize(
    "data",
    [b"", b"[1,]", b"[1] x", b"'a'", b'"\xff"', b"\xef\xbb\xbf1", b'"a\nb"', b"01", b"1" * 5000],
)
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match="cannot read JSON: "):
        decode(data)


def test_the_error_shows_only_the_beginning() -> None:
    with pytest.raises(DecodeError) as caught:
        decode(b"x" * 1_000_000)
    assert "it begins b'xxx" in str(caught.value)
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "opening", [b"[", b'{"a":', b'["__type__",', b'{"__type__": 1, "__value__":']
)
def test_deep_nesting_is_refused_not_fatal(opening: bytes) -> None:
    with pytest.raises(DecodeError, match="nested too deeply"):
        decode(opening * 100_000)


@given(st.binary() | st.text(alphabet='{}[]",:0123456789eE+-.truefalsn \\ud8_ype').map(str.encode))
@settings(deadline=None)
def test_garbage_gives_a_value_or_a_decode_error(data: bytes) -> None:
    try:
        value = decode(data)
    except DecodeError:
        return
    assert repr(decode(encode(value))) == repr(value)


# -- what cannot be written --


@pytest.mark.follows("SER-07", "SER-08")
@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({1}, "r", "set has no JSON form"),
        ([1, {"when": {2}}], 'r[1]["when"]', "set has no JSON form"),
        ({"a": {7: [None, object]}}, 'r["a"][7][1]', "has no JSON form|missing"),
        ((1, (2, 3j)), "r[1][1]", "complex has no JSON form"),
        ({"a": [{(1, 2): 3}]}, 'r["a"][0]', r"its key \(1, 2\) is not text"),
        ([0, Hooked({"x": {1}})], "r[1]", "set has no JSON form"),
        ([0, Hooked(lambda: 1 / 0)], "r[1]", "ZeroDivisionError: division by zero"),
        ([10**5000], "r[0]", "Exceeds the limit"),
        ({'a"b': {1}}, 'r["a\\"b"]', "set has no JSON form"),
    ],
)
def test_the_error_names_the_path_and_the_reason(value: Any, path: str, reason: str) -> None:
    with pytest.raises(EncodeError, match=reason) as caught:
        encode(value, "r")
    assert str(caught.value).startswith(f"cannot write {path} as JSON: ")


def test_several_roots_are_named_each() -> None:
    with pytest.raises(EncodeError, match=r'cannot write kwargs\["x"\] as JSON'):
        encode(([1], {"x": {1}}), ("args", "kwargs"))
    with pytest.raises(EncodeError, match=r"cannot write b\[0\] as JSON"):
        encode({"a": 1, "b": [{1}]}, ("a", "b"))


def test_the_error_is_a_type_error_with_its_cause() -> None:
    with pytest.raises(TypeError) as caught:
        encode({1})
    assert isinstance(caught.value, EncodeError)
    assert isinstance(caught.value.__cause__, TypeError)


def test_what_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {"fine": [1]}
    loop["self"] = [loop]
    with pytest.raises(
        EncodeError, match=r'cannot write r\["self"\]\[0\] as JSON: it contains its'
    ):
        encode(loop, "r")


def test_too_deep_a_value_is_refused() -> None:
    with pytest.raises(EncodeError, match="cannot write r as JSON: it is nested too deeply"):
        encode(nested(100_000), "r")


def test_a_culprit_far_down_still_gives_an_error() -> None:
    value: Any = {1}
    for _ in range(100):
        value = [value]
    with pytest.raises(EncodeError, match=r"cannot write r(\[0\])+ as JSON"):
        encode(value, "r")


def test_running_out_of_memory_is_no_encode_error() -> None:
    def exhausted() -> Any:
        raise MemoryError

    with pytest.raises(MemoryError):
        encode(Hooked(exhausted))


def test_the_shown_value_is_short() -> None:
    with pytest.raises(EncodeError) as caught:
        encode({object(): "x" * 10_000})
    assert len(str(caught.value)) < 400
