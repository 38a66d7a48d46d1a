"""wire/result.py: result documents, and exceptions inside them."""

import bz2
import json
import sys
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac import exceptions
from celeriac.exceptions import ContentDisallowed, DecodeError, EncodeError, SecurityError
from celeriac.wire.result import (
    ResultDocument,
    decode,
    encode,
    encode_failure,
    exception_document,
    rebuild_exception,
    stored_exception,
)

ALWAYS = ["status", "result", "traceback", "children", "date_done"]
CALL = ["name", "args", "kwargs", "worker", "retries", "queue"]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters()) | st.dates(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)
texts = st.text(min_size=1)


def keys(document: ResultDocument, extended: bool = False) -> list[str]:
    return list(json.loads(encode(document, extended)))


# -- documents --


def test_keys_are_celerys_in_its_order() -> None:
    plain = ResultDocument(status="SUCCESS", task_id="one", name="demo.add")
    assert keys(plain) == [*ALWAYS, "task_id"]
    assert keys(plain, extended=True) == [*ALWAYS, *CALL, "task_id"]
    placed = ResultDocument(status="SUCCESS", task_id="one", group_id="g", parent_id="p")
    assert keys(placed) == [*ALWAYS, "group_id", "parent_id", "task_id"]
    assert keys(placed, extended=True) == [*ALWAYS, "group_id", "parent_id", *CALL, "task_id"]


@given(
    st.fixed_dictionaries(
        {
            "result": values,
            "args": st.lists(values),
            "kwargs": st.dictionaries(st.text(), values),
            "children": st.none() | st.lists(st.lists(texts)),
            "retries": st.integers(0, 3),
            **dict.fromkeys(("status", "name", "worker", "queue", "task_id"), texts),
            **dict.fromkeys(("traceback", "date_done", "group_id", "parent_id"), st.none() | texts),
        }
    ),
    st.booleans(),
)
@settings(deadline=None)
def test_it_is_written_as_celery_writes_it(fields: dict[str, Any], extended: bool) -> None:
    names = [*ALWAYS, "group_id", "parent_id", *(CALL if extended else ()), "task_id"]
    absent = {name for name in ("group_id", "parent_id") if not fields[name]}
    expected = {name: fields[name] for name in names if name not in absent}
    written = kombu_text(expected)
    assert encode(ResultDocument(**fields), extended) == written
    cut = kombu_text({"args": fields["args"], "kwargs": fields["kwargs"]})[1:-1]
    assert encode(ResultDocument(**fields), extended, arguments=cut) == written


def kombu_text(mapping: dict[str, Any]) -> bytes:
    """Return the JSON of the standard library, dates in kombu's form."""

    def typed(value: date) -> dict[str, str]:
        return {"__type__": "date", "__value__": value.isoformat()}

    return json.dumps(mapping, default=typed).encode()


def test_a_call_that_cannot_be_written_is_shown() -> None:
    document = ResultDocument(status="SUCCESS", args=[1, {2}], kwargs={"x": 1})
    read = json.loads(encode(document, extended=True))
    assert (read["args"], read["kwargs"]) == ("[1, {2}]", {"x": 1})


def test_a_document_has_celerys_text() -> None:
    document = ResultDocument(status="SUCCESS", task_id="one", result=[4], date_done="then")
    assert encode(document) == (
        b'{"status": "SUCCESS", "result": [4], "traceback": null, "children": [], '
        b'"date_done": "then", "task_id": "one"}'
    )


def test_stamps_lie_flat_and_only_named_ones_are_written() -> None:
    document = ResultDocument(
        status="SUCCESS", task_id="one", stamped_headers=["a"], stamps={"a": [1], "b": 2}
    )
    assert keys(document, extended=True) == [*ALWAYS, *CALL, "stamped_headers", "a", "task_id"]
    assert keys(document) == [*ALWAYS, "task_id"]
    read = decode(encode(document, extended=True))
    assert (read.stamped_headers, read.stamps) == (["a"], {"a": [1]})


@given(
    st.fixed_dictionaries(
        {"status": texts, "task_id": texts, "result": values},
        optional={
            "traceback": texts,
            "children": st.none() | st.lists(values),
            "date_done": texts,
            "group_id": texts,
            "parent_id": texts,
            "name": texts,
            "args": st.lists(values),
            "kwargs": st.dictionaries(st.text(), values),
            "worker": texts,
            "retries": st.integers(0, 1000),
            "queue": texts,
        },
    )
)
@settings(deadline=None, max_examples=50)
def test_documents_survive(fields: dict[str, Any]) -> None:
    read = decode(encode(ResultDocument(**fields), extended=True))
    for name, value in fields.items():
        assert getattr(read, name) == value
    assert encode(read, extended=True) == encode(ResultDocument(**fields), extended=True)


