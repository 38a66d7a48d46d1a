"""Mocks of messages, as Celery's tests use them."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac import Celery
from celeriac.testing import (
    ContextMock,
    FakeClock,
    TaskMessage,
    TaskMessage1,
    task_message_from_sig,
)

APP = Celery("mocks", broker="memory://")


class Signature(dict[str, Any]):
    """As much of a signature as a message is made of."""

    def __init__(self, task: str, args: Any = (), kwargs: Any = None, **options: Any) -> None:
        self.task, self.args, self.kwargs, self.options = task, args, kwargs or {}, options
        super().__init__(task=task, args=args)

    def freeze(self) -> None:
        self.options.setdefault("task_id", "frozen")

    @property
    def id(self) -> Any:
        return self.options.get("task_id")


@pytest.mark.follows("TESTH-06")
class TestMessages:
    def test_protocol_2(self) -> None:
        message = TaskMessage("t.add", "one", (1, 2), {"z": 3}, errbacks=["e"], retries=4)
        assert message.headers == {"id": "one", "task": "t.add", "shadow": None, "retries": 4}
        embed = {"callbacks": None, "errbacks": ["e"], "chain": None}
        assert message.payload == ((1, 2), {"z": 3}, embed)
        assert json.loads(message.body) == [[1, 2], {"z": 3}, {**embed, "chord": None}]
        assert (message.content_type, message.content_encoding) == ("application/json", "utf-8")
        message.ack()
        message.ack.assert_called_with()

    def test_each_has_an_id_of_its_own(self) -> None:
        ids = {TaskMessage("t").headers["id"] for _ in range(3)}
        assert len(ids | {TaskMessage1("t").payload["id"]}) == 4

    def test_protocol_1(self) -> None:
        message = TaskMessage1("t.add", "one", (1, 2), callbacks=["c"], retries=4)
        assert message.headers == {}
        assert message.payload == {
            "task": "t.add",
            "id": "one",
            "args": (1, 2),
            "kwargs": {},
            "callbacks": ["c"],
            "errbacks": None,
            "retries": 4,
        }
        assert json.loads(message.body) == json.loads(json.dumps(message.payload))

    def test_of_a_signature(self) -> None:
        link = Signature("t.next")
        signature = Signature(
            "t.add", (1,), {"y": 2}, link=[link], countdown=60, expires=90, shadow="s", queue="q"
        )
        with FakeClock(datetime(2030, 1, 1, tzinfo=UTC)):
            message = task_message_from_sig(APP, signature)
        assert message.headers == {
            "id": "frozen",
            "task": "t.add",
            "shadow": "s",
            "eta": "2030-01-01T00:01:00+00:00",
            "expires": "2030-01-01T00:01:30+00:00",
            "queue": "q",
        }
        args, kwargs, embed = message.payload
        assert (args, kwargs, embed["callbacks"]) == (
            (1,),
            {"y": 2},
            [{"task": "t.next", "args": ()}],
        )
        assert signature.options["countdown"] == 60

    def test_of_a_signature_with_moments(self) -> None:
        moment = datetime(2030, 1, 1, tzinfo=UTC)
        message = task_message_from_sig(APP, Signature("t", eta=moment, expires=moment.isoformat()))
        assert message.headers["eta"] == message.headers["expires"] == moment.isoformat()

    def test_of_a_signature_in_another_form(self) -> None:
        message = task_message_from_sig(APP, Signature("t", (1,)), TaskMessage=TaskMessage1)
        assert message.payload["args"] == (1,)


@pytest.mark.follows("TESTH-06")
def test_a_mock_of_a_context_manager() -> None:
    mock = ContextMock(name="lock")
    with mock as inside:
        assert inside is mock
        inside.work(1)
    mock.work.assert_called_once_with(1)
    mock.__enter__.assert_called_once_with()
    assert mock.__exit__.call_args.args == (None, None, None)
    with pytest.raises(LookupError), mock:
        raise LookupError  # It is not swallowed.
