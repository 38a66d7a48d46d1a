"""The broker in memory: queues of one process, for tests and for runs without a worker.

One ``MemoryBroker`` object is one server, with the semantics of the others: priorities, delays,
leases, dead letters, joins. Nothing outlives the process, and a fork copies it: parent and child
then have a server each. It commits in the order of the base class, and so shows that this order
holds. A test may put it to sleep, to see what happens when a server is away.
"""

from collections import Counter
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import count as counter
from threading import Condition
from time import monotonic

from msgspec import Struct

from celeriac.brokers.base import LEASE, Broker, Consumer, is_selected, spread
from celeriac.clock import wall
from celeriac.completion import SETTLED, STALE, Completion, Join, Settlement, Verdict, held
from celeriac.exceptions import OperationalError
from celeriac.message import (
    ALL_DEAD,
    DeadLetter,
    DeadSelection,
    Delivery,
    Message,
    Publish,
    QueueSize,
)


class Waiting(Struct, frozen=True):
    """A message that nobody holds."""

    message: Message
    queue: str
    due: float | None
    """Wall time in seconds before which it is not delivered; None is now."""
    parked: bool
    """It was put back because no task of its name is known."""


class MemoryBroker(Broker):
    """Queues of this process."""

    def __init__(self) -> None:
        self.url = "memory://"
        self._server = _Server()

    @property
    def location(self) -> str:
        """Identity of the server: this object."""
        return f"memory:{id(self):x}"

    def sleep(self) -> None:
        """Be away: every call of this broker and of its consumers raises until ``wake_up``.

        Only ``Broker.close`` and ``Consumer.wake``, which ask nothing of a server, go on working.
        """
        self._server.rouse(awake=False)

    def wake_up(self) -> None:
        """Be back, with everything that was here before."""
        self._server.rouse(awake=True)

    def publish(self, publishes: Sequence[Publish]) -> None:
        with self._server as server:
            server.publish(publishes)

    def consumer(
        self, queues: Sequence[str], *, lease: float = LEASE, turns: bool = True
    ) -> "MemoryConsumer":
        with self._server as server:
            server.seen = wall()
            return MemoryConsumer(server, queues, lease, turns)

    def sizes(self) -> dict[str, QueueSize]:
        with self._server as server:
            return server.sizes()

    def purge(self, queue: str) -> int:
        with self._server as server:
            return server.purge(queue)

    def release(self, queue: str) -> int:
        with self._server as server:
            return server.release(queue)

    def dead(self, limit: int = 100, which: DeadSelection = ALL_DEAD) -> list[DeadLetter]:
        with self._server as server:
            return [letter for letter in reversed(server.dead) if is_selected(letter, which)][
                :limit
            ]

    def revive(self, which: DeadSelection) -> int:
        with self._server as server:
            letters = server.exhume(which)
            server.publish([Publish(queue=one.queue, message=one.message) for one in letters])
            return len(letters)

    def delete_dead(self, which: DeadSelection) -> int:
        with self._server as server:
            return len(server.exhume(which))

    def worker_seen(self) -> float | None:
        with self._server as server:
            return server.seen

    def ready(self) -> list[str]:
        """Return the queues that have a message ready now."""
        with self._server as server:
            return server.ready()

    def next_due(self) -> float | None:
        """Return the wall time at which the next of the delayed messages is due; None without any."""
        with self._server as server:
            return server.next_due()

    def waiting(self) -> list[Waiting]:
        """Return what nobody holds: the ready messages as they would be claimed, then the delayed."""
        with self._server as server:
            return server.waiting()

    def close(self) -> None:
        """Nothing to let go of: the messages stay with this object."""


class MemoryConsumer(Consumer):
    """One worker's hold on queues of a ``MemoryBroker``; every step is taken under one lock."""

    def __init__(self, server: "_Server", queues: Sequence[str], lease: float, turns: bool) -> None:
        self.lease = lease
        self._turns = turns
        self._server = server
        self._queues = list(queues)
        self._woken = False

    def claim(self, count: int, size: int) -> list[Delivery]:
        with self._server as server:
            taken: list[Delivery] = []
            while len(taken) < count and (entry := server.best(self._queues)):
                size -= len(entry.message.body)
                if size < 0 and taken:
                    break
                taken.append(server.lease(entry, self, monotonic() + self.lease))
            if self._turns:
                # The queue that came first comes last the next time.
                self._queues.append(self._queues.pop(0))
            return taken

    def wait(self, timeout: float) -> None:
        deadline = monotonic() + timeout
        with self._server as server:
            while not self._woken:
                pause = min(server.next_ready(self._queues), deadline - monotonic())
                if pause <= 0:
                    break
                server.changed.wait(pause)
                server.check_awake()
            self._woken = False

    def wake(self) -> None:
        with self._server.changed:
            self._woken = True
            self._server.changed.notify_all()

    def renew(self, receipts: Sequence[str]) -> set[str]:
        with self._server as server:
            server.seen = wall()
            for entry in server.held(receipts):
                entry.lease = monotonic() + self.lease
            return server.stale(receipts)

    def start(self, receipts: Sequence[str]) -> set[str]:
        with self._server as server:
            for entry in server.held(receipts):
                entry.started = True
            return server.stale(receipts)

    def defer(self, receipt: str, due: float, *, unknown: bool = False) -> bool:
        with self._server as server:
            for entry in server.held([receipt]):
                if unknown:
                    entry.parked = wall() if entry.parked is None else entry.parked
                    entry.parkings += 1
            return server.give_back(receipt, tail=True, due=due)

    def requeue(self, receipts: Sequence[str]) -> None:
        with self._server as server:
            for receipt in receipts:
                server.give_back(receipt)

    def sweep(self) -> int:
        with self._server as server:
            return server.sweep()

    def close(self) -> None:
        with self._server as server:
            for receipt in server.receipts_of(self):
                server.give_back(receipt)

    def _publish(self, publishes: Sequence[Publish]) -> None:
        with self._server as server:
            server.publish(publishes)

    def _stale(self, receipts: Sequence[str]) -> set[str]:
        with self._server as server:
            return server.stale(receipts)

    def _settle(self, completions: Sequence[Completion]) -> list[Verdict]:
        with self._server as server:
            return [server.settle(completion) for completion in completions]


