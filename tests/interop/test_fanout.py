"""Messages for every worker: Celery and Celeriac under one Broadcast, whoever sends, on both brokers.

And exchanges that lead to queues of which only the other library has been told.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import time
from typing import Any

import pytest
from msgspec import Struct

from tests.fixtures.celery_peer import CeleryPeer
from tests.fixtures.celery_producer import CeleryProducer
from tests.fixtures.fleet import BROKERS, REDIS, Fleet, fleet, rabbit
from tests.fixtures.fleet import Producer as Caller
from tests.fixtures.waiting import eventually
from tests.fixtures.worker_program import WorkerProgram

ALL = "everyone"
"""The Broadcast."""
CALLERS = ("celery", "celeriac")


class Everyone(Struct, frozen=True):
    """A fleet with two workers of Celeriac's and one of Celery's, all under the Broadcast."""

    fleet: Fleet
    workers: tuple[WorkerProgram, ...]
    ledger: Path

    def caller(self, name: str) -> Caller:
        return self.fleet.celery.producer if name == "celery" else self.fleet.celeriac.producer

    @contextmanager
    def fresh_caller(self) -> Iterator[CeleryProducer]:
        """Yield a caller of Celery's that has declared nothing yet."""
        peer = CeleryPeer(self.fleet.broker_url, None, self.ledger.parent, broadcasts=[ALL])
        try:
            yield peer.producer
        finally:
            peer.close()

    def signed(self, word: str = "") -> Counter[str]:
        """Return who has signed with this word, and how often."""
        lines = self.ledger.read_text().splitlines() if self.ledger.exists() else []
        return Counter(line.removesuffix(word) for line in lines if line.endswith(word))

    @property
    def each_once(self) -> Counter[str]:
        return Counter(worker.name for worker in self.workers)


@pytest.fixture(scope="module", params=BROKERS)
def everyone(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Everyone]:
    folder = tmp_path_factory.mktemp("fanout")
    server = rabbit(request, request.param)
    with fleet(folder, rabbit=server, broadcasts=[ALL]) as both:
        workers = [both.celeriac.worker("-Q", f"own,{ALL}") for _ in range(2)]
        workers.append(both.celery.worker("-Q", f"theirs,{ALL}"))
        for worker in workers:
            worker.wait_ready()
        yield Everyone(both, tuple(workers), folder / "signed")


@pytest.mark.follows("ROUTE-09", "BROK-02")
@pytest.mark.parametrize("caller", CALLERS)
class TestBroadcast:
    def test_it_reaches_every_worker_once(self, everyone: Everyone, caller: str) -> None:
        send(everyone, caller, "sign", word := f" once by {caller}")
        eventually(lambda: everyone.signed(word) == everyone.each_once)
        # Whatever else it did would have been done by the time that the next one is through.
        send(everyone, caller, "sign", after := f" after by {caller}")
        eventually(lambda: everyone.signed(after) == everyone.each_once)
        assert everyone.signed(word) == everyone.each_once

    @pytest.mark.follows("CALL-01")
    def test_it_waits_for_its_time(self, everyone: Everyone, caller: str) -> None:
        began = time()
        send(everyone, caller, "sign", word := f" later by {caller}", countdown=2)
        eventually(lambda: everyone.signed(word) == everyone.each_once)
        assert time() - began >= 2

    @pytest.mark.follows("ROUTE-14", "ROUTE-15")
    def test_it_may_have_a_priority(self, everyone: Everyone, caller: str) -> None:
        send(everyone, caller, "sign", word := f" soon by {caller}", priority=5)
        eventually(lambda: everyone.signed(word) == everyone.each_once)


@pytest.mark.follows("ROUTE-09", "BROK-02")
def test_what_celerys_callers_do_not_declare_reaches_our_workers(everyone: Everyone) -> None:
    """On Redis Celery's own workers never get it: its caller takes the exchange for a direct one."""
    arguments = [str(everyone.ledger), word := " undeclared"]
    ours = Counter(worker.name for worker in everyone.workers[:2])
    expected = ours if everyone.fleet.broker == REDIS else everyone.each_once
    with everyone.fresh_caller() as producer:
        producer.apply_async("interop.sign", arguments, queue=ALL)
        eventually(lambda: everyone.signed(word) == expected)
    send(everyone, "celery", "sign", after := " after that")
    eventually(lambda: everyone.signed(after) == everyone.each_once)
    assert everyone.signed(word) == expected


def send(everyone: Everyone, caller: str, task: str, word: str, **options: Any) -> None:
    """Send to all. Celery's caller says what the exchange is, or else loses messages on Redis."""
    arguments = [str(everyone.ledger), word]
    options |= {"queue": ALL, "declare": [(ALL, "fanout")]}
    everyone.caller(caller).apply_async(f"interop.{task}", arguments, **options)
