"""One worker's hold on queues of the embedded file.

Leases run on the machine's monotonic clock. The fence of a delivery is a number that no other
delivery has; together with the row it is the receipt. Everything about one delivery happens in one
transaction, and if the results are kept in the same file, ``commit`` is one transaction for a whole
batch.
"""

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import count as counter
from time import monotonic
from typing import TYPE_CHECKING

from celeriac.brokers.base import Consumer, gives_back, spread
from celeriac.brokers.sqlite.rows import SQL, delivery, publish_row, row_of
from celeriac.clock import wall
from celeriac.completion import (
    SETTLED,
    STALE,
    Completion,
    Join,
    Put,
    Settlement,
    Verdict,
    held,
)
from celeriac.embedded.database import Database
from celeriac.embedded.doorbells import SUPPORTED, Doorbell
from celeriac.message import Delivery, Publish

if TYPE_CHECKING:
    from celeriac.results.base import ResultStore

Ring = Callable[[Iterable[str], Iterable[tuple[str, str]]], None]

POLL = 0.25 if SUPPORTED else 0.05
"""Seconds between looks at the file, the net under the doorbell."""
PROMOTE = 500
"""Delayed messages made ready in one step, so that no other writer waits long."""
SEEN_EVERY = 20.0
"""Seconds between signs of life."""


