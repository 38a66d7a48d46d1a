"""execution.py: bodies and results in other forms than JSON."""

import json
import threading
from typing import Any

import pytest
from msgspec.structs import replace

from celeriac import Celery
from celeriac.exceptions import EncodeError
from celeriac.message import Delivery, Message
from celeriac.outcome import Ending
from celeriac.wire import result as wire_result
from celeriac.wire import serializers
from celeriac.wire import task as wire_task
from tests.fixtures.runs import claim, document, memory_app, run, run_sent


@pytest.fixture
def app() -> Celery:
    return memory_app("proj")


def packed(app: Celery, name: str, args: Any, serializer: str, compression: str | None) -> Delivery:
    """Return a delivery of a call in this form."""
    body = wire_task.pack_body(args, {}, serializer=serializer, compression=compression)
    call = wire_task.Call(
        task=name, id="one", origin="", argsrepr="", kwargsrepr="", compression=body.compression
    )
    message = Message(
        id="one",
        task=name,
        headers=wire_task.encode_headers(call),
        body=body.body,
        content_type=body.content_type,
        content_encoding=body.content_encoding,
    )
    return Delivery(message=message, queue="celery", receipt="1:1")


@pytest.mark.follows("SER-01", "SER-05", "SER-10")
@pytest.mark.parametrize("serializer", ["json", "yaml", "pickle", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_body_is_opened_as_its_message_says(serializer: str, compression: str | None) -> None:
    app = memory_app(accept_content=["json", serializer])
    seen: list[Any] = []
    app.task(name="see", bind=True)(lambda self, x: seen.append((x, self.request.headers)))
    held = packed(app, "see", ["ä"], serializer, compression)
    assert run(app, held).ending is Ending.SUCCEEDED
    assert seen == [("ä", {})], "the compression is no header of the caller's"


@pytest.mark.follows("SER-10", "SEC-01")
def test_the_child_refuses_what_is_not_accepted(app: Celery) -> None:
    app.task(name="see")(lambda x: x)
    outcome = run(app, packed(app, "see", [1], "pickle", None))
    assert outcome.ending is Ending.UNDECODABLE
    assert "add 'pickle' to it" in outcome.reason


@pytest.mark.follows("SER-05")
def test_a_damaged_body_is_undecodable(app: Celery) -> None:
    app.task(name="see")(lambda x: x)
    held = packed(app, "see", [1], "json", "gzip")
    cut = replace(held, message=replace(held.message, body=held.message.body[:-1]))
    outcome = run(app, cut)
    assert outcome.ending is Ending.UNDECODABLE
    assert "the data ends too early" in outcome.reason


@pytest.mark.follows("SER-09", "RES-16")
@pytest.mark.parametrize("serializer", ["json", "yaml", "pickle", "msgpack"])
@pytest.mark.parametrize("compression", [None, "zstd"])
def test_results_are_written_as_the_settings_say(serializer: str, compression: str | None) -> None:
    app = memory_app(result_serializer=serializer, result_compression=compression)
    app.task(name="good")(lambda: ("ä", 1))
    app.task(name="bad")(lambda: 1 / 0)
    for name in ("good", "bad"):
        app.send_task(name)
    good, bad = (run(app, held).document for held in claim(app))
    value = wire_result.decode(good, serializer).result
    assert value == (("ä", 1) if serializer == "pickle" else ["ä", 1])
    error = wire_result.rebuild_exception(wire_result.decode(bad, serializer).result)
    assert (type(error), str(error)) == (ZeroDivisionError, "division by zero")


@pytest.mark.follows("SER-07")
@pytest.mark.parametrize("serializer", ["yaml", "pickle", "msgpack"])
def test_a_result_that_no_serializer_can_write_is_a_failure(serializer: str) -> None:
    app = memory_app(result_serializer=serializer)
    app.task(name="odd")(lambda: [threading.Lock()])
    outcome = run_sent(app, lambda: app.send_task("odd"))
    assert outcome.ending is Ending.FAILED
    error = wire_result.rebuild_exception(wire_result.decode(outcome.document, serializer).result)
    assert isinstance(error, EncodeError)
    assert str(error).startswith("cannot write result[0] as ")


def refuse(value: Any) -> bytes:
    raise ZeroDivisionError(value)


def test_a_failure_is_told_even_if_its_serializer_breaks() -> None:
    serializers.register("broken", refuse, json.loads, "x/broken")
    try:
        app = memory_app(result_serializer="broken")
        app.task(name="good")(lambda: 1)
        outcome = run_sent(app, lambda: app.send_task("good"))
    finally:
        serializers.unregister("broken")
    assert outcome.ending is Ending.FAILED
    assert document(outcome).result["exc_type"] == "EncodeError"


def test_arguments_that_results_cannot_hold_are_shown_in_them() -> None:
    app = memory_app(accept_content=["pickle"])
    app.task(name="see")(lambda x: [len(x)])
    outcome = run(app, packed(app, "see", [{1, 2}], "pickle", None))
    found = document(outcome)
    assert (found.result, found.args, found.kwargs) == ([2], "[{1, 2}]", {})
