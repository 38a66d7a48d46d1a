"""The application that is measured, on Celery with its defaults and JSON.

Runs in Celery's own environment; the suite says in the environment where broker and results are.
"""

import os

from celery import Celery

from benchmarks.marks import mark

app = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"])
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


def send_many(count: int, batch: int) -> list[str]:
    """Enqueue `count` no-ops; Celery has no call for many tasks, so `batch` changes nothing."""
    del batch
    return [add.apply_async((1, 2)).id for _ in range(count)]
