"""The application on Celeriac, with its defaults."""

import asyncio
import os

from benchmarks.marks import mark
from celeriac import Celery

app = Celery(
    "bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"] or "disabled://"
)


@app.task
def add(x: int, y: int) -> int:
    """The no-op."""
    mark(x)
    return x + y


@app.task
def echo(number: int, text: str) -> str:
    """Give a payload back."""
    mark(number)
    return text


@app.task
def ring(number: int) -> int:
    """Say when send number `number` arrived."""
    mark(number)
    return number


def send(x: int, y: int) -> str:
    return add.delay(x, y).id


def send_many(count: int, batch: int) -> list[str]:
    handles: list[str] = []
    while len(handles) < count:
        size = min(batch, count - len(handles))
        handles.extend(result.id for result in add.delay_many([(1, 2)] * size))
    return handles


def send_together(count: int, width: int) -> None:
    async def together() -> None:
        for _ in range(count // width):
            await asyncio.gather(*(add.adelay(1, 2) for _ in range(width)))

    asyncio.run(together())


def send_echo(number: int, text: str) -> str:
    return echo.delay(number, text).id


def send_ring(number: int) -> None:
    ring.delay(number)


def send_later(seconds: int) -> None:
    add.apply_async((1, 2), countdown=seconds)


def result(handle: str, timeout: float) -> object:
    return app.AsyncResult(handle).get(timeout=timeout)
