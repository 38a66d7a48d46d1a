"""What callers of both libraries put into RabbitMQ, held side by side; and what is Celery's own there.

Headers and bodies as runs see them are in ``test_runs``.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from tests.fixtures.fleet import THEIRS, Fleet, Pair, pair, signature
from tests.fixtures.rabbit_server import RabbitServer

NOBODY = "nobody"
PROPERTIES = (
    *("content_type", "content_encoding", "delivery_mode", "priority", "correlation_id", "type"),
    *("message_id", "timestamp", "user_id", "app_id", "cluster_id"),
)


@pytest.fixture(scope="module")
def both(rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with pair(tmp_path_factory.mktemp("messages"), rabbit=rabbit_server) as both:
        yield both


def sent(both: Fleet, sender: int, **options: Any) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Send a task; return the properties of its message, its headers and its body."""
    id_ = str(uuid4())
    producer = both.producers[sender]
    producer.apply_async("interop.echo", [1, "ü"], {"n": 2}, queue=NOBODY, task_id=id_, **options)
    _, properties, body = both.host.take(NOBODY)
    headers = json.loads(json.dumps(properties.headers).replace(id_, "ID"))
    assert headers.pop("origin").startswith("gen")
    found = {name: getattr(properties, name) for name in PROPERTIES}
    assert found.pop("correlation_id") == id_
    assert (properties.reply_to is None) == (sender == 1)
    found["expires"] = properties.expiration and round(int(properties.expiration) / 60_000)
    return found, headers, body


@pytest.mark.follows("CALL-02", "CALL-05", "CALL-14", "QUIRK-27")
@pytest.mark.parametrize("serializer", ["json", "pickle"])
def test_messages_are_the_same(both: Pair, serializer: str) -> None:
    now = datetime.now(UTC)
    options: dict[str, Any] = {
        **{"priority": 7, "serializer": serializer, "compression": "gzip"},
        **{"headers": {"my": "header", "n": [1, None]}, "shadow": "other name"},
        **{"time_limit": 50, "soft_time_limit": 40, "eta": "2020-01-02T03:04:05+00:00"},
        "expires": (now + timedelta(hours=1)).isoformat(),
        "link": signature("add", 1, queue=NOBODY),
        "link_error": signature("note", queue=NOBODY, path="x"),
    }
    theirs, ours = (sent(both.fleet, sender, **options) for sender in (0, 1))
    assert ours[0] == theirs[0]
    assert ours[0]["expires"] == 60
    assert ours[1] == theirs[1]
    assert len(ours[2]) > 0


@pytest.mark.follows("CALL-05", "QUIRK-03")
def test_without_options(both: Pair) -> None:
    theirs, ours = (sent(both.fleet, sender) for sender in (0, 1))
    assert ours[1:] == theirs[1:]
    # Celery leaves it out where the queue is named; to the server 0 is the same.
    assert (theirs[0].pop("priority"), ours[0].pop("priority")) == (None, 0)
    assert ours[0] == theirs[0]


@pytest.mark.follows("TASK-25")
def test_celerys_worker_sees_the_same_properties(both: Pair) -> None:
    seen = []
    for producer in both.fleet.producers:
        id_ = producer.apply_async("interop.request", queue=THEIRS, priority=3, expires=600)
        properties = producer.get(id_)["properties"]
        assert properties.pop("correlation_id") == id_
        assert 0 < int(properties.pop("expiration")) <= 600_000
        properties.pop("reply_to", None)
        del properties["application_headers"]
        seen.append(properties)
    theirs, ours = seen
    assert ours == theirs


@pytest.mark.follows("CTRL-16")
def test_remote_control_and_events_are_left_alone(both: Pair) -> None:
    """They are Celery's own; workers of Celeriac come, go and die beside them."""
    fleet, theirs = both.fleet, both.theirs
    watched = fleet.celery.worker("-Q", "watched", "-E", neighbours=True).wait_ready()
    before = belongings(fleet)
    names = [theirs.name, watched.name]
    assert {f"{name}.celery.pidbox" for name in names} < before[0].keys()
    assert any(queue.startswith("celeryev.") for queue in before[0])
    dead = fleet.celeriac.worker("-Q", "aside").wait_ready()
    one = fleet.celeriac.worker("-Q", "aside").wait_ready()
    dead.kill()
    replies = fleet.celery.producer.inspect("ping", timeout=5.0, destination=names)
    assert replies == {name: {"ok": "pong"} for name in names}
    # To all of them: what does not answer yet does not stand in the way, either.
    replies = fleet.celery.producer.inspect("ping", timeout=1.0)
    assert replies is not None
    assert replies.keys() == set(names)
    one.terminate()
    assert belongings(fleet) == before


def belongings(both: Fleet) -> tuple[dict[str, Any], set[Any]]:
    """Return the queues of remote control and events, and what leads to them."""
    marks = ("pidbox", "celeryev")
    queues = {n: told for n, told in both.host.queues().items() if any(m in n for m in marks)}
    queues = {name: told for name, told in queues.items() if ".reply." not in name}
    return queues, {one for one in both.host.bindings() if one[1] in queues}
