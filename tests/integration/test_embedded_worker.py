"""A worker in a thread of this process: all of its threads and parts are those of production."""

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celery, Task, signals, states
from celeriac.exceptions import CeleriacWarning, TimeoutError
from celeriac.testing import FakeClock, TestApp, start_worker
from celeriac.testing.worker import (
    EmbeddedWorker,
    test_worker_started,
    test_worker_starting,
    test_worker_stopped,
)
from tests.fixtures.waiting import eventually

pytestmark = pytest.mark.follows("TESTH-03")


@pytest.fixture
def app() -> Celery:
    app = TestApp()

    @app.task(name="add")
    def add(x: int, y: int) -> int:
        return x + y

    return app


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate()} - {"MainThread"}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Wait, at the end, for the threads of workers that had no time to stop in their test."""
    before = threads()
    yield
    eventually(lambda: threads() <= before)


class Latch:
    """Holds a task until the test lets it go, and tells the test that it runs."""

    def __init__(self) -> None:
        self.begun, self.over = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.begun.set()
        assert self.over.wait(10)
        return "let go"


@pytest.fixture
def latch(nothing_is_left: None) -> Iterator[Latch]:
    latch = Latch()
    yield latch
    latch.over.set()


def test_tasks_are_run_while_it_is_there(app: Celery) -> None:
    before = threads()
    with start_worker(app) as worker:
        assert isinstance(worker, EmbeddedWorker)
        results = [app.send_task("add", (number, 1)) for number in range(300)]
        assert [result.get(timeout=10) for result in results] == list(range(1, 301))
    assert threads() == before
    assert app.send_task("add", (1, 1)).state == states.PENDING


def test_it_can_be_had_again_and_again(app: Celery) -> None:
    for number in range(20):
        with start_worker(app, perform_ping_check=False):
            assert app.send_task("add", (number, 1)).get(timeout=10) == number + 1


def test_tasks_that_are_made_meanwhile_are_known(app: Celery) -> None:
    with start_worker(app) as worker:

        @app.task
        def mul(x: int, y: int) -> int:
            return x * y

        worker.reload()
        assert mul.delay(4, 4).get(timeout=10) == 16


def test_it_works_on_a_file_as_well(home: Path) -> None:
    app = Celery("own", broker=f"sqlite:///{home}/own.db")
    app.task(name="add")(lambda x, y: x + y)
    with start_worker(app):
        assert app.send_task("add", (1, 2)).get(timeout=10) == 3
    app.close()


def test_a_state_is_seen_while_the_task_runs(app: Celery, latch: Latch) -> None:
    @app.task(bind=True, track_started=True)
    def slow(self: Task) -> str:
        self.update_state(state="HALFWAY", meta=50)
        return latch()

    with start_worker(app):
        result = slow.delay()
        eventually(lambda: result.state == "HALFWAY")
        latch.over.set()
        assert result.get(timeout=10) == "let go"


def test_early_acks(app: Celery, latch: Latch) -> None:
    slow = app.task(name="slow", acks_late=False)(latch.__call__)
    with start_worker(app):
        result = slow.delay()
        assert latch.begun.wait(10)
        assert app.broker.sizes() == {}
        latch.over.set()
        assert result.get(timeout=10) == "let go"


def test_it_waits_for_the_running_task_and_gives_back_the_others(app: Celery, latch: Latch) -> None:
    slow = app.task(name="slow")(latch.__call__)
    with start_worker(app):
        running, waiting = slow.delay(), app.send_task("add", (1, 1))
        assert latch.begun.wait(10)
        threading.Timer(0.05, latch.over.set).start()
    assert running.get(timeout=0) == "let go"
    assert waiting.state == states.PENDING
    assert app.broker.sizes()["celery"].ready == 1


def test_it_does_not_hang_with_a_task_that_does(app: Celery, latch: Latch) -> None:
    slow = app.task(name="slow")(latch.__call__)
    with (
        pytest.raises(RuntimeError, match=r"not come to its end in 0.05 s.*shutdown_timeout"),
        start_worker(app, shutdown_timeout=0.05),
    ):
        slow.delay()
        assert latch.begun.wait(10)
    latch.over.set()
    eventually(lambda: "celery@testing" not in threads())


def test_what_it_fails_with_is_raised_in_the_test(app: Celery) -> None:
    def breaks(*_: Any) -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"), start_worker(app) as worker:
        worker.consumption.step = breaks  # type: ignore[method-assign,assignment]
        worker.wake()
        eventually(lambda: worker.failure)


def test_a_failure_of_the_test_is_told_before_one_of_the_worker(app: Celery, latch: Latch) -> None:
    slow = app.task(name="slow")(latch.__call__)
    with pytest.raises(ZeroDivisionError) as caught, start_worker(app, shutdown_timeout=0.01):
        slow.delay()
        assert latch.begun.wait(10)
        raise ZeroDivisionError
    assert "not come to its end" in caught.value.__notes__[0]


def test_it_proves_itself_with_a_ping(app: Celery) -> None:
    ran = []

    def hear(sender: Any, **_: Any) -> None:
        ran.append(sender.name)

    signals.task_prerun.connect(hear)
    with start_worker(app, queues="one,two"):
        assert ran == ["celery.ping"]
    with start_worker(app, perform_ping_check=False):
        pass
    assert ran == ["celery.ping"]


def test_a_ping_of_the_users_own_is_kept(app: Celery) -> None:
    asked = []

    @app.task(name="celery.ping")
    def own() -> str:
        asked.append(1)
        return "pong"

    with start_worker(app):
        assert asked == [1]


def test_a_ping_that_is_not_answered_ends_it(app: Celery) -> None:
    before = threads()
    with pytest.raises(TimeoutError), start_worker(app, ping_task_timeout=0):
        pytest.fail("it was given to the test")
    assert threads() == before


def test_without_results_there_is_no_ping() -> None:
    app = TestApp(backend="disabled://")
    ran = threading.Event()
    app.task(name="ran")(ran.set)
    with start_worker(app):
        app.send_task("ran")
        assert ran.wait(10)


def test_its_queues_and_name(app: Celery) -> None:
    told: dict[str, Any] = {}

    @app.task(bind=True)
    def where(self: Task) -> list[Any]:
        return [self.request.hostname, self.request.delivery_info["routing_key"]]

    with start_worker(app, queues=["one", "two"], hostname="w@box", without_mingle=True):
        for queue in ("one", "two"):
            told[queue] = where.apply_async(queue=queue).get(timeout=10)
        elsewhere = where.delay()
    assert told == {"one": ["w@box", "one"], "two": ["w@box", "two"]}
    assert elsewhere.state == states.PENDING


def test_another_pool_is_warned_of(app: Celery) -> None:
    with (
        pytest.warns(CeleriacWarning, match="pool 'prefork' is not used in tests") as warned,
        start_worker(app, pool="prefork", concurrency=4),
    ):
        assert app.send_task("add", (1, 1)).get(timeout=10) == 2
    assert warned[0].filename == __file__


def test_its_signals(app: Celery) -> None:
    heard: list[tuple[str, Any]] = []

    def hear(signal: Any, sender: Any, **told: Any) -> None:
        heard.append((signal.name, told.get("worker")))

    told = (test_worker_starting, test_worker_started, test_worker_stopped, signals.worker_ready)
    for signal in told:
        signal.connect(hear)
    with start_worker(app) as worker:
        eventually(lambda: len(heard) == 3)
    names = ["test_worker_starting", "test_worker_started", "worker_ready", "test_worker_stopped"]
    assert sorted(name for name, _ in heard) == sorted(names)
    assert dict(heard)["test_worker_stopped"] is worker


def test_what_is_due_by_a_fake_clock_runs_when_that_is_moved(app: Celery) -> None:
    with FakeClock() as clock, start_worker(app):
        result = app.send_task("add", (1, 1), countdown=3600)
        app.send_task("add", (1, 1)).get(timeout=10)
        assert result.state == states.PENDING
        clock.advance(hours=1)
        assert result.get(timeout=10) == 2


class TestLogging:
    def log_of(self, app: Celery, file: Path, **options: Any) -> str:
        before = [(o.handlers, o.level, o.propagate) for o in map(logging.getLogger, LOGGERS)]
        with start_worker(app, **options):
            app.send_task("add", (1, 1)).get(timeout=10)
        after = [(o.handlers, o.level, o.propagate) for o in map(logging.getLogger, LOGGERS)]
        assert after == before
        return file.read_text("utf-8") if file.exists() else ""

    @pytest.mark.follows("TESTH-08")
    def test_it_is_left_alone(self, app: Celery, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.INFO):
            self.log_of(app, Path("none"))
        assert "Task add" in caplog.text

    @pytest.mark.follows("TESTH-08")
    def test_a_file_is_written_from_a_level_on(self, app: Celery, tmp_path: Path) -> None:
        file = tmp_path / "log"
        assert "succeeded" in self.log_of(app, file, loglevel="info", logfile=str(file))
        assert self.log_of(app, file := tmp_path / "quiet", logfile=str(file)) == ""

    @pytest.mark.follows("TESTH-04", "TESTH-08")
    def test_an_app_that_logs_does_so(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        app = TestApp(enable_logging=True)
        app.task(name="add")(lambda x, y: x + y)
        self.log_of(app, tmp_path / "none", loglevel=logging.INFO)
        assert "succeeded" in capfd.readouterr().err


LOGGERS = ("celeriac", "celeriac.task")


def test_nothing_is_left_in_a_thread_that_ended(app: Celery) -> None:
    before = threads()
    for _ in range(3):
        with pytest.raises(LookupError), start_worker(app):
            raise LookupError
    assert threads() == before
