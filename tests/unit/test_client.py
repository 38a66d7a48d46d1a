"""client.py: from a call to a message, and out."""

import json
import os
import re
import socket
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from time import time
from typing import Any

import pytest

from celeriac import Celery, clock, signals
from celeriac.brokers.memory import MemoryBroker
from celeriac.call_options import Options, changed, retry_options
from celeriac.client import Client
from celeriac.context import Context, current
from celeriac.exceptions import (
    EncodeError,
    ImproperlyConfigured,
    NoWorkerSeenWarning,
    OperationalError,
)
from celeriac.message import Publish
from celeriac.result import AsyncResult
from celeriac.settings import Settings
from tests.fixtures.messages import ANY_SIZE
from tests.fixtures.runs import body, headers, memory_app

EAST = timezone(timedelta(hours=5))
NOTHING = Options()


def client(**settings: Any) -> Client:
    return Client(Settings(**settings), MemoryBroker(), "proj")


def compose(options: Options = NOTHING, **settings: Any) -> Publish:
    return client(**settings).compose("demo.add", (1,), {"y": 2}, options)


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.fixture
def running() -> Iterator[Context]:
    request = Context(id="run", task="demo.outer", root_id="root", called_directly=False)
    token = current.set(request)
    yield request
    current.reset(token)


# -- what a message says


@pytest.mark.follows("ROUTE-10", "SER-11", "QUIRK-35")
def test_a_call_without_options_is_celerys_message() -> None:
    publish = compose()
    assert (publish.queue, publish.due) == ("celery", None)
    message = publish.message
    assert (message.task, message.content_type, message.content_encoding, message.priority) == (
        "demo.add",
        "application/json",
        "utf-8",
        0,
    )
    assert body(publish) == [
        [1],
        {"y": 2},
        {"callbacks": None, "errbacks": None, "chain": None, "chord": None},
    ]
    assert headers(publish) == {
        "lang": "py",
        "task": "demo.add",
        "id": message.id,
        "shadow": None,
        "eta": None,
        "expires": None,
        "group": None,
        "group_index": None,
        "retries": 0,
        "timelimit": [None, None],
        "root_id": message.id,
        "parent_id": None,
        "argsrepr": "(1,)",
        "kwargsrepr": "{'y': 2}",
        "origin": f"gen{os.getpid()}@{socket.gethostname()}",
        "ignore_result": None,
        "replaced_task_nesting": 0,
        "stamped_headers": None,
        "stamps": {},
    }


@pytest.mark.follows("CALL-02")
def test_every_option_has_its_place() -> None:
    publish = compose(
        Options(
            task_id="mine",
            queue="urgent",
            priority=7,
            headers={"trace": "abc"},
            ignore_result=True,
            time_limit=30,
            soft_time_limit=10.5,
            shadow="shown",
            retries=2,
            root_id="root",
            parent_id="parent",
            reply_to="me",
        )
    )
    message, said = publish.message, headers(publish)
    assert (publish.queue, message.id, message.priority) == ("urgent", "mine", 7)
    assert message.reply_to == "me"
    assert said["timelimit"] == [30, 10.5], "hard, then soft"
    assert [said[name] for name in ("id", "root_id", "parent_id")] == ["mine", "root", "parent"]
    assert [said[name] for name in ("trace", "shadow", "retries")] == ["abc", "shown", 2]
    assert said["ignore_result"] is True


@pytest.mark.follows("CALL-11")
def test_a_call_from_a_run_belongs_to_its_tree(running: Context) -> None:
    said = headers(compose())
    assert (said["root_id"], said["parent_id"]) == ("root", "run")


def test_a_call_may_name_another_tree(running: Context) -> None:
    said = headers(compose(Options(root_id="other", parent_id="elder")))
    assert (said["root_id"], said["parent_id"]) == ("other", "elder")


def test_after_a_fork_the_origin_is_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = client()
    sender.compose("demo.add", (), {}, Options())
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    said = headers(sender.compose("demo.add", (), {}, Options()))
    assert said["origin"].startswith("gen4711@")


