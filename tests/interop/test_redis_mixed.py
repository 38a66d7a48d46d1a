"""A worker of Celery and one of Celeriac on the same queue, each killed in turn while there is work.

Celery is killed while it does not take messages from the server: what the server has given out and
Celery has not written down yet is lost with it (QUIRK-18), whoever else is there. So it is brought to
a point where all its processes stand at a gate, and its window is full.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from time import time
from typing import Any

import pytest

from tests.fixtures.fleet import OURS, THEIRS, Fleet, fleet
from tests.fixtures.fleet_ledger import FleetLedger
from tests.fixtures.gate import Gate
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_program import WorkerProgram

TASKS = 5000 if "CELERIAC_LONG_FAULTS" in os.environ else 1500
SHARED, ASIDE = "shared", "aside"
VISIBILITY = 30.0
OPTIONS = {"visibility_timeout": VISIBILITY, "lease": 2.0}
PROCESSES, WINDOW = 2, 8
"""Of Celery's worker: four messages for each process."""


class Mixed:
    """A fleet with a worker of each, which share a queue and have one more for themselves."""

    def __init__(self, fleet: Fleet, ledger: FleetLedger, acks_late: bool) -> None:
        self.fleet = fleet
        self.ledger = ledger
        self._acks_late = acks_late
        self.theirs, self.ours = self.new_celery(), self.new_celeriac()
        self.theirs.wait_ready()
        self.ours.wait_ready()

    def new_celery(self) -> WorkerProgram:
        return self.fleet.celery.worker("-Q", f"{SHARED},{THEIRS}", "-c", str(PROCESSES))

    def new_celeriac(self) -> WorkerProgram:
        return self.fleet.celeriac.worker("-Q", f"{SHARED},{OURS}")

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

    def kill_celeriac(self) -> set[str]:
        """Kill Celeriac's worker in the midst of its work and start it again; return what it held.

        Celery leaves that alone.
        """
        gate = Gate()
        [number] = self.ledger.send_late(self.fleet.celeriac.producer, 1, OURS, gate.address)
        assert gate.visitor().word == number
        self.ours.kill()
        held = self.fleet.held_by_celeriac()
        assert number in self.ledger.numbers_in(held.values())
        # A worker of Celery's looks for lost messages when it starts.
        self.fleet.celery.worker("-Q", ASIDE).wait_ready().terminate()
        assert held.items() <= self.fleet.unacked().items()
        gate.close()
        self.ours = self.new_celeriac().wait_ready()
        return self.ledger.numbers_in(held.values())

    def kill_celery(self) -> tuple[set[str], set[str]]:
        """Kill Celery's worker; return what stood at the gate, and what it held in all."""
        gate = Gate()
        at_gate = self.fill_celery(gate)
        self.theirs.kill()
        held = self.fleet.held_by_celery()
        assert len(held) == WINDOW
        self._is_left_alone(held)
        gate.close()
        self.fleet.age(held, VISIBILITY + 1)
        self.theirs = self.new_celery().wait_ready()
        eventually(lambda: not held.keys() & self.fleet.unacked().keys())
        return at_gate, at_gate | self.ledger.numbers_in(held.values())

    def fill_celery(self, gate: Gate) -> set[str]:
        """Have Celery's worker take so much that it takes no more; return what stands at the gate."""
        self.ledger.send_late(self.fleet.celery.producer, WINDOW + 4, THEIRS, gate.address)
        at_gate = {gate.visitor().word for _ in range(PROCESSES)}
        eventually(lambda: self._celery_is_full(at_gate))
        return at_gate

    def _celery_is_full(self, at_gate: set[str]) -> bool:
        """Whether it takes no more; then what runs is acknowledged, or it is among what it holds."""
        held = self.fleet.held_by_celery()
        running = at_gate & self.ledger.numbers_in(held.values())
        return len(held) == WINDOW and running == (at_gate if self._acks_late else set())

    def _is_left_alone(self, held: dict[str, str]) -> None:
        """Have Celeriac look for what Celery has lost: it finds one that is old enough, and no other."""
        redis, sample = self.fleet.redis, next(iter(held.values()))
        redis.hset("unacked", "old", self._to(ASIDE, sample))
        redis.zadd("unacked_index", {"old": time() - VISIBILITY - 1})
        one = self.fleet.celeriac.worker("-Q", "nobody").wait_ready()
        eventually(lambda: redis.llen(ASIDE) == 1)
        one.terminate()
        redis.delete(ASIDE)
        assert held.items() <= self.fleet.unacked().items()

    @staticmethod
    def _to(queue: str, entry: str) -> str:
        """Return an entry as if its message had come from this queue."""
        return f'{entry[: entry.rindex(",")]}, "{queue}"]'

    def done(self) -> None:
        """Wait until no message is left."""
        eventually(lambda: self.fleet.empty(SHARED, OURS, THEIRS), 30.0)
        assert not self.fleet.redis.exists("celeriac:dead")


@pytest.fixture
def ledger(tmp_path: Path) -> FleetLedger:
    return FleetLedger(tmp_path / "ledger")


def mixed(folder: Path, ledger: FleetLedger, **only_celery: Any) -> Iterator[Mixed]:
    with fleet(folder, broker_transport_options=OPTIONS, only_celery=only_celery) as both:
        yield Mixed(both, ledger, bool(only_celery))


@pytest.fixture
def late(tmp_path: Path, ledger: FleetLedger) -> Iterator[Mixed]:
    """Celery acknowledges late."""
    yield from mixed(tmp_path, ledger, task_acks_late=True)


@pytest.fixture
def early(tmp_path: Path, ledger: FleetLedger) -> Iterator[Mixed]:
    """Celery acknowledges early, as it does by itself."""
    yield from mixed(tmp_path, ledger)


@pytest.mark.follows("TASK-14", "QUIRK-18")
def test_nothing_is_lost_if_celery_acknowledges_late(late: Mixed, ledger: FleetLedger) -> None:
    at_gate, held = disturbed(late)
    assert ledger.missing == set()
    assert at_gate <= held
    assert ledger.repeated <= held


@pytest.mark.follows("WORK-30", "QUIRK-18")
def test_what_is_lost_was_held_by_celery(early: Mixed, ledger: FleetLedger) -> None:
    at_gate, held = disturbed(early)
    assert ledger.missing == at_gate
    assert ledger.repeated <= held


def test_what_only_celery_knows_gets_to_it(late: Mixed) -> None:
    """Celeriac took it while Celery was busy, and offers it again when Celery waits for something."""
    gate, producer = Gate(), late.fleet.celery.producer
    late.fill_celery(gate)
    id_ = producer.send_task("celery.backend_cleanup", queue=SHARED)
    late.ours.wait_for("celery.backend_cleanup.* is not known here")
    gate.close()
    assert producer.get(id_) is None
    late.done()


def disturbed(mixed: Mixed) -> tuple[set[str], set[str]]:
    """Kill each worker in turn while there is work; return what ran in Celery's, and what both held."""
    mixed.begin(TASKS * 2 // 3)
    held = mixed.kill_celeriac()
    mixed.send(TASKS // 6)
    at_gate, theirs = mixed.kill_celery()
    mixed.send(TASKS - TASKS * 2 // 3 - TASKS // 6)
    mixed.done()
    return at_gate, held | theirs
