"""Result documents that a worker's parent writes for runs that could not tell their outcome."""

import json
import zlib
from typing import Any

import pytest
from msgspec import structs

from celeriac import states
from celeriac.completion import Put
from celeriac.exceptions import TaskRevokedError, WorkerLostError
from celeriac.message import Message
from celeriac.settings import Settings
from celeriac.wire import pickled, result, serializers
from celeriac.worker.documents import Documents
from tests.fixtures.deliveries import message

WORKER = "w1@box"


def documents(**settings: Any) -> Documents:
    return Documents(Settings(**settings), WORKER)


def read(put: Put) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(put.value)
    return document


@pytest.mark.follows("RES-18")
def test_a_document_of_a_child_is_stored_under_the_task_for_its_time() -> None:
    put = documents(result_expires=60.0).put(message("one"), b"{}", states.SUCCESS)
    assert put == Put("celery-task-meta-one", b"{}", 60.0, states.SUCCESS)


def test_results_may_be_kept_for_ever() -> None:
    assert documents(result_expires=0).put(message(), b"{}", states.SUCCESS).ttl is None
    two = documents(result_expires=60, result_failure_expires=5)
    lasting = [two.put(message(), b"{}", state).ttl for state in ("SUCCESS", "FAILURE", "RETRY")]
    assert lasting == [60, 5, 60]
    assert documents(result_expires=None).put(message(), b"{}", states.SUCCESS).ttl is None


def test_a_failure_says_what_celery_would_say() -> None:
    held = message("one", body=b'[[1], {"x": 2}, {}]', parent_id="zero", retries=2, group="g")
    put = documents(result_extended=True).failure(held, WorkerLostError("it died"), "slow")
    document = read(put)
    assert (put.key, put.state) == ("celery-task-meta-one", states.FAILURE)
    assert document.pop("date_done").startswith("20")
    assert document == {
        "status": "FAILURE",
        "result": {
            "exc_type": "WorkerLostError",
            "exc_message": ["it died"],
            "exc_module": "billiard.exceptions",
        },
        "traceback": "it died",
        "children": [],
        "group_id": "g",
        "parent_id": "zero",
        "name": "shop.pay",
        "args": [1],
        "kwargs": {"x": 2},
        "worker": WORKER,
        "retries": 2,
        "queue": "slow",
        "task_id": "one",
    }


def test_the_call_is_told_only_if_results_are_extended() -> None:
    put = documents(result_extended=False).failure(message(), WorkerLostError("it died"), "slow")
    assert not {"name", "args", "kwargs", "worker", "queue"} & read(put).keys()


def test_a_revoked_task_has_no_traceback() -> None:
    error = TaskRevokedError("expired")
    document = read(documents().failure(message(), error, "slow", states.REVOKED))
    assert (document["status"], document["traceback"]) == ("REVOKED", None)
    assert document["result"]["exc_message"] == ["expired"]


@pytest.mark.parametrize(
    "held",
    [
        Message(id="one", task="shop.pay", headers=b"\xff", body=b"[[1], {}, {}]"),
        message("one", body=b"\xff"),
    ],
    ids=["headers", "body"],
)
def test_what_cannot_be_read_is_left_out(held: Message) -> None:
    document = read(documents(result_extended=True).failure(held, WorkerLostError("x"), "slow"))
    assert (document["status"], document["task_id"], document["name"]) == (
        "FAILURE",
        "one",
        "shop.pay",
    )


@pytest.mark.follows("RES-16", "SER-09")
@pytest.mark.parametrize("serializer", ["yaml", "pickle", "msgpack"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_it_is_written_as_the_settings_say(serializer: str, compression: str | None) -> None:
    writer = documents(result_serializer=serializer, result_compression=compression)
    put = writer.failure(message("one", body=b"[[1], {}, {}]"), WorkerLostError("x"), "slow")
    assert put.value.startswith(b"\x00celery-compressed\x00") == (compression is not None)
    document = result.decode(put.value, serializer)
    assert type(result.rebuild_exception(document.result)) is WorkerLostError
    assert (document.task_id, document.args) == ("one", [1])


@pytest.mark.follows("SER-02")
def test_a_serializer_that_is_not_known_here_is_left_out() -> None:
    put = documents(result_serializer="of the program").failure(
        message("one"), WorkerLostError("x"), "slow"
    )
    assert read(put)["task_id"] == "one"


@pytest.mark.follows("SEC-01")
def test_pickled_arguments_are_not_read() -> None:
    body = pickled.encode(((1,), {}, None))
    held = structs.replace(message("one", body=body), content_type=serializers.PICKLE)
    assert read(documents().failure(held, WorkerLostError("x"), "slow"))["args"] is None


@pytest.mark.follows("SER-05")
def test_compressed_arguments_are_read() -> None:
    body = zlib.compress(b"[[1], {}, {}]")
    held = message("one", body=body, compression="application/x-gzip")
    assert read(documents().failure(held, WorkerLostError("x"), "slow"))["args"] == [1]
