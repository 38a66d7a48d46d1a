"""The application on arq, which both sides ask every 5 ms (its default is half a second).

`python -m benchmarks.apps.arq_app N` runs N workers, one process each.
"""

import asyncio
import os
import subprocess
import sys
import time

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.jobs import Job, ResultNotFound

from benchmarks.marks import mark

POLL = 0.005
_keep = {} if os.environ["BENCH_BACKEND"] else {"keep_result": 0}
_loop: list[asyncio.AbstractEventLoop] = []
_pool: list[ArqRedis] = []


async def add(context: dict, x: int, y: int) -> int:
    """The no-op."""
    mark(x)
    return x + y


async def echo(context: dict, number: int, text: str) -> str:
    """Give a payload back."""
    mark(number)
    return text


async def ring(context: dict, number: int) -> int:
    """Say when send number `number` arrived."""
    mark(number)
    return number


class WorkerSettings:
    """What the command of arq reads."""

    functions = [add, echo, ring]
    redis_settings = RedisSettings.from_dsn(os.environ["BENCH_BROKER"])
    poll_delay = POLL
    if _keep:
        keep_result = 0


def _run(make):
    """Do something in the loop of the caller's side, which begins with the first call."""
    if not _loop:
        _loop.append(asyncio.new_event_loop())
        _pool.append(_loop[0].run_until_complete(create_pool(WorkerSettings.redis_settings)))
    return _loop[0].run_until_complete(make(_pool[0]))


def send(x: int, y: int) -> str:
    return _run(lambda pool: pool.enqueue_job("add", x, y)).job_id


def _gather(count: int, width: int):
    async def together(pool) -> list[str]:
        handles: list[str] = []
        while len(handles) < count:
            some = min(width, count - len(handles))
            sent = await asyncio.gather(*(pool.enqueue_job("add", 1, 2) for _ in range(some)))
            handles += [job.job_id for job in sent]
        return handles

    return _run(together)


def send_many(count: int, batch: int) -> list[str]:
    """There is no call for many tasks: 50 at a time stand for it."""
    del batch
    return _gather(count, 50)


def send_together(count: int, width: int) -> None:
    _gather(count, width)


def send_echo(number: int, text: str) -> str:
    return _run(lambda pool: pool.enqueue_job("echo", number, text)).job_id


def send_ring(number: int) -> None:
    _run(lambda pool: pool.enqueue_job("ring", number))


def send_later(seconds: int) -> None:
    _run(lambda pool: pool.enqueue_job("add", 1, 2, _defer_by=seconds))


def result(handle: str, timeout: float) -> object:
    deadline = time.monotonic() + timeout
    while True:
        try:
            return _run(lambda pool: Job(handle, pool).result(timeout=timeout, poll_delay=POLL))
        except ResultNotFound:
            # It is said of a job that ends between two of arq's own questions, too.
            if time.monotonic() > deadline:
                raise


if __name__ == "__main__":
    command = [sys.executable, "-m", "arq", "benchmarks.apps.arq_app.WorkerSettings"]
    workers = [subprocess.Popen(command) for _ in range(int(sys.argv[1]))]
    for worker in workers:
        worker.wait()
