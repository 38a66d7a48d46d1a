"""A producer: publishes what its standard input asks for, and keeps the ledger of it.

A line ``first count name seconds`` asks for ``count`` tasks numbered from ``first``; when they are
acknowledged, the line comes back. It may be killed at any moment: then it has attempted some tasks
of which nobody knows whether the broker has them. So it is with those that the broker did not take in
time: no other attempt is made at them, and the next ones wait until the broker answers again.
"""

import os
import sys
from time import sleep

from celeriac import Celery
from celeriac.exceptions import OperationalError
from celeriac.task import Task
from tests.fixtures.ledger import HOME, Acknowledged, Book, Tried
from tests.fixtures.ledger_tasks import build

BATCH = 50
ALONE = 10
"""Every so many batches are sent one task at a time."""


def serve(home: str) -> None:
    """Publish until the input ends."""
    app, book = build(home), Book(home)
    for line in sys.stdin:
        first, count, name, seconds = line.split()
        numbers = range(int(first), int(first) + int(count))
        for start in range(0, len(numbers), BATCH):
            batch = numbers[start : start + BATCH]
            try:
                publish(
                    app.tasks[name],
                    book,
                    batch,
                    float(seconds),
                    together=start // BATCH % ALONE > 0,
                )
            except OperationalError:
                wait_for_broker(app)
        sys.stdout.write(line)
        sys.stdout.flush()


def publish(task: Task, book: Book, numbers: range, seconds: float, *, together: bool) -> None:
    """Publish tasks with these numbers, in one batch or each alone."""
    if together:
        book.write(*(Tried(number, task.name) for number in numbers))
        results = task.delay_many([(number, seconds) for number in numbers])
        book.write(*(Acknowledged(n, r.id) for n, r in zip(numbers, results, strict=True)))
        return
    for number in numbers:
        book.write(Tried(number, task.name))
        book.write(Acknowledged(number, task.delay(number, seconds).id))


def wait_for_broker(app: Celery) -> None:
    """Return when the broker answers; whether it takes anything is another question."""
    while True:
        sleep(0.1)
        try:
            app.broker.sizes()
        except OperationalError:
            continue
        return


if __name__ == "__main__":
    serve(os.environ[HOME])
