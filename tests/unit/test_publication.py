"""publication.py: publishing is tried again, within one deadline; and receivers may change it."""

from collections.abc import Iterator
from time import monotonic
from typing import Any

import pytest

from celeriac import Celery, publication, signals
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.publication import PublishPolicy, policy
from tests.fixtures.runs import body, claim, memory_app


class Away:
    """A broker that is away for some calls, and the pauses between them."""

    def __init__(self, app: Celery, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        self.calls = 0
        self.pauses: list[float] = []
        self.error: Exception = OperationalError("away")
        publish = app.broker.publish

        def flaky(publishes: Any) -> None:
            self.calls += 1
            if self.calls <= times:
                raise self.error
            publish(publishes)

        monkeypatch.setattr(app.broker, "publish", flaky)
        monkeypatch.setattr(publication, "sleep", self.pauses.append)


@pytest.fixture
def app() -> Celery:
    return memory_app()


@pytest.mark.follows("CALL-06")
def test_it_is_tried_again(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away(app, monkeypatch, 3)
    app.send_task("far.away")
    assert (away.calls, len(claim(app))) == (4, 1)
    assert away.pauses == pytest.approx([0, 0.2, 0.4])


@pytest.mark.follows("CALL-06", "CALL-20")
def test_in_the_end_the_caller_is_told(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away(app, monkeypatch, 9)
    with pytest.raises(OperationalError, match="away"):
        app.send_task("far.away")
    assert away.calls == 4


@pytest.mark.follows("CALL-06", "CALL-02")
def test_a_call_may_say_how(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away(app, monkeypatch, 99)
    with pytest.raises(OperationalError):
        app.send_task("far.away", retry=False)
    assert away.calls == 1
    with pytest.raises(OperationalError):
        app.send_task("far.away", retry_policy={"max_retries": 1, "interval_start": 1})
    assert (away.calls, away.pauses) == (3, [1])
    app.conf.task_publish_retry = False
    with pytest.raises(OperationalError):
        app.send_task("far.away")
    assert away.calls == 4
    with pytest.raises(OperationalError):
        app.send_task("far.away", retry=True)
    assert away.calls == 8


@pytest.mark.follows("CALL-06")
def test_without_a_limit_the_deadline_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    app = memory_app(broker_timeout=0.05)
    away = Away(app, monkeypatch, 10**9)
    began = monotonic()
    with pytest.raises(OperationalError):
        app.send_task("x", retry_policy={"max_retries": None, "interval_step": 0})
    assert monotonic() - began >= 0.05
    assert away.calls > 1
    calls = away.calls
    with pytest.raises(OperationalError):
        app.send_task("x", retry_policy={"max_retries": None, "interval_start": 1})
    assert away.calls == calls + 1, "the pause would end behind the deadline"


@pytest.mark.follows("CALL-07")
def test_other_errors_may_count_too(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away(app, monkeypatch, 1)
    away.error = KeyError("odd")
    with pytest.raises(KeyError):
        app.send_task("x")
    away.calls = 0
    told: list[Any] = []
    how = {"retry_errors": [KeyError], "errback": lambda *args: told.append(args)}
    app.send_task("x", retry_policy=how)
    assert told == [(away.error, 0)]


def test_a_policy_is_checked() -> None:
    assert policy({"interval_max": None, "max_retries": None}) == PublishPolicy(max_retries=None)
    assert PublishPolicy(interval_step=5).pause(9) == 1
    with pytest.raises(ImproperlyConfigured, match="has no 'max_retry'; it has max_retries"):
        policy({"max_retry": 3})


@pytest.fixture
def changing() -> Iterator[list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []

    def change(body: Any, headers: Any, **more: Any) -> None:
        seen.append({"body": body, "headers": headers, **more})
        body[0].append("more")
        body[1]["z"] = 3
        headers["mark"] = 1

    signals.before_task_publish.connect(change)
    yield seen
    signals.before_task_publish.disconnect(change)


@pytest.mark.follows("CALL-18")
def test_receivers_may_change_arguments_and_headers(
    app: Celery, changing: list[dict[str, Any]]
) -> None:
    app.send_task("x", (1,), {"y": 2}, link=app.signature("next"))
    (delivery,) = claim(app)
    assert body(delivery)[:2] == [[1, "more"], {"y": 2, "z": 3}]
    assert body(delivery)[2]["callbacks"][0]["task"] == "next"
    assert b'"mark": 1' in delivery.message.headers
    assert changing[0]["retry_policy"]["max_retries"] == 3


@pytest.mark.follows("OLD-10")
def test_the_old_signal_is_sent_too(app: Celery) -> None:
    heard: list[dict[str, Any]] = []

    def sent(**arguments: Any) -> None:
        heard.append(arguments)

    signals.task_sent.connect(sent)
    try:
        app.send_task("x", (1,), {"y": 2}, task_id="mine")
    finally:
        signals.task_sent.disconnect(sent)
    (told,) = heard
    told.pop("signal")
    assert told == {
        "sender": "x", "task_id": "mine", "task": "x", "args": [1], "kwargs": {"y": 2},
        "eta": None, "taskset": None,
    }  # fmt: skip
