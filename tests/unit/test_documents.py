"""Result documents that a worker's parent writes for runs that could not tell their outcome."""

import json
from typing import Any

import pytest

from celeriac import states
from celeriac.completion import Put
from celeriac.exceptions import TaskRevokedError, WorkerLostError
from celeriac.message import Message
from celeriac.settings import Settings
from celeriac.worker.documents import Documents
from tests.fixtures.deliveries import message

WORKER = "w1@box"


def documents(**settings: Any) -> Documents:
    return Documents(Settings(**settings), WORKER)


def read(put: Put) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(put.value)
    return document


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
