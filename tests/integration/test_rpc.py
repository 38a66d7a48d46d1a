"""Results that are sent to those who wait: ``rpc://`` on every broker that a worker can share."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import states
from celeriac.brokers.memory import MemoryBroker
from celeriac.completion import Put
from celeriac.exceptions import TimeoutError
from celeriac.results.base import task_key
from celeriac.results.rpc import RpcStore
from celeriac.states import STARTED, SUCCESS
from tests.fixtures.apps import resulting
from tests.fixtures.apps.resulting import app
from tests.fixtures.gate import Gate
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.waiting import InAMoment, eventually
from tests.fixtures.worker import APPS, OVER_ALL, WorkerProcess, connected, server_url

APP = f"{APPS}.resulting"
WAIT = 10.0


@pytest.fixture(scope="module", params=OVER_ALL)
def shared(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Yield the URL of a broker where a worker is at work."""
    with connected(app, tmp_path_factory.mktemp("rpc"), server_url(request)) as found:
        app.conf.result_backend = "rpc://"
        with WorkerProcess(APP, found, CELERY_RESULT_BACKEND="rpc://") as worker:
            worker.ready()
            yield found
        app.close()
        app.conf.result_backend = None


@pytest.mark.usefixtures("shared")
class TestWithAWorker:
    @pytest.mark.follows("BACK-02")
    def test_results_come_back(self) -> None:
        results = [resulting.add.delay(number, 1) for number in range(50)]
        assert [result.get(WAIT) for result in results] == list(range(1, 51))
        result = app.send_task(resulting.add.name, ("a", 1))
        with pytest.raises(TypeError):
            result.get(WAIT)
        assert result.state == states.FAILURE

    def test_states_come_while_it_runs(self, gate: Gate) -> None:
        result = resulting.progress.delay(gate.address)
        run = gate.visitor()
        eventually(lambda: result.state == "PROGRESS")
        run.let_go()
        result.get(WAIT)

    @pytest.mark.follows("QUIRK-34")
    def test_nobody_else_can_read_them(self) -> None:
        result = resulting.add.delay(1, 1)
        result.get(WAIT)
        other = RpcStore(app.broker)
        assert other.get([task_key(result.id)]) == {}
        other.close()

    def test_a_result_that_never_comes(self) -> None:
        with pytest.raises(TimeoutError):
            app.AsyncResult("nobody").get(0.1)


class TestStore:
    @pytest.fixture
    def broker(self) -> MemoryBroker:
        return MemoryBroker()

    @pytest.fixture
    def store(self, broker: MemoryBroker) -> Iterator[RpcStore]:
        store = RpcStore(broker)
        yield store
        store.close()

    @staticmethod
    def put(store: RpcStore, id_: str = "1", state: str = SUCCESS, **more: Any) -> Put:
        document = json.dumps({"status": state, "task_id": id_}).encode()
        return Put(task_key(id_), document, None, state, more.get("reply_to", store.reply_to))

    def test_documents_go_to_their_caller(self, broker: MemoryBroker, store: RpcStore) -> None:
        worker, other = RpcStore(broker), RpcStore(broker)
        put = self.put(store)
        worker.put([put, self.put(store, "2", reply_to=None), self.put(other, "3")])
        keys = [task_key(id_) for id_ in "123"]
        assert store.get(keys) == {put.key: put.value}
        assert set(other.get(keys)) == {task_key("3")}

    def test_a_watch_hears_of_them(self, broker: MemoryBroker, store: RpcStore) -> None:
        worker, watch = RpcStore(broker), store.watch()
        watch.add([task_key("1")])
        put = self.put(store)
        sent = InAMoment(lambda: worker.put([put]))
        assert watch.wait(10.0) == {put.key: put.value}
        assert sent.ago() < 1.0
        assert watch.wait(0.01) == {}
        woken = InAMoment(watch.wake)
        assert watch.wait(10.0) == {}
        assert woken.ago() < 1.0
        watch.close()

    @pytest.mark.follows("RES-20")
    def test_a_success_stays(self, broker: MemoryBroker, store: RpcStore) -> None:
        success, late = self.put(store), self.put(store, state=STARTED)
        RpcStore(broker).put([self.put(store, state=STARTED), success, late])
        assert store.get([success.key]) == {success.key: success.value}
        store.forget([success.key])
        assert store.get([success.key]) == {}

    def test_documents_that_nobody_fetches_are_forgotten(self, broker: MemoryBroker) -> None:
        store = RpcStore(broker, expires=0.05)
        put = self.put(store)
        RpcStore(broker).put([put])
        assert store.get([put.key])
        assert eventually(store.expire) == 1
        assert store.get([put.key]) == {}


@pytest.mark.follows("BACK-02")
def test_the_list_of_a_caller_who_is_gone_ends_by_itself(
    redis_server: RedisServer, redis_url: str, tmp_path: Path
) -> None:
    from celeriac.brokers.redis.broker import RedisBroker

    broker = RedisBroker(redis_url)
    worker = RpcStore(broker, expires=60)
    worker.put([Put(task_key("1"), b"{}", None, SUCCESS, "somebody")])
    with redis_server.client() as client:
        assert client.llen("somebody") == 1
        assert 50 < client.ttl("somebody") <= 60
        assert not client.exists("celeriac:queues")
        caller = RpcStore(broker)
        assert caller.reply_to
        assert not client.exists("celeriac:queues")
        assert not client.exists("celeriac:workers")
        caller.close()
    worker.close()
    broker.close()
