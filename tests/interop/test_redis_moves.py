"""A live queue is moved from Celery to Celeriac and back, and nothing is left behind or done twice.

What waits for its time in Redis, and what Celeriac's workers held when they were killed, is found by
Celery's workers when they look for lost messages: at their start, and then every
``unacked_restore_interval`` seconds.
"""

from collections.abc import Iterator
from pathlib import Path
from time import time

import pytest

from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.fleet_ledger import FleetLedger
from tests.fixtures.gate import Gate
from tests.fixtures.waiting import eventually

QUEUE = "celery"
VISIBILITY = 30.0
PATIENCE = 10.0
"""Seconds for which Celery leaves what is urgent to workers of Celeriac."""
OPTIONS = {
    "visibility_timeout": VISIBILITY,
    # kombu's: seconds between two looks, and every how many of them it really looks.
    "unacked_restore_interval": 1,
    "unacked_restore_throttle": 1,
}
LASTING = {
    *("celeriac:serial", "_kombu.binding_deadlines"),
    *(f"_kombu.binding.{QUEUE}", f"_kombu.binding_permanent.{QUEUE}"),
}
"""Keys that stay: a counter, and what kombu says of its queues."""


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, broker_transport_options=OPTIONS) as both:
        yield both


@pytest.fixture
def ledger(tmp_path: Path) -> FleetLedger:
    return FleetLedger(tmp_path / "ledger")


def parked(both: Fleet) -> int:
    """Return how many messages Celeriac keeps for later."""
    return int(both.redis.zcard(f"celeriac:delayed:{QUEUE}"))


def assert_nothing_is_left(both: Fleet) -> None:
    """Hold what is on the server against what somebody owns."""
    # They list what Celery has taken since; the next worker of Celeriac's sees that.
    both.celeriac.worker().wait_ready()
    lists = (f"celeriac:delayed:{QUEUE}", f"celeriac:express:{QUEUE}")
    eventually(lambda: not both.redis.exists(*lists))
    keys = {key: both.redis.ttl(key) for key in both.redis.scan_iter()}
    assert {key for key, life in keys.items() if life == -1} <= LASTING
    with both.server.client(1) as results:
        assert all(results.ttl(key) > 0 for key in results.scan_iter())


@pytest.mark.follows("CALL-03", "WORK-10", "WORK-15")
def test_from_celery_to_celeriac_and_back(both: Fleet, ledger: FleetLedger) -> None:
    celery, celeriac = both.producers
    began = time()
    old = both.celery.worker().wait_ready()
    # On a slow machine all that is to come before it takes longer.
    due = time() + 3 + 6 * (time() - began)
    # Celery runs what is due, has the rest in its memory, and gives it back when it is stopped.
    ledger.send(celery, 200, QUEUE)
    later = ledger.send(celery, 300, QUEUE, countdown=due - time())
    eventually(lambda: len(both.held_by_celery()) == 300 and ledger.missing == later, 20.0)
    old.terminate()
    # Celeriac takes over: it runs what is due, and leaves the rest in the broker.
    later |= ledger.send(celery, 700, QUEUE, countdown=due - time())
    ledger.send(celery, 50, QUEUE)
    ours = both.celeriac.worker().wait_ready()
    later |= ledger.send(celeriac, 50, QUEUE, countdown=due - time())
    eventually(lambda: ledger.missing <= later and parked(both) == len(both.unacked()) > 0)
    eventually(lambda: not both.redis.llen(QUEUE))
    ours.terminate()
    assert ledger.missing, "this machine is so slow that everything was due too early"
    urgent = ledger.send(celeriac, 5, QUEUE, priority=5)
    assert ledger.numbers_in(both.unacked().values()) == ledger.missing
    assert ledger.missing - later == urgent
    # Celery is back, and does all of it. It takes what is urgent when nobody else has done so.
    both.age((tag for tag in both.unacked() if ":x" in tag), PATIENCE)
    new = both.celery.worker()
    eventually(lambda: not ledger.missing and both.empty(QUEUE), 40.0)
    assert time() > due
    new.terminate()
    assert set(ledger.runs) == set(ledger.numbers.values())
    assert ledger.repeated == set()
    assert_nothing_is_left(both)


@pytest.mark.follows("BROK-02")
def test_back_to_celery_when_celeriac_has_been_killed(both: Fleet, ledger: FleetLedger) -> None:
    gate = Gate()
    ours = both.celeriac.worker().wait_ready()
    for producer in both.producers:
        ledger.send(producer, 20, QUEUE, countdown=600)
    eventually(lambda: parked(both) == 40)
    for producer in both.producers:
        ledger.send_late(producer, 10, QUEUE, gate.address)
    gate.visitor()
    gate.visitor()
    ours.kill()
    held = both.held_by_celeriac()
    assert ledger.numbers_in(held.values())
    gate.close()
    # What nobody has had in his hands runs at once; the rest is not to be touched yet.
    late = ledger.numbers_in(both.unacked().values())
    new = both.celery.worker().wait_ready()
    eventually(lambda: ledger.missing == late, 20.0)
    assert held.items() <= both.unacked().items()
    both.age(held, VISIBILITY + 1)
    eventually(lambda: len(ledger.missing) == 40, 20.0)
    assert ledger.repeated == set()
    # Those for later are still there, for whoever comes when they are due.
    eventually(lambda: len(both.unacked()) == parked(both) == 40)
    new.terminate()
