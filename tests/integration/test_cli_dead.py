"""``celeriac dead``: letters are listed, shown, put back to work and deleted, by hand and by programs."""

import json
import re
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import states
from celeriac.completion import Completion, Put, Settlement
from celeriac.message import DeadLetter, Message, Publish, QueueSize
from celeriac.results.base import task_key
from celeriac.settings import Settings
from celeriac.wire.result import ResultDocument, encode
from celeriac.wire.task import Call, encode_body, encode_headers
from tests.fixtures.apps.settling import app
from tests.fixtures.commands import Answer, celeriac
from tests.fixtures.gate import Gate
from tests.fixtures.messages import ANY_SIZE
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, WorkerProcess, connected

APP = f"{APPS}.settling"
LIMIT = Settings().task_delivery_limit
WAIT = 10.0


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with connected(app, tmp_path / "state") as url:
        yield url


@pytest.fixture
def dead(url: str) -> Any:
    """Run ``celeriac dead`` with some arguments; ``stdin`` answers questions."""

    def run(*arguments: str, stdin: str = "") -> Answer:
        return celeriac("-A", APP, "dead", *arguments, url=url, stdin=stdin)

    return run


def letter(
    id_: str, task: str = "shop.pay", queue: str = "celery", args: Any = (), **more: Any
) -> DeadLetter:
    """Have a message die, and return what is left of it."""
    headers = encode_headers(
        Call(
            task=task,
            id=id_,
            origin="o",
            argsrepr="()",
            kwargsrepr="{}",
            expires=more.pop("expires", None),
        )
    )
    message = Message(
        **{"id": id_, "task": task, "headers": headers, "body": encode_body(args, {}), **more}
    )
    app.broker.publish([Publish(queue=queue, message=message)])
    consumer = app.broker.consumer([queue])
    [delivery] = consumer.claim(1, ANY_SIZE)
    reason = "it was\n\x1b[31mbad"
    done = Completion(receipt=delivery.receipt, settlement=Settlement.DEAD, reason=reason)
    consumer.commit([done], None)
    consumer.close()
    return app.broker.dead(1)[0]


def dead_ids() -> list[str]:
    return [one.message.id for one in app.broker.dead()]


class TestList:
    def test_it_is_a_line_and_the_last_words_for_each(self, dead: Any) -> None:
        assert dead("list") == Answer(0, "there are no dead letters\n", "")
        letter("one")
        letter("two", "shop.sell\x07", "mail")
        lines = dead("list").lines
        assert re.fullmatch(r"2  20\d\d-\S+\+00:00  shop\.sell\\x07\[two\]  queue mail", lines[0])
        assert lines[1] == r"  it was\n\x1b[31mbad"
        assert lines[2].endswith("  shop.pay[one]  queue celery")
        assert dead("list", "--limit", "1").lines == lines[:2]
        assert dead("list", "--queue", "mail").lines == lines[:2]
        assert dead("list", "--task", "shop.pay").lines == lines[2:]
        assert dead("list", "--task", "no") == Answer(0, "there are no dead letters\n", "")

    def test_for_programs(self, dead: Any) -> None:
        assert json.loads(dead("list", "--json").out) == []
        died = letter("one").died
        [found] = json.loads(dead("list", "--json").out)
        assert found.pop("died").startswith("20")
        assert died > 0
        assert found == {
            "id": "1",
            "task": "shop.pay",
            "task_id": "one",
            "queue": "celery",
            "reason": "it was\n\x1b[31mbad",
            "losses": 0,
            "priority": 0,
            "content_type": "application/json",
            "content_encoding": "utf-8",
            "body_bytes": len(encode_body((), {})),
        }