def test_missing_fields_and_unknown_ones_are_no_error() -> None:
    assert decode(b'{"status": "PENDING", "later": {"x": 1}}') == ResultDocument(status="PENDING")


def test_an_unknown_field_called_stamps_is_no_error() -> None:
    assert decode(b'{"status": "SUCCESS", "stamps": 5}') == ResultDocument(status="SUCCESS")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"[]", r"\[\] is not a mapping"),
        (b"{}", "missing required field `status`"),
        (b'{"status": 5}', r"at `\$.status`"),
        (b'{"status": "S", "traceback": 5}', r"at `\$.traceback`"),
        (b'{"status": "S", "stamped_headers": [[]]}', r"at `\$.stamped_headers\[0\]`"),
        (
            b"\x00celery-compressed\x00application/x-gzip\x00x",
            "cannot decompress application/x-gzip",
        ),
        (b"nonsense", "cannot read JSON"),
        (b"\x80\x04\x95", "cannot read JSON"),
        (b'{"status": ' + b"[" * 100_000, "nested too deeply"),
    ],
)
def test_what_is_no_document_is_refused(data: bytes, text: str) -> None:
    with pytest.raises(DecodeError, match=text):
        decode(data)


@given(st.binary() | values.map(lambda value: json.dumps(value, default=str).encode()))
@settings(deadline=None)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data)


def test_the_path_to_a_bad_result_is_named() -> None:
    with pytest.raises(EncodeError, match=r'cannot write result\["when"\]\[1\] as JSON'):
        encode(ResultDocument(status="SUCCESS", task_id="one", result={"when": [1, {2}]}))


# -- exceptions, written --


class Outer:
    class Inner(Exception):
        pass


class Keyword(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


class Guarded(Exception):
    def __new__(cls, *args: Any) -> "Guarded":
        if args != (1,):
            raise TypeError("one only")
        return super().__new__(cls, *args)


class Shadowing(Exception):
    args = None  # type: ignore[assignment]


class Unprintable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


def test_an_exception_is_described_as_celery_does() -> None:
    assert exception_document(ValueError("boom", 1)) == {
        "exc_type": "ValueError",
        "exc_message": ["boom", 1],
        "exc_module": "builtins",
    }
    assert list(exception_document(KeyError())) == ["exc_type", "exc_message", "exc_module"]
    assert exception_document(Outer.Inner())["exc_type"] == "Outer.Inner"


def test_arguments_that_cannot_be_written_are_shown() -> None:
    described = exception_document(ValueError("a", {1}, [2], date(2026, 1, 1), Unprintable()))
    assert described["exc_message"][:4] == ["a", "{1}", [2], date(2026, 1, 1)]
    assert described["exc_message"][4] == "<Unprintable: its repr() raised RuntimeError>"


def test_arguments_are_found_behind_another_attribute_of_that_name() -> None:
    assert exception_document(Shadowing(1, 2))["exc_message"] == [1, 2]


def test_a_limit_is_stored_where_celery_clients_look() -> None:
    for kind, module in (
        (exceptions.TaskRevokedError, "celery.exceptions"),
        (exceptions.TimeLimitExceeded, "billiard.exceptions"),
        (exceptions.EncodeError, "kombu.exceptions"),
        (exceptions.StorageCorrupt, "celeriac.exceptions"),
    ):
        described = exception_document(kind("x"))
        assert described["exc_module"] == module
        assert type(rebuild_exception(described)) is kind


# -- exceptions, read --


def described(module: Any, name: Any, *args: Any) -> dict[str, Any]:
    return {"exc_type": name, "exc_message": list(args), "exc_module": module}


@pytest.mark.follows("RES-16")
def test_a_loaded_class_is_used() -> None:
    error = rebuild_exception(exception_document(Outer.Inner("in", 2)))
    assert type(error) is Outer.Inner
    assert error.args == ("in", 2)


@pytest.mark.follows("RES-16")
def test_an_unknown_class_is_made_up() -> None:
    error = rebuild_exception(described("nowhere.errors", "Outer.Lost", "x", 3))
    kind = type(error)
    assert (kind.__module__, kind.__qualname__, kind.__name__) == (
        "nowhere.errors",
        "Outer.Lost",
        "Lost",
    )
    assert issubclass(kind, Exception)
    assert error.args == ("x", 3)
    assert kind is type(rebuild_exception(described("nowhere.errors", "Outer.Lost")))
    assert exception_document(error) == described("nowhere.errors", "Outer.Lost", "x", 3)


@pytest.mark.follows("SEC-06")
def test_nothing_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "never_loaded.py").write_text("class Boom(Exception): pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    error = rebuild_exception(described("never_loaded", "Boom", "x"))
    assert type(error).__name__ == "Boom"
    assert "never_loaded" not in sys.modules


@pytest.mark.follows("SEC-06")
def test_a_module_is_not_asked_for_lazy_names(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = ModuleType("lazy_module")
    asked: list[str] = []
    lazy.__getattr__ = asked.append  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "lazy_module", lazy)
    assert type(rebuild_exception(described("lazy_module", "Boom"))).__module__ == "lazy_module"
    assert asked == []


def test_an_object_in_the_place_of_a_module_is_not_touched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Trap:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(name)

    monkeypatch.setitem(sys.modules, "trap", Trap())
    try:
        assert type(rebuild_exception(described("trap", "Boom"))).__qualname__ == "Boom"
    finally:
        monkeypatch.undo()


@pytest.mark.follows("RES-16", "SEC-06")
@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("builtins", "int"),
        ("subprocess", "Popen"),
        ("os", "path.join"),
        ("celery.exceptions", "Any"),
        ("celery.exceptions", "builtins.eval"),
        ("celeriac.exceptions", "__all__"),
    ],
)
def test_what_is_no_exception_class_is_refused(module: str, name: str) -> None:
    refused = described(module, name, "touch owned")
    with pytest.raises(SecurityError, match=f"'{module}.{name}' is no exception class"):
        rebuild_exception(refused)
    wrapped = described(
        "celery.utils.serialization",
        "UnpickleableExceptionWrapper",
        module,
        name,
        ["touch owned"],
        "text",
    )
    with pytest.raises(SecurityError, match=f"'{module}.{name}' is no exception class"):
        rebuild_exception(wrapped)


