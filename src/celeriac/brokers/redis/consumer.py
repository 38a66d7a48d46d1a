"""One worker's hold on queues of a Redis server.

Everything that a delivery goes through is one script, and so one step: claimed, recorded and leased;
renewed; given back; committed. Leases run on the server's clock. If the results are kept on the same
server, a whole batch of outcomes, follow-ups and documents is one script as well.
"""

import json
import secrets
from collections.abc import Collection, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from redis.exceptions import ReadOnlyError, ResponseError

from celeriac.brokers.base import Consumer
from celeriac.brokers.redis import envelope
from celeriac.brokers.redis.bindings import declarations, resolved
from celeriac.brokers.redis.doorbell import Doorbell
from celeriac.brokers.redis.doubts import Doubts
from celeriac.brokers.redis.fanout import Register
from celeriac.brokers.redis.hearing import Hearing
from celeriac.brokers.redis.posting import SENT, Posting, scripted
from celeriac.brokers.redis.restoring import Restoring
from celeriac.completion import (
    SETTLED,
    STALE,
    Completion,
    Settlement,
    Verdict,
    held,
    refused,
)
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.message import Delivery, Message, Publish
from celeriac.queues import Queue
from celeriac.redis.documents import DOCUMENT, documents
from celeriac.redis.link import Argument, Command, Link
from celeriac.redis.scripts import Script, script
from celeriac.results.base import task_key

if TYPE_CHECKING:
    from celeriac.results.base import ResultStore

ACK = script("held", "put", "ack")
CLAIM = script("held", "entries", "later", "claim")
COMMIT = script("held", "entries", "put", "send", "commit")
DEFER = script("held", "entries", "defer")
PUBLISH = script("held", "entries", "send", "publish")
RENEW = script("held", "entries", "renew")
REQUEUE = script("held", "entries", "requeue")
START = script("held", "entries", "start")
SWEEP = script("held", "entries", "sweep")

TRIAL = script("trial")

ACKED, KEEP = Settlement.ACK, Settlement.KEEP

BATCH = 200
"""Receipts that one script deals with, so that the server is never kept for long."""
SEEN_EVERY = 20.0
"""Seconds between signs of life of a worker that holds nothing."""
HEARD_WITHIN = 5.0
"""Seconds to wait until it is listened to what Celery's callers broadcast; if not, it is tried on."""
ANNOUNCED_EVERY = 3600.0
"""Seconds between two times at which a worker tells the server of its queues."""
KNOWN_FOR = 30 * 86400
"""Seconds for which the names of queues are remembered after their last use."""


