"""Which queues a worker consumes, and that messages routed to them arrive."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac.exceptions import QueueNotFound
from celeriac.message import QueueSize
from tests.fixtures.apps import queueing
from tests.fixtures.apps.queueing import app
from tests.fixtures.commands import celeriac
from tests.fixtures.worker import APPS, WorkerProcess, connected

APP = f"{APPS}.queueing"
WAIT = 10.0

pytestmark = pytest.mark.filterwarnings("ignore::celeriac.exceptions.NoWorkerSeenWarning")


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with connected(app, tmp_path) as url:
        yield url


def consumed(worker: WorkerProcess) -> str:
    """Return what the banner says of the queues."""
    line = worker.ready().wait_for(r"^  queues  ")
    return line.split(maxsplit=1)[1].strip()


@pytest.mark.follows("ROUTE-01", "ROUTE-02", "ROUTE-08")
def test_all_of_task_queues_and_what_is_routed_there(url: str) -> None:
    with WorkerProcess(APP, url) as worker:
        assert consumed(worker) == "celery, mail, video"
        assert queueing.where.delay().get(WAIT) == "celery"
        assert queueing.where.apply_async(queue="mail").get(WAIT) == "mail"
        assert queueing.where.apply_async(queue="v", routing_key="video").get(WAIT) == "video"
        sent = queueing.where.apply_async(exchange="media", routing_key="video.new.one")
        assert sent.get(WAIT) == "video"
        assert queueing.cut.delay().get(WAIT) == "video"
        worker.stop()


@pytest.mark.follows("ROUTE-08")
def test_a_retry_goes_back_to_its_queue(url: str) -> None:
    with WorkerProcess(APP, url) as worker:
        worker.ready()
        sent = queueing.again.apply_async(exchange="media", routing_key="video.new.one")
        assert sent.get(WAIT) == "video"
        assert app.broker.sizes() == {}
        worker.stop()


@pytest.mark.follows("ROUTE-11")
@pytest.mark.parametrize(
    ("options", "queues"),
    [
        (["-Q", "mail"], "mail"),
        (["-Q", "v,mail"], "video, mail"),
        (["-X", "mail"], "celery, video"),
        (["-X", "v,unknown"], "celery, mail"),
        (["--queues", "mail,video", "--exclude-queues", "v"], "mail"),
    ],
    ids=" ".join,
)
def test_the_command_line_chooses(url: str, options: list[str], queues: str) -> None:
    for name in ("celery", "mail", "video"):
        queueing.where.apply_async(queue=name, exchange="", routing_key=name)
    with WorkerProcess(APP, url, *options) as worker:
        assert consumed(worker) == queues
        for name in queues.split(", "):
            worker.wait_for(rf"succeeded in .*: '{name}'")
        worker.stop()
    left = {"celery", "mail", "video"} - set(queues.split(", "))
    assert app.broker.sizes() == {name: QueueSize(ready=1) for name in left}


@pytest.mark.follows("ROUTE-17", "ROUTE-18")
def test_receivers_have_the_last_word(url: str) -> None:
    added: Any = {"QUEUES_ADDED": "extra", "QUEUES_LEFT": "mail"}
    with WorkerProcess(APP, url, "-Q", "mail,video", **added) as worker:
        assert consumed(worker) == "video, extra"
        # The caller knows nothing of the queue.
        with pytest.raises(QueueNotFound, match="'extra' is not in task_queues"):
            queueing.where.apply_async(queue="extra")
        app.amqp.queues.add("extra")
        try:
            assert queueing.where.apply_async(queue="extra").get(WAIT) == "extra"
            sent = queueing.known.apply_async(queue="extra")
            assert sent.get(WAIT) == ["celery", "extra", "mail", "video"]
        finally:
            del app.amqp.queues["extra"]
        worker.stop()


@pytest.mark.follows("ROUTE-13")
def test_a_queue_for_this_worker_alone(url: str) -> None:
    with WorkerProcess(APP, url, "-Q", "mail", "-n", "w1@here", QUEUES_DIRECT="1") as worker:
        assert consumed(worker) == "mail, w1@here.dq2"
        sent = queueing.where.apply_async(exchange="C.dq2", routing_key="w1@here")
        assert sent.get(WAIT) == "w1@here.dq2"
        worker.stop()


@pytest.mark.follows("ROUTE-05", "ROUTE-11", "ROUTE-16")
@pytest.mark.parametrize(
    ("options", "environment", "words"),
    [
        (
            ["-Q", "mail,new"],
            {},
            r"-Q mail,new: queue 'new' is not in task_queues, .* celery, mail,",
        ),
        (["-Q", "mail", "-X", "mail"], {}, "no queue is left to consume: -X excludes mail; name"),
        (["-X", "mail,,v"], {}, "-X 'mail,,v' has an empty name"),
        ([], {"QUEUES_ORDER": "random"}, "is 'random'; write round_robin, sorted, priority"),
    ],
    ids=["unknown", "none left", "empty", "order"],
)
def test_what_cannot_be_is_said_in_one_line(
    url: str, options: list[str], environment: Any, words: str
) -> None:
    answer = celeriac("-A", APP, "worker", *options, url=url, **environment)
    assert re.search(words, answer.complaint)