def test_a_constructor_that_refuses_is_left_out() -> None:
    error = rebuild_exception(exception_document(Keyword(code=3)))
    assert type(error) is Keyword
    assert (error.args, str(error)) == (("code 3",), "code 3")
    assert not hasattr(error, "code")


def test_a_class_that_refuses_altogether_is_made_up() -> None:
    for refusing in (
        described(__name__, "Guarded", 2),
        described("builtins", "ExceptionGroup", "several", "[ValueError(1)]"),
    ):
        error = rebuild_exception(refusing)
        assert type(error).__mro__[1] is Exception
        assert exception_document(error) == refusing


def test_a_wrapped_exception_is_taken_out() -> None:
    wrapper = ("celery.utils.serialization", "UnpickleableExceptionWrapper")
    error = rebuild_exception(described(*wrapper, __name__, "Keyword", ["code 3"], "Keyword('')"))
    assert type(error) is Keyword
    odd = rebuild_exception(described(*wrapper, "too", "short"))
    assert exception_document(odd) == described(*wrapper, "too", "short")


@pytest.mark.parametrize(
    ("document", "args"),
    [
        ({"exc_type": "Old", "exc_message": "just text"}, ("just text",)),
        ({"exc_type": "Old"}, ("",)),
        ({"exc_type": "Old", "exc_message": None, "exc_module": None}, (None,)),
        ({"exc_type": "Old", "exc_message": ["a"], "exc_module": 5}, ("a",)),
    ],
)
def test_older_forms_are_read(document: dict[str, Any], args: tuple[Any, ...]) -> None:
    error = rebuild_exception(document)
    assert (type(error).__module__, type(error).__name__) == ("celery.exceptions", "Old")
    assert error.args == args


@pytest.mark.parametrize("document", [None, {}, [], "text", {"exc_type": 5}, {"done": 1}])
def test_a_document_without_a_type_is_refused(document: Any) -> None:
    with pytest.raises(DecodeError, match=r"it has no exc_type\. A task that sets FAILURE with"):
        rebuild_exception(document)


@given(
    st.sampled_from(["builtins", "celery.exceptions", "", "os", __name__])
    | st.text(st.characters()),
    st.sampled_from(["ValueError", "OSError", "UnicodeDecodeError", "Guarded", ".", "a..b", "\0"])
    | st.text(st.characters()),
    values,
)
@settings(deadline=None)
def test_rebuilding_gives_an_exception_or_a_refusal(module: str, name: str, message: Any) -> None:
    document = {"exc_type": name, "exc_message": message, "exc_module": module}
    try:
        error = rebuild_exception(document)
    except SecurityError:
        return
    assert isinstance(error, BaseException)
    exception_document(error)


