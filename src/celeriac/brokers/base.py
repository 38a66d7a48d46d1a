"""The contract of a broker: what every adapter promises, and what the worker may rely on.

A ``Broker`` is the server as a client sees it: publish, sizes, purge. A ``Consumer`` is one
worker's hold on some queues: claim, renew, settle. Both are synchronous and may be used from
several threads; an adapter opens what it needs on first use, and again after a fork.

**Every receipt is a fence.** ``commit``, ``renew``, ``start``, ``defer`` and ``requeue`` act on a
delivery only while its receipt still holds the lease, in the same atomic step; otherwise they do
nothing for that delivery and say so. A receipt is lost when ``sweep`` takes a lease that was not
renewed in time, and it never comes back: renewal does not re-create a lease.

All methods raise ``OperationalError`` when the server cannot do its work before the deadline that
the broker was opened with; then nothing, or on ``commit`` perhaps everything, was done.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from celeriac.completion import AWAY, SETTLED, STALE, Completion, Settlement, Verdict, refused
from celeriac.exceptions import ImproperlyConfigured
from celeriac.message import (
    ALL_DEAD,
    DeadLetter,
    DeadSelection,
    Delivery,
    Publish,
    QueueSize,
)
from celeriac.queues import Exchange, Queue

if TYPE_CHECKING:
    from celeriac.results.base import ResultStore

LEASE = 20.0
"""Seconds after which a lease that was not renewed may be taken by others."""


def plain_queue(name: str) -> Queue:
    """Return the declaration of a queue that nobody has declared: a direct exchange of its name."""
    return Queue(name, Exchange(name), name)


class Broker(ABC):
    """Holds messages. One object per app and process; thread-safe; usable after a fork."""

    url: str
    """The address it was opened with, passwords masked."""
    queues: Mapping[str, Queue] = {}
    """The declarations that its owner knows, by name, for servers that keep them. They may grow."""
    counts_delayed: bool = True
    """Whether ``sizes`` tells of delayed messages, and ``purge`` removes them. RabbitMQ cannot."""
    routes: bool = False
    """Whether the server resolves exchanges: it knows bindings that nobody here does, and broadcasts."""
    leases_lapse: bool = True
    """Whether a lease ends when it is not renewed in time. Else all of a holder end with his
    connection, and a run whose start is on record goes to the tail of its queue.
    """

    @property
    @abstractmethod
    def location(self) -> str:
        """Identity of the server: a store with the same location can share a transaction.

        Where only the server knows it, it is asked, and this raises OperationalError when it is away.
        """

    def declaration(self, name: str) -> Queue:
        """Return the declaration of a queue; one that nobody has declared is a plain one."""
        return self.queues.get(name) or plain_queue(name)

    @abstractmethod
    def publish(self, publishes: Sequence[Publish]) -> None:
        """Take over messages: all of them, or none.

        A message goes to its queue and to those in ``copies`` (see ``spread``); where the server
        resolves exchanges, to all that ``exchange`` leads to. Raises QueueNotFound for one that no
        queue would get, unless it is a broadcast.
        On return they survive a crash of this process and, as far as the server's own settings
        promise it, of the server. A message with a future ``due`` is delivered not before it.
        """

    @abstractmethod
    def consumer(
        self, queues: Sequence[str], *, lease: float = LEASE, turns: bool = True
    ) -> "Consumer":
        """Return a new consumer of these queues, whose leases last ``lease`` seconds.

        Queues take turns, or else the first that has something goes first (ROUTE-16).
        """

    @abstractmethod
    def sizes(self) -> dict[str, QueueSize]:
        """Return what each queue holds that is not empty. A snapshot, exact when taken."""

    @abstractmethod
    def purge(self, queue: str) -> int:
        """Remove all messages of a queue that no worker holds; return how many there were."""

    @abstractmethod
    def release(self, queue: str) -> int:
        """Have the delayed messages of a queue come at once, the soonest first; return how many.

        They go to the tail of the queue. A worker of Celeriac that claims one whose task has a time
        gives it back until then; other workers may not. What is in a worker's hands is left alone.
        """

    @abstractmethod
    def dead(self, limit: int = 100, which: DeadSelection = ALL_DEAD) -> list[DeadLetter]:
        """Return the newest ``limit`` of these dead letters, newest first.

        The id of a letter is never given to another one, also not when the letter has gone.
        """

    @abstractmethod
    def revive(self, which: DeadSelection) -> int:
        """Put dead letters back to the tails of their queues, oldest first; return how many.

        Each is moved in one atomic step: whatever crashes, it is in exactly one of the two places.
        It is delivered as a new message is, at once: no losses, not suspect, never claimed. Message
        and priority stay as they are, to the byte: one that has expired is revoked when it is
        delivered, and ``retries`` that were made count. Letters that die during the call are left
        alone. Survives what ``publish`` survives.
        """

    @abstractmethod
    def delete_dead(self, which: DeadSelection) -> int:
        """Delete dead letters; return how many. Those that die during the call are left alone."""

    @abstractmethod
    def worker_seen(self) -> float | None:
        """Return the wall time at which a consumer last gave a sign of life, None if never."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections. The broker opens them again if it is used again."""


