"""The caller's side of every workload, run as a process of its own inside either environment.

`python -m benchmarks.client ACTION MODULE [ARGUMENT ...]` does one action with the app of MODULE
and prints one JSON object. It measures and never judges; the suite does the sums. Standard library
only, because it also runs where Celeriac is not installed; and redis-py, where it is the measure.
"""

import importlib
import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

WARM_UP = 20
"""Calls made before the clock starts, so that opening a connection is not measured."""

TIMEOUT = 30.0
"""Seconds that any one result may take."""

CHECKED = 200
"""About how many results are fetched to see that a long queue's results are stored."""

SUM = 3
"""What every no-op gives: add(1, 2)."""

Answer = dict[str, Any]


def fill(module: Any, count: str, batch: str) -> Answer:
    """Enqueue `count` no-ops; answers handles out of the whole length, to check results by."""
    handles = module.send_many(int(count), int(batch))
    return {"handles": [*handles[:: len(handles) // CHECKED + 1], handles[-1]]}


def fill_payload(module: Any, count: str, size: str) -> Answer:
    """Enqueue `count` tasks that are given a text of so many characters and return it."""
    text = "x" * int(size)
    return {"handles": [module.send_echo(number, text) for number in range(int(count))]}


def check_payload(module: Any, handle: str, size: str) -> Answer:
    """Fetch the stored result of one of them; fails when it is not the text."""
    if module.result(handle, TIMEOUT) != "x" * int(size):
        raise SystemExit("a result is not the text that was sent")
    return {"checked": 1}


def bare_lpush(module: Any, count: str) -> Answer:
    """Time `count` calls of the driver's own LPUSH, each with a message as the library wrote it."""
    import redis

    module.send(1, 2)
    server = redis.Redis.from_url(os.environ["BENCH_BROKER"])
    message = server.lindex("celery", 0)
    if message is None:
        raise SystemExit("there is no message in the list celery")
    for _ in range(WARM_UP):
        server.lpush("bare", message)
    return _timed(lambda: [server.lpush("bare", message) for _ in range(int(count))])


def enqueue(module: Any, count: str) -> Answer:
    """Time `count` calls of the library, one at a time."""
    for _ in range(WARM_UP):
        module.send(1, 2)
    return _timed(lambda: [module.send(1, 2) for _ in range(int(count))])


def enqueue_many(module: Any, count: str, batch: str) -> Answer:
    """Time enqueueing `count` tasks, `batch` in each call."""
    module.send_many(WARM_UP, WARM_UP)
    return _timed(lambda: module.send_many(int(count), int(batch)))


def enqueue_together(module: Any, count: str, width: str) -> Answer:
    """Time enqueueing `count` tasks from coroutines, `width` at a time."""
    module.send_together(WARM_UP, WARM_UP)
    return _timed(lambda: module.send_together(int(count), int(width)))


def load(module: Any, rate: str, seconds: str) -> Answer:
    """Enqueue no-ops at a steady rate for so long; answers how many."""
    begin, sent = time.perf_counter(), 0
    while (now := time.perf_counter() - begin) < float(seconds):
        while sent < now * float(rate):
            module.send(0, 0)
            sent += 1
        time.sleep(0.001)
    return {"sent": sent}


def _timed(work: Callable[[], object]) -> Answer:
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def round_trip(module: Any, count: str) -> Answer:
    """Time `count` round trips, one at a time: seconds from the call to the value."""
    trip = _trip(module)
    for _ in range(WARM_UP):
        trip()
    return {"seconds": [trip() for _ in range(int(count))]}


def _trip(module: Any) -> Callable[[], float]:
    def trip() -> float:
        start = time.perf_counter()
        value = module.result(module.send(1, 2), TIMEOUT)
        seconds = time.perf_counter() - start
        _expect([value])
        return seconds

    return trip


def doorbell(module: Any, count: str, interval: str) -> Answer:
    """Send one task about every `interval` seconds; answers when each was called and had returned.

    The pauses are drawn between half and one and a half times the interval, so that no polling
    rhythm on the other side can fit them by chance. Send number i is task number i.
    """
    pauses = random.Random(20)  # the same pauses in every run
    called: list[int] = []
    returned: list[int] = []
    for number in range(WARM_UP + int(count)):
        time.sleep(float(interval) * pauses.uniform(0.5, 1.5))
        called.append(time.monotonic_ns())
        module.send_ring(number)
        returned.append(time.monotonic_ns())
    return {"called": called, "returned": returned, "skip": WARM_UP}


def countdown(module: Any, count: str, seconds: str) -> Answer:
    """Enqueue `count` tasks that are due in `seconds` seconds."""
    due = int(seconds)
    return _timed(lambda: [module.send_later(due) for _ in range(int(count))])


def check(module: Any, *handles: str) -> Answer:
    """Fetch the stored results of no-ops; fails when one is missing or wrong."""
    _expect([module.result(handle, TIMEOUT) for handle in handles])
    return {"checked": len(handles)}


def _expect(values: list[object]) -> None:
    """Fail, which the suite reports, if a no-op gave anything but its value."""
    if any(value != SUM for value in values):
        raise SystemExit(f"results of add(1, 2) are {values!r}, each should be {SUM}")


ACTIONS: dict[str, Callable[..., Answer]] = {
    action.__name__: action
    for action in (
        fill,
        fill_payload,
        bare_lpush,
        enqueue,
        enqueue_many,
        enqueue_together,
        load,
        round_trip,
        doorbell,
        countdown,
        check,
        check_payload,
    )
}


def main(arguments: list[str]) -> None:
    """Do what the arguments say and print the answer."""
    action, module, *rest = arguments
    json.dump(ACTIONS[action](importlib.import_module(module), *rest), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
