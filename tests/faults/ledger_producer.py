"""A producer: publishes what its standard input asks for, and keeps the ledger of it.

A line ``first count name seconds`` asks for ``count`` tasks numbered from ``first``; when they are
acknowledged, the line comes back. It may be killed at any moment: then it has attempted some tasks
of which nobody knows whether the broker has them. So it is with those that the broker did not take in
time, after as many attempts as the settings allow: the next ones wait until it answers again.
"""

import os
import sys
from time import sleep

from celeriac import Celery
from celeriac.exceptions import OperationalError
from celeriac.task import Task
from tests.fixtures.ledger import HOME, Acknowledged, Again, Book, Tried
from tests.fixtures.ledger_tasks import build

BATCH = 50
ALONE = 10
"""Every so many batches are sent one task at a time."""


def serve(home: str) -> None:
    """Publish until the input ends."""
    app, book = build(home), Book(home)
    underway: list[int] = []
    app.conf.task_publish_retry_policy = {
        **app.conf.task_publish_retry_policy,
        "errback": lambda *_: book.write(*map(Again, underway)),
    }
    for line in sys.stdin:
        first, count, name, seconds = line.split()
        numbers = range(int(first), int(first) + int(count))
        for start in range(0, len(numbers), BATCH):
            batch = numbers[start : start + BATCH]
            try:
                for some in portions(batch, together=start // BATCH % ALONE > 0):
                    underway[:] = some
                    publish(app.tasks[name], book, some, float(seconds))
            except OperationalError:
                wait_for_broker(app)
        sys.stdout.write(line)
        sys.stdout.flush()


def portions(numbers: range, *, together: bool) -> list[range]:
    """Return what is published at a time: everything, or each alone."""
    return [numbers] if together else [range(number, number + 1) for number in numbers]


def publish(task: Task, book: Book, numbers: range, seconds: float) -> None:
    """Publish tasks with these numbers, in one batch, or one alone."""
    book.write(*(Tried(number, task.name) for number in numbers))
    if len(numbers) == 1:
        results = [task.delay(numbers[0], seconds)]
    else:
        results = task.delay_many([(number, seconds) for number in numbers])
    book.write(*(Acknowledged(n, r.id) for n, r in zip(numbers, results, strict=True)))


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
