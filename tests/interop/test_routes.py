"""The router sends every call of ``route_cases.py`` where Celery sent it (golden/routes.json)."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kombu.common import Broadcast
from kombu.entity import Exchange, Queue, binding

from celeriac import queues
from celeriac.context import Context, current
from celeriac.exceptions import ImproperlyConfigured, QueueNotFound
from celeriac.routing.router import Route, Router
from celeriac.settings import Configuration
from tests.interop import route_cases
from tests.interop.route_cases import Case

HERE = "tests.interop.route_cases"
GOLDEN = json.loads((Path(__file__).parent / "golden" / "routes.json").read_text())["cases"]
KITS = {
    "ours": SimpleNamespace(
        Queue=queues.Queue,
        Exchange=queues.Exchange,
        binding=queues.binding,
        Broadcast=queues.Broadcast,
    ),
    "kombu": SimpleNamespace(Queue=Queue, Exchange=Exchange, binding=binding, Broadcast=Broadcast),
}
CASES = {name: route_cases.cases(kit, HERE) for name, kit in KITS.items()}


def find(case: Case, *, broker_routes: bool) -> Route:
    conf = Configuration()
    conf.update(case.settings)
    tasks = {} if case.task is None else {case.name: SimpleNamespace(name=case.name)}
    router = Router(conf.snapshot, tasks=tasks, broker_routes=broker_routes)
    info = {"priority": case.parent}
    parent = Context(delivery_info=info, called_directly=False) if case.parent else None
    token = current.set(parent)
    try:
        options = {**(case.task or {}), **case.call}
        first = router.find(options, case.name, (1, 2), {"word": "w"})
        assert router.find(options, case.name, (1, 2), {"word": "w"}) == first, (
            "also when it is known"
        )
        return first
    finally:
        current.reset(token)


def test_every_case_was_captured() -> None:
    assert list(CASES["ours"]) == list(GOLDEN)


@pytest.mark.follows(
    "ROUTE-01", "ROUTE-02", "ROUTE-03", "ROUTE-04", "ROUTE-05", "ROUTE-06",
    "ROUTE-07", "ROUTE-08", "ROUTE-09", "ROUTE-10", "ROUTE-14", "ROUTE-20",
    "CALL-02", "CALL-22", "QUIRK-03",
)  # fmt: skip
@pytest.mark.parametrize("kit", KITS)
@pytest.mark.parametrize("name", GOLDEN)
def test_exchange_key_priority_and_queues_are_celerys(name: str, kit: str) -> None:
    expected: dict[str, Any] = GOLDEN[name]
    case = CASES[kit][name]
    if "error" in expected:
        with pytest.raises(QueueNotFound):
            find(case, broker_routes=False)
        return
    route = find(case, broker_routes=True)
    assert {
        "exchange": route.exchange,
        "routing_key": route.routing_key,
        "priority": route.priority,
        "delivery_mode": route.delivery_mode,
        "declare": [one.name for one in route.declare],
    } == {
        name: expected[name] or _empty(name, expected[name])
        for name in expected
        if name != "queues"
    }
    _check_queues(case, route, expected["queues"])


def _empty(name: str, value: Any) -> Any:
    """A message may be published without a key: it is empty then."""
    return "" if name == "routing_key" else value


def _check_queues(case: Case, route: Route, landed: list[str]) -> None:
    if route.broadcast:
        with pytest.raises(ImproperlyConfigured, match="leads to a Broadcast"):
            find(case, broker_routes=False)
    elif landed:
        assert sorted(find(case, broker_routes=False).queues) == landed
    else:
        # Celery loses it without a word.
        with pytest.raises(QueueNotFound, match="nothing is bound to exchange"):
            find(case, broker_routes=False)
