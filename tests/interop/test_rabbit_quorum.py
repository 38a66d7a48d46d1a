"""Quorum queues, and tasks for later by Celery's delay levels, between Celery and Celeriac.

Celery delays messages in the broker only if it knows of a quorum queue and their exchange is a topic;
its callers take it for granted that a worker has made the levels.
"""

from pathlib import Path
from time import time
from uuid import uuid4

import pytest

from tests.fixtures.fleet import OURS, THEIRS, Fleet, Producer, fleet, signature
from tests.fixtures.rabbit_server import RabbitServer
from tests.fixtures.worker_program import WorkerProgram

QUORUM = {
    "task_default_queue_type": "quorum",
    "task_create_missing_queue_type": "quorum",
    "task_default_exchange_type": "topic",
    "task_create_missing_queue_exchange_type": "topic",
}
LEVEL = "broker_native_delayed_delivery_queue_type"
LATE = 5.0
"""Seconds: a message that waited for its time may be so late on a machine that has other things to do."""


@pytest.mark.follows("ROUTE-06", "ROUTE-21", "ROUTE-22", "CALL-03")
@pytest.mark.parametrize(
    ("first", "kind"), [("celery", "quorum"), ("celery", "classic"), ("celeriac", "quorum")]
)
def test_whoever_makes_the_levels(
    rabbit_server: RabbitServer, tmp_path: Path, first: str, kind: str
) -> None:
    """The other one takes them as they are, and says nothing of it."""
    with fleet(tmp_path, rabbit=rabbit_server, **QUORUM, **{LEVEL: kind}) as both:
        queue, other = (THEIRS, OURS) if first == "celery" else (OURS, THEIRS)
        workers = [worker_of(both, queue)]
        # What is there now is enough for callers of both.
        runs_at_their_time(both, queue)
        workers.append(worker_of(both, other))
        runs_at_their_time(both, OURS, THEIRS)
        for producer in both.producers:
            for queue in (OURS, THEIRS):
                assert_retries_come_through(producer, queue)
        queues = both.host.queues()
        assert all('"quorum"' in queues[queue][-1] for queue in (OURS, THEIRS))
        levels = [queues[name][-1] for name in queues if name.startswith("celery_delayed")]
        assert len(levels) == 28
        assert all(f'"{kind}"' in arguments for arguments in levels)
        for worker in workers:
            assert not worker.count("PRECONDITION_FAILED|Failed to declare|may not come")


def worker_of(both: Fleet, queue: str) -> WorkerProgram:
    """Return a new worker of the library that consumes this queue."""
    peer = both.celeriac if queue == OURS else both.celery
    return peer.worker("-Q", queue).wait_ready()


def runs_at_their_time(both: Fleet, *queues: str) -> None:
    """Send tasks for later with both libraries; they run when they are due, and once."""
    sent = []
    for producer in both.producers:
        for queue in queues:
            due = time() + 1.3
            id_ = producer.apply_async("interop.now", queue=queue, countdown=1.3)
            sent.append((producer, id_, due))
    for producer, id_, due in sent:
        assert due <= producer.get(id_) < due + LATE


def assert_retries_come_through(producer: Producer, queue: str) -> None:
    link = str(uuid4())
    then = signature("echo", queue=queue, task_id=link)
    producer.apply_async("interop.retry_twice", ["word"], queue=queue, link=then)
    assert producer.get(link) == [[["word", 2]], {}]
