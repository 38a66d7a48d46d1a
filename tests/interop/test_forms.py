"""All forms of messages between Celery and Celeriac, both ways: on Redis all, on RabbitMQ some of each.

Serializers, compressions, and messages of protocol 1. Forms of results: ``test_redis_results``.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any
from uuid import uuid4

import pytest

from tests.fixtures.apps.interop_tasks import VALUES
from tests.fixtures.celeriac_peer import CeleriacProducer
from tests.fixtures.celery_peer import CeleryPeer
from tests.fixtures.fleet import (
    BROKERS,
    OURS,
    RABBIT,
    REDIS,
    ROADS,
    THEIRS,
    Pair,
    Road,
    pair,
    rabbit,
    signature,
)
from tests.fixtures.waiting import eventually

SERIALIZERS = ("json", "yaml", "pickle", "msgpack")
COMPRESSIONS = ("gzip", "zlib", "bzip2", "lzma", "brotli", "zstd")
ACCEPTED: dict[str, Any] = {
    "accept_content": list(SERIALIZERS),
    "result_accept_content": list(SERIALIZERS),
}
SOME = (("json", None), ("json", "gzip"), ("pickle", "zstd"), ("msgpack", None))
FORMS = [
    *((REDIS, serializer, form) for serializer in SERIALIZERS for form in (None, *COMPRESSIONS)),
    *((RABBIT, *form) for form in SOME),
]
every_form = pytest.mark.parametrize(
    ("both", "serializer", "compression"), FORMS, indirect=["both"], scope="module"
)
LONG = "a long text ☃ " * 500
ARGUMENT = {"text": LONG, "list": [1, 2.5, None, True, {"deep": ["ü"]}]}


@pytest.fixture(scope="module", params=BROKERS)
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    server = rabbit(request, request.param)
    # Celery would write arguments into its results, in a form that does not know all of them.
    settings: dict[str, Any] = {"result_extended": False, **ACCEPTED}
    with pair(tmp_path_factory.mktemp("forms"), rabbit=server, **settings) as both:
        yield both


@pytest.fixture(params=ROADS)
def road(request: pytest.FixtureRequest, both: Pair) -> Road:
    return both.road(request.param)


@pytest.fixture(scope="module")
def old(both: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Road]]:
    """The roads of callers who send messages of protocol 1."""
    settings = {**both.fleet.celery.settings, "task_protocol": 1}
    urls = settings.pop("broker_url"), settings.pop("result_backend")
    celery = CeleryPeer(*urls, tmp_path_factory.mktemp("old"), **settings)
    celeriac = CeleriacProducer({**both.fleet.celeriac.settings, "task_protocol": 1})
    readers = both.fleet.producers
    yield {
        ROADS[0]: Road(celery.producer, OURS, both.ours, readers),
        ROADS[1]: Road(celeriac, THEIRS, both.theirs, readers),
    }
    celery.close()
    celeriac.close()


class TestMessages:
    @pytest.mark.follows("SER-01", "SER-05", "QUIRK-05")
    @every_form
    def test_every_form(self, road: Road, serializer: str, compression: str | None) -> None:
        form = {"serializer": serializer, "compression": compression}
        [answer, again] = road.results(road.send("echo", 1, ARGUMENT, **form))
        assert answer == again == [[1, ARGUMENT], {}]

    @pytest.mark.follows("SER-01", "SER-03")
    @pytest.mark.parametrize("serializer", SERIALIZERS)
    def test_kinds_of_values(self, road: Road, serializer: str) -> None:
        """A worker of one sends to the worker of the other, so that no test has them in its hands."""
        other = OURS if road.queue == THEIRS else THEIRS
        [shown, _] = road.results(road.send("send_values", serializer, other))
        assert road.results(shown) == [repr(VALUES[serializer])] * 2

    @pytest.mark.follows("SER-01", "SER-05", "TASK-27")
    def test_retries_and_links_of_a_compressed_pickle(self, road: Road) -> None:
        form = {"serializer": "pickle", "compression": "zstd"}
        assert road.after_retries(LONG, **form)[1] == [LONG, 2]


class TestProtocol1:
    """What the oldest callers send."""

    @pytest.fixture(params=ROADS)
    def road(self, request: pytest.FixtureRequest, old: dict[str, Road]) -> Road:
        return old[request.param]

    @pytest.mark.follows("CALL-23", "OLD-05")
    def test_it_is_what_is_sent(self, road: Road, both: Pair) -> None:
        id_ = road.send("echo", 1, queue="nobody")
        if both.fleet.broker == REDIS:
            [text] = both.fleet.redis.lrange("nobody", 0, -1)
            both.fleet.redis.delete("nobody")
            assert '"headers": {}' in text or '"headers":{}' in text
        else:
            _, properties, body = both.fleet.host.take("nobody")
            assert properties.correlation_id == id_
            assert "task" not in (properties.headers or {})
            assert json.loads(body)["task"] == "interop.echo"

    @pytest.mark.follows("CALL-23", "OLD-05", "SER-01", "SER-05")
    @every_form
    def test_every_form(self, road: Road, serializer: str, compression: str | None) -> None:
        form = {"serializer": serializer, "compression": compression}
        id_ = road.send("echo", 1, ARGUMENT, **form)
        assert road.results(id_) == [[[1, ARGUMENT], {}]] * 2

    @pytest.mark.follows("CALL-23", "OLD-05", "TASK-27")
    def test_failures_and_retries(self, road: Road) -> None:
        id_ = road.comes_to(road.send("fail", "on purpose"), "FAILURE")
        assert road.readers[0].result(id_) == {"exception": "ValueError", "args": ["on purpose"]}
        assert road.after_retries("word")[1] == ["word", 2]

    @pytest.mark.follows("CALL-09", "CALL-10", "OLD-05")
    def test_links(self, road: Road, tmp_path: Path) -> None:
        link, noted = str(uuid4()), tmp_path / "noted"
        road.send("add", 1, 2, link=signature("add", 10, queue=OURS, task_id=link))
        assert road.results(link) == [13, 13]
        note = signature("note", queue=THEIRS, path=str(noted))
        id_ = road.send("fail", link_error=note)
        eventually(lambda: noted.exists() and noted.read_text() == f"{id_}\n")

    @pytest.mark.follows("CALL-04", "OLD-05")
    @pytest.mark.filterwarnings("ignore:.*expired")
    def test_expiry_and_limits(self, road: Road) -> None:
        road.comes_to(road.send("add", 1, 1, expires=-5), "REVOKED")
        id_ = road.comes_to(road.send("slow", 20, soft_time_limit=0.2, time_limit=30), "FAILURE")
        assert road.readers[0].result(id_)["exception"] == "SoftTimeLimitExceeded"

    @pytest.mark.follows("CALL-03", "OLD-05")
    def test_countdown(self, old: dict[str, Road]) -> None:
        road, before = old[ROADS[0]], time()
        [ran, _] = road.results(road.send("now", countdown=0.4))
        assert ran >= before + 0.4

    @pytest.mark.follows("TASK-25", "OLD-05")
    def test_requests(self, road: Road) -> None:
        id_ = road.send("request", headers={"my": "header"}, time_limit=50, soft_time_limit=40)
        request = road.results(id_)[0]
        assert (request["id"], request["retries"]) == (id_, 0)
        assert request["timelimit"] == [50, 40]