@pytest.mark.follows("SER-08")
@pytest.mark.parametrize(
    ("args", "kwargs", "path"),
    [
        ((1, {"when": object()}), {}, r'args\[1\]\["when"\]'),
        ((), {"y": [1, {2, 3}]}, r'kwargs\["y"\]\[1\]'),
    ],
)
def test_what_cannot_be_written_is_named(args: Any, kwargs: Any, path: str) -> None:
    with pytest.raises(EncodeError, match=f"cannot write {path} as JSON"):
        client().compose("demo.add", args, kwargs, Options())


def test_a_header_that_cannot_be_written_is_named() -> None:
    with pytest.raises(EncodeError, match=r'headers\["trace"\]'):
        compose(Options(headers={"trace": object()}))


# -- times


@pytest.mark.follows("CALL-03")
def test_a_countdown_is_seconds_from_now() -> None:
    before = time()
    publish = compose(Options(countdown=60))
    assert publish.due is not None
    assert before + 60 <= publish.due <= time() + 60
    assert seconds(headers(publish)["eta"]) == pytest.approx(publish.due, abs=1e-5)


MOMENT = datetime(2031, 7, 1, 12, 0, tzinfo=UTC)


@pytest.mark.follows("CALL-03", "CALL-04")
@pytest.mark.parametrize(
    ("given", "zone", "means"),
    [
        (MOMENT, None, MOMENT),
        (MOMENT.astimezone(EAST), None, MOMENT),
        (MOMENT.replace(tzinfo=None), None, MOMENT),
        (MOMENT.replace(tzinfo=None), "Europe/Berlin", MOMENT - timedelta(hours=2)),
        ("2031-07-01T12:00:00Z", "Europe/Berlin", MOMENT),
        ("2031-07-01T12:00:00+05:00", None, MOMENT - timedelta(hours=5)),
        ("2031-07-01T12:00:00", "Europe/Berlin", MOMENT - timedelta(hours=2)),
    ],
)
def test_a_moment_comes_in_several_forms(given: Any, zone: Any, means: datetime) -> None:
    publish = compose(Options(eta=given, expires=given), timezone=zone)
    assert publish.due == means.timestamp()
    said = headers(publish)
    assert seconds(said["eta"]) == seconds(said["expires"]) == means.timestamp()
    assert datetime.fromisoformat(said["eta"]).utcoffset() is not None


@pytest.mark.follows("CALL-04")
def test_expires_may_be_seconds_from_now() -> None:
    before = time()
    expires = seconds(headers(compose(Options(expires=90.5)))["expires"])
    assert before + 90.5 - 1e-5 <= expires <= time() + 90.5


@pytest.mark.follows("CALL-04")
def test_times_that_are_past_are_sent_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    publish = compose(Options(countdown=-5, expires=-3, task_id="mine"))
    assert "task mine expired 3.0 s before it is sent; it will not be run" in caplog.messages
    assert publish.due is not None
    assert publish.due < time()
    assert seconds(headers(publish)["expires"]) < time()


def test_two_answers_to_when_are_refused() -> None:
    with pytest.raises(ValueError, match="countdown and eta both say when"):
        compose(Options(countdown=1, eta=MOMENT))


def test_a_moment_must_be_a_time() -> None:
    with pytest.raises(ValueError, match="soon"):
        compose(Options(eta="soon"))


@pytest.mark.follows("TASK-09")
def test_a_soft_limit_behind_the_hard_one_is_refused() -> None:
    with pytest.raises(ValueError, match="soft_time_limit 20 s is longer than time_limit 10 s"):
        compose(Options(time_limit=10, soft_time_limit=20))
    assert headers(compose(Options(time_limit=10, soft_time_limit=10)))["timelimit"] == [10, 10]


def test_a_priority_out_of_range_is_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="priority 256"):
        compose(Options(priority=256))


# -- options


def test_what_a_call_leaves_open_stays_as_it_was() -> None:
    own = Options(queue="work", priority=3, ignore_result=True)
    assert changed(own, {}) is own
    assert changed(own, {"queue": None, "priority": None}) is own
    new = changed(own, {"priority": 0, "ignore_result": False})
    assert (new.queue, new.priority, new.ignore_result) == ("work", 0, False)


