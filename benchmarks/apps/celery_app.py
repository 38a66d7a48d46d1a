"""The application on Celery, with its defaults and JSON."""

import os

from celery import Celery

from benchmarks.marks import mark

app = Celery(
    "bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"] or None
)
app.conf.broker_connection_retry_on_startup = True  # the default, said aloud: silences a warning


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
    """There is no call for many tasks, so `batch` changes nothing."""
    del batch
    return [add.apply_async((1, 2)).id for _ in range(count)]


def send_echo(number: int, text: str) -> str:
    return echo.delay(number, text).id


def send_ring(number: int) -> None:
    ring.delay(number)


def send_later(seconds: int) -> None:
    add.apply_async((1, 2), countdown=seconds)


def result(handle: str, timeout: float) -> object:
    return app.AsyncResult(handle).get(timeout=timeout)
