"""The broker on the embedded file, as its clients see it.

A message is a row; its place (ready, delayed, leased) is told by two columns, so that a claim moves
no payload. Publishing waits for the disk; see the documentation (delivery guarantees) for what
survives what. The consumer's side is ``consumer.py``.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import suppress
from random import sample
from typing import Any

from celeriac.brokers.base import LEASE, Broker, spread
from celeriac.brokers.sqlite.consumer import SqliteConsumer
from celeriac.brokers.sqlite.rows import SQL, publish_row
from celeriac.embedded.database import Database
from celeriac.embedded.doorbells import Ringer
from celeriac.exceptions import OperationalError
from celeriac.message import (
    ALL_DEAD,
    DeadLetter,
    DeadSelection,
    Message,
    Publish,
    QueueSize,
)

RING_AT_MOST = 4
"""How many consumers of a queue are rung for one commit: enough to find an idle one, no stampede.
"""

MOVE_AT_MOST = 500
"""Dead letters moved in one transaction, so that no other writer waits long."""


class SqliteBroker(Broker):
    """Queues in an embedded file."""

    def __init__(self, path: str, timeout: float = 5.0) -> None:
        self.url = f"sqlite:///{path}"
        self.database = Database(path, timeout)
        self._ringer = Ringer()

    @property
    def location(self) -> str:
        """Identity of the server: the file."""
        return f"sqlite:{self.database.path}"

    def publish(self, publishes: Sequence[Publish]) -> None:
        if not publishes:
            return
        publishes = spread(publishes)
        with self.database.write(durable=True) as connection:
            connection.executemany(SQL["publish"], map(publish_row, publishes))
        self.ring({publish.queue for publish in publishes})

    def consumer(
        self, queues: Sequence[str], *, lease: float = LEASE, turns: bool = True
    ) -> SqliteConsumer:
        return SqliteConsumer(self.database, queues, lease, self.ring, turns=turns)

    def ring(self, queues: Iterable[str], watches: Iterable[tuple[str, str]] = ()) -> None:
        """Wake consumers of these queues, and those who watch ``(address, key)``. After a commit.

        Never raises: what was committed is true, and whoever is not rung looks for himself.
        """
        with suppress(OperationalError):
            gone: set[str] = set()
            for queue in queues:
                addresses = [row[0] for row in self.database.read(SQL["bells"], (queue,))]
                if len(addresses) > RING_AT_MOST:
                    addresses = sample(addresses, RING_AT_MOST)
                gone.update(a for a in addresses if self._ringer.ring(a) is False)
            gone.update(a for a, key in watches if self._ringer.ring(a, key) is False)
            if gone:
                with self.database.write() as connection:
                    connection.executemany(SQL["take_bell"], [(address,) for address in gone])
                    connection.executemany(SQL["take_watches"], [(address,) for address in gone])

    def sizes(self) -> dict[str, QueueSize]:
        parked: dict[str, dict[str, int]] = {}
        for queue, task, count in self.database.read(SQL["unknown"]):
            parked.setdefault(queue, {})[task] = count
        return {
            queue: QueueSize(
                ready=ready, delayed=delayed, leased=leased, unknown=parked.get(queue, {})
            )
            for queue, ready, delayed, leased in self.database.read(SQL["sizes"])
        }

    def purge(self, queue: str) -> int:
        with self.database.write(durable=True) as connection:
            return connection.execute(SQL["purge"], (queue,)).rowcount

    def release(self, queue: str) -> int:
        with self.database.write(durable=True) as connection:
            delayed = connection.execute(SQL["delayed"], (queue,)).fetchall()
            connection.executemany(SQL["release"], delayed)
        self.ring({queue})
        return len(delayed)

    def dead(self, limit: int = 100, which: DeadSelection = ALL_DEAD) -> list[DeadLetter]:
        rows = self.database.read(SQL["dead_newest"], {**_conditions(which), "limit": limit})
        return [_dead_letter(row) for row in rows]

    def revive(self, which: DeadSelection) -> int:
        return self._exhume(which, revive=True)

    def delete_dead(self, which: DeadSelection) -> int:
        return self._exhume(which, revive=False)

    def _exhume(self, which: DeadSelection, *, revive: bool) -> int:
        """Remove dead letters, in batches; ``revive`` puts them back to their queues."""
        last = self.database.read(SQL["dead_last"])[0][0] or 0
        after = removed = 0
        while after < last:
            place = {**_conditions(which), "after": after, "last": last, "count": MOVE_AT_MOST}
            queues: set[str] = set()
            with self.database.write(durable=True) as connection:
                letters = connection.execute(SQL["dead_oldest"], place).fetchall()
                connection.execute(SQL["dead_remember"])
                for (number,) in letters:
                    if revive:
                        queues.update(
                            row[0] for row in connection.execute(SQL["revive"], (number,))
                        )
                    connection.execute(SQL["dead_delete"], (number,))
            self.ring(queues)
            removed += len(letters)
            after = letters[-1][0] if len(letters) == MOVE_AT_MOST else last
        return removed

    def worker_seen(self) -> float | None:
        rows = self.database.read(SQL["last_seen"])
        return float(rows[0][0]) if rows else None

    def close(self) -> None:
        self._ringer.close()
        self.database.close()


def _conditions(which: DeadSelection) -> dict[str, Any]:
    """Return the parameters of the statements that select dead letters."""
    lists = {"ids": which.ids, "task_ids": which.task_ids}
    texts = {name: ids if ids is None else json.dumps(ids) for name, ids in lists.items()}
    return {**texts, "task": which.task, "queue": which.queue}


def _dead_letter(row: sqlite3.Row) -> DeadLetter:
    (number, id_, task, headers, body, content_type, encoding, priority, reply_to, *rest) = row
    queue, reason, died, losses = rest
    message = Message(
        id=id_,
        task=task,
        headers=headers,
        body=body,
        content_type=content_type,
        content_encoding=encoding,
        priority=priority,
        reply_to=reply_to,
    )
    return DeadLetter(
        id=str(number), message=message, queue=queue, reason=reason, died=died, losses=losses
    )
