"""Celery's callers and Celeriac's workers on one broker, and the reverse: what a run does and leaves.

Each test goes both ways, on Redis and on RabbitMQ, and both sides read what it left. Chains, groups and
chords are not built yet: links here are single tasks.
"""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import time
from typing import Any
from uuid import uuid4

import pytest

from tests.fixtures.apps import interop_tasks
from tests.fixtures.celery_producer import CeleryRaised
from tests.fixtures.fleet import (
    BROKERS,
    OURS,
    REDIS,
    ROADS,
    THEIRS,
    Pair,
    Road,
    fleet,
    pair,
    rabbit,
    signature,
)
from tests.fixtures.gate import Gate
from tests.fixtures.waiting import eventually

# kombu's: seconds between two looks for what was not acknowledged, and every how many it really looks.
OPTIONS = {"unacked_restore_interval": 1, "unacked_restore_throttle": 1}


only_on_redis = pytest.mark.parametrize("both", [REDIS], indirect=True)


@pytest.fixture(scope="module", params=BROKERS)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    server = rabbit(request, request.param)
    settings: dict[str, Any] = {"task_track_started": True}
    if server is None:
        settings["broker_transport_options"] = OPTIONS
    with pair(tmp_path_factory.mktemp("runs"), rabbit=server, **settings) as both:
        yield both


@pytest.fixture(params=ROADS)
def road(request: pytest.FixtureRequest, both: Pair) -> Road:
    return both.road(request.param)


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.close()


