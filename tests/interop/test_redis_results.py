"""All forms of result documents between Celery and Celeriac on Redis, both ways.

Whatever a worker of one stores, in any serializer and any compression, callers of both read.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.fixtures.apps.interop_tasks import Odd
from tests.fixtures.fleet import ROADS, Pair, Road, pair
from tests.fixtures.gate import Gate

SERIALIZERS = ("json", "yaml", "pickle", "msgpack")
ACCEPTED: dict[str, Any] = {
    "accept_content": list(SERIALIZERS),
    "result_accept_content": list(SERIALIZERS),
}
LONG = "a long text ☃ " * 500
ARGUMENT = {"text": LONG, "list": [1, 2.5, None, True, {"deep": ["ü"]}]}
RESULTS = [
    ("json", "gzip"),
    ("yaml", "bzip2"),
    ("pickle", "lzma"),
    ("msgpack", "brotli"),
    ("json", "zstd"),
    ("yaml", None),
    ("pickle", None),
    ("msgpack", None),
]


@pytest.fixture(scope="module", params=RESULTS, ids=[f"{one}-{two}" for one, two in RESULTS])
def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    """A fleet of which both sides keep their results in this form."""
    serializer, compression = request.param
    form = {"result_serializer": serializer, "result_compression": compression}
    with pair(tmp_path_factory.mktemp("results"), **ACCEPTED, **form) as both:
        yield both


@pytest.fixture(params=ROADS)
def road(request: pytest.FixtureRequest, both: Pair) -> Road:
    return both.road(request.param)


@pytest.mark.follows("BACK-01", "BACK-10", "BACK-13", "SER-01", "SER-05", "SER-09", "RES-04")
def test_success(road: Road) -> None:
    id_ = road.send("echo", 1, ARGUMENT)
    assert road.results(id_) == [[[1, ARGUMENT], {}]] * 2
    assert road.meta(id_)["args"] == [1, ARGUMENT]


@pytest.mark.follows("BACK-12", "RES-16", "SER-09")
def test_failure(road: Road, both: Pair) -> None:
    id_ = road.comes_to(road.send("fail_oddly", LONG, 7), "FAILURE")
    for reader in road.readers:
        assert reader.result(id_) == {"exception": "Odd", "args": [LONG, 7]}
        assert "fail_oddly" in str(reader.traceback(id_))
    with pytest.raises(Odd):
        both.fleet.celeriac.producer.get(id_)


@pytest.mark.follows("TASK-27", "TASK-36", "SER-09")
def test_states(road: Road) -> None:
    road.comes_to(road.send("retry_later", 600), "RETRY")
    gate = Gate()
    id_ = road.send("custom_state", "HALFWAY", {"text": LONG}, gate.address)
    visitor = gate.visitor()
    road.comes_to(id_, "HALFWAY")
    assert road.meta(id_)["result"] == {"text": LONG}
    visitor.let_go("over")
    assert road.results(id_) == ["over", "over"]
    gate.close()


@pytest.mark.follows("RES-20", "SER-09")
def test_a_success_of_the_other_stays(both: Pair) -> None:
    _stays(both, *ROADS)
    if both.fleet.celery.settings["result_compression"] is None:
        # If Celery has compressed its success, the server cannot tell that it is one.
        _stays(both, *reversed(ROADS))


def _stays(both: Pair, first: str, second: str) -> None:
    """Run the same id on both sides; the second run cannot spoil what the first one has stored."""
    road, other = both.road(first), both.road(second)
    id_ = road.send("add", 1, 2)
    assert road.results(id_) == [3, 3]
    done = road.meta(id_)["date_done"]
    other.send("fail", task_id=id_)
    other.worker.wait_for(rf"{id_}\] raised unexpected")
    # Whatever else is stored by the same process comes after it.
    for _ in range(4):
        other.results(other.send("add", 1, 1))
    meta = road.meta(id_)
    assert (meta["status"], meta["result"], meta["date_done"]) == ("SUCCESS", 3, done)
