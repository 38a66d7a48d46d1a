"""Queues, exchanges and priorities that Celery and Celeriac declare on one RabbitMQ, in either order.

RabbitMQ refuses (406) what is declared in another way than it is there, and closes the channel.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.fleet import OURS, THEIRS, Fleet, fleet
from tests.fixtures.rabbit_server import RabbitServer
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_program import WorkerProgram

QUEUES: dict[str, Any] = {
    "plain": {"exchange": "plain", "routing_key": "plain"},
    "pay": {"exchange": "shop", "exchange_type": "topic", "routing_key": "pay.#"},
    "news": {"exchange": "wire", "exchange_type": "fanout"},
    "short": {"routing_key": "short", "queue_arguments": {"x-message-ttl": 60000}},
}
SETTINGS: dict[str, Any] = {
    "task_queues": QUEUES,
    "task_default_queue": "plain",
    "task_queue_max_priority": 10,
}
ROUTES: list[dict[str, Any]] = [
    {"queue": "plain"},
    {"queue": "short", "priority": 5},
    {"exchange": "shop", "routing_key": "pay.now"},
    {"exchange": "wire", "routing_key": ""},
]
REFUSED = "PRECONDITION_FAILED|is not bound"


@pytest.mark.follows("ROUTE-01", "ROUTE-07", "ROUTE-08", "ROUTE-14")
def test_they_declare_the_same(rabbit_server: RabbitServer, tmp_path: Path) -> None:
    one = declared_in_this_order(rabbit_server, tmp_path / "one", "celery", "celeriac")
    other = declared_in_this_order(rabbit_server, tmp_path / "other", "celeriac", "celery")
    assert one == other
    queues, exchanges, _ = one
    assert all('"x-max-priority",10' in arguments for *_, arguments in queues.values())
    assert {name: kind for name, (kind, *_) in exchanges.items()} == {
        "plain": "direct",
        "shop": "topic",
        "wire": "fanout",
    }


def declared_in_this_order(
    server: RabbitServer, folder: Path, first: str, second: str
) -> tuple[Any, Any, Any]:
    """Have two workers declare the queues one after the other; return what the first has made."""
    folder.mkdir()
    with fleet(folder, rabbit=server, **SETTINGS) as both:
        one = worker_of(both, first)
        made = declarations(both)
        other = worker_of(both, second)
        for producer in both.producers:
            ids = [producer.apply_async("interop.add", [1, 2], **route) for route in ROUTES]
            assert [producer.get(id_) for id_ in ids] == [3] * len(ROUTES)
        assert not one.count(REFUSED)
        assert not other.count(REFUSED)
        return made


def worker_of(both: Fleet, name: str) -> WorkerProgram:
    peer = both.celeriac if name == "celeriac" else both.celery
    return peer.worker().wait_ready()


def declarations(both: Fleet) -> tuple[Any, Any, Any]:
    """Return queues, exchanges and bindings, without what each library has for itself."""
    host = both.host
    queues = {name: told for name, told in host.queues().items() if name in QUEUES}
    own = ("amq.", "celery", "reply.")
    exchanges = {n: told for n, told in host.exchanges().items() if n and not n.startswith(own)}
    return queues, exchanges, {one for one in host.bindings() if one[0] in exchanges}


@pytest.mark.follows("ROUTE-14", "QUIRK-02")
def test_what_is_urgent_comes_first(rabbit_server: RabbitServer, tmp_path: Path) -> None:
    with fleet(tmp_path, rabbit=rabbit_server, task_queue_max_priority=10) as both:
        for producer in both.producers:
            for queue in (OURS, THEIRS):
                for priority in (9, 3, 6, 0, 3):
                    args = [str(tmp_path / queue), str(priority)]
                    producer.apply_async("interop.ledger", args, queue=queue, priority=priority)
        for peer, queue in ((both.celeriac, OURS), (both.celery, THEIRS)):
            peer.worker("-Q", queue, "-c", "1")
        for queue in (OURS, THEIRS):
            ledger = tmp_path / queue
            eventually(lambda: ledger.exists() and ledger.read_text().count("\n") == 10, 20.0)  # noqa: B023
            assert ledger.read_text().split() == [*"9966333300"]