class TestShow:
    def test_all_that_is_known(self, dead: Any) -> None:
        letter("one", args=(1, "grün\x1b[31m"))
        document = ResultDocument(status=states.FAILURE, task_id="one")
        assert app.store is not None
        app.store.put([Put(task_key("one"), encode(document), None, states.FAILURE)])
        shown = dead("show", "1")
        assert (shown.status, shown.err) == (0, "")
        for line in (
            "dead letter 1",
            "  task      shop.pay",
            "  task id   one",
            "  queue     celery",
            r"  reason    it was\n\x1b[31mbad",
            "  losses    0 earlier runs",
            "  state     FAILURE",
            "headers",
            '  origin: "o"',
            "args",
            r'  [1, "grün\u001b[31m"]',
            "kwargs",
            "  {}",
        ):
            assert line in shown.lines
        assert "what follows" not in shown.out
        assert dead("show", "one") == shown

    def test_a_message_that_nobody_can_read(self, dead: Any) -> None:
        raw: dict[str, Any] = {
            "id": "",
            "task": "",
            "headers": b"\0[",
            "body": b"\x80\x04.",
            "priority": 3,
        }
        letter("", content_type="application/x-python-serialize", **raw)
        lines = dead("show", "1").lines
        assert "  task      unknown: its headers cannot be read" in lines
        assert "  body      3 bytes, application/x-python-serialize, utf-8" in lines
        assert lines[-4:] == ["headers (unreadable)", "  00 5b", "body", "  80 04 2e"]
        found = json.loads(dead("show", "1", "--json").out)
        assert (found["headers"], found["priority"]) == (None, 3)
        assert b64decode(found["headers_base64"]) == raw["headers"]
        assert b64decode(found["body_base64"]) == raw["body"]

    def test_long_things_are_shortened_unless_all_is_wanted(self, dead: Any) -> None:
        letter("one", args=["x" * 10_000])
        short, full = dead("show", "1"), dead("show", "1", "--full")
        assert len(short.out) < 5500
        assert "... (6,008 more characters)" in short.out
        assert "x" * 10_000 in full.out
        letter("two", body=b"{" + b"\xff" * 10_000)
        assert "... (10,001 bytes in all)" in dead("show", "2").out
        assert len(dead("show", "2", "--full").out) > 30_000

    def test_for_programs(self, dead: Any) -> None:
        letter("one", args=(1, 2))
        found = json.loads(dead("show", "one", "--json").out)
        assert (found["args"], found["kwargs"], found["state"]) == ([1, 2], {}, "PENDING")
        assert found["embed"]["chain"] is None
        assert found["headers"]["task"] == "shop.pay"
        letter("one")
        assert [one["id"] for one in json.loads(dead("show", "one", "--json").out)] == ["2", "1"]

    def test_what_follows_the_task_is_shown(self, dead: Any) -> None:
        letter("one", body=encode_body((), {}, chain=[{"task": "shop.thank"}]))
        assert "what follows" in dead("show", "1").lines
        assert '"shop.thank"' in dead("show", "1").out

    def test_nothing_of_that_id(self, dead: Any) -> None:
        letter("one")
        assert dead("show", "two") == Answer(1, "", "celeriac: there is no dead letter 'two'\n")


class TestRetry:
    def test_by_id_of_the_letter_or_of_the_task(self, dead: Any) -> None:
        for name in ("one", "two", "three", "4"):
            letter(name)
        letter("last")
        assert dead("retry", "1", "two", "1") == Answer(
            0, "2 messages are back in the queue, to be run again\n", ""
        )
        # The number of a letter comes first: the task of that id is another one.
        assert dead("retry", "4").out == "1 message is back in the queue, to be run again\n"
        assert dead_ids() == ["last", "three"]
        assert dead("retry", "4").status == 1
        assert app.broker.sizes() == {"celery": QueueSize(ready=3)}

    def test_by_what_they_are(self, dead: Any) -> None:
        letter("one", "a", "mail")
        letter("two", "a", "post")
        letter("three", "b", "post")
        assert dead("retry", "--task", "a", "--queue", "post").status == 0
        assert dead_ids() == ["three", "one"]
        assert dead("retry", "three", "--task", "a").status == 1
        assert dead("retry", "--queue", "mail").status == 0
        assert dead_ids() == ["three"]

    def test_all_of_them_are_asked_for(self, dead: Any) -> None:
        letter("one")
        letter("two")
        assert dead("retry", "--all", stdin="n\n").status == 1
        assert len(dead_ids()) == 2
        assert dead("retry", "--all", stdin="y\n").status == 0
        letter("three")
        assert dead("retry", "--all", "-f").out.startswith("1 message is")
        assert dead_ids() == []

    def test_what_is_not_there_is_said(self, dead: Any) -> None:
        letter("one")
        answer = dead("retry", "one", "no", "never")
        assert (answer.status, answer.out.count("1 message is back")) == (1, 1)
        assert answer.err == "".join(
            f"celeriac: there is no dead letter '{name}'\n" for name in ("no", "never")
        )
        assert dead("retry", "--all", "-f") == Answer(
            1, "", "celeriac: there are no such dead letters\n"
        )

    def test_a_message_that_has_expired_is_warned_of(self, dead: Any) -> None:
        letter("one", expires="2001-01-01T00:00:00+00:00")
        letter("two", expires="2101-01-01T00:00:00+00:00")
        assert (
            "  expired   yes: a worker that gets it again will revoke it" in dead("show", "1").lines
        )
        assert "  expired" not in dead("show", "2").out
        assert dead("retry", "--all", "-f") == Answer(
            0,
            "2 messages are back in the queue, to be run again\n",
            "celeriac: warning: 1 of them expired while dead: workers will revoke them\n",
        )


