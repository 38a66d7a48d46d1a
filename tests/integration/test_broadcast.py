"""Broadcasts as a user has them: several workers, one call, on Redis and on RabbitMQ."""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from celeriac.exceptions import ImproperlyConfigured
from tests.fixtures.apps import broadcasting
from tests.fixtures.apps.broadcasting import EVERYONE, app
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, WorkerProcess, server_url

NAMES = ("one@localhost", "two@localhost")


@pytest.fixture(params=["redis", "amqp"])
def url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    url = server_url(request)
    assert url is not None
    app.close()
    monkeypatch.setitem(app.conf, "broker_url", url)
    yield url
    app.close()


@pytest.fixture
def workers(url: str) -> Iterator[list[WorkerProcess]]:
    with ExitStack() as stack:
        started = [
            stack.enter_context(WorkerProcess(f"{APPS}.broadcasting", url, "-n", name))
            for name in NAMES
        ]
        yield [worker.ready() for worker in started]


class Ledger:
    """Who has signed."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def signed(self) -> Counter[str]:
        return Counter(self.path.read_text().split()) if self.path.exists() else Counter()

    def comes_to(self, **expected: int) -> None:
        """Wait until each has signed so often."""
        wanted = Counter({f"{name}@localhost": count for name, count in expected.items()})
        eventually(lambda: self.signed() == wanted)


@pytest.fixture
def ledger(home: Path) -> Ledger:
    return Ledger(home / "signed")


@pytest.mark.follows("ROUTE-09")
@pytest.mark.usefixtures("workers")
class TestBroadcast:
    def test_every_worker_runs_it(self, ledger: Ledger) -> None:
        broadcasting.sign.apply_async((str(ledger.path),), queue=EVERYONE)
        ledger.comes_to(one=1, two=1)
        broadcasting.sign.apply_async((str(ledger.path),))
        eventually(lambda: ledger.signed().total() == 3)

    @pytest.mark.follows("TASK-27")
    def test_a_retry_is_for_the_worker_that_asked(self, ledger: Ledger) -> None:
        # With Celery each worker's retry goes to all of them again.
        broadcasting.sign_twice.apply_async((str(ledger.path),), queue=EVERYONE)
        ledger.comes_to(one=2, two=2)
        broadcasting.sign.apply_async((str(ledger.path),), queue=EVERYONE)
        ledger.comes_to(one=3, two=3)

    def test_a_task_may_call_everyone(self, ledger: Ledger) -> None:
        broadcasting.say.delay(str(ledger.path))
        ledger.comes_to(one=1, two=1)

    @pytest.mark.follows("CALL-14")
    def test_so_may_a_link(self, ledger: Ledger) -> None:
        then = broadcasting.sign.s().set(queue=EVERYONE)
        broadcasting.passed_on.apply_async((str(ledger.path),), link=then)
        ledger.comes_to(one=1, two=1)


@pytest.mark.follows("ROUTE-09")
def test_who_was_killed_is_not_waited_for(
    url: str, workers: list[WorkerProcess], ledger: Ledger
) -> None:
    workers[0].send(9)
    workers[0].ends(-9)
    broadcasting.sign.apply_async((str(ledger.path),), queue=EVERYONE)
    ledger.comes_to(two=1)
    with WorkerProcess(f"{APPS}.broadcasting", url, "-n", "three@localhost") as third:
        third.ready()
        broadcasting.sign.apply_async((str(ledger.path),), queue=EVERYONE)
        ledger.comes_to(two=2, three=1)


@pytest.mark.follows("ROUTE-08")
def test_a_link_that_leads_nowhere_makes_a_failure(url: str, workers: list[WorkerProcess]) -> None:
    """The worker sends it with the outcome: it says what is wrong, and goes on."""
    then = broadcasting.passed_on.s().set(exchange="nobody", routing_key="x")
    sent = broadcasting.passed_on.apply_async(("x",), link=then)
    with pytest.raises(Exception, match="exchange 'nobody'"):
        sent.get(timeout=10)
    assert broadcasting.passed_on.delay("y").get(timeout=10) == "y"


def test_without_a_server_it_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    app.close()
    monkeypatch.setitem(app.conf, "broker_url", None)
    with pytest.raises(ImproperlyConfigured, match="use Redis or RabbitMQ"):
        broadcasting.sign.apply_async(("x",), queue=EVERYONE)
    app.close()
