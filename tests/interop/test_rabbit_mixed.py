"""A worker of Celery and one of Celeriac on the same queue of RabbitMQ, each killed in turn at work.

Both acknowledge late. What a worker holds is the server's again as soon as its connection is gone.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.fleet import OURS, THEIRS, Fleet, fleet
from tests.fixtures.fleet_ledger import FleetLedger
from tests.fixtures.gate import Gate
from tests.fixtures.rabbit_server import RabbitServer
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_program import WorkerProgram

TASKS = 5000 if "CELERIAC_LONG_FAULTS" in os.environ else 1000
SHARED = "shared"
PROCESSES, WINDOW = 2, 8
"""Of Celery's worker: four messages for each process."""
MOST_CLAIMED = 200
"""Messages that a worker of Celeriac's holds at most."""


class Mixed:
    """A fleet with a worker of each, which share a queue and have one more for themselves."""

    def __init__(self, fleet: Fleet, ledger: FleetLedger) -> None:
        self.fleet = fleet
        self.ledger = ledger
        self.theirs, self.ours = self.new_celery(), self.new_celeriac()
        self.theirs.wait_ready()
        self.ours.wait_ready()

    def new_celery(self) -> WorkerProgram:
        return self.fleet.celery.worker("-Q", f"{SHARED},{THEIRS}", "-c", str(PROCESSES))

    def new_celeriac(self) -> WorkerProgram:
        return self.fleet.celeriac.worker("-Q", f"{SHARED},{OURS}", "-c", str(PROCESSES))

    def send(self, count: int) -> None:
        """Send quick tasks, half of them with each library."""
        for producer in self.fleet.producers:
            self.ledger.send(producer, count // 2, SHARED)

    def begin(self, count: int) -> None:
        """Send quick tasks while no process is free; return when each worker has run something."""
        gate = Gate()
        for producer, queue in zip(self.fleet.producers, (THEIRS, OURS), strict=True):
            self.ledger.send_late(producer, PROCESSES, queue, gate.address)
        visitors = [gate.visitor() for _ in range(2 * PROCESSES)]
        self.send(count)
        for visitor in visitors:
            visitor.let_go()
        for worker in (self.theirs, self.ours):
            worker.wait_for("interop.ledger.* succeeded")
        gate.close()

    def kill_celeriac(self) -> str:
        """Kill Celeriac's worker in the midst of its work, start it again; return what was running."""
        gate = Gate()
        [number] = self.ledger.send_late(self.fleet.celeriac.producer, 1, OURS, gate.address)
        assert gate.visitor().word == number
        self.ours.kill()
        gate.close()
        self.ours = self.new_celeriac().wait_ready()
        return number

    def kill_celery(self) -> set[str]:
        """Kill Celery's worker with its hands full, start it again; return what was running."""
        gate = Gate()
        self.ledger.send_late(self.fleet.celery.producer, WINDOW + 4, THEIRS, gate.address)
        running = {gate.visitor().word for _ in range(PROCESSES)}
        self.theirs.kill()
        gate.close()
        self.theirs = self.new_celery().wait_ready()
        return running


@pytest.fixture
def ledger(tmp_path: Path) -> FleetLedger:
    return FleetLedger(tmp_path / "ledger")


@pytest.fixture
def mixed(rabbit_server: RabbitServer, tmp_path: Path, ledger: FleetLedger) -> Iterator[Mixed]:
    late = {"task_acks_late": True}
    with fleet(tmp_path, rabbit=rabbit_server, only_celery=late) as both:
        yield Mixed(both, ledger)


@pytest.mark.follows("TASK-14", "BROK-01")
def test_nothing_is_lost(mixed: Mixed, ledger: FleetLedger) -> None:
    mixed.begin(TASKS * 2 // 3)
    running = {mixed.kill_celeriac()}
    mixed.send(TASKS // 6)
    running |= mixed.kill_celery()
    mixed.send(TASKS - TASKS * 2 // 3 - TASKS // 6)
    eventually(lambda: not ledger.missing, 60.0)
    assert running <= set(ledger.runs)
    assert len(ledger.repeated) <= WINDOW + MOST_CLAIMED
    # Nothing is in anybody's hands, among the dead or on trial, either.
    eventually(lambda: not mixed.fleet.host.messages(), 20.0)
