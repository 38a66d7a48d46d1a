"""Reads every message and document that Celery 5.7 wrote with other serializers, and writes it again.

How the bytes were captured: golden/README.md. Pickles and compressed data are compared by what is in
them; all else must be the same bytes.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from celeriac import exceptions
from celeriac.exceptions import ContentDisallowed, SecurityError
from celeriac.message import Message
from celeriac.wire import protocol1, result, serializers, signing, task
from tests.interop.capture_values import VALUES

CAPTURED = json.loads((Path(__file__).parent / "golden" / "codecs.json").read_text())
MESSAGES = CAPTURED["messages"]
RESULTS = CAPTURED["results"]
SIGNED = CAPTURED["signed"]
ALL = serializers.accepted(("json", "yaml", "pickle", "msgpack"))

BY_VALUE = ("pickle",)


def each(entries: list[dict[str, Any]]) -> pytest.MarkDecorator:
    names = ("case", "serializer", "compression", "digest")
    ids = ["-".join(str(entry[name]) for name in names if name in entry) for entry in entries]
    return pytest.mark.parametrize("entry", entries, ids=ids)


def of(*cases: str) -> list[dict[str, Any]]:
    return [entry for entry in MESSAGES if entry["case"] in cases]


def body_of(entry: dict[str, Any]) -> bytes:
    return base64.b64decode(entry["message"]["body"])


def decoded(entry: dict[str, Any], accept: frozenset[str] = ALL) -> task.Body:
    message = entry["message"]
    compression = message["headers"].get("compression")
    form = message["content_type"], message["content_encoding"]
    return task.decode_body(body_of(entry), *form, compression, accept)


def message_of(entry: dict[str, Any]) -> Message:
    """Return a message as a broker's adapter makes it of what it has read."""
    held = entry["message"]
    return Message(
        id=held["headers"].get("id", ""),
        task=held["headers"].get("task", ""),
        headers=json.dumps(held["headers"]).encode(),
        body=body_of(entry),
        content_type=held["content_type"],
        content_encoding=held["content_encoding"],
    )


def listed(value: Any) -> Any:
    """Return the value with lists in place of its tuples, which only pickle keeps apart."""
    if isinstance(value, list | tuple):
        return [listed(part) for part in value]
    if isinstance(value, dict):
        return {key: listed(part) for key, part in value.items()}
    return value


def test_the_capture_is_whole() -> None:
    """Guards the tests below against an empty table."""
    assert len(of("plain")) == 28
    assert len(of("protocol_1", "protocol_1_full")) == 8
    assert len(RESULTS) == 84
    assert len(SIGNED["captured"]) == 4


# -- messages --


@pytest.mark.follows("SER-01", "SER-03", "SER-05")
@each(of("plain"))
def test_arguments_are_read(entry: dict[str, Any]) -> None:
    value = VALUES[entry["serializer"]]
    body = decoded(entry)
    assert listed(body.args) == [1, value]
    assert body.kwargs == {"y": value}
    assert set(body.embed.values()) == {None}


@pytest.mark.follows("SER-01", "SER-05")
@each(of("plain", "link", "chain"))
def test_a_body_is_written_in_the_same_form(entry: dict[str, Any]) -> None:
    body = decoded(entry)
    written = task.pack_body(
        body.args,
        body.kwargs,
        **body.embed,
        serializer=entry["serializer"],
        compression=entry.get("compression"),
    )
    held = entry["message"]
    assert (written.content_type, written.content_encoding) == (
        held["content_type"],
        held["content_encoding"],
    )
    assert written.compression == held["headers"].get("compression")
    if entry["serializer"] in BY_VALUE or written.compression is not None:
        form = written.content_type, written.content_encoding, written.compression
        assert task.decode_body(written.body, *form, ALL) == body
    else:
        assert written.body == body_of(entry)


@pytest.mark.follows("SER-05")
@each([entry for entry in of("plain") if entry["compression"]])
def test_the_header_compression_comes_last_as_celery_puts_it(entry: dict[str, Any]) -> None:
    headers = entry["message"]["headers"]
    raw = json.dumps(headers).encode()
    assert task.decode_headers(raw).compression == headers["compression"]
    call = task.Call(
        task="demo.add", id="1", origin="", argsrepr="", kwargsrepr="", extra={"my": "own"},
        compression=headers["compression"],
    )  # fmt: skip
    assert list(json.loads(task.encode_headers(call))) == list(headers)