def test_an_option_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(TypeError, match=r"no option 'lnik' in this version; options are: add_to"):
        changed(Options(), {"lnik": 1})


@pytest.mark.follows("TASK-27")
def test_a_retry_keeps_what_the_run_had() -> None:
    request = Context(
        id="one",
        root_id="root",
        retries=1,
        timelimit=[30, 10],
        headers={"trace": "abc"},
        ignore_result=True,
        shadow="shown",
        expires="2031-07-01T12:00:00+00:00",
        reply_to="me",
        delivery_info={"routing_key": "urgent", "priority": 7},
    )
    options = retry_options(request, {"countdown": 5, "queue": "slow"})
    assert options == Options(
        task_id="one",
        countdown=5,
        queue="slow",
        priority=7,
        headers={"trace": "abc"},
        ignore_result=True,
        time_limit=30,
        soft_time_limit=10,
        shadow="shown",
        expires="2031-07-01T12:00:00+00:00",
        retries=2,
        root_id="root",
        parent_id="one",
        reply_to="me",
    )


# -- sending


def test_a_batch_is_published_as_it_is() -> None:
    sender = client()
    publishes = [sender.compose("demo.add", (n,), {}, Options()) for n in range(3)]
    sender.send(publishes)
    claimed = sender.broker.consumer(["celery"]).claim(10, ANY_SIZE)
    assert [delivery.message for delivery in claimed] == [p.message for p in publishes]


@pytest.mark.follows("CALL-20")
def test_a_broker_that_is_away_is_told() -> None:
    sender = client()
    assert isinstance(sender.broker, MemoryBroker)
    sender.broker.sleep()
    with pytest.raises(OperationalError):
        sender.send([compose()])


@pytest.mark.follows("CALL-12")
def test_a_child_is_noted_in_the_run_that_sent_it(running: Context) -> None:
    client().note_child("child")
    assert running.children == [[["child", None], None]]


def test_outside_of_runs_nothing_is_noted() -> None:
    client().note_child("child")


# -- signals