class Consumer(ABC):
    """One worker's hold on some queues. Thread-safe, except ``claim`` and ``wait``: one thread."""

    lease: float
    """Seconds that a lease lasts."""
    exhausted: bool = False
    """Whether the last claim has left nothing, so that ``wait`` comes before the next one."""
    _published: frozenset[tuple[str, Publish]] = frozenset()
    """Follow-ups that are published, while the store has not taken the documents beside them."""

    @abstractmethod
    def claim(self, count: int, size: int) -> list[Delivery]:
        """Take up to ``count`` messages of together at most ``size`` body bytes, under leases.

        One message larger than ``size`` is taken if it is the first. Within a queue: higher
        priority first, then oldest first; among queues, turns, if the consumer was asked for them.
        Taking, recording and leasing are one atomic step. Does not block: an empty list means that
        nothing was ready.
        """

    @abstractmethod
    def wait(self, timeout: float) -> None:
        """Block until a claim may find something, ``wake`` is called, or ``timeout`` seconds
        passed.

        It may return early without cause; it must not sleep through a message by more than 250 ms.
        """

    @abstractmethod
    def wake(self) -> None:
        """Make ``wait`` return, now or at its next call. Any thread; never blocks."""

    @abstractmethod
    def renew(self, receipts: Sequence[str]) -> set[str]:
        """Extend these leases by a full ``lease``; return the receipts that hold none any more."""

    @abstractmethod
    def start(self, receipts: Sequence[str]) -> set[str]:
        """Put on record that these runs begin; return the stale receipts.

        A recorded start whose lease is then lost counts as a loss; without it a loss counts
        nothing.
        """

    @abstractmethod
    def defer(self, receipt: str, due: float, *, unknown: bool = False) -> bool:
        """Give a delivery back to the tail of its queue, not to be delivered before ``due``.

        ``due`` is wall time. ``unknown`` marks it as parked, because nobody knew the task.
        Return False if the receipt was stale.
        """

    @abstractmethod
    def requeue(self, receipts: Sequence[str]) -> None:
        """Give deliveries back to the place they were taken from, uncounted. Stale ones are
        skipped.
        """

    @abstractmethod
    def sweep(self) -> int:
        """Take back the messages whose lease ended, of all consumers; return how many.

        They are ready again, marked as suspect; a run whose start is on record counts as a loss.
        """

    @abstractmethod
    def close(self) -> None:
        """Give back everything still held, uncounted, and end. Idempotent."""

    def commit(
        self, completions: Sequence[Completion], store: "ResultStore | None"
    ) -> list[Verdict]:
        """Make completions true, each all or nothing; return one verdict for each, in order.

        A completion whose document the store will never take, or one of whose messages leads
        nowhere, is answered ``refused``, and nothing of it is done; the others are not held back.

        This implementation publishes, then stores, then settles: a crash in between repeats work
        and loses none. Adapters that share a server with the store do it in one transaction
        instead.
        """
        verdicts = [self._refusal(completion, store) for completion in completions]
        wanted = [c for c, verdict in zip(completions, verdicts, strict=True) if verdict is SETTLED]
        stale = self._stale([completion.receipt for completion in wanted])
        live = [completion for completion in wanted if completion.receipt not in stale]
        astray = self._follow(live)
        live = [completion for completion in live if completion.receipt not in astray]
        if store is not None and (puts := [put for c in live for put in c.puts]):
            store.put(puts)
        settled = iter(self._settle(live))
        for index, completion in enumerate(completions):
            if verdicts[index] is SETTLED:
                receipt = completion.receipt
                verdict = STALE if receipt in stale else astray.get(receipt)
                verdicts[index] = next(settled) if verdict is None else verdict
        done = [c for c, verdict in zip(completions, verdicts, strict=True) if verdict is not AWAY]
        self._published -= {(c.receipt, p) for c in done for p in c.publishes}
        return verdicts

    def _follow(self, completions: Sequence[Completion]) -> dict[str, Verdict]:
        """Publish what follows from these; return the refusal of each of which a part leads nowhere.

        A store that is away has the commit tried again: what was published is not published twice.
        """
        astray: dict[str, Verdict] = {}
        together: list[Completion] = []
        for completion in completions:
            if not any(publish.exchange for publish in completion.publishes):
                together.append(completion)
                continue
            try:
                self._publish_new([completion])
            except ImproperlyConfigured as error:
                astray[completion.receipt] = refused(str(error))
        self._publish_new(together)
        return astray

    def _publish_new(self, completions: Sequence[Completion]) -> None:
        named = {(c.receipt, p): p for c in completions for p in c.publishes}
        self._publish([p for name, p in named.items() if name not in self._published])
        self._published |= named.keys()

    @staticmethod
    def _refusal(completion: Completion, store: "ResultStore | None") -> Verdict:
        """Return a refusal, or SETTLED for what may go on."""
        if store is not None:
            for put in completion.puts:
                if error := store.refusal(put):
                    return refused(error)
        return SETTLED

    @abstractmethod
    def _publish(self, publishes: Sequence[Publish]) -> None:
        """Publish what follows from completions; may be empty."""

    @abstractmethod
    def _stale(self, receipts: Sequence[str]) -> set[str]:
        """Return those of the receipts that hold no lease."""

    @abstractmethod
    def _settle(self, completions: Sequence[Completion]) -> list[Verdict]:
        """Count joins and settle deliveries, fenced by their receipts; documents are stored
        already.

        A completion with a join that completes its chord, and bears no token yet, is not settled
        but answered ``held``.
        """


def spread(publishes: Sequence[Publish]) -> Sequence[Publish]:
    """Return one publish for each queue, in place of those that go to several."""
    for publish in publishes:
        if publish.copies:
            break
    else:
        return publishes
    return [
        replace(publish, queue=queue, copies=())
        for publish in publishes
        for queue in (publish.queue, *publish.copies)
    ]


def is_selected(letter: DeadLetter, which: DeadSelection) -> bool:
    """Whether a dead letter meets every condition of a selection."""
    message = letter.message
    return (
        (which.ids is None or letter.id in which.ids)
        and (which.task_ids is None or message.id in which.task_ids)
        and which.task in (None, message.task)
        and which.queue in (None, letter.queue)
    )


def gives_back(settlement: Settlement) -> bool:
    """Whether this settlement makes the message ready again."""
    return settlement in (Settlement.REQUEUE, Settlement.RETURN, Settlement.LOSS)