class RedisConsumer(Consumer):
    """Claims, renews and settles messages of a Redis server."""

    def __init__(
        self,
        link: Link,
        posting: Posting,
        queues: Sequence[Queue],
        lease: float,
        *,
        turns: bool = True,
    ) -> None:
        self.lease = lease
        self._link = link
        self._posting = posting
        self._keys = posting.keys
        self._scripted = scripted(posting.keys)
        names = [queue.name for queue in queues]
        self._queues = list(names)
        self._turns = turns
        self._names = {name: json.dumps(name) for name in names}
        self._owner = secrets.token_hex(6)
        self._number = 0
        self._held: dict[str, Message] = {}
        self._doubts = Doubts(lease)
        self._doorbell = Doorbell(link, posting.keys, names)
        self._restoring = Restoring(link, posting)
        self._register = Register(link, posting, queues)
        self._hearing = Hearing(link, posting, queues)
        self._together: dict[str, bool] = {}
        self._seen = float("-inf")
        self._closed = False
        # Who reads only what ends by itself, replies, is a caller.
        lasting = [queue.name for queue in queues if not queue.passing]
        self._worker = self._owner if any(not queue.private for queue in queues) else ""
        self._announcements: list[Command] = [
            one for queue in queues for one in declarations(self._keys, queue)
        ]
        if lasting:
            self._announcements.append(("SADD", self._keys.queues, *lasting))
            self._announcements.append(("EXPIRE", self._keys.queues, KNOWN_FOR))
        self._renewed(())
        self._announce()

    def _announce(self) -> None:
        """Tell the server of the queues; it may have been emptied since, and forgets in the end."""
        self._announced = monotonic()
        self._link.pipeline(self._announcements)
        self._register.enter()

    def _run(self, script: Script, *arguments: Argument) -> Any:
        return self._link.run(script, self._scripted.keys, (*self._scripted.first, *arguments))

    # -- claiming

    def claim(self, count: int, size: int) -> list[Delivery]:
        if self._hearing.needed:
            self._hear()
        steps = self._keys.steps
        named = [part for name in self._queues for part in (name, self._names[name])]
        first = self._number
        # Whatever becomes of the call, these numbers are never given out again.
        self._number += count
        began = monotonic()
        found = self._run(
            CLAIM, self._owner, first, count, size, self.lease, len(steps), *steps, *named
        )
        turned = self._posting.turned
        taken = []
        for n in range(0, len(found), 2):
            receipt = found[n].decode()
            queue = receipt.split(":", 3)[3]
            taken.append(envelope.delivery(found[n + 1], receipt, queue, turned))
        self._held.update((delivery.receipt, delivery.message) for delivery in taken)
        self._doubts.leased([delivery.receipt for delivery in taken], began)
        self.exhausted = len(taken) < count
        if self._turns:
            # The queue that came first comes last the next time.
            self._queues.append(self._queues.pop(0))
        return taken

    def _hear(self) -> None:
        """Have somebody listen to what Celery's callers broadcast."""
        if self._hearing.failure is not None:
            raise self._hearing.failure
        if not self._hearing.alive:
            self._hearing.start()
            self._hearing.listening(HEARD_WITHIN)

    def wait(self, timeout: float) -> None:
        # Whatever it was that ended the wait, there may be something.
        self.exhausted = False
        self._doorbell.wait(timeout)

    def wake(self) -> None:
        self._doorbell.ring()

    # -- leases

    def renew(self, receipts: Sequence[str]) -> set[str]:
        if not receipts and monotonic() - self._seen < SEEN_EVERY:
            self._register.enter()
            return set()
        if monotonic() - self._announced > ANNOUNCED_EVERY:
            self._announce()
        lost: set[str] = set()
        for batch in _batches(receipts) or [()]:
            lost |= self._renewed(batch)
        # What is being settled may have lost its lease by that.
        self._forget(lost - self._doubts.doubted)
        self._register.enter()
        return lost

    def _renewed(self, receipts: Sequence[str]) -> set[str]:
        began = monotonic()
        workers, *told = self._run(RENEW, self._worker, self.lease, *receipts)
        self._doorbell.company = workers
        self._seen = monotonic()
        lost = {receipt.decode() for receipt in told}
        kept = (one for one in receipts if one in self._held and one not in lost)
        self._doubts.leased(kept, began)
        return lost

    def start(self, receipts: Sequence[str]) -> set[str]:
        stale = [one for batch in _batches(receipts) for one in self._run(START, *batch)]
        return {receipt.decode() for receipt in stale}

    def defer(self, receipt: str, due: float, *, unknown: bool = False) -> bool:
        message = self._held.get(receipt)
        # Something stands for a task without a name, since nothing stands for one that is known.
        task = ((message.task if message else "") or "?") if unknown else ""
        done = self._run(DEFER, receipt, due, due - self._posting.visibility, task)
        self._forget((receipt,))
        return bool(done)

    def requeue(self, receipts: Sequence[str]) -> None:
        newest = sorted(receipts, key=_number, reverse=True)
        for batch in _batches(newest):
            self._run(REQUEUE, *batch)
        self._forget(receipts)

    def sweep(self) -> int:
        total = 0
        while taken := self._run(SWEEP, BATCH, self.lease):
            total += taken
            if taken < BATCH:
                break
        return total + self._restoring.step()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._hearing.close()
            self.requeue(list(self._held))
            self._register.leave()
            self._link.call("ZREM", self._keys.workers, self._owner)
        finally:
            self._doorbell.close()

    def _forget(self, receipts: Collection[str]) -> None:
        for receipt in receipts:
            self._held.pop(receipt, None)
        self._doubts.forget(receipts)

    # -- commit

    def commit(
        self, completions: Sequence[Completion], store: "ResultStore | None"
    ) -> list[Verdict]:
        if not completions:
            return []
        database = self._database(store)
        if database is None:
            return super().commit(completions, store)
        verdicts = [self._refusal(completion, store) for completion in completions]
        wanted: list[Completion] = []
        for n, completion in enumerate(completions):
            if verdicts[n] is SETTLED:
                try:
                    wanted.append(self._routed(completion) if completion.publishes else completion)
                except ImproperlyConfigured as error:
                    verdicts[n] = refused(str(error))
        answers = iter(self._committed(wanted, store, database) if wanted else ())
        return [next(answers) if verdict is SETTLED else verdict for verdict in verdicts]

    def _routed(self, completion: Completion) -> Completion:
        """Return it with the queues of what follows from it. Raises ImproperlyConfigured."""
        publishes = resolved(self._link, self._keys, completion.publishes)
        if publishes is completion.publishes:
            return completion
        return replace(completion, publishes=tuple(publishes))

    def _database(self, store: "ResultStore | None") -> str | None:
        """Return the database of the results if one script reaches both, else None."""
        if store is None:
            return ""
        location = store.location
        server, _, database = location.rpartition("/")
        if not location.startswith("redis:") or server != f"redis:{self._link.server}":
            return None
        if location not in self._together:
            self._together = {location: self._reaches(store, database)}
        return database if self._together[location] else None

    def _reaches(self, store: "ResultStore", database: str) -> bool:
        """Try whether this user may do in a script what a commit does there."""
        try:
            self._link.run(TRIAL, (), (database, store.named(task_key("celeriac-trial"))))
        except OperationalError as error:
            if isinstance(error.__cause__, ReadOnlyError) or not isinstance(
                error.__cause__, ResponseError
            ):
                raise
            return False
        return True

    def _committed(
        self, completions: Sequence[Completion], store: "ResultStore | None", database: str
    ) -> list[Verdict]:
        """Commit in one script; documents go to a database of this server, or nowhere."""
        try:
            answers = self._answered(completions, store, database)
        except OperationalError:
            self._doubts.doubt(c.receipt for c in completions if c.settlement is not KEEP)
            raise
        verdicts, gone = [], []
        for completion, answer in zip(completions, answers, strict=True):
            receipt = completion.receipt
            verdict = SETTLED if answer == b"settled" else _verdict(completion, answer)
            if verdict is STALE:
                gone.append(receipt)
                verdict = SETTLED if self._doubts.settled(receipt) else STALE
            elif completion.settlement is not KEEP and verdict is SETTLED:
                gone.append(receipt)
            verdicts.append(verdict)
        self._forget(gone)
        return verdicts

    def _answered(
        self,
        completions: Sequence[Completion],
        store: "ResultStore | None",
        database: str,
        *,
        inline: bool = False,
    ) -> list[Any]:
        """Return what the script answers to each completion."""
        own = self._link.address.db
        # Simply done: acknowledged, and nothing follows from them.
        plain = not [c for c in completions if c.settlement is not ACKED or c.publishes or c.join]
        arguments: list[Argument] = [*(() if plain else self._scripted.first), database, own]
        stores = store is not None and database
        puts = [put for c in completions for put in c.puts] if stores else ()
        told = documents(puts, store.named if store else str, inline=inline)
        first = 0
        for completion in completions:
            count = len(completion.puts) if puts else 0
            documented = told.arguments[first : first + DOCUMENT * count]
            first += DOCUMENT * count
            if plain:
                arguments += (completion.receipt, count, *documented)
                continue
            sent = self._posting.sent(completion.publishes)
            arguments += self._told(completion)
            arguments += (count, *documented, len(sent) // SENT, *sent)
        before = told.beside
        if before and database != str(own):
            before = [("SELECT", database), *before, ("SELECT", own)]
        script = ACK if plain else COMMIT
        answers: list[Any] = self._link.run(script, self._scripted.keys, arguments, before)
        absent = [n for n, answer in enumerate(answers) if answer == b"absent"]
        if absent:
            again = [completions[n] for n in absent]
            rest = self._answered(again, store, database, inline=True)
            for n, answer in zip(absent, rest, strict=True):
                answers[n] = answer
        return answers

    def _told(self, completion: Completion) -> tuple[Argument, ...]:
        """Return what the script is told first of a completion."""
        message = self._held.get(completion.receipt)
        join = completion.join
        return (
            completion.receipt,
            completion.settlement.value,
            completion.reason,
            message.id if message else "",
            message.task if message else "",
            *(
                ("", "", "", 0, "")
                if join is None
                else (join.group, join.index, join.member, join.size, join.token or "")
            ),
        )

    def _publish(self, publishes: Sequence[Publish]) -> None:
        if publishes:
            sent = resolved(self._link, self._keys, publishes)
            self._run(PUBLISH, *self._posting.sent(sent))

    def _stale(self, receipts: Sequence[str]) -> set[str]:
        if not receipts:
            return set()
        scores = self._link.call("ZMSCORE", self._keys.leases, *receipts)
        without = {r for r, score in zip(receipts, scores, strict=True) if score is None}
        return {receipt for receipt in without if not self._doubts.settled(receipt)}

    def _settle(self, completions: Sequence[Completion]) -> list[Verdict]:
        # What follows from them is published already.
        bare = [replace(completion, publishes=(), puts=()) for completion in completions]
        return self._committed(bare, None, "") if bare else []


def _verdict(completion: Completion, answer: Any) -> Verdict:
    if isinstance(answer, list):
        _, token, *members = answer
        return held(tuple(members), token.decode())
    if answer == b"broken":
        return refused(
            "a key on the Redis server that this needs is in use for something else (a queue of the "
            f"messages {[publish.queue for publish in completion.publishes]}, or one of celeriac:...)"
        )
    return STALE


def _number(receipt: str) -> int:
    """Return the number of a receipt: the later it was taken, the higher."""
    return int(receipt.split(":", 2)[1])


def _batches(receipts: Sequence[str]) -> list[Sequence[str]]:
    return [receipts[n : n + BATCH] for n in range(0, len(receipts), BATCH)]
