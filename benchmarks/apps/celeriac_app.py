"""The application that is measured, on Celeriac with its defaults.

Runs in the suite's own environment; the suite says in the environment where broker and results are.
"""

import os

from benchmarks.marks import mark
from celeriac import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"])


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
    """Enqueue `count` no-ops the fastest way there is, `batch` in a call; returns their ids."""
    ids: list[str] = []
    while len(ids) < count:
        size = min(batch, count - len(ids))
        ids.extend(result.id for result in add.delay_many([(1, 2)] * size))
    return ids