class TestStates:
    @pytest.mark.follows("RES-01", "RES-02", "RES-04")
    def test_success(self, road: Road) -> None:
        before = datetime.now(UTC)
        id_ = road.send("add", 2, 3)
        assert road.results(id_) == [5, 5]
        meta = road.meta(id_)
        done = datetime.fromisoformat(meta.pop("date_done"))
        assert before - timedelta(seconds=1) < done < datetime.now(UTC) + timedelta(seconds=1)
        assert meta == {
            "status": "SUCCESS",
            "result": 5,
            "traceback": None,
            "children": [],
            "task_id": id_,
            "name": "interop.add",
            "args": [2, 3],
            "kwargs": {},
            "worker": road.worker.name,
            "retries": 0,
            "queue": road.queue,
        }

    @pytest.mark.follows("RES-15", "RES-16")
    def test_failure(self, road: Road, both: Pair) -> None:
        id_ = road.comes_to(road.send("fail", "on purpose"), "FAILURE")
        for reader in road.readers:
            assert reader.result(id_) == {"exception": "ValueError", "args": ["on purpose"]}
            assert str(reader.traceback(id_)).rstrip().endswith("ValueError: on purpose")
        assert datetime.fromisoformat(road.meta(id_)["date_done"]).tzinfo is not None
        with pytest.raises(ValueError, match="on purpose"):
            both.fleet.celeriac.producer.get(id_)
        with pytest.raises(CeleryRaised, match="ValueError: on purpose"):
            both.fleet.celery.producer.get(id_)

    @pytest.mark.follows("RES-16")
    def test_failure_by_a_class_of_ones_own(self, road: Road, both: Pair) -> None:
        id_ = road.comes_to(road.send("fail_oddly", "text", 7), "FAILURE")
        for reader in road.readers:
            assert reader.result(id_) == {"exception": "Odd", "args": ["text", 7]}
        with pytest.raises(interop_tasks.Odd):
            both.fleet.celeriac.producer.get(id_)

    @pytest.mark.follows("TASK-18")
    def test_started(self, road: Road, gate: Gate) -> None:
        id_ = road.send("at_the_gate", gate.address)
        visitor = gate.visitor()
        road.comes_to(id_, "STARTED")
        assert road.meta(id_)["result"] == {"pid": visitor.pid, "hostname": road.worker.name}
        visitor.let_go("done")
        assert road.results(id_) == ["done", "done"]

    @pytest.mark.follows("RES-01", "TASK-36")
    def test_states_of_ones_own(self, road: Road, gate: Gate) -> None:
        id_ = road.send("custom_state", "HALFWAY", {"done": 50}, gate.address)
        visitor = gate.visitor()
        road.comes_to(id_, "HALFWAY")
        meta = road.meta(id_)
        assert (meta["result"], meta["date_done"]) == ({"done": 50}, None)
        visitor.let_go("over")
        assert road.results(id_) == ["over", "over"]

    @pytest.mark.follows("TASK-27", "QUIRK-06")
    def test_retry(self, road: Road) -> None:
        id_ = road.comes_to(road.send("retry_later", 600), "RETRY")
        meta = road.meta(id_)
        assert meta["result"] == "ValueError('not yet')"
        assert meta["children"] == [[[id_, None], None]]
        assert "not yet" in meta["traceback"]
        for reader in road.readers:
            assert reader.result(id_) == {"exception": "ValueError", "args": ["not yet"]}

    @pytest.mark.follows("TASK-27", "QUIRK-06", "CALL-09")
    @pytest.mark.parametrize("priority", [None, 0])
    def test_retries_in_the_end(self, road: Road, priority: int | None) -> None:
        id_, value = road.after_retries("at last", priority=priority)
        assert value == ["at last", 2]
        if road.queue == OURS:
            assert road.results(id_) == [value, value]
            meta = road.meta(id_)
            assert (meta["retries"], meta["parent_id"]) == (2, id_)

    @pytest.mark.follows("TASK-27", "ROUTE-15")
    @only_on_redis
    def test_a_retry_stays_behind_the_others(self, both: Pair) -> None:
        """Where Celery has put it: behind them is no priority that a call of Celeriac's may have."""
        road = both.road(ROADS[0])
        assert road.results(road.send("retry_twice", "last", priority=9)) == [["last", 2]] * 2

    @pytest.mark.follows("RES-17", "TASK-10")
    @only_on_redis
    def test_ignored(self, road: Road, both: Pair, tmp_path: Path) -> None:
        ledger = tmp_path / "ledger"
        id_ = road.send("ledger", str(ledger), "one", ignore_result=True)
        eventually(ledger.exists)
        eventually(lambda: not any(id_ in entry for entry in both.fleet.unacked().values()))
        # The same process has stored something since.
        road.results(road.send("add", 1, 1))
        assert [reader.state(id_) for reader in road.readers] == ["PENDING", "PENDING"]

    @pytest.mark.follows("RES-06")
    @only_on_redis
    def test_forgotten(self, road: Road) -> None:
        id_ = road.send("add", 1, 1)
        assert road.results(id_) == [2, 2]
        road.sender.forget(id_)
        assert [reader.state(id_) for reader in road.readers] == ["PENDING", "PENDING"]

    @pytest.mark.follows("CALL-04", "QUIRK-22")
    @pytest.mark.filterwarnings("ignore:.*expired")
    def test_expired(self, road: Road) -> None:
        id_ = road.comes_to(road.send("add", 1, 1, expires=-5), "REVOKED")
        for reader in road.readers:
            assert reader.result(id_) == {"exception": "TaskRevokedError", "args": ["expired"]}

    @pytest.mark.follows("TASK-09")
    def test_soft_limit_of_a_call(self, road: Road) -> None:
        limits = {"soft_time_limit": 0.2, "time_limit": 30}
        id_ = road.comes_to(road.send("slow", 20, **limits), "FAILURE")
        for reader in road.readers:
            assert reader.result(id_)["exception"] == "SoftTimeLimitExceeded"

    @pytest.mark.follows("TASK-09")
    def test_hard_limit_of_a_call(self, road: Road) -> None:
        id_ = road.comes_to(road.send("slow", 20, time_limit=0.3), "FAILURE")
        for reader in road.readers:
            assert reader.result(id_) == {"exception": "TimeLimitExceeded", "args": [0.3]}


