"""A producer: publishes what its standard input asks for, and keeps the ledger of it.

A line ``first count name seconds`` asks for ``count`` tasks numbered from ``first``; when they are
acknowledged, the line comes back. It may be killed at any moment: then it has attempted some tasks
of which nobody knows whether the broker has them.
"""

import os
import sys

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
            publish(
                app.tasks[name], book, batch, float(seconds), together=start // BATCH % ALONE > 0
            )
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


if __name__ == "__main__":
    serve(os.environ[HOME])
