"""wire/serializers.py and the formats behind it: names, what is accepted, what errors say."""

import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    ImproperlyConfigured,
    SecurityError,
    UnknownSerializerWarning,
)
from celeriac.wire import json, pickled, serializers
from celeriac.wire.serializers import accepted, decode, encode

NAMES = ("json", "yaml", "pickle", "msgpack")
ALL = accepted(NAMES)
PLAIN = ("json", "yaml", "msgpack")


class Mine:
    """A class of the program's own."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mine) and other.number == self.number

    __hash__ = None  # type: ignore[assignment]


@pytest.fixture
def registered() -> Iterator[Callable[..., None]]:
    """Register serializers, and take them out at the end."""
    names: list[str] = []

    def register(name: str, *arguments: Any) -> None:
        serializers.register(name, *arguments)
        names.append(name)

    yield register
    for name in names:
        serializers.unregister(name)


def back(value: Any, serializer: str, accept: frozenset[str] = ALL) -> Any:
    form = encode(value, serializer)
    return decode(form.data, form.content_type, form.content_encoding, accept)


# -- names and forms --


@pytest.mark.follows("SER-01")
@pytest.mark.parametrize(
    ("name", "content_type", "content_encoding"),
    [
        ("json", "application/json", "utf-8"),
        ("yaml", "application/x-yaml", "utf-8"),
        ("pickle", "application/x-python-serialize", "binary"),
        ("msgpack", "application/x-msgpack", "binary"),
        ("raw", "application/data", "binary"),
    ],
)
def test_each_has_the_types_that_celery_writes(
    name: str, content_type: str, content_encoding: str
) -> None:
    form = encode(b"x", name)
    assert (form.content_type, form.content_encoding) == (content_type, content_encoding)
    assert serializers.content_type_of(name) == content_type


@pytest.mark.follows("SER-01")
def test_raw_content_is_bytes_or_text() -> None:
    assert encode("ä", "raw") == serializers.Encoded("application/data", "utf-8", b"\xc3\xa4")
    assert decode(b"\xff", serializers.DATA, accept=accepted(("raw",))) == b"\xff"
    with pytest.raises(EncodeError, match=r"cannot write result as raw bytes: .* not int"):
        encode(5, "raw")


@pytest.mark.follows("SER-06")
@pytest.mark.parametrize("name", PLAIN)
def test_tuples_come_back_as_lists(name: str) -> None:
    assert back((1, (2,)), name) == [1, [2]]


@pytest.mark.follows("SER-06")
def test_pickle_keeps_what_it_is_given() -> None:
    assert back((1, {2: Mine(3)}), "pickle") == (1, {2: Mine(3)})


@pytest.mark.parametrize("name", ["yaml", "pickle"])
def test_mappings_of_a_class_of_their_own_are_written(name: str) -> None:
    assert back([Signature(task="a")], name) == [{"task": "a"}]


class Signature(dict[str, Any]):
    """As canvas has them."""


@pytest.mark.follows("SER-03")
def test_json_can_be_taught_a_type() -> None:
    json.register_type(Mine, "mine", lambda mine: mine.number, Mine)
    assert encode([Mine(5)]).data == b'[{"__type__": "mine", "__value__": 5}]'
    assert back([Mine(5)], "json") == [Mine(5)]
    json.register_type(Mine, None, lambda mine: {"number": mine.number})
    assert back([Mine(5)], "json") == [{"number": 5}]


@pytest.mark.follows("SER-03")
def test_what_a_taught_type_raises_is_a_decode_error() -> None:
    json.register_type(Mine, "odd", lambda mine: mine.number, lambda form: 1 // form)
    with pytest.raises(DecodeError, match="0 is not a odd"):
        decode(b'{"__type__": "odd", "__value__": 0}', serializers.JSON)


@pytest.mark.follows("SER-03")
def test_lazy_texts_of_django_are_written_as_text(monkeypatch: pytest.MonkeyPatch) -> None:
    class Promise:
        def __str__(self) -> str:
            return "später"

    module = type(sys)("django.utils.functional")
    vars(module)["Promise"] = Promise
    monkeypatch.setitem(sys.modules, "django.utils.functional", module)
    assert json.decode(json.encode([Promise()])) == ["später"]


# -- what cannot be written --


@pytest.mark.follows("SER-07", "SER-08")
@pytest.mark.parametrize(
    ("name", "culprit", "reason"),
    [
        ("yaml", object(), "cannot represent an object"),
        ("msgpack", {1}, "set"),
        ("msgpack", 2**70, "Integer value out of range|too big"),
        ("pickle", threading.Lock(), "cannot pickle"),
        ("json", {1}, "set has no JSON form"),
    ],
)
def test_the_error_names_the_path_whatever_the_serializer(
    name: str, culprit: Any, reason: str
) -> None:
    arguments: Any = ([1, {"when": [culprit]}], {})
    with pytest.raises(EncodeError, match=reason) as caught:
        encode(arguments, name, ("args", "kwargs"))
    assert str(caught.value).startswith('cannot write args[1]["when"][0] as ')


@pytest.mark.follows("SER-08")
@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_what_contains_itself_is_named(name: str) -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    with pytest.raises(EncodeError, match=r"contains itself|nested too deeply|recursion"):
        encode(loop, name)


@pytest.mark.follows("SER-02")
def test_an_unknown_serializer_is_named_with_those_that_there_are() -> None:
    with pytest.raises(EncodeError, match=r"no serializer is called 'josn' .there are .*json"):
        encode(1, "josn")
    with pytest.raises(ImproperlyConfigured, match=r"^result_serializer: no serializer is called"):
        serializers.require("josn", "result_serializer")
    serializers.require("yaml", "result_serializer")


@pytest.mark.follows("SER-01")
@pytest.mark.parametrize("name", ["yaml", "msgpack"])
def test_a_missing_library_is_named_with_the_extra(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"celeriac.wire.{name}", raising=False)
    with pytest.raises(EncodeError, match=rf"pip install 'celeriac\[{name}\]'"):
        encode(1, name)
    with pytest.raises(DecodeError, match=rf"pip install 'celeriac\[{name}\]'"):
        decode(b"1", serializers.content_type_of(name), accept=ALL)
    with pytest.raises(ImproperlyConfigured, match=rf"pip install 'celeriac\[{name}\]'"):
        serializers.require(name, "result_serializer")


# -- what is accepted --


@pytest.mark.follows("SEC-01")
@pytest.mark.parametrize("name", ["yaml", "pickle", "msgpack"])
def test_only_json_is_read_unless_more_is_accepted(name: str) -> None:
    form = encode([1], name)
    with pytest.raises(ContentDisallowed, match=f"not in accept_content .*add '{name}' to it"):
        decode(form.data, form.content_type, accept=accepted(("json",)))
    with pytest.raises(ContentDisallowed):
        decode(form.data, form.content_type)
    assert decode(form.data, form.content_type, accept=accepted(("json", name))) == [1]


@pytest.mark.follows("SEC-01")
def test_json_can_be_refused_too() -> None:
    with pytest.raises(ContentDisallowed, match="add 'json' to it"):
        decode(b"1", serializers.JSON, accept=accepted(("yaml",)))


@pytest.mark.follows("SEC-01")
def test_names_and_content_types_may_be_mixed() -> None:
    assert accepted(("json", "application/x-yaml", "application/x-own")) == {
        *("application/json", "application/x-yaml", "application/x-own")
    }
    with pytest.raises(DecodeError, match="nothing is registered that reads content of type"):
        decode(b"1", "application/x-own", accept=accepted(("application/x-own",)))


@pytest.mark.follows("SEC-01")
def test_a_name_that_nothing_has_is_left_out_with_a_warning() -> None:
    accepted.cache_clear()
    with pytest.warns(UnknownSerializerWarning, match="no serializer is called 'xml'"):
        found = accepted(("json", "xml"))
    assert found == {serializers.JSON}
    assert accepted(("json", "xml")) is found, "it has been said once"


@pytest.mark.follows("SEC-03", "SEC-07")
def test_the_global_switches_hold_where_no_list_is_given() -> None:
    form = encode([1], "yaml")
    serializers.enable_insecure_serializers()
    try:
        assert decode(form.data, form.content_type) == [1]
        serializers.disable_insecure_serializers(["pickle"])
        with pytest.raises(ContentDisallowed):
            decode(form.data, form.content_type)
        with pytest.raises(ContentDisallowed):
            decode(b"1", serializers.JSON)
        serializers.enable_insecure_serializers(["application/json"])
        assert decode(b"1", serializers.JSON) == 1
        serializers.disable_insecure_serializers(None)
        with pytest.raises(ContentDisallowed):
            decode(b"1", serializers.JSON)
    finally:
        serializers.disable_insecure_serializers()
    assert decode(b"1", serializers.JSON) == 1


# -- the program's own --


@pytest.mark.follows("SER-02")
def test_a_serializer_of_the_program_is_used(registered: Callable[..., None]) -> None:
    registered(
        "hexed", lambda value: value.hex(), lambda data: bytes.fromhex(data.decode()), "x/hex"
    )
    form = encode(b"\x00\xff", "hexed")
    assert form == serializers.Encoded("x/hex", "utf-8", b"00ff")
    assert decode(form.data, "x/hex", accept=accepted(("hexed",))) == b"\x00\xff"


@pytest.mark.follows("SER-02")
def test_registering_is_noticed_by_what_was_asked_before(
    registered: Callable[..., None],
) -> None:
    with pytest.warns(UnknownSerializerWarning):
        assert accepted(("json", "late")) == {serializers.JSON}
    registered("late", bytes, bytes, "x/late")
    assert accepted(("json", "late")) == {serializers.JSON, "x/late"}


@pytest.mark.follows("SER-02")
def test_one_direction_is_enough(registered: Callable[..., None]) -> None:
    registered("reads", None, bytes, "x/reads")
    registered("writes", bytes, None, "x/writes")
    with pytest.raises(EncodeError, match="only reads"):
        encode(b"", "reads")
    with pytest.raises(DecodeError, match="nothing is registered that reads"):
        decode(b"", "x/writes", accept=frozenset({"x/writes"}))


@pytest.mark.follows("SER-02")
def test_whatever_it_raises_becomes_our_error(registered: Callable[..., None]) -> None:
    registered("odd", lambda value: 1 / 0, lambda data: 1 / 0, "x/odd")
    with pytest.raises(EncodeError, match="cannot write result as odd: ZeroDivisionError"):
        encode(1, "odd")
    with pytest.raises(DecodeError, match="cannot read odd: ZeroDivisionError"):
        decode(b"1", "x/odd", accept=frozenset({"x/odd"}))


@pytest.mark.follows("SER-02")
@pytest.mark.parametrize(("name", "kind"), [("json", "x/own"), ("own", "application/json")])
def test_json_cannot_be_replaced(name: str, kind: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="'json' cannot be replaced"):
        serializers.register(name, bytes, bytes, kind)


def test_what_is_not_there_cannot_be_taken_out() -> None:
    with pytest.raises(ImproperlyConfigured, match="'nothing' cannot be taken out"):
        serializers.unregister("nothing")


@pytest.mark.follows("SER-02")
def test_entry_points_of_installed_packages_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    class Point:
        def __init__(self, name: str, value: str, loaded: Any) -> None:
            self.name, self.value, self._loaded = name, value, loaded

        def load(self) -> Any:
            if isinstance(self._loaded, Exception):
                raise self._loaded
            return self._loaded

    points = {
        "kombu.serializers": [Point("theirs", "a:b", (bytes, bytes, "x/theirs", "binary"))],
        "celeriac.serializers": [Point("broken", "c:d", ImportError("no such thing"))],
    }
    monkeypatch.setattr("importlib.metadata.entry_points", lambda *, group: points[group])
    monkeypatch.setitem(serializers._state, "discovered", False)
    with pytest.warns(UnknownSerializerWarning, match="'broken' of c:d cannot be used"):
        form = encode(b"x", "theirs")
    assert form == serializers.Encoded("x/theirs", "binary", b"x")
    assert accepted(("theirs",)) == {"x/theirs"}
    serializers.unregister("theirs")


# -- hostile bytes --


ERRORS = (DecodeError, ContentDisallowed, SecurityError)


@pytest.mark.parametrize("name", PLAIN)
@given(data=st.binary(max_size=200))
@settings(deadline=None)
def test_garbage_gives_a_value_or_our_error(name: str, data: bytes) -> None:
    try:
        decode(data, serializers.content_type_of(name), accept=ALL)
    except ERRORS:
        pass


@given(st.text(alphabet="{}[]&*a:!-,?|>'\"<\n 01_.~#%@`", max_size=60))
@settings(deadline=None)
def test_yaml_gives_a_value_or_our_error(text: str) -> None:
    try:
        decode(text.encode(), "application/x-yaml", accept=ALL)
    except DecodeError:
        pass


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)
MERGES = "a: &a {x: 1}\n" + "".join(
    f"{new}: &{new} {{<<: [{', '.join([f'*{old}'] * 10)}]}}\n"
    for old, new in zip("abcdefg", "bcdefgh", strict=True)
)


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("yaml", LAUGHS.encode(), "its aliases repeat more than 1000000 nodes"),
        ("yaml", MERGES.encode(), "its aliases repeat more than 1000000 nodes"),
        ("yaml", b"&a [*a]", "a value contains itself"),
        ("yaml", b"1" + b":1" * 200_000, "a number of 400001 characters"),
        ("yaml", b"1" + b":1" * 200_000 + b".0", "a number of 400003 characters"),
        ("yaml", b"[" * 50_000, "nested too deeply"),
        ("yaml", b"!!python/object/apply:os.getcwd []", "could not determine a constructor"),
        ("yaml", b"!!timestamp x", "AttributeError"),
        ("msgpack", b"\xdd\xff\xff\xff\xff", "cannot read msgpack"),
        ("msgpack", b"\xdf\xff\xff\xff\xff", "cannot read msgpack"),
        ("msgpack", b"\xdb\xff\xff\xff\xff", "cannot read msgpack"),
        ("msgpack", b"\x91" * 100_000, "cannot read msgpack"),
        ("msgpack", b"\xa1\xff", "cannot read msgpack"),
        ("msgpack", b"\x01\x01", "cannot read msgpack"),
        ("pickle", b"\x80\x04\x95", "cannot read pickle"),
        ("pickle", b"cno_such_module\nthing\n.", "cannot read pickle: ModuleNotFoundError"),
        ("pickle", b"", "cannot read pickle"),
    ],
)
def test_bombs_and_damage_are_refused(name: str, data: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words) as caught:
        decode(data, serializers.content_type_of(name), accept=ALL)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", PLAIN)
def test_reading_imports_no_module_of_the_sender(name: str) -> None:
    before = set(sys.modules)
    for data in (
        b"!!python/module:this",
        b'{"__type__": "this", "__value__": 1}',
        b"\xc7\x04\x01this",
    ):
        try:
            decode(data, serializers.content_type_of(name), accept=ALL)
        except DecodeError:
            pass
    assert "this" not in set(sys.modules) - before


# -- pickles, looked at without running them --


class Trap:
    """Tells when it is made again."""

    sprung: list[str] = []

    def __reduce__(self) -> Any:
        return spring, ("sprung",)


def spring(word: str) -> None:
    Trap.sprung.append(word)


@pytest.mark.follows("SEC-01")
def test_an_outline_runs_nothing() -> None:
    data = pickled.encode({"task": "a", "args": [Trap(), 1], "more": {"deep": Mine(1)}})
    outline = pickled.outline(data)
    assert Trap.sprung == []
    assert (outline["task"], outline["args"][1]) == ("a", 1)
    assert repr(outline["args"][0]) == repr(outline["more"]["deep"]) == "<pickled>"
    pickled.decode(data)
    assert Trap.sprung == ["sprung"], "the trap works"
