"""The real Celery of ``tests/fixtures/celery_peer.py`` does what tests ask of it, on both servers."""

from pathlib import Path

import pytest

from celeriac import Celery
from tests.fixtures.apps import interop_celeriac, interop_tasks
from tests.fixtures.celery_peer import CeleryPeer
from tests.fixtures.celery_producer import CeleryRaised
from tests.fixtures.gate import Gate
from tests.fixtures.servers import MakePeer
from tests.fixtures.worker import WorkerProcess, connected


@pytest.fixture(params=["redis", "rabbit"])
def peer(request: pytest.FixtureRequest, make_peer: MakePeer, redis_url: str) -> CeleryPeer:
    broker = request.getfixturevalue(f"{request.param}_url")
    return make_peer(broker, redis_url, result_extended=True)


def test_celery_runs_what_celery_sends(peer: CeleryPeer, tmp_path: Path) -> None:
    worker, producer = peer.worker().wait_ready(), peer.producer
    added = producer.send_task("interop.add", [2, 3])
    assert producer.get(added) == 5
    assert producer.meta(added)["name"] == "interop.add"

    failed = producer.apply_async("interop.fail", ["on purpose"])
    with pytest.raises(CeleryRaised, match="on purpose") as caught:
        producer.get(failed)
    assert caught.value.kind == "ValueError"
    assert producer.result(failed) == {"exception": "ValueError", "args": ["on purpose"]}
    assert "ValueError: on purpose" in (producer.traceback(failed) or "")

    retried = producer.apply_async("interop.retry_twice", kwargs={"word": "at last"})
    assert producer.get(retried) == ["at last", 2]
    assert producer.get(producer.send_task("interop.runs_in")) == "celery"

    ledger = tmp_path / "ledger"
    producer.get(producer.send_task("interop.ledger", [str(ledger), "one"]))
    assert ledger.read_text() == "one\n"

    replies = producer.inspect("stats", timeout=5.0, destination=[worker.name])
    assert replies is not None
    assert replies.keys() == {worker.name}
    worker.terminate()


def test_celery_is_watched_while_it_runs(peer: CeleryPeer) -> None:
    producer = peer.producer
    # Celery declares its queue when a worker consumes, or when something is sent.
    late = producer.send_task("interop.echo", ["nobody takes it"])
    assert producer.purge() == 1
    assert producer.state(late) == "PENDING"
    worker = peer.worker("-c", "1").wait_ready()
    gate = Gate()
    id_ = producer.send_task("interop.custom_state", ["HALFWAY", {"done": 50}, gate.address])
    visitor = gate.visitor()
    assert (producer.state(id_), producer.result(id_)) == ("HALFWAY", {"done": 50})
    worker.kill()
    gate.close()
    assert "ready." in worker.log
    assert visitor.word == "HALFWAY"


def test_a_canvas_is_applied_as_the_dict_it_is(make_peer: MakePeer, redis_url: str) -> None:
    peer = make_peer(redis_url, redis_url)
    peer.worker().wait_ready()
    app = Celery("interop", set_as_current=False)
    steps = [app.signature("interop.add", args=(1, 2)), app.signature("interop.mul", args=(10,))]
    chain = app.signature("celery.chain", kwargs={"tasks": steps}) | {"subtask_type": "chain"}
    [last, _parent], _children = peer.producer.apply_signature(chain)
    assert peer.producer.get(last) == 30


def test_celeriac_knows_the_same_tasks() -> None:
    app = Celery("interop", task_always_eager=True, set_as_current=False)
    interop_tasks.register(app)
    for name, args, expected in (
        ("add", (2, 3), 5),
        ("total", ([1, 2, 3],), 6),
        ("echo", (1,), [[1], {}]),
        ("retry_twice", ("word",), ["word", 2]),
        ("runs_in", (), "celeriac"),
    ):
        assert app.tasks[f"interop.{name}"].apply_async(args).get() == expected


def test_a_worker_of_celeriac_runs_them(tmp_path: Path) -> None:
    module = interop_celeriac.__name__
    with connected(interop_celeriac.app, tmp_path) as url, WorkerProcess(module, url) as worker:
        worker.ready()
        task = interop_celeriac.app.tasks["interop.runs_in"]
        assert task.delay().get(timeout=10) == "celeriac"


def test_both_know_the_same_names(make_peer: MakePeer) -> None:
    app = Celery("interop", set_as_current=False)
    interop_tasks.register(app)
    ours = {name for name in app.tasks if name.startswith(interop_tasks.PREFIX)}
    peer = make_peer("memory://")
    assert set(peer.producer.tasks()) == ours
    assert peer.producer.versions()["celery"] == "5.7.0"