class TestRequests:
    """What a run knows about its call."""

    OTHERWISE = {
        "hostname": "each worker has its own name",
        "properties": "they are what the broker's library knows; here they are not kept",
        "utc": "Celery leaves it out of what it hands to the run",
    }

    @pytest.mark.follows("TASK-25", "CALL-14", "TASK-41", "QUIRK-27")
    @pytest.mark.parametrize("sender", [0, 1], ids=["celery", "celeriac"])
    def test_both_workers_see_the_same(self, both: Pair, sender: int) -> None:
        producer = both.fleet.producers[sender]
        eta = "2020-01-02T03:04:05+00:00"
        expires = (datetime.now(UTC) + timedelta(days=40)).isoformat()
        options: dict[str, Any] = {
            **{"headers": {"my": "header", "n": [1]}, "shadow": "other name", "eta": eta},
            **{"time_limit": 50, "soft_time_limit": 40, "expires": expires},
            "link": signature("add", 1, queue="nobody"),
        }
        seen = []
        for queue in (OURS, THEIRS):
            id_ = str(uuid4())
            producer.apply_async("interop.request", queue=queue, task_id=id_, **options)
            text = json.dumps(producer.get(id_)).replace(id_, "ID").replace(f'"{queue}"', '"Q"')
            seen.append(json.loads(text))
        ours, theirs = seen
        for name in self.OTHERWISE:
            del ours[name], theirs[name]
        # On RabbitMQ what Celery sends to a named queue has no priority (QUIRK-03).
        theirs["delivery_info"]["priority"] = theirs["delivery_info"]["priority"] or 0
        assert ours == theirs
        assert (ours["id"], ours["root_id"], ours["correlation_id"]) == ("ID", "ID", "ID")
        assert (ours["parent_id"], ours["retries"], ours["timelimit"]) == (None, 0, [50, 40])
        assert (ours["headers"], ours["shadow"]) == (options["headers"], "other name")
        where = {"exchange": "", "routing_key": "Q", "priority": 0, "redelivered": False}
        assert ours["delivery_info"] == where
        assert (ours["eta"], ours["expires"]) == (eta, expires)
        assert ours["origin"].startswith("gen")
        assert (ours["reply_to"] is None) == (sender == 1)

    @pytest.mark.follows("TASK-41")
    def test_the_shadow_is_in_the_log(self, road: Road) -> None:
        id_ = road.send("add", 1, 1, shadow="under another name")
        road.worker.wait_for(rf"Task under another name\[{id_}\] succeeded")

    @pytest.mark.follows("CALL-11", "CALL-12")
    def test_a_run_is_the_parent_of_what_it_sends(self, road: Road) -> None:
        for queue in (OURS, THEIRS):
            id_ = road.send("parent", queue)
            [child, _] = road.results(id_)
            request = road.results(child)[0]
            assert (request["root_id"], request["parent_id"]) == (id_, id_)
            assert road.meta(id_)["children"] == [[[child, None], None]]
            assert road.meta(child)["parent_id"] == id_


class TestLinks:
    @pytest.mark.follows("CALL-09", "CALL-11")
    def test_after_a_success(self, road: Road) -> None:
        """One goes back to the same worker, one to that of the other library."""
        first, second, third = str(uuid4()), str(uuid4()), str(uuid4())
        links = [
            signature("add", 10, queue=OURS, task_id=first),
            signature("mul", 10, queue=THEIRS, task_id=second),
            signature("request", queue=OURS, task_id=third, immutable=True),
        ]
        id_ = road.send("add", 1, 2, link=links)
        assert road.results(first) == [13, 13]
        assert road.results(second) == [30, 30]
        request = road.results(third)[0]
        assert (request["root_id"], request["parent_id"]) == (id_, id_)
        # Celery stores its result after it has sent them (QUIRK-36).
        assert road.results(id_) == [3, 3]
        told = json.dumps(road.meta(id_)["children"])
        assert all(link in told for link in (first, second, third))

    @pytest.mark.follows("CALL-09")
    def test_of_links(self, road: Road) -> None:
        last = str(uuid4())
        inner = signature("mul", 10, queue=OURS, task_id=last)
        outer = signature("add", 4, queue=THEIRS)
        outer["options"]["link"] = [inner]
        road.send("add", 1, 2, link=outer)
        assert road.results(last) == [70, 70]

    @pytest.mark.follows("CALL-10", "QUIRK-23")
    def test_after_a_failure(self, road: Road, tmp_path: Path) -> None:
        noted, told = tmp_path / "noted", tmp_path / "told"
        links = [
            signature("note", queue=OURS, path=str(noted)),
            signature("note", queue=THEIRS, path=str(noted)),
            signature("told", queue="nobody", path=str(told)),
        ]
        id_ = road.send("fail", "on purpose", link_error=links)
        eventually(lambda: noted.exists() and noted.read_text() == f"{id_}\n" * 2)
        assert told.read_text() == f"{id_} ValueError('on purpose') ValueError: on purpose\n"