# -- other forms than JSON --

COMPRESSED = pytest.mark.parametrize("compression", [None, "gzip", "brotli"])


@pytest.mark.follows("SER-05", "SER-09")
@pytest.mark.parametrize("serializer", ["json", "yaml", "pickle", "msgpack"])
@COMPRESSED
def test_documents_survive_in_every_form(serializer: str, compression: str | None) -> None:
    stamps: dict[str, Any] = {"stamped_headers": ["s"], "stamps": {"s": "v"}}
    told = ResultDocument(
        status="SUCCESS", task_id="t", result={"x": [1]}, children=[], name="n", args=[1],
        kwargs={"y": 2}, worker="w", retries=0, queue="q", **stamps,
    )  # fmt: skip
    data = encode(told, True, serializer, compression)
    assert decode(data, serializer) == told
    if compression is not None:
        assert data.startswith(b"\x00celery-compressed\x00application/x-")


@pytest.mark.follows("SER-09")
def test_compressed_and_plain_documents_are_told_apart_by_themselves() -> None:
    told = ResultDocument(status="SUCCESS", task_id="t", children=[])
    assert decode(encode(told, compression="zstd")) == decode(encode(told)) == told


@pytest.mark.follows("SER-09", "SEC-01")
def test_a_document_is_read_only_as_what_is_accepted() -> None:
    told = encode(ResultDocument(status="SUCCESS", result=1), serializer="pickle")
    with pytest.raises(ContentDisallowed, match="result_accept_content"):
        decode(told, "pickle", frozenset({"application/json"}))
    with pytest.raises(ContentDisallowed):
        decode(b'{"status": "SUCCESS"}', "json", frozenset({"application/x-yaml"}))
    with pytest.raises(DecodeError):
        decode(told)


@pytest.mark.follows("RES-16")
def test_a_pickled_exception_is_the_exception_itself() -> None:
    error = Keyword(code=3)
    stored = stored_exception(ValueError("x", [1]), "pickle")
    assert (type(stored), stored.args) == (ValueError, ("x", [1]))
    wrapped = stored_exception(error, "pickle")
    assert type(wrapped).__name__ == "Wrapped"
    again = rebuild_exception(
        decode(
            encode(ResultDocument(status="FAILURE", result=wrapped), serializer="pickle"), "pickle"
        ).result
    )
    assert (type(again).__name__, again.args) == ("Keyword", error.args)


@pytest.mark.follows("RES-16")
def test_our_exceptions_are_pickled_under_celerys_names() -> None:
    kinds = (
        exceptions.Retry,
        exceptions.Reject,
        exceptions.WorkerLostError,
        exceptions.EncodeError,
    )
    for kind in kinds:
        data = encode(ResultDocument(status="FAILURE", result=kind("x")), serializer="pickle")
        assert b"celeriac" not in data
        assert type(decode(data, "pickle").result) is kind


@pytest.mark.follows("RES-16")
def test_what_a_serializer_cannot_write_of_an_exception_is_shown() -> None:
    described = stored_exception(ValueError({1}, date(2026, 1, 1)), "msgpack")
    assert described["exc_message"] == ["{1}", "datetime.date(2026, 1, 1)"]
    described = stored_exception(ValueError({1}, date(2026, 1, 1)), "yaml")
    assert described["exc_message"] == [{1}, date(2026, 1, 1)]


@pytest.mark.parametrize("serializer", ["json", "yaml", "pickle", "msgpack", "josn"])
def test_a_failure_can_always_be_told(serializer: str) -> None:
    told = ResultDocument(status="FAILURE", traceback="\ud800", args=[object()], kwargs={})
    data = encode_failure(told, ValueError("\ud800"), True, serializer)
    assert isinstance(
        rebuild_exception(decode(data, "json" if serializer == "josn" else serializer).result),
        ValueError,
    )


def test_a_bomb_is_refused() -> None:
    data = b"\x00celery-compressed\x00application/x-bz2\x00" + bz2.compress(bytes(300 * 2**20))
    with pytest.raises(DecodeError, match="larger than 268435456 bytes"):
        decode(data)


@given(st.binary(max_size=200), st.sampled_from(["json", "yaml", "msgpack"]))
@settings(deadline=None)
def test_garbage_is_refused_in_every_form(data: bytes, serializer: str) -> None:
    for whole in (data, b"\x00celery-compressed\x00" + data):
        with pytest.raises(DecodeError):
            decode(whole, serializer)