@pytest.mark.follows("SER-01")
@each(of("link", "chain"))
def test_signatures_are_read_as_mappings(entry: dict[str, Any]) -> None:
    """In a pickle, too: there Celery writes a call of its own function."""
    embed = decoded(entry).embed
    for signature in embed["chain"] or (embed["callbacks"] + embed["errbacks"]):
        assert type(signature) is dict
        assert signature["task"] == "demo.add"


# -- protocol 1 --


@pytest.mark.follows("OLD-05")
@each(of("protocol_1", "protocol_1_full"))
def test_protocol_1_is_read(entry: dict[str, Any]) -> None:
    full = entry["case"] == "protocol_1_full"
    message = protocol1.upgraded(message_of(entry), ALL)
    headers = task.decode_headers(message.headers)
    id_ = "old-2" if full else "old-1"
    assert (message.task, message.id) == (headers.task, headers.id) == ("demo.add", id_)
    assert headers.root_id == id_
    assert headers.kwargsrepr == "{'y': 3}"
    if full:
        assert (headers.group, headers.retries, headers.timelimit) == ("group-1", 2, (9, 5))
        assert (headers.eta, headers.expires) == (
            "2026-11-20T20:56:00+00:00",
            "2099-01-01T00:00:00+00:00",
        )
        assert headers.compression == "application/x-gzip"
    else:
        assert json.loads(message.headers)["my"] == "own"
        assert headers.argsrepr in ("[1, 2]", "(1, 2)")
    form = message.content_type, message.content_encoding, headers.compression
    body = task.decode_body(message.body, *form, ALL)
    assert (listed(body.args), body.kwargs) == ([1] if full else [1, 2], {"y": 3})
    assert body.embed["chain"] is None
    if full and entry["serializer"] != "yaml":
        assert [body.embed[name][0]["args"][0] for name in ("callbacks", "errbacks")] == [1, 2]


@pytest.mark.follows("OLD-05")
@each(of("protocol_1", "protocol_1_full"))
def test_protocol_1_is_written_the_same(entry: dict[str, Any]) -> None:
    held = entry["message"]
    message = protocol1.upgraded(message_of(entry), ALL)
    headers = task.decode_headers(message.headers)
    body = decoded(entry)
    call = task.Call(
        task=headers.task,
        id=headers.id,
        origin="",
        argsrepr="",
        kwargsrepr="",
        retries=headers.retries,
        eta=headers.eta,
        expires=headers.expires,
        time_limit=headers.timelimit[0],
        soft_time_limit=headers.timelimit[1],
        group=headers.group,
        extra={name: held["headers"][name] for name in ("my",) if name in held["headers"]},
    )
    follow_ups = (body.embed["callbacks"], body.embed["errbacks"])
    raw, packed = protocol1.encode_v1(
        call,
        body.args,
        body.kwargs,
        *follow_ups,
        serializer=entry["serializer"],
        compression=entry.get("compression"),
    )
    assert json.loads(raw) == held["headers"]
    assert packed.content_type == held["content_type"]
    if entry["serializer"] in BY_VALUE or packed.compression is not None:
        form = packed.content_type, packed.content_encoding, packed.compression
        assert task.decode_body(packed.body, *form, ALL) == body
    else:
        assert packed.body == body_of(entry)


@pytest.mark.follows("OLD-05")
@each(of("hybrid"))
def test_the_hybrid_form_is_read(entry: dict[str, Any]) -> None:
    message = protocol1.upgraded(message_of(entry), ALL)
    headers = task.decode_headers(message.headers)
    assert (headers.task, headers.id, headers.retries) == ("demo.add", "mixed-1", 4)
    assert headers.group == "of the headers"
    body = task.decode_body(message.body)
    assert (body.args, body.kwargs) == ([1], {"y": 2})
    assert body.embed["callbacks"] == [{"task": "demo.add", "args": []}]


# -- signed messages --


@pytest.fixture
def _signing(entry: dict[str, Any], tmp_path: Path) -> Any:
    (tmp_path / "key.pem").write_text(SIGNED["key"])
    (tmp_path / "cert.pem").write_text(SIGNED["certificate"])
    signing.setup_security(
        key=str(tmp_path / "key.pem"),
        cert=str(tmp_path / "cert.pem"),
        store=str(tmp_path / "cert*.pem"),
        digest=entry["digest"],
        serializer=entry["serializer"],
    )
    yield
    serializers.unregister("auth")
    serializers.disable_insecure_serializers()


