"""Results by ``rpc://`` on RabbitMQ, between Celery and Celeriac, both ways.

Only who has sent a task can read its result, in messages that the worker sends him.
"""

from collections.abc import Iterator

import pytest

from tests.fixtures.apps.interop_tasks import Odd
from tests.fixtures.celery_producer import CeleryRaised
from tests.fixtures.fleet import OURS, ROADS, THEIRS, Pair, Road, pair
from tests.fixtures.gate import Gate
from tests.fixtures.rabbit_server import RabbitServer
from tests.fixtures.waiting import eventually

MANY = 200
LONG = "a long text ☃ " * 50_000


@pytest.fixture(scope="module")
def both(rabbit_server: RabbitServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("rpc")
    with pair(folder, "rpc://", rabbit=rabbit_server, task_track_started=True) as both:
        yield both


@pytest.fixture(params=ROADS)
def road(request: pytest.FixtureRequest, both: Pair) -> Road:
    return both.road(request.param)


@pytest.mark.follows("BACK-02", "RES-01")
def test_success(road: Road) -> None:
    id_ = road.send("add", 2, 3)
    document = road.sender.documents(id_)[-1]
    assert (document["status"], document["result"], document["traceback"]) == ("SUCCESS", 5, None)
    assert (document["worker"], document["queue"]) == (road.worker.name, road.queue)
    assert road.sender.get(road.send("add", 3, 4)) == 7


@pytest.mark.follows("BACK-02", "RES-15", "RES-16")
def test_failure(road: Road, both: Pair) -> None:
    raised = Odd if road.sender is both.fleet.celeriac.producer else CeleryRaised
    with pytest.raises(raised, match="text"):
        road.sender.get(road.send("fail_oddly", "text", 7))
    document = road.sender.documents(road.send("fail_oddly", "text", 7))[-1]
    assert document["status"] == "FAILURE"
    assert "in fail_oddly" in document["traceback"]


@pytest.mark.follows("BACK-02", "TASK-18", "TASK-36")
def test_states_on_the_way(both: Pair) -> None:
    theirs, ours = both.road(ROADS[0]), both.road(ROADS[1])
    documents = theirs.sender.documents(theirs.send("custom_state", "HALFWAY", {"done": 50}))
    states = [(document["status"], document["result"]) for document in documents]
    assert states[-2:] == [("HALFWAY", {"done": 50}), ("SUCCESS", "HALFWAY")]
    # Celeriac's caller is told what is newest, and so has to look when it is there.
    gate = Gate()
    id_ = ours.send("custom_state", "HALFWAY", {"done": 50}, gate.address)
    visitor = gate.visitor()
    eventually(lambda: ours.sender.state(id_) == "HALFWAY")
    assert ours.sender.result(id_) == {"done": 50}
    visitor.let_go("over")
    assert ours.sender.get(id_) == "over"
    gate.close()


@pytest.mark.follows("BACK-02", "TASK-27")
def test_retries(road: Road) -> None:
    documents = road.sender.documents(road.send("retry_twice", "word"))
    assert documents[-1]["result"] == ["word", 2]
    assert {document["status"] for document in documents} <= {"STARTED", "RETRY", "SUCCESS"}


@pytest.mark.follows("BACK-02")
def test_many_and_large(road: Road) -> None:
    ids = road.sender.send_many("interop.add", [[n, 1] for n in range(MANY)], queue=road.queue)
    large = road.send("echo", LONG)
    assert [road.sender.get(id_) for id_ in ids] == list(range(1, MANY + 1))
    assert road.sender.get(large) == [[LONG], {}]


@pytest.mark.follows("BACK-02", "QUIRK-34")
def test_nobody_else_gets_it(road: Road) -> None:
    id_ = road.send("add", 1, 1)
    assert road.sender.get(id_) == 2
    [other] = [reader for reader in road.readers if reader is not road.sender]
    assert other.state(id_) == "PENDING"


@pytest.mark.follows("BACK-02")
def test_results_of_callers_that_have_gone_are_dropped(both: Pair) -> None:
    """A worker of Celeriac's does not stumble over them."""
    both.fleet.celery.producer.apply_async("interop.add", [1, 1], queue=OURS, reply_to="nobody")
    id_ = both.fleet.celery.producer.apply_async("interop.add", [1, 2], queue=OURS)
    assert both.fleet.celery.producer.get(id_) == 3
    eventually(lambda: both.fleet.empty(OURS, THEIRS), 20.0)
