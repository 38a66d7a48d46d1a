"""How many functions of ours a task costs: an exact count, so that no call slips in unnoticed.

Counted are calls of Python functions under ``src/celeriac``, after a warm-up, in a process of its
own: from ``delay()`` until the driver is told to write, and from claim to settlement. For the
second, a parent's real parts are stepped by hand and a real child runs in the same process; only
the fork between them is left out.

When a count changes, look at where the calls are made (``-s`` prints it), and if they are worth it
write the new number into ``PINNED``. The limits are promises, and do not move.
"""

import os
import socket
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

import celeriac
from celeriac import Celery
from celeriac.brokers.urls import open_broker
from celeriac.pools.child import Child as PoolChild
from celeriac.pools.child import ChildConfig
from celeriac.pools.nursery import Kin
from celeriac.pools.processes import ProcessPool
from celeriac.pools.template import TemplateConfig, build_manifest
from celeriac.results.urls import open_store
from celeriac.settings import Settings
from celeriac.worker.completer import Completer
from celeriac.worker.consumption import Consumption
from celeriac.worker.dispatcher import Dispatcher
from celeriac.worker.documents import Documents
from celeriac.worker.flights import Flights
from celeriac.worker.window import Window
from tests.fixtures.processes import Child, Line

BATCH = 50

SEND, WORK = "delay() to the driver", "claim to settlement"
LIMITS = {SEND: 40, WORK: 80}
PINNED = {SEND: 37, WORK: 77.4}

SOURCE = os.path.dirname(celeriac.__file__)

Count = tuple[float, list[tuple[str, float]]]
"""Calls for one task, and how many of them fall to each function."""


class Counting:
    """Counts calls of our functions while it is entered, until the C function ``until`` is called."""

    def __init__(self, until: str = "") -> None:
        self.calls: Counter[str] = Counter()
        self.reached = not until
        self._until = until

    def __enter__(self) -> "Counting":
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(SOURCE):
            self.calls[f"{code.co_filename[len(SOURCE) + 1 :]} {code.co_qualname}"] += 1
        elif event == "c_call" and self._until and argument.__name__ == self._until:
            owner = getattr(argument, "__self__", None)
            if isinstance(owner, sqlite3.Connection):
                self.reached = True
                sys.setprofile(None)

    def count(self, tasks: int = 1) -> Count:
        assert self.reached, f"{self._until} was never called"
        return self.calls.total() / tasks, [(n, c / tasks) for n, c in self.calls.most_common()]


def make_app(home: str) -> tuple[Celery, Any]:
    url = f"sqlite:///{home}/tasks.db"
    app = Celery("budget", broker=url, backend=url)
    app.client.warned = True  # Nobody works here but us.
    return app, app.task(name="sums.add")(lambda x, y: x + y)


def count_send(line: Line, home: str) -> Count:
    app, add = make_app(home)
    for _ in range(3):
        add.delay(1, 2)
    with Counting(until="executemany") as counting:
        add.delay(1, 2)
    app.close()
    return counting.count()


class Worker:
    """A worker's parts, to be stepped by hand: all but the threads, and the fork of its child."""

    def __init__(self, app: Celery) -> None:
        manifest = build_manifest(app, (), 0)
        settings = Settings(**manifest.settings)
        documents = Documents(settings, "w1@host")
        self.app = app
        self.broker = open_broker(manifest.broker, settings)
        self.store = open_store(manifest.store, settings)
        self.consumer = self.broker.consumer(["celery"])
        self.flights, self.window = Flights(), Window(1)
        self.pool = ProcessPool(
            TemplateConfig(spec="budget", child=ChildConfig(hostname="w1@host"))
        )
        parents_end, self.stream = socket.socketpair()
        self.pool._born(Kin(0, parents_end, -1))
        self.completer = Completer(
            self.broker, self.consumer, self.store, self.pool, self.flights, self.window, documents,
            settings.task_delivery_limit, self._failed,
        )  # fmt: skip
        self.consumption = Consumption(
            self.consumer, self.pool, Dispatcher(manifest, settings, documents), self.completer,
            self.flights, self.window, lambda *_: None, self._failed,
        )  # fmt: skip
        self.completer.on_room = self.consumption.freed

    def _failed(self, service: Any) -> None:
        raise AssertionError(service)

    def round(self) -> int:
        """Claim, submit, run and commit once; return how many tasks that were."""
        self.consumption.step()
        held = len(self.flights)
        config = ChildConfig(hostname="w1@host", max_tasks=held)
        PoolChild(self.app, config, self.pool._slots, 0, self.stream).serve(self.pool._queue.exit)
        self.completer.step(0)
        return held


def count_work(line: Line, home: str) -> Count:
    app, add = make_app(home)
    worker = Worker(app)
    results = add.delay_many([(n, n) for n in range(3 * BATCH)])
    while sum(size.ready for size in worker.broker.sizes().values()):
        worker.round()
    results += add.delay_many([(n, n) for n in range(BATCH)])
    with Counting() as counting:
        assert worker.round() == BATCH, "the window has opened"
    assert worker.broker.sizes() == {}
    assert [result.get() for result in results[-BATCH:]] == [2 * n for n in range(BATCH)]
    return counting.count(BATCH)


@pytest.mark.parametrize(("road", "measure"), [(SEND, count_send), (WORK, count_work)])
def test_calls_for_one_task(road: str, measure: Callable[..., Count], home: Any) -> None:
    process = Child(measure, str(home))
    try:
        calls, functions = process.hear()
    finally:
        process.kill()
    lines = [
        f"\n{calls:g} calls from {road}",
        *(f"{count:8.2f} {name}" for name, count in functions),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    assert calls <= LIMITS[road]
    if sys.version_info[:2] == (3, 11):
        # Newer versions inline comprehensions, and count fewer calls.
        assert calls == PINNED[road]