class _Entry:
    """A message, in one place: in a heap of ready ones, among the delayed, or among the leased."""

    def __init__(self, publish: Publish, seq: int) -> None:
        self.queue = publish.queue
        self.message = publish.message
        self.seq = seq
        self.holder: MemoryConsumer | None = None
        self.lease = 0.0
        self.started = False
        self.claims = 0
        self.suspect = False
        self.losses = 0
        self.parked: float | None = None
        self.parkings = 0


class _Chord:
    """The members that reported in, and the receipt that holds the claim to the body."""

    def __init__(self) -> None:
        self.members: dict[int, bytes] = {}
        self.claim = ""
        self.done = False


class _Server:
    """What a server would hold. Used with ``with``: that takes the lock, or raises while asleep."""

    def __init__(self) -> None:
        self.changed = Condition()
        self.dead: list[DeadLetter] = []
        self.seen: float | None = None
        self._awake = True
        # Numbers for places in a queue, receipts and dead letters: each is given out once.
        self._numbers = counter(1)
        # Heaps, best first: (-priority, seq, entry) and (due, seq, entry).
        self._ready: dict[str, list[tuple[int, int, _Entry]]] = {}
        self._delayed: list[tuple[float, int, _Entry]] = []
        self._leased: dict[str, _Entry] = {}
        self._chords: dict[str, _Chord] = {}

    def __enter__(self) -> "_Server":
        self.changed.acquire()
        try:
            self.check_awake()
        except OperationalError:
            self.changed.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.changed.release()

    def check_awake(self) -> None:
        if not self._awake:
            raise OperationalError(
                "the broker at memory:// does not answer: it was put to sleep; call wake_up() on it"
            )

    def rouse(self, *, awake: bool) -> None:
        """Fall asleep or wake up; whoever waits finds out at once."""
        with self.changed:
            self._awake = awake
            self.changed.notify_all()

    # -- places ------------------------------------------------------------------------------------

    def publish(self, publishes: Sequence[Publish]) -> None:
        for publish in spread(publishes):
            self._place(_Entry(publish, next(self._numbers)), publish.due)
        self.changed.notify_all()

    def best(self, queues: Sequence[str]) -> _Entry | None:
        """Return the next message of the first of these queues that has one."""
        self._promote()
        heaps = filter(None, map(self._ready.get, queues))
        return next((heap[0][2] for heap in heaps), None)

    def lease(self, entry: _Entry, holder: MemoryConsumer, until: float) -> Delivery:
        """Take a message that ``best`` returned into the hands of a consumer."""
        heappop(self._ready[entry.queue])
        entry.holder, entry.lease, entry.started = holder, until, False
        entry.claims += 1
        receipt = str(next(self._numbers))
        self._leased[receipt] = entry
        return Delivery(
            message=entry.message,
            queue=entry.queue,
            receipt=receipt,
            claims=entry.claims,
            suspect=entry.suspect,
            losses=entry.losses,
            parked=entry.parked,
            parkings=entry.parkings,
        )

    def give_back(self, receipt: str, *, tail: bool = False, due: float | None = None) -> bool:
        """End a lease and put the message back; False if the receipt was stale."""
        entry = self._leased.pop(receipt, None)
        if entry is None:
            return False
        if tail:
            entry.seq = next(self._numbers)
        self._place(entry, due)
        self.changed.notify_all()
        return True

    def _place(self, entry: _Entry, due: float | None) -> None:
        if due is not None and due > wall():
            heappush(self._delayed, (due, entry.seq, entry))
        else:
            ready = self._ready.setdefault(entry.queue, [])
            heappush(ready, (-entry.message.priority, entry.seq, entry))

    def release(self, queue: str) -> int:
        """Have the delayed messages of a queue come at once."""
        chosen = [one for one in sorted(self._delayed) if one[2].queue == queue]
        self._delayed = [one for one in self._delayed if one[2].queue != queue]
        heapify(self._delayed)
        for _, _, entry in chosen:
            entry.seq = next(self._numbers)
            self._place(entry, None)
        self.changed.notify_all()
        return len(chosen)

    def _promote(self) -> None:
        now = wall()
        while self._delayed and self._delayed[0][0] <= now:
            self._place(heappop(self._delayed)[2], None)

    def next_ready(self, queues: Sequence[str]) -> float:
        """Return the seconds until a claim may find something; 0 is now, infinity never."""
        if self.best(queues):
            return 0.0
        return max(0.0, self._delayed[0][0] - wall()) if self._delayed else float("inf")

    def ready(self) -> list[str]:
        self._promote()
        return [queue for queue, heap in self._ready.items() if heap]

    def next_due(self) -> float | None:
        self._promote()
        return self._delayed[0][0] if self._delayed else None

    def waiting(self) -> list[Waiting]:
        self._promote()
        ready = [(None, entry) for heap in self._ready.values() for _, _, entry in sorted(heap)]
        found = [*ready, *((due, entry) for due, _, entry in sorted(self._delayed))]
        return [Waiting(e.message, e.queue, due, e.parked is not None) for due, e in found]

    def purge(self, queue: str) -> int:
        kept = [item for item in self._delayed if item[2].queue != queue]
        gone = len(self._delayed) - len(kept) + len(self._ready.pop(queue, ()))
        heapify(kept)
        self._delayed = kept
        return gone

    def sizes(self) -> dict[str, QueueSize]:
        self._promote()
        later = [entry for _, _, entry in self._delayed]
        ready = Counter({queue: len(heap) for queue, heap in self._ready.items() if heap})
        delayed = Counter(entry.queue for entry in later)
        leased = Counter(entry.queue for entry in self._leased.values())
        parked = Counter((e.queue, e.message.task) for e in later if e.parked is not None)
        return {
            queue: QueueSize(
                ready=ready[queue],
                delayed=delayed[queue],
                leased=leased[queue],
                unknown={task: n for (place, task), n in parked.items() if place == queue},
            )
            for queue in sorted({*ready, *delayed, *leased})
        }

    # -- leases ------------------------------------------------------------------------------------

    def held(self, receipts: Sequence[str]) -> list[_Entry]:
        """Return what these receipts hold; the stale ones hold nothing."""
        return [self._leased[receipt] for receipt in receipts if receipt in self._leased]

    def stale(self, receipts: Sequence[str]) -> set[str]:
        return {receipt for receipt in receipts if receipt not in self._leased}

    def receipts_of(self, holder: MemoryConsumer) -> list[str]:
        return [receipt for receipt, entry in self._leased.items() if entry.holder is holder]

    def sweep(self) -> int:
        now = monotonic()
        ended = [receipt for receipt, entry in self._leased.items() if entry.lease < now]
        for receipt in ended:
            entry = self._leased[receipt]
            entry.suspect = True
            entry.losses += entry.started
            self.give_back(receipt)
        return len(ended)

    # -- settlement --------------------------------------------------------------------------------

    def settle(self, completion: Completion) -> Verdict:
        """Count the join, if any, and settle one delivery."""
        receipt = completion.receipt
        entry = self._leased.get(receipt)
        if entry is None:
            return STALE
        if completion.join and (verdict := self._joined(completion.join, receipt)):
            return verdict
        match completion.settlement:
            case Settlement.REQUEUE:
                self.give_back(receipt)
            case Settlement.RETURN:
                self.give_back(receipt, tail=True)
            case Settlement.LOSS:
                entry.losses += 1
                self.give_back(receipt, tail=True)
            case Settlement.DEAD:
                self._bury(self._leased.pop(receipt), completion.reason)
            case Settlement.ACK:
                del self._leased[receipt]
        return SETTLED

    def _joined(self, join: Join, receipt: str) -> Verdict | None:
        """Count a member; return ``held`` for the one that must bring the body, else None."""
        chord = self._chords.setdefault(join.group, _Chord())
        if join.token is not None:
            if chord.done or chord.claim != join.token:
                return STALE
            chord.done = True
            chord.members.clear()
            return None
        if chord.done:
            return None
        chord.members.setdefault(join.index, join.member)
        if len(chord.members) < join.size:
            return None
        if chord.claim != receipt and chord.claim in self._leased:
            return None
        chord.claim = receipt
        return held(tuple(member for _, member in sorted(chord.members.items())), receipt)

    def _bury(self, entry: _Entry, reason: str) -> None:
        self.dead.append(
            DeadLetter(
                id=str(next(self._numbers)),
                message=entry.message,
                queue=entry.queue,
                reason=reason,
                died=wall(),
                losses=entry.losses,
            )
        )

    def exhume(self, which: DeadSelection) -> list[DeadLetter]:
        """Take dead letters out of the set; return them, oldest first."""
        taken = [letter for letter in self.dead if is_selected(letter, which)]
        self.dead = [letter for letter in self.dead if not is_selected(letter, which)]
        return taken