@pytest.fixture
def heard() -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Yield what the two publishing signals say; a test may put a function at ``change``."""
    said: list[tuple[str, dict[str, Any]]] = []

    def before(**arguments: Any) -> None:
        said.append(("before", arguments))

    def after(**arguments: Any) -> None:
        said.append(("after", arguments))

    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    yield said
    signals.before_task_publish.disconnect(before)
    signals.after_task_publish.disconnect(after)


@pytest.mark.follows("CALL-18")
def test_publishing_is_told_before_and_after(heard: list[tuple[str, dict[str, Any]]]) -> None:
    sender = client()
    publish = sender.compose("demo.add", (1,), {}, Options(queue="work", priority=3))
    sender.send([publish])
    (first, before), (second, after) = heard
    assert (first, second) == ("before", "after")
    assert before.keys() == {
        *("signal", "sender", "body", "exchange", "routing_key", "headers", "properties"),
        *("declare", "retry_policy"),
    }
    assert before["sender"] == "demo.add"
    assert (before["exchange"], before["routing_key"]) == ("", "work")
    assert before["headers"] == headers(publish)
    assert before["properties"] == {
        "correlation_id": publish.message.id,
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "priority": 3,
        "reply_to": None,
        "delivery_mode": 2,
    }
    assert after.keys() == {"signal", "sender", "body", "headers", "exchange", "routing_key"}
    assert (after["sender"], after["routing_key"]) == ("demo.add", "work")
    assert after["headers"] == headers(publish)


def test_nothing_is_told_after_a_failure(heard: list[tuple[str, dict[str, Any]]]) -> None:
    sender = client()
    assert isinstance(sender.broker, MemoryBroker)
    sender.broker.sleep()
    with pytest.raises(OperationalError):
        sender.send([compose()])
    assert [name for name, _ in heard] == ["before"]


@pytest.mark.follows("CALL-18")
def test_a_receiver_may_change_headers_and_properties() -> None:
    def change(headers: dict[str, Any], properties: dict[str, Any], **_: Any) -> None:
        headers["trace"] = "abc"
        headers["when"] = MOMENT
        properties["priority"] = 9
        properties["reply_to"] = "me"

    signals.before_task_publish.connect(change)
    try:
        sender = client()
        sender.send([compose()])
    finally:
        signals.before_task_publish.disconnect(change)
    (delivery,) = sender.broker.consumer(["celery"]).claim(10, ANY_SIZE)
    assert headers(delivery)["trace"] == "abc"
    assert headers(delivery)["when"]["__type__"] == "datetime"
    assert (delivery.message.priority, delivery.message.reply_to) == (9, "me")


# -- is anybody there?


@pytest.fixture
def app(home: Path) -> Iterator[Celery]:
    """Yield an app whose messages lie in an embedded file."""
    app = Celery("proj", broker=f"sqlite:///{home}/tasks.db")
    yield app
    app.close()


def test_a_first_message_that_nobody_will_take_is_warned_about_once(
    app: Celery, home: Path
) -> None:
    path = re.escape(f"{home}/tasks.db")
    with pytest.warns(
        NoWorkerSeenWarning, match=f"{path}.*celeriac -A {__name__} worker"
    ) as caught:
        app.send_task("demo.add")
        app.send_task("demo.add")
    assert len(caught) == 1
    assert caught[0].filename == __file__
    app.conf.task_default_queue = "other"
    app.send_task("demo.add")


@pytest.mark.parametrize("how", ["delay", "apply_async", "delay_many", "send_task"])
def test_the_warning_points_at_the_line_that_sends(how: str, app: Celery) -> None:
    add = app.task(name="demo.add")(lambda: None)
    ways: dict[str, tuple[object, Any]] = {
        "delay": (add, ()),
        "apply_async": (add, ()),
        "delay_many": (add, ([()],)),
        "send_task": (app, ("demo.add",)),
    }
    owner, args = ways[how]
    with pytest.warns(NoWorkerSeenWarning) as caught:
        getattr(owner, how)(*args)
    assert caught[0].filename == __file__


def test_where_warnings_are_errors_nothing_was_sent(app: Celery) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoWorkerSeenWarning)
        with pytest.raises(NoWorkerSeenWarning):
            app.send_task("demo.add")
    assert app.broker.sizes() == {}


def test_nobody_is_warned_while_a_worker_is_seen(app: Celery) -> None:
    consumer = app.broker.consumer(["celery"])
    app.send_task("demo.add")
    assert app.broker.sizes()["celery"].ready == 1
    consumer.close()


def test_a_worker_that_was_seen_long_ago_is_none(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.broker.consumer(["celery"]).close()
    now = clock.wall()
    monkeypatch.setattr(clock, "wall", lambda: now + 61)
    with pytest.warns(NoWorkerSeenWarning):
        app.send_task("demo.add")


def test_json_is_what_other_programs_read() -> None:
    publish = compose(Options(headers={"name": "Grüße"}))
    assert json.loads(publish.message.headers)["name"] == "Grüße"


@pytest.mark.follows("CALL-13", "CALL-02")
def test_what_celery_hands_to_its_driver_is_accepted_and_has_no_effect() -> None:
    app = memory_app()
    options: Any = {
        "producer": object(), "connection": object(), "publisher": object(), "mandatory": True,
        "immediate": True, "timeout": 5, "confirm_timeout": 5,
    }  # fmt: skip
    assert app.send_task("far.away", **options).id
    assert changed(Options(), options) == Options()


@pytest.mark.follows("CALL-02")
def test_a_call_may_clear_what_its_task_says() -> None:
    task = Options(expires=5, time_limit=5, soft_time_limit=3, queue="work")
    cleared = changed(task, {"expires": None, "time_limit": None, "soft_time_limit": None})
    assert cleared == Options(queue="work")
    assert changed(task, {"queue": None}) == task


@pytest.mark.follows("CALL-02")
def test_a_call_may_name_the_class_of_its_result() -> None:
    class Own(AsyncResult[Any]):
        """A result of one's own."""

    app = memory_app()
    result = app.send_task("far.away", result_cls=Own)
    assert type(result) is Own
    assert result.app is app


@pytest.mark.follows("CALL-02")
def test_a_call_may_belong_to_a_group() -> None:
    told = headers(compose(Options(group_id="g", group_index=3)))
    assert (told["group"], told["group_index"]) == ("g", 3)