class TestTimes:
    @pytest.mark.follows("CALL-03")
    @pytest.mark.parametrize("seconds", [0.1, 0.9, 1.2])
    def test_countdown(self, both: Pair, seconds: float) -> None:
        road, before = both.road(ROADS[0]), time()
        [ran, _] = road.results(road.send("now", countdown=seconds))
        assert before + seconds <= ran < before + seconds + 5

    @pytest.mark.follows("CALL-03")
    def test_countdown_for_celery(self, both: Pair) -> None:
        """It waits in the broker, and then for Celery's next look."""
        road, before = both.road(ROADS[1]), time()
        [ran, _] = road.results(road.send("now", countdown=0.5))
        assert before + 0.5 <= ran < before + 8

    @pytest.mark.follows("CALL-03")
    def test_eta_in_a_zone(self, both: Pair) -> None:
        road, due = both.road(ROADS[0]), time() + 0.4
        eta = datetime.fromtimestamp(due, UTC).astimezone(tz=None).isoformat()
        [ran, _] = road.results(road.send("now", eta=eta))
        assert due - 0.001 <= ran < due + 5


class TestRemoteControl:
    """Celery's is left alone by workers of Celeriac that come, go and die."""

    @only_on_redis
    def test_workers_answer_as_before(self, both: Pair) -> None:
        redis, producer = both.fleet.redis, both.fleet.celery.producer
        bound = redis.smembers("_kombu.binding.celery.pidbox")
        assert bound
        for end in ("terminate", "kill"):
            one = both.fleet.celeriac.worker("-Q", "aside").wait_ready()
            getattr(one, end)()
            assert redis.smembers("_kombu.binding.celery.pidbox") == bound
            replies = producer.inspect("ping", timeout=5.0, destination=[both.theirs.name])
            assert replies == {both.theirs.name: {"ok": "pong"}}
        one = both.fleet.celeriac.worker("-Q", "aside").wait_ready()
        # To all of them: what does not answer yet does not stand in the way, either.
        replies = producer.inspect("ping", timeout=0.5)
        assert replies == {both.theirs.name: {"ok": "pong"}}
        one.terminate()
        assert not list(redis.scan_iter("*reply.celery.pidbox*"))


@pytest.mark.follows("RES-02", "RES-04")
@pytest.mark.parametrize("results", [0, 14])
def test_results_in_any_database(tmp_path: Path, results: int) -> None:
    with pair(tmp_path, results) as both:
        for name in ROADS:
            road = both.road(name)
            id_ = road.send("add", 2, 3)
            assert road.results(id_) == [5, 5]
            failed = road.comes_to(road.send("fail"), "FAILURE")
            with both.fleet.server.client(results) as redis:
                keys = {f"celery-task-meta-{one}" for one in (id_, failed)}
                assert all(86000 < redis.ttl(key) <= 86400 for key in keys)


@pytest.mark.follows("BROK-02", "RES-02")
def test_keys_behind_a_prefix(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "broker_transport_options": {"global_keyprefix": "shop:", **OPTIONS},
        "result_backend_transport_options": {"global_keyprefix": "shop"},
    }
    with pair(tmp_path, 0, **settings) as both:
        for name in ROADS:
            road = both.road(name)
            assert road.results(road.send("add", 2, 3, countdown=0.2)) == [5, 5]
            assert road.after_retries("word")[1] == ["word", 2]
        assert {key[:5] for key in both.fleet.redis.scan_iter()} <= {"shop:", "shop_"}


class TestPriorities:
    """0 comes first on the wire."""

    @pytest.mark.follows("ROUTE-15", "QUIRK-02")
    def test_those_of_celery_are_kept(self, tmp_path: Path) -> None:
        self._check(tmp_path, sender=0)

    @pytest.mark.follows("ROUTE-15", "QUIRK-02")
    def test_those_of_celeriac_are_celerys_if_it_is_told_so(self, tmp_path: Path) -> None:
        self._check(tmp_path, sender=1, broker_transport_options={"priority_direction": "lower"})

    @staticmethod
    def _check(folder: Path, sender: int, **settings: Any) -> None:
        with fleet(folder, **settings) as both:
            ledgers = []
            for peer, queue in ((both.celeriac, OURS), (both.celery, THEIRS)):
                ledger = folder / queue
                for priority in (9, 3, 6, 0, 3):
                    args = [str(ledger), str(priority)]
                    both.producers[sender].apply_async(
                        "interop.ledger", args, queue=queue, priority=priority
                    )
                peer.worker("-Q", queue, "-c", "1")
                ledgers.append(ledger)
            for ledger in ledgers:
                eventually(lambda: ledger.exists() and ledger.read_text().count("\n") == 5, 20.0)  # noqa: B023
                assert ledger.read_text().split() == ["0", "3", "3", "6", "9"]