class SqliteConsumer(Consumer):
    """Claims, renews and settles rows of the embedded file."""

    def __init__(
        self,
        database: Database,
        queues: Sequence[str],
        lease: float,
        ring: Ring,
        *,
        turns: bool = True,
    ) -> None:
        self.lease = lease
        self._turns = turns
        self._database = database
        self._queues = list(queues)
        self._ring = ring
        self._bell = Doorbell()
        # Consumers draw far apart, so that no two of them ever give out the same fence.
        self._fences = counter(int.from_bytes(os.urandom(5)) << 22)
        self._held: set[str] = set()
        self._next_due = 0.0
        self._seen = 0.0
        self._closed = False
        try:
            self._announce()
        except BaseException:
            self._bell.close()
            raise

    def _announce(self) -> None:
        with self._database.write() as connection:
            bells = [(queue, self._bell.address) for queue in self._queues]
            if self._bell.address:
                connection.executemany(SQL["hang_bell"], bells)
            connection.execute(SQL["seen"], (str(wall()),))
            self._seen = monotonic()

    # -- claiming ----------------------------------------------------------------------------------

    def claim(self, count: int, size: int) -> list[Delivery]:
        with self._database.write() as connection:
            # Looked up each time: others publish for later too, and a busy worker never waits.
            if self._earliest() <= wall():
                connection.execute(SQL["promote"], {"now": wall(), "count": PROMOTE})
            taken = self._pick(connection, count, size)
            until = monotonic() + self.lease
            leases = [(until, *reversed(row_of(delivery.receipt))) for delivery in taken]
            connection.executemany(SQL["lease"], leases)
        self._held.update(delivery.receipt for delivery in taken)
        if self._turns:
            # The queue that came first comes last the next time.
            self._queues.append(self._queues.pop(0))
        return taken

    def _pick(self, connection: sqlite3.Connection, count: int, size: int) -> list[Delivery]:
        taken: list[Delivery] = []
        for queue in self._queues:
            for row in connection.execute(SQL["pick"], (queue, count - len(taken))):
                size -= row[1]
                if size < 0 and taken:
                    return taken
                taken.append(delivery(row, queue, next(self._fences)))
            if len(taken) >= count:
                break
        return taken

    def _earliest(self) -> float:
        earliest = self._database.read(SQL["next_due"])[0][0]
        return float("inf") if earliest is None else float(earliest)

    def wait(self, timeout: float) -> None:
        deadline = monotonic() + timeout
        version = self._database.version()
        while not self._something_ready():
            # Nothing to claim: look again only when the file has changed, or a time has come.
            while version == self._database.version() and self._next_due > wall():
                left = deadline - monotonic()
                pause = min(POLL, left, self._next_due - wall())
                if left <= 0 or self._bell.wait(max(0.0, pause)):
                    return
            version = self._database.version()

    def _something_ready(self) -> bool:
        self._next_due = self._earliest()
        if self._next_due <= wall():
            return True
        return any(self._database.read(SQL["any_ready"], (queue,)) for queue in self._queues)

    def wake(self) -> None:
        self._bell.wake()

    # -- leases ------------------------------------------------------------------------------------

    def renew(self, receipts: Sequence[str]) -> set[str]:
        quiet = monotonic() - self._seen < SEEN_EVERY
        if quiet and not receipts:
            return set()
        until = monotonic() + self.lease
        lost = set()
        with self._database.write() as connection:
            for receipt in receipts:
                if not connection.execute(SQL["renew"], (until, *row_of(receipt))).rowcount:
                    lost.add(receipt)
            if not quiet:
                connection.execute(SQL["seen"], (str(wall()),))
                self._seen = monotonic()
        self._held -= lost
        return lost

    def start(self, receipts: Sequence[str]) -> set[str]:
        with self._database.write() as connection:
            return {
                receipt
                for receipt in receipts
                if not connection.execute(SQL["start"], row_of(receipt)).rowcount
            }

    def defer(self, receipt: str, due: float, *, unknown: bool = False) -> bool:
        seq, fence = row_of(receipt)
        values = {"due": due, "now": wall(), "unknown": unknown, "seq": seq, "fence": fence}
        with self._database.write() as connection:
            done = connection.execute(SQL["defer"], values).rowcount == 1
        self._next_due = min(self._next_due, due)
        self._held.discard(receipt)
        return done

    def requeue(self, receipts: Sequence[str]) -> None:
        queues: set[str] = set()
        with self._database.write() as connection:
            for receipt in receipts:
                queues.update(row[0] for row in connection.execute(SQL["requeue"], row_of(receipt)))
        self._held.difference_update(receipts)
        self._ring(queues, ())

    def sweep(self) -> int:
        # A look first: most sweeps find nothing, and a look does not disturb the writers.
        now = monotonic()
        if not self._database.read("SELECT 1 FROM message WHERE lease < ? LIMIT 1", (now,)):
            return 0
        with self._database.write() as connection:
            queues = [row[0] for row in connection.execute(SQL["sweep"], (now,)).fetchall()]
        self._ring(set(queues), ())
        return len(queues)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self.requeue(sorted(self._held))
            if self._bell.address:
                with self._database.write() as connection:
                    connection.execute(SQL["take_bell"], (self._bell.address,))
        finally:
            self._bell.close()

    # -- commit ------------------------------------------------------------------------------------

    def commit(
        self, completions: Sequence[Completion], store: "ResultStore | None"
    ) -> list[Verdict]:
        if store is not None and store.location != f"sqlite:{self._database.path}":
            return super().commit(completions, store)
        verdicts = []
        queues: set[str] = set()
        stored: list[str] = []
        with self._database.write() as connection:
            for completion in completions:
                verdict = self._refusal(completion, store)
                if verdict is SETTLED:
                    verdict = self._apply(connection, completion, queues)
                if verdict.kind in ("settled", "held") and store is not None:
                    stored += self._put(connection, completion.puts)
                verdicts.append(verdict)
            watches = self._watches(connection, stored)
        self._release(completions, verdicts)
        self._ring(queues, watches)
        return verdicts

    def _apply(
        self,
        connection: sqlite3.Connection,
        completion: Completion,
        queues: set[str],
    ) -> Verdict:
        """Settle and publish for one completion; add the queues that somebody may wait at."""
        verdict = self._settle_one(connection, completion, queues)
        if verdict is not STALE and completion.publishes:
            publishes = spread(completion.publishes)
            connection.executemany(SQL["publish"], map(publish_row, publishes))
            queues.update(publish.queue for publish in publishes)
        return verdict

    @staticmethod
    def _put(connection: sqlite3.Connection, puts: Iterable[Put]) -> list[str]:
        """Store documents; return their keys, which somebody may wait for."""
        now = wall()
        for put in puts:
            expires = None if put.ttl is None else now + put.ttl
            connection.execute(SQL["put"], (put.key, put.state, expires, put.value, now))
        return [put.key for put in puts]

    def _settle_one(
        self, connection: sqlite3.Connection, completion: Completion, queues: set[str]
    ) -> Verdict:
        row = row_of(completion.receipt)
        settlement = completion.settlement
        if completion.join is not None:
            if not connection.execute(SQL["holds"], row).fetchone():
                return STALE
            if verdict := self._joined(connection, completion.join, row[1]):
                return verdict
        if gives_back(settlement):
            back = connection.execute(SQL[settlement], row).fetchall()
            queues.update(queue for (queue,) in back)
            return SETTLED if back else STALE
        if settlement is Settlement.KEEP:
            return SETTLED if connection.execute(SQL["holds"], row).fetchone() else STALE
        if settlement is Settlement.DEAD:
            connection.execute(SQL["bury"], (wall(), completion.reason, *row))
        return SETTLED if connection.execute(SQL["ack"], row).rowcount else STALE

    def _joined(self, connection: sqlite3.Connection, join: Join, fence: int) -> Verdict | None:
        """Count a member; return ``held`` for the one that must bring the body, else None."""
        connection.execute(SQL["chord_open"], (join.group,))
        if join.token is not None:
            if connection.execute(SQL["chord_finish"], (join.group, int(join.token))).rowcount:
                connection.execute(SQL["chord_clear"], (join.group,))
                return None
            return STALE
        connection.execute(SQL["chord_member"], (join.group, join.index, join.member))
        claim, done, members = connection.execute(
            SQL["chord_state"], {"name": join.group}
        ).fetchone()
        if done or members < join.size:
            return None
        if claim != fence and connection.execute(SQL["fence_lives"], (claim,)).fetchone():
            return None
        connection.execute(SQL["chord_claim"], (fence, join.group))
        rows = connection.execute(SQL["chord_members"], (join.group,))
        return held(tuple(member for (member,) in rows), str(fence))

    @staticmethod
    def _watches(connection: sqlite3.Connection, keys: Iterable[str]) -> list[tuple[str, str]]:
        if not connection.execute(SQL["any_watch"]).fetchone():
            return []
        return [
            (address, key)
            for key in keys
            for (address,) in connection.execute(SQL["watches"], (key,))
        ]

    def _release(self, completions: Sequence[Completion], verdicts: Sequence[Verdict]) -> None:
        for completion, verdict in zip(completions, verdicts, strict=True):
            kept = completion.settlement is Settlement.KEEP or verdict.kind in ("held", "refused")
            if not kept or verdict is STALE:
                self._held.discard(completion.receipt)

    def _publish(self, publishes: Sequence[Publish]) -> None:
        if publishes := spread(publishes):
            with self._database.write(durable=True) as connection:
                connection.executemany(SQL["publish"], map(publish_row, publishes))
            self._ring({publish.queue for publish in publishes}, ())

    def _stale(self, receipts: Sequence[str]) -> set[str]:
        return {r for r in receipts if not self._database.read(SQL["holds"], row_of(r))}

    def _settle(self, completions: Sequence[Completion]) -> list[Verdict]:
        queues: set[str] = set()
        with self._database.write() as connection:
            verdicts = [self._settle_one(connection, c, queues) for c in completions]
        self._release(completions, verdicts)
        self._ring(queues, ())
        return verdicts