class TestDelete:
    def test_it_asks(self, dead: Any) -> None:
        letter("one")
        letter("two", "shop.sell", "mail")
        asked = dead("delete", "1", "two", stdin="n\n")
        assert asked.out.startswith("Delete dead letters 1, two? There is no way back. [y/N]")
        assert (asked.status, len(dead_ids())) == (1, 2)
        asked = dead("delete", "--task", "shop.sell", "--queue", "mail", stdin="y\n")
        assert asked.out.startswith("Delete all dead letters of task shop.sell from queue mail?")
        assert asked.out.endswith("1 message is deleted\n")
        assert dead_ids() == ["one"]
        assert dead("delete", "--all", "-f") == Answer(0, "1 message is deleted\n", "")
        assert dead("delete", "one", "-f").err == "celeriac: there is no dead letter 'one'\n"
        assert app.broker.sizes() == {}


@pytest.mark.parametrize("command", ["retry", "delete"])
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "which dead letters? Name ids, --task, --queue or --all"),
        (["-f"], "which dead letters?"),
        (["--all", "1"], "--all means every dead letter; leave out ids and filters"),
        (["--all", "--task", "a"], "--all means every dead letter"),
        ([""], "'' is no id"),
    ],
    ids=" ".join,
)
def test_mistakes_change_nothing(dead: Any, command: str, arguments: list[str], words: str) -> None:
    letter("", headers=b"[]")
    assert words in dead(command, *arguments).complaint
    assert len(dead_ids()) == 1


class TestWithAWorker:
    """A task that died is run again, and its new outcome takes the place of the old one."""

    @pytest.fixture
    def worker(self, url: str) -> Iterator[WorkerProcess]:
        with WorkerProcess(APP, url) as worker:
            yield worker.ready()

    def test_a_task_that_was_rejected(self, dead: Any, worker: WorkerProcess, gate: Gate) -> None:
        sent = app.send_task("reject.late", (gate.address,))
        gate.visitor().let_go("dead")
        with pytest.raises(Exception, match="never"):
            sent.get(WAIT)
        assert "  state     FAILURE" in dead("show", sent.id).lines
        assert dead("retry", sent.id).status == 0
        again = gate.visitor()
        # Until the new run has ended, the old outcome is what is known.
        assert app.AsyncResult(sent.id).state == states.FAILURE
        again.let_go("go on")
        assert eventually(lambda: app.AsyncResult(sent.id).state == states.SUCCESS)
        assert app.AsyncResult(sent.id).get(WAIT) == "done"
        assert dead_ids() == []
        assert app.broker.sizes() == {}

    def test_a_task_that_was_lost_too_often(
        self, dead: Any, worker: WorkerProcess, gate: Gate
    ) -> None:
        sent = app.send_task("die.late", (gate.address,))
        for _ in range(LIMIT):
            gate.visitor().let_go("die")
        eventually(dead_ids)
        assert f"  losses    {LIMIT - 1} earlier runs" in dead("show", sent.id).lines
        assert dead("retry", sent.id).status == 0
        # It has all its chances again.
        gate.visitor().let_go("die")
        gate.visitor().let_go("well")
        assert eventually(lambda: app.AsyncResult(sent.id).state == states.SUCCESS)
        assert app.AsyncResult(sent.id).get(WAIT) == "well"
