"""Reads every byte captured from Celery 5.7 and writes it again.

Bodies and result documents must come out byte for byte, headers value for value in the same order,
exceptions as the same document. How the bytes were captured: golden/README.md.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from celeriac import exceptions
from celeriac.exceptions import DecodeError
from celeriac.wire import json as wire_json
from celeriac.wire import result, task
from celeriac.wire.repr import saferepr

GOLDEN = Path(__file__).parent / "golden"

# Cases that cannot come out the same, and why.
NOT_TASKS_OF_PROTOCOL_2 = {"protocol_1": "its headers are empty: the body holds everything"}
UNWRAPPED = {
    "error_awkward": "Celery wraps what it cannot pickle; we rebuild what is inside the wrapper",
    "error_local": "as above",
}
WITHOUT_CALL = {
    "chord_broken": "the worker that fails the body of a chord has no message of it at hand, "
    "so that even an extended document says nothing about the call"
}
OTHER_REPR = {
    "map": "the repr counts nested signatures to its own depth",
    "chunks": "as above",
    "text": "strings are valid literals here, so that no argument can break a line of a log",
    "lone_surrogate": "as above: the text would not even be UTF-8",
    "list_args": "the caller's list has become what every decoded body holds",
    "int_keys": "keys have become text on their way",
    "hook": "the object has become what its __json__() returned",
    "typed_more": "bytes that are not UTF-8 are shown as a literal, not as hexadecimal digits",
    "long": "it is cut to the limit, at another item",
}


def captured(name: str) -> Any:
    return json.loads((GOLDEN / name).read_text())["captured"]


def headers_of(entry: dict[str, Any]) -> dict[str, Any]:
    headers: dict[str, Any] = json.loads(entry["envelope"])["headers"]
    return headers


def body_of(entry: dict[str, Any]) -> bytes:
    return base64.b64decode(json.loads(entry["envelope"])["body"])


ALL_MESSAGES = captured("messages.json")
MESSAGES = [entry for entry in ALL_MESSAGES if entry["case"] not in NOT_TASKS_OF_PROTOCOL_2]
RESULTS = captured("results.json")
ERRORS = [entry for entry in RESULTS if '"exc_type"' in entry["document"]]


def each(entries: list[dict[str, Any]]) -> pytest.MarkDecorator:
    ids = [f"{number}-{entry['case']}" for number, entry in enumerate(entries)]
    return pytest.mark.parametrize("entry", entries, ids=ids)


def test_the_capture_is_whole() -> None:
    """Guards the tests below against an empty table."""
    assert len(MESSAGES) > 40
    assert len(RESULTS) > 250
    assert len(ERRORS) > 60


# -- messages --


@each(MESSAGES)
def test_body_is_the_same_bytes(entry: dict[str, Any]) -> None:
    raw = body_of(entry)
    body = task.decode_body(raw)
    assert task.encode_body(body.args, body.kwargs, **body.embed) == raw


@each(MESSAGES)
def test_headers_are_the_same_values_in_the_same_order(entry: dict[str, Any]) -> None:
    given = wire_json.decode(json.dumps(headers_of(entry)))
    names = set(task.Call.__struct_fields__)
    known = {name: value for name, value in given.items() if name in names}
    standard = {"lang", "timelimit", "stamps"}
    call = task.Call(
        **known,
        time_limit=given["timelimit"][0],
        soft_time_limit=given["timelimit"][1],
        extra={name: value for name, value in given.items() if name not in names | standard},
    )
    written = json.loads(task.encode_headers(call))
    assert list(written.items()) == list(headers_of(entry).items())


@each(MESSAGES)
def test_headers_say_what_the_worker_needs(entry: dict[str, Any]) -> None:
    given = headers_of(entry)
    headers = task.decode_headers(json.dumps(given).encode())
    for name in task.Headers.__struct_fields__:
        value = getattr(headers, name)
        assert (list(value) if name == "timelimit" else value) == given[name]


@each(MESSAGES)
def test_times_are_read_and_written_the_same(entry: dict[str, Any]) -> None:
    headers = headers_of(entry)
    for text in filter(None, (headers["eta"], headers["expires"])):
        if text.endswith("+00:00"):
            assert task.format_time(task.parse_time(text)) == text


@pytest.mark.follows("SER-11")
@each(MESSAGES)
def test_argsrepr_is_the_same_text(entry: dict[str, Any]) -> None:
    headers = headers_of(entry)
    body = task.decode_body(body_of(entry))
    same = (
        saferepr(tuple(body.args)) == headers["argsrepr"]
        and saferepr(body.kwargs) == headers["kwargsrepr"]
    )
    assert same != (entry["case"] in OTHER_REPR)


def test_protocol_1_is_refused_by_name_of_the_missing_field() -> None:
    (entry,) = [e for e in ALL_MESSAGES if e["case"] in NOT_TASKS_OF_PROTOCOL_2]
    with pytest.raises(DecodeError, match="missing required field `task`"):
        task.decode_headers(json.dumps(headers_of(entry)).encode())
    with pytest.raises(DecodeError, match=r"a mapping with the keys .* instead of \[args"):
        task.decode_body(body_of(entry))


# -- results --


@each(RESULTS)
def test_document_is_the_same_bytes(entry: dict[str, Any]) -> None:
    raw = entry["document"].encode()
    extended = entry["extended"]
    if entry["case"] in WITHOUT_CALL and b'"ChordError"' in raw:
        extended = False
    assert result.encode(result.decode(raw), extended=extended) == raw


@pytest.mark.follows("RES-16")
@each(ERRORS)
def test_exception_is_rebuilt_and_described_the_same(entry: dict[str, Any]) -> None:
    described = result.decode(entry["document"].encode()).result
    error = result.rebuild_exception(described)
    again = result.exception_document(error)
    if entry["case"] in UNWRAPPED:
        module, name, args, text = described["exc_message"]
        assert again == {"exc_type": name, "exc_message": args, "exc_module": module}
        assert repr(error) == text
    else:
        assert again == described
        assert type(error).__qualname__ == described["exc_type"]


@pytest.mark.parametrize(
    ("case", "kind"),
    [
        ("error_builtin", ValueError),
        ("error_oserror", FileNotFoundError),
        ("error_unicode", UnicodeDecodeError),
        ("error_json", json.JSONDecodeError),
        ("give_up", exceptions.MaxRetriesExceededError),
        ("rejected", exceptions.Reject),
        ("unknown", exceptions.NotRegistered),
        ("expired", exceptions.TaskRevokedError),
        ("unwritable", exceptions.EncodeError),
        ("soft_limit", exceptions.SoftTimeLimitExceeded),
        ("hard_limit", exceptions.TimeLimitExceeded),
        ("lost", exceptions.WorkerLostError),
    ],
)
def test_exception_gets_the_class_that_users_catch(case: str, kind: type[BaseException]) -> None:
    entry = next(entry for entry in ERRORS if entry["case"] == case)
    document = result.decode(entry["document"].encode())
    assert type(result.rebuild_exception(document.result)) is kind


def test_our_exceptions_are_stored_where_celery_has_them() -> None:
    homes = {name: module for module, names in captured("classes.json").items() for name in names}
    kinds: set[type[BaseException]] = {getattr(exceptions, name) for name in exceptions.__all__}
    for kind in kinds:
        described = result.exception_document(kind())
        shared = homes.get(kind.__name__)
        if kind is exceptions.CeleriacError:
            expected = ("celery.exceptions", "CeleryError")
        elif shared is None:
            expected = (exceptions.__name__, kind.__name__)
        else:
            expected = (shared, kind.__name__)
        assert (described["exc_module"], described["exc_type"]) == expected