@pytest.mark.follows("SEC-02")
@pytest.mark.usefixtures("_signing")
@each(SIGNED["captured"])
def test_what_celery_signed_is_read(entry: dict[str, Any]) -> None:
    body = decoded(entry, serializers.accepted(("auth",)))
    assert listed(body.args)[0] == 1
    assert body.kwargs == {"y": 2}


@pytest.mark.follows("SEC-02")
@pytest.mark.usefixtures("_signing")
@each(SIGNED["captured"])
def test_what_we_sign_has_the_same_parts(entry: dict[str, Any]) -> None:
    accept = serializers.accepted(("auth",))
    body = decoded(entry, accept)
    packed = task.pack_body(body.args, body.kwargs, **body.embed, serializer="auth")
    held = entry["message"]
    form = packed.content_type, packed.content_encoding
    assert form == (held["content_type"], held["content_encoding"])
    ours, theirs = (
        base64.b64decode(data).split(b"\x00\x01", 4) for data in (packed.body, body_of(entry))
    )
    assert (ours[0], *ours[2:4]) == (theirs[0], *theirs[2:4])
    assert len(ours[1]) == len(theirs[1])
    if entry["serializer"] == "json":
        assert ours[4] == theirs[4]
    assert task.decode_body(packed.body, *form, None, accept) == body


@pytest.mark.follows("SEC-02")
@pytest.mark.usefixtures("_signing")
@each(SIGNED["captured"])
def test_a_changed_body_is_refused(entry: dict[str, Any]) -> None:
    parts = base64.b64decode(body_of(entry)).split(b"\x00\x01", 4)
    parts[4] += b" "
    with pytest.raises(SecurityError, match="its signature does not hold"):
        serializers.decode(
            base64.b64encode(b"\x00\x01".join(parts)),
            serializers.DATA,
            accept=serializers.accepted(("auth",)),
        )


# -- results --


def document_of(entry: dict[str, Any]) -> bytes:
    return base64.b64decode(entry["document"])


@pytest.mark.follows("SER-09", "RES-15", "RES-16")
@each(RESULTS)
def test_a_document_is_read_and_written_in_the_same_form(entry: dict[str, Any]) -> None:
    raw, serializer = document_of(entry), entry["serializer"]
    document = result.decode(raw, serializer, ALL)
    assert (document.status, document.task_id) == (entry["state"], entry["case"])
    assert (document.name, document.worker) == ("demo.add", "w1@host")
    assert (listed(document.args), document.kwargs) == ([1, "x"], {"y": 2})
    if entry["case"] == "value":
        assert document.result == VALUES[serializer]
    written = result.encode(
        document, extended=True, serializer=serializer, compression=entry["compression"]
    )
    magic = b"\x00celery-compressed\x00"
    assert written.startswith(magic) == raw.startswith(magic) == bool(entry["compression"])
    if entry["compression"]:
        assert written.split(b"\x00")[:3] == raw.split(b"\x00")[:3]
    if serializer in BY_VALUE or entry["compression"]:
        again = result.decode(written, serializer, ALL)
        assert repr(again) == repr(document)
    else:
        assert written == raw


KINDS = {
    "builtin": ValueError,
    "oserror": FileNotFoundError,
    "retry": exceptions.Retry,
    "reject": exceptions.Reject,
    "ignore": exceptions.Ignore,
    "give_up": exceptions.MaxRetriesExceededError,
    "revoked": exceptions.TaskRevokedError,
    "unknown": exceptions.NotRegistered,
    "lost": exceptions.WorkerLostError,
    "hard_limit": exceptions.TimeLimitExceeded,
    "soft_limit": exceptions.SoftTimeLimitExceeded,
}


@pytest.mark.follows("RES-16", "SEC-06")
@each([entry for entry in RESULTS if entry["case"].startswith("error_")])
def test_an_exception_is_rebuilt(entry: dict[str, Any]) -> None:
    error = result.rebuild_exception(
        result.decode(document_of(entry), entry["serializer"], ALL).result
    )
    name = entry["case"].removeprefix("error_")
    if name == "unpicklable":
        assert (type(error).__name__, error.args) == ("Unpicklable", ("code 3", 7))
    else:
        assert type(error) is KINDS[name]


@pytest.mark.follows("SEC-01", "SER-09")
@each([entry for entry in RESULTS if entry["case"] == "value" and entry["serializer"] != "json"])
def test_a_document_of_a_kind_that_is_not_accepted_is_refused(entry: dict[str, Any]) -> None:
    with pytest.raises(ContentDisallowed, match="result_accept_content"):
        result.decode(document_of(entry), entry["serializer"], serializers.accepted(("json",)))
