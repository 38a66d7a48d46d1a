"""The completer with a real file and a pool that reports what the test says.

Here are the rows of the settlement table that need a store which refuses or is away, or a receipt
which is lost; the others are shown by a real worker, in ``tests/integration/test_settlement.py``.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import Any

import msgspec
import pytest

from celeriac.brokers.sqlite.broker import SqliteBroker
from celeriac.completion import AWAY, Completion, Put, Settlement, Verdict
from celeriac.exceptions import OperationalError, QueueNotFound, StorageCorrupt
from celeriac.message import Message, Publish, QueueSize
from celeriac.outcome import Ending, Outcome
from celeriac.pools.base import (
    NO_LIMITS,
    ExecutorPool,
    Finished,
    Job,
    Limits,
    Lost,
    Report,
    Started,
    Stored,
    Unrun,
)
from celeriac.results.base import ResultStore, task_key
from celeriac.results.sqlite import SqliteStore
from celeriac.settings import Settings
from celeriac.worker.completer import Completer
from celeriac.worker.documents import Documents
from celeriac.worker.flights import Flight, Flights
from celeriac.worker.window import Window
from tests.fixtures.deliveries import message, options

KEY = task_key("one")
LIMIT = 3
ONE_READY = {"celery": QueueSize(ready=1)}
ONE_HELD = {"celery": QueueSize(leased=1)}


class ScriptedPool(ExecutorPool):
    """A pool whose reports are written by the test, and which remembers what it was told."""

    def __init__(self) -> None:
        self.news: list[Report] = []
        self.permits: list[tuple[int, bool]] = []
        self.cancelled: list[int] = []
        self.chores: list[dict[str, Any]] = []
        self.spare = self

    def do(self, **chore: Any) -> None:
        self.chores.append(chore)

    busy = False
    outstanding = 0

    def halt(self) -> None: ...

    def nudge(self) -> None: ...

    def start(self, slots: int) -> None: ...

    def submit(self, job: Job, limits: Limits = NO_LIMITS) -> bool:
        return True

    def permit(self, number: int, allowed: bool) -> None:
        self.permits.append((number, allowed))

    def reports(self, timeout: float | None) -> list[Report]:
        news, self.news = self.news, []
        return news

    def wake(self) -> None: ...

    def supervise(self, timeout: float) -> None: ...

    def recall(self) -> list[int]:
        return []

    def cancel(self, number: int) -> None:
        self.cancelled.append(number)

    def resize(self, slots: int) -> None: ...

    def running(self) -> dict[int, float]:
        return {}

    def drain(self) -> None: ...

    def stop(self) -> Sequence[int]:
        return []


class FaultyStore(SqliteStore):
    """A store that can be away, and takes documents up to ``max_bytes``."""

    away = False

    def put(self, puts: Sequence[Put]) -> None:
        if self.away:
            raise OperationalError("the store is away")
        super().put(puts)


class Bench:
    """A completer with all that it works with, and one message in its hands."""

    def __init__(self, folder: Path, *, apart: bool = False) -> None:
        path = str(folder / "work.db")
        self.broker = SqliteBroker(path)
        self.store = FaultyStore(str(folder / "results.db") if apart else path)
        self.consumer = self.broker.consumer(["celery"], lease=20.0)
        self.pool = ScriptedPool()
        self.flights = Flights()
        self.completer = Completer(
            self.broker,
            self.consumer,
            self.store,
            self.pool,
            self.flights,
            Window(2),
            Documents(Settings(), "w1@box"),
            LIMIT,
            lambda service: None,
        )

    def claim(
        self,
        held: Message | None = None,
        *,
        acknowledged: bool = False,
        number: int = 1,
        **task: Any,
    ) -> Flight:
        """Publish a message, claim it, and enter it as a flight; ``task`` are the task's options."""
        self.broker.publish([Publish(queue="celery", message=held or message("one"))])
        [delivery] = self.consumer.claim(1, 1 << 40)
        job = Job(number, delivery.message, "celery")
        flight = Flight(job, delivery, options(**task), NO_LIMITS)
        self.flights.add(flight)
        if acknowledged:
            self.report(Started(number))
            assert flight.acknowledged
        return flight

    def report(self, *reports: Report) -> None:
        """Let the completer take in these reports and do what it can."""
        self.pool.news.extend(reports)
        self.completer.step(0)

    def try_again(self) -> None:
        """Let the pause after a failed commit be over."""
        self.completer._retry_at = 0.0
        self.completer.step(0)

    def document(self, key: str = KEY) -> dict[str, Any] | None:
        data = self.store.get([key]).get(key)
        return None if data is None else json.loads(data)

    def close(self) -> None:
        self.consumer.close()
        self.broker.close()
        self.store.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Results are kept in the file of the messages."""
    bench = Bench(tmp_path)
    yield bench
    bench.close()


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Bench]:
    """Results are kept elsewhere."""
    bench = Bench(tmp_path, apart=True)
    yield bench
    bench.close()


EARLY: dict[str, Any] = {"acknowledged": True, "acks_late": False}
LATE: dict[str, Any] = {"acks_late": True}
both = pytest.mark.parametrize("policy", [EARLY, LATE], ids=["early", "late"])


def succeeded(value: str = "done", **more: Any) -> Finished:
    document = json.dumps({"status": "SUCCESS", "result": value, "task_id": "one"}).encode()
    return Finished(1, Outcome(ending=Ending.SUCCEEDED, state="SUCCESS", document=document, **more))


def retried() -> Finished:
    follow_up = Publish(queue="again", message=message("one", retries=1))
    outcome = Outcome(
        ending=Ending.RETRIED,
        state="RETRY",
        document=b'{"status": "RETRY"}',
        publishes=(follow_up,),
    )
    return Finished(1, outcome)


def steal(bench: Bench, flight: Flight) -> None:
    """Have the lease end and the message taken by another consumer."""
    bench.consumer.requeue([flight.delivery.receipt])
    other = bench.broker.consumer(["celery"])
    assert len(other.claim(1, 1 << 40)) == 1
    other._closed = True  # it keeps what it holds
    other._bell.close()


class TestResultRefusedByTheStore:
    def refuse(self, bench: Bench, policy: dict[str, Any], **task: Any) -> dict[str, Any]:
        bench.store.max_bytes = 1000
        bench.claim(**policy, **task)
        bench.report(succeeded("x" * 1000))
        document = bench.document()
        assert document is not None
        assert bench.completer.idle()
        assert len(bench.flights) == 0
        return document

    @both
    def test_failure_without_the_value(self, bench: Bench, policy: dict[str, Any]) -> None:
        document = self.refuse(bench, policy)
        assert document["status"] == "FAILURE"
        assert "takes at most 1,000" in document["result"]["exc_message"][0]
        assert bench.broker.sizes() == {}
        assert bench.broker.dead() == []

    def test_it_is_settled_as_failed(self, bench: Bench) -> None:
        self.refuse(bench, LATE, acks_on_failure=False)
        [letter] = bench.broker.dead()
        assert "takes at most 1,000" in letter.reason

    def test_it_holds_nobody_back(self, bench: Bench) -> None:
        bench.store.max_bytes = 1000
        flight = bench.claim()
        other = message("two")
        bench.broker.publish([Publish(queue="celery", message=other)])
        [delivery] = bench.consumer.claim(1, 1 << 40)
        bench.flights.add(Flight(Job(2, other, "celery"), delivery, flight.task, NO_LIMITS))
        second = Finished(2, succeeded("small").outcome)
        bench.report(succeeded("x" * 1000), second)
        large, small = bench.document(), bench.document(task_key("two"))
        assert large is not None
        assert small is not None
        assert (large["status"], small["status"]) == ("FAILURE", "SUCCESS")

    @pytest.mark.timeout(10)
    def test_a_call_too_large_for_the_store_is_left_out_of_the_failure(self, bench: Bench) -> None:
        bench.store.max_bytes = 1000
        bench.claim(message("one", body=b'[["' + b"x" * 2000 + b'"], {}, {}]'))
        # It would go on for ever: one round is enough to see.
        bench.pool.news.append(succeeded("x" * 1000))
        bench.completer._take(bench.pool.reports(0)[0])
        bench.completer._commit()
        bench.completer._commit()
        document = bench.document()
        assert document is not None
        assert document["status"] == "FAILURE"

    def test_a_refusal_whose_document_is_too_large_is_settled_without_it(
        self, bench: Bench
    ) -> None:
        bench.store.max_bytes = 1000
        receipt = bench.claim().delivery.receipt
        bench.flights.remove(1)
        large = Put(KEY, b"x" * 2000, None, "REVOKED")
        completion = Completion(receipt=receipt, settlement=Settlement.ACK, puts=(large,))
        bench.completer.complete(completion)
        bench.completer.step(0)
        assert bench.broker.sizes() == {}
        assert bench.document() is None

    @both
    def test_a_state_that_is_too_large_is_left_out_and_the_run_goes_on(
        self, bench: Bench, policy: dict[str, Any]
    ) -> None:
        bench.store.max_bytes = 1000
        bench.claim(**policy)
        bench.report(Stored(1, Put(KEY, b"x" * 2000, None, "PROGRESS")))
        assert bench.document() is None
        bench.report(succeeded())
        document = bench.document()
        assert document is not None
        assert document["status"] == "SUCCESS"


class TestFollowUpsThatLeadNowhere:
    """As on a broker whose server resolves exchanges: only there it turns out."""

    @pytest.fixture(autouse=True)
    def nowhere(self, apart: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
        publish = apart.broker.publish

        def refusing(publishes: Sequence[Publish]) -> None:
            if any(one.exchange == "nobody" for one in publishes):
                raise QueueNotFound("nothing is bound to exchange 'nobody'")
            publish(publishes)

        monkeypatch.setattr(apart.broker, "publish", refusing)
        monkeypatch.setattr(apart.consumer, "_publish", refusing)

    @both
    def test_the_run_has_failed_and_says_why(self, apart: Bench, policy: dict[str, Any]) -> None:
        apart.claim(**policy)
        astray = Publish(queue="", message=message("two"), exchange="nobody")
        apart.report(succeeded(publishes=(astray,)))
        document = apart.document()
        assert document is not None
        assert document["status"] == "FAILURE"
        assert "exchange 'nobody'" in str(document["result"])
        assert (len(apart.flights), apart.broker.sizes()) == (0, {})

    def test_others_are_not_held_back(self, apart: Bench) -> None:
        apart.claim(**EARLY)
        apart.claim(message("other"), number=2, **EARLY)
        astray = Publish(queue="", message=message("two"), exchange="nobody")
        follow_up = Publish(queue="next", message=message("three"))
        apart.report(
            succeeded(publishes=(astray,)),
            Finished(2, Outcome(ending=Ending.SUCCEEDED, publishes=(follow_up,))),
        )
        assert apart.broker.sizes() == {"next": QueueSize(ready=1)}


class TestMessageAway:
    """As on RabbitMQ after a lost connection: its message may come back to the run."""

    def test_its_outcome_waits_and_others_go_on(
        self, apart: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        apart.claim(**LATE)
        other = apart.claim(message("other"), number=2, **LATE)
        commit = apart.consumer.commit
        missing = {apart.flights.all()[0].delivery.receipt}

        def commits(some: Sequence[Completion], store: ResultStore | None) -> list[Verdict]:
            here = iter(commit([c for c in some if c.receipt not in missing], store))
            return [AWAY if c.receipt in missing else next(here) for c in some]

        monkeypatch.setattr(apart.consumer, "commit", commits)
        done = succeeded()
        apart.report(done, Finished(2, done.outcome))
        assert apart.document() is None
        assert apart.document(task_key("other")) is not None
        assert apart.flights.get(2) is not other
        assert not apart.completer.idle()
        missing.clear()
        apart.completer._recalled_at = 0.0
        apart.completer.step(0)
        assert apart.document() is not None
        assert apart.completer.idle()
        assert apart.broker.sizes() == {}


class TestStoreAway:
    @pytest.mark.follows("RES-22")
    @both
    def test_it_is_kept_and_committed_later(self, apart: Bench, policy: dict[str, Any]) -> None:
        flight = apart.claim(**policy)
        apart.store.away = True
        apart.report(succeeded())
        for _ in range(3):
            assert not apart.completer.well
            assert not apart.completer.idle()
            assert apart.broker.sizes() == ({} if policy is EARLY else ONE_HELD)
            assert apart.flights.receipts() == (
                {} if policy is EARLY else {flight.delivery.receipt: 1}
            ), "its lease is renewed meanwhile"
            apart.try_again()
        apart.store.away = False
        apart.try_again()
        assert apart.document() == {"status": "SUCCESS", "result": "done", "task_id": "one"}
        assert (apart.completer.well, apart.completer.idle(), len(apart.flights)) == (True, True, 0)
        assert apart.broker.sizes() == {}

    def test_it_is_said_once_and_when_it_is_over(
        self, apart: Bench, caplog: pytest.LogCaptureFixture
    ) -> None:
        apart.claim()
        apart.store.away = True
        apart.report(succeeded())
        apart.try_again()
        apart.try_again()
        apart.store.away = False
        apart.try_again()
        said = [record.message for record in caplog.records]
        assert said == [
            "cannot store results, keeping them and trying again: the store is away",
            "results can be stored again",
        ]

    @pytest.mark.follows("RES-22")
    def test_each_pause_is_longer_than_the_last(self, apart: Bench) -> None:
        apart.claim()
        apart.store.away = True
        apart.report(succeeded())
        pauses = []
        for _ in range(4):
            pauses.append(apart.completer._retry_at - monotonic())
            apart.try_again()
        assert pauses == sorted(pauses)
        assert pauses[-1] > 4 * pauses[0]

    @pytest.mark.follows("TASK-30")
    @both
    def test_follow_ups_are_sent_once(self, apart: Bench, policy: dict[str, Any]) -> None:
        apart.claim(**policy)
        apart.store.away = True
        apart.report(retried())
        apart.try_again()
        apart.try_again()
        apart.store.away = False
        apart.try_again()
        assert apart.broker.sizes() == {"again": QueueSize(ready=1)}

    def test_a_damaged_file_is_not_tried_again(
        self, apart: Bench, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def damaged(puts: Sequence[Put]) -> None:
            raise StorageCorrupt("damaged")

        apart.claim()
        monkeypatch.setattr(apart.store, "put", damaged)
        with pytest.raises(StorageCorrupt):
            apart.report(succeeded())


class TestReceiptIsStale:
    def test_after_the_run_nothing_is_done(self, bench: Bench) -> None:
        steal(bench, bench.claim())
        bench.report(retried())
        assert bench.document() is None
        assert bench.broker.sizes() == ONE_HELD, "no follow-up, and the other's lease stands"
        assert len(bench.flights) == 0

    def test_during_the_run_it_is_told_to_stop(self, bench: Bench) -> None:
        steal(bench, bench.claim())
        bench.report(Stored(1, Put(KEY, b"{}", None, "PROGRESS")))
        assert bench.document() is None
        assert bench.pool.cancelled == [1]
        assert len(bench.flights) == 0

    @both
    def test_at_the_start_it_does_not_begin(self, bench: Bench, policy: dict[str, Any]) -> None:
        flight = bench.claim(acks_late=policy["acks_late"])
        steal(bench, flight)
        bench.report(Started(1))
        assert bench.pool.permits == [(1, False)]
        assert not flight.acknowledged
        assert bench.broker.sizes() == ONE_HELD
        assert len(bench.flights) == 0

    def test_after_a_sweep_by_a_second_consumer(self, tmp_path: Path) -> None:
        bench = Bench(tmp_path)
        bench.consumer.lease = -1.0  # It has ended as soon as it begins.
        bench.claim()
        second = bench.broker.consumer(["celery"])
        assert second.sweep() == 1
        bench.report(succeeded())
        assert bench.document() is None
        assert bench.broker.sizes() == ONE_READY
        [delivery] = second.claim(1, 1 << 40)
        assert (delivery.suspect, delivery.losses) == (True, 0)
        second.close()
        bench.close()


class TestStart:
    def test_an_early_ack_comes_before_the_permission(self, bench: Bench) -> None:
        flight = bench.claim(acks_late=False)
        bench.report(Started(1))
        assert (flight.acknowledged, bench.pool.permits) == (True, [(1, True)])
        assert bench.broker.sizes() == {}

    def test_a_suspect_has_its_start_recorded_before_the_permission(self, bench: Bench) -> None:
        bench.consumer.lease = -1.0
        flight = bench.claim()
        bench.report(Started(1))
        assert (flight.acknowledged, bench.pool.permits) == (False, [(1, True)])
        bench.consumer.sweep()
        [delivery] = bench.consumer.claim(1, 1 << 40)
        assert delivery.losses == 1

    def test_a_job_that_has_been_given_back_does_not_begin(self, bench: Bench) -> None:
        bench.report(Started(7))
        assert bench.pool.permits == [(7, False)]


class TestLost:
    def test_over_the_limit_it_is_dead_lettered_with_its_last_words(self, bench: Bench) -> None:
        flight = bench.claim(handlers=True)
        flight.delivery = msgspec.structs.replace(flight.delivery, losses=LIMIT - 1)
        bench.report(Lost(1, "its process was killed by SIGKILL"))
        document = bench.document()
        assert document is not None
        assert document["result"]["exc_type"] == "WorkerLostError"
        [letter] = bench.broker.dead()
        assert "killed by SIGKILL" in letter.reason
        [chore] = bench.pool.chores
        assert chore["message"].id == "one"

    def test_below_the_limit_nobody_is_told(self, bench: Bench) -> None:
        bench.claim(handlers=True)
        bench.report(Lost(1, "its process was killed by SIGKILL"))
        assert bench.document() is None
        assert bench.pool.chores == []
        assert bench.broker.sizes() == ONE_READY

    @pytest.mark.parametrize("overtime", [None, 0.2], ids=["lost", "over its limit"])
    def test_before_it_was_permitted_to_begin_it_goes_back_under_any_policy(
        self, bench: Bench, overtime: float | None
    ) -> None:
        bench.claim(acks_late=False)
        bench.report(Lost(1, "its process was killed by SIGKILL", overtime))
        assert bench.document() is None
        assert bench.broker.sizes() == ONE_READY
        assert len(bench.flights) == 0

    def test_what_a_draining_pool_did_not_run_goes_back_uncounted(self, bench: Bench) -> None:
        bench.claim()
        bench.report(Unrun(1))
        assert bench.document() is None
        [back] = bench.consumer.claim(1, 1 << 40)
        assert (back.losses, back.suspect) == (0, False)

    def test_no_document_if_errors_are_not_kept(self, bench: Bench) -> None:
        bench.claim(reject_on_worker_lost=False).keeps_errors = False
        bench.report(Lost(1, "its process was killed by SIGKILL"))
        assert bench.document() is None
        assert bench.broker.sizes() == {}


def test_states_and_outcome_become_true_in_their_order(bench: Bench) -> None:
    bench.claim()
    progress = Put(KEY, b'{"status": "PROGRESS"}', None, "PROGRESS")
    bench.report(Stored(1, progress), succeeded(), Stored(1, progress))
    document = bench.document()
    assert document is not None
    assert document["status"] == "SUCCESS"


def test_run_times_are_learned(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    learned = []
    monkeypatch.setattr(Window, "learn", lambda _, *told: learned.append(told))
    bench.claim()
    bench.report(succeeded(runtime=0.25))
    assert learned == [("shop.pay", 0.25)]


def test_those_who_wait_for_room_are_told(bench: Bench) -> None:
    told = []
    bench.completer.on_room = lambda: told.append(len(bench.flights))
    bench.claim()
    bench.report(succeeded())
    # When it has ended, so that the next can be claimed while it is committed, and after that.
    assert told == [1, 0]
