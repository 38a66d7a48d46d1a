"""The application on taskiq, with its defaults; callers look for results every millisecond."""

import asyncio
import os

from taskiq import AsyncTaskiqTask
from taskiq_aio_pika import AioPikaBroker
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

from benchmarks.marks import mark

_url, _results = os.environ["BENCH_BROKER"], os.environ["BENCH_BACKEND"]
broker = AioPikaBroker(_url) if _url.startswith("amqp") else ListQueueBroker(_url)
if _results:
    broker = broker.with_result_backend(RedisAsyncResultBackend(_results))
_loop: list[asyncio.AbstractEventLoop] = []


@broker.task
async def add(x: int, y: int) -> int:
    """The no-op."""
    mark(x)
    return x + y


@broker.task
async def echo(number: int, text: str) -> str:
    """Give a payload back."""
    mark(number)
    return text


@broker.task
async def ring(number: int) -> int:
    """Say when send number `number` arrived."""
    mark(number)
    return number


def _run(coroutine):
    """Do something in the loop of the caller's side, which begins with the first call."""
    if not _loop:
        _loop.append(asyncio.new_event_loop())
        _loop[0].run_until_complete(broker.startup())
    return _loop[0].run_until_complete(coroutine)


def send(x: int, y: int) -> str:
    return _run(add.kiq(x, y)).task_id


def send_many(count: int, batch: int) -> list[str]:
    """There is no call for many tasks: 50 at a time stand for it."""
    del batch

    async def many() -> list[str]:
        handles: list[str] = []
        while len(handles) < count:
            width = min(50, count - len(handles))
            sent = await asyncio.gather(*(add.kiq(1, 2) for _ in range(width)))
            handles += [task.task_id for task in sent]
        return handles

    return _run(many())


def send_together(count: int, width: int) -> None:
    async def together() -> None:
        for _ in range(count // width):
            await asyncio.gather(*(add.kiq(1, 2) for _ in range(width)))

    _run(together())


def send_echo(number: int, text: str) -> str:
    return _run(echo.kiq(number, text)).task_id


def send_ring(number: int) -> None:
    _run(ring.kiq(number))


def result(handle: str, timeout: float) -> object:
    task = AsyncTaskiqTask(handle, broker.result_backend)
    return _run(task.wait_result(check_interval=0.001, timeout=timeout)).return_value
