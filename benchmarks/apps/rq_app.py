"""The application on RQ, with its defaults: a process for each job."""

import os
from datetime import timedelta

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.results import Result

from benchmarks.marks import mark

_connection = Redis.from_url(os.environ["BENCH_BROKER"])
queue = Queue(connection=_connection)
_options = {} if os.environ["BENCH_BACKEND"] else {"result_ttl": 0}


def add(x: int, y: int) -> int:
    """The no-op."""
    mark(x)
    return x + y


def echo(number: int, text: str) -> str:
    """Give a payload back."""
    mark(number)
    return text


def ring(number: int) -> int:
    """Say when send number `number` arrived."""
    mark(number)
    return number


def send(x: int, y: int) -> str:
    return queue.enqueue(add, x, y, **_options).id


def send_many(count: int, batch: int) -> list[str]:
    handles: list[str] = []
    while len(handles) < count:
        size = min(batch, count - len(handles))
        jobs = [Queue.prepare_data(add, args=(1, 2), **_options) for _ in range(size)]
        handles += [job.id for job in queue.enqueue_many(jobs)]
    return handles


def send_echo(number: int, text: str) -> str:
    return queue.enqueue(echo, number, text, **_options).id


def send_ring(number: int) -> None:
    queue.enqueue(ring, number)


def send_later(seconds: int) -> None:
    queue.enqueue_in(timedelta(seconds=seconds), add, 1, 2)


def result(handle: str, timeout: float) -> object:
    job = Job(handle, connection=_connection)
    found = Result.fetch_latest(job, serializer=job.serializer, timeout=int(timeout))
    return found.return_value if found else None
