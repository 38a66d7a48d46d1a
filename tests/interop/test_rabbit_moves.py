"""A live queue of RabbitMQ is moved from Celery to Celeriac and back; nothing is lost or done twice.

Celery has what is for later in its hands, and gives it back when it ends; Celeriac puts it into the
delay levels, out of which it comes to whoever is there when it is due.
"""

from collections.abc import Iterator
from pathlib import Path
from time import time

import pytest

from tests.fixtures.fleet import Fleet, fleet
from tests.fixtures.fleet_ledger import FleetLedger
from tests.fixtures.gate import Gate
from tests.fixtures.rabbit_server import RabbitServer
from tests.fixtures.waiting import eventually

QUEUE = "celery"
# The server tells the messages of a quorum queue every few seconds only.
CLASSIC = {"broker_native_delayed_delivery_queue_type": "classic"}


@pytest.fixture
def both(rabbit_server: RabbitServer, tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path, rabbit=rabbit_server, **CLASSIC) as both:
        yield both


@pytest.fixture
def ledger(tmp_path: Path) -> FleetLedger:
    return FleetLedger(tmp_path / "ledger")


def for_later(both: Fleet) -> int:
    """Return how many messages wait in the delay levels."""
    counts = both.host.messages()
    return sum(count for name, count in counts.items() if name.startswith("celery_delayed"))


@pytest.mark.follows("CALL-03", "WORK-10", "WORK-15")
def test_from_celery_to_celeriac_and_back(both: Fleet, ledger: FleetLedger) -> None:
    celery, celeriac = both.producers
    began = time()
    old = both.celery.worker().wait_ready()
    # On a slow machine all that is to come before it takes longer.
    due = time() + 8 + 4 * (time() - began)
    ledger.send(celery, 100, QUEUE)
    later = ledger.send(celery, 100, QUEUE, countdown=due - time())
    eventually(lambda: ledger.missing == later and both.host.ready(QUEUE) < 100)
    old.terminate()
    eventually(lambda: both.host.ready(QUEUE) == 100)
    later |= ledger.send(celery, 100, QUEUE, countdown=due - time())
    ledger.send(celery, 50, QUEUE)
    ours = both.celeriac.worker().wait_ready()
    later |= ledger.send(celeriac, 50, QUEUE, countdown=due - time())
    eventually(lambda: ledger.missing <= later and for_later(both) == 250, 20.0)
    ours.terminate()
    assert ledger.missing == later, "this machine is so slow that everything was due too early"
    new = both.celery.worker()
    eventually(lambda: not ledger.missing, 40.0)
    assert time() > due
    eventually(lambda: not both.host.messages(), 20.0)
    new.terminate()
    assert ledger.repeated == set()


@pytest.mark.follows("BROK-01")
def test_back_to_celery_when_celeriac_has_been_killed(both: Fleet, ledger: FleetLedger) -> None:
    gate = Gate()
    ours = both.celeriac.worker().wait_ready()
    for producer in both.producers:
        ledger.send(producer, 20, QUEUE, countdown=600)
        ledger.send_late(producer, 10, QUEUE, gate.address)
    visitors = [gate.visitor() for _ in range(2)]
    eventually(lambda: for_later(both) == 40)
    ours.kill()
    gate.close()
    assert len({visitor.word for visitor in visitors} & ledger.missing) == 2
    both.celery.worker().wait_ready()
    # What is due runs at once, also what was in the dead worker's hands.
    eventually(lambda: len(ledger.missing) == 40, 20.0)
    assert ledger.repeated == set()
    eventually(lambda: sum(both.host.messages().values()) == for_later(both) == 40, 20.0)
