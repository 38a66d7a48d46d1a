"""What a consumer has in its hands: messages that have arrived, are not due yet, or are claimed.

All under one condition, which whoever waits for messages waits on. Nothing is said to the server
here.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import count as counter
from threading import Condition
from time import monotonic

from msgspec import Struct
from msgspec.structs import replace

from celeriac.brokers.amqp.connection import Arrival
from celeriac.brokers.amqp.properties import Received, decode_properties
from celeriac.clock import wall
from celeriac.message import Delivery

REMEMBERED = 10_000
"""Messages that a process remembers to have given back unharmed."""

NOWHERE = 0
"""The tag of what the server does not have any more."""
HELD = 1.5
"""Seconds: an eta so soon is waited for here; with a later one a message goes back to the server."""
SKEW = 60.0
"""Seconds by which a message may come early, because the clock of its sender is ahead."""


class Returns:
    """What this process has given back unharmed. Thread-safe.

    The server marks everything that comes again, whether its holder died or changed his mind. This
    memory tells the two apart where it can; elsewhere the message counts as suspect, which only makes
    its run a little slower to begin.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[int, bool]] = OrderedDict()

    def keep(self, entry: "Entry") -> None:
        """Remember a message that is given back."""
        queue, record = entry.arrival.queue, entry.received.record
        if entry.delivery is not None:
            known = entry.delivery.claims, entry.delivery.suspect
        elif entry.arrival.redelivered:
            # Nobody has claimed it here: as to what was before, it stays as it was.
            return
        else:
            known = record.claims + entry.received.returns, record.suspect
        self._known[queue, entry.received.message.id] = known
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def recall(self, queue: str, id_: str) -> tuple[int, bool] | None:
        """Return how often it had been claimed, and whether it was suspect; and forget it."""
        return self._known.pop((queue, id_), None)


class Entry(Struct):
    """A message in our hands."""

    serial: int
    """Of the channel that it came by."""
    arrival: Arrival
    received: Received
    delivery: Delivery | None = None
    """Once it is claimed."""
    unheard: bool = False
    """It has come again, and nothing says why; nor does any record of ours."""
    started: bool = False
    """Its start is on record."""
    on_trial: bool = False
    """What is held is a copy in another queue (see ``trials``)."""
    since: float = 0.0
    """When what is held was taken, in monotonic seconds."""
    missed: float = 0.0
    """When its channel was lost, while it is missed."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether what the server has of it, if anything, is not in its queue."""
        return self.on_trial or self.arrival.tag == NOWHERE

    @property
    def is_apart(self) -> bool:
        """Whether it comes again by a queue that is not its own, should its holder be lost."""
        return self.on_trial or self.received.record.home is not None

    @property
    def queue(self) -> str:
        """The queue that it is of, also while a copy in another one is held."""
        return self.delivery.queue if self.delivery is not None else self.arrival.queue


class Hold:
    """The hands of one consumer. ``changed`` is held by whoever calls a method."""

    def __init__(self, name: str, returns: Returns) -> None:
        self.changed = Condition()
        self.claimed: dict[str, Entry] = {}
        """What is claimed, by receipt."""
        self.missing: dict[str, Entry] = {}
        """What was claimed when its channel was lost, and may come back, by receipt."""
        self._name = name
        self._returns = returns
        self._ready: dict[str, deque[Entry]] = {}
        self._later: list[tuple[float, int, Entry]] = []
        self._order = counter()

    def add(self, serial: int, arrival: Arrival) -> bool:
        """Take in what has arrived; return whether it may be claimed now."""
        received = decode_properties(arrival.properties, arrival.body)
        if received.record.home is not None:
            # An orphan: it is of the queue that it came from, wherever it waits now.
            arrival = replace(arrival, queue=received.record.home)
        if self._adopt(serial, arrival, received):
            return False
        entry = Entry(serial, arrival, received, since=monotonic())
        due = _held_until(received)
        if due is not None:
            heappush(self._later, (due, next(self._order), entry))
            return False
        self._ready.setdefault(arrival.queue, deque()).append(entry)
        return True

    def _adopt(self, serial: int, arrival: Arrival, received: Received) -> bool:
        """Give a message that has come back to the run that has lost it; return whether there was one."""
        receipt = self.misses(arrival.queue, received)
        if receipt is None:
            return False
        entry = self.missing.pop(receipt)
        self.claimed[receipt] = entry
        entry.serial, entry.arrival, entry.since = serial, arrival, monotonic()
        # An orphan that comes back counts the run that goes on as lost: not it will be given back.
        entry.on_trial = received.record.home is not None
        return True

    def misses(self, queue: str, received: Received) -> str | None:
        """Return the receipt of the run that has lost this message; None if there is none."""
        for receipt, entry in self.missing.items():
            if entry.queue == queue and entry.received.message == received.message:
                return receipt
        return None

    def promote(self) -> None:
        """Make ready what is due by now."""
        now = wall()
        while self._later and self._later[0][0] <= now:
            entry = heappop(self._later)[2]
            self._ready.setdefault(entry.arrival.queue, deque()).append(entry)

    def ready(self) -> int:
        """Return how many messages may be claimed now."""
        return sum(map(len, self._ready.values()))

    def next_due(self) -> float:
        """Return the wall time at which another one is due; infinity if there is none."""
        return self._later[0][0] if self._later else float("inf")

    def take(self, queues: Sequence[str], count: int, size: int) -> list[Delivery]:
        """Claim up to ``count`` messages of ``size`` bytes, from these queues in order."""
        taken: list[Delivery] = []
        for queue in queues:
            ready = self._ready.get(queue)
            while ready and len(taken) < count:
                size -= len(ready[0].arrival.body)
                if size < 0 and taken:
                    return taken
                taken.append(self._claim(ready.popleft()))
        return taken

    def _claim(self, entry: Entry) -> Delivery:
        arrival, received = entry.arrival, entry.received
        record = received.record
        claims, suspect = record.claims + received.returns + 1, record.suspect
        if arrival.redelivered:
            known = self._returns.recall(arrival.queue, received.message.id)
            if known is not None:
                claims, suspect = known[0] + 1, known[1]
            else:
                claims, suspect = claims + (not received.returns), True
                entry.unheard = not (received.returns or record.suspect)
        receipt = f"{self._name}:{entry.serial}:{arrival.tag}"
        entry.delivery = Delivery(
            message=received.message,
            queue=arrival.queue,
            receipt=receipt,
            claims=claims,
            suspect=suspect,
            losses=record.losses,
            parked=record.parked,
            parkings=record.parkings,
        )
        self.claimed[receipt] = entry
        entry.since = monotonic()
        return entry.delivery

    def replace(self, copies: dict[str, Arrival], serial: int) -> None:
        """Hold these copies, which came by a channel, in place of the messages, by receipt."""
        for receipt, arrival in copies.items():
            entry = self.claimed.get(receipt)
            if entry is not None and entry.serial == serial:
                entry.arrival, entry.on_trial, entry.since = arrival, True, monotonic()

    def release(self, receipt: str) -> Entry | None:
        """Give a claimed message out of hand; None if the receipt is stale, or it is missing."""
        self.missing.pop(receipt, None)
        return self.claimed.pop(receipt, None)

    def stale(self, receipts: Iterable[str]) -> set[str]:
        """Return those of the receipts that hold nothing, and will not do so again."""
        return {r for r in receipts if r not in self.claimed and r not in self.missing}

    def give_up(self, before: float) -> None:
        """Miss no longer what has been missed since before that time: somebody else has it."""
        self.missing = {r: entry for r, entry in self.missing.items() if entry.missed >= before}

    def put_down(self, wanted: Callable[[Entry], bool] = lambda _: True) -> list[Entry]:
        """Give out of hand what is ready and nobody has claimed, if it is wanted; return it."""
        down: list[Entry] = []
        for name, ready in self._ready.items():
            gone = [entry for entry in ready if wanted(entry)]
            if gone:
                down += gone
                self._ready[name] = deque(entry for entry in ready if entry not in gone)
        return down

    def lose(self, serial: int, alone: Collection[str] = ()) -> None:
        """Let go of all that came by a channel that has gone; know it again when it comes back.

        What is of queues that we had ``alone`` is nowhere any more, and stays in our hands.
        """
        for entry in (entry for ready in self._ready.values() for entry in ready):
            if entry.serial == serial:
                self._returns.keep(entry)
        gone = {r: e for r, e in self.claimed.items() if e.serial == serial}
        for receipt, entry in gone.items():
            if entry.queue in alone:
                entry.serial, entry.arrival = 0, replace(entry.arrival, tag=NOWHERE)
                continue
            del self.claimed[receipt]
            entry.missed = monotonic()
            self.missing[receipt] = entry
        self._later = [item for item in self._later if item[2].serial != serial]
        heapify(self._later)
        for queue, ready in self._ready.items():
            self._ready[queue] = deque(entry for entry in ready if entry.serial != serial)

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Return what is in hand of each queue: ready, for later, claimed."""
        found: dict[str, list[int]] = {}
        entries = [(0, e) for ready in self._ready.values() for e in ready]
        entries += [(1, item[2]) for item in self._later]
        entries += [(2, entry) for entry in self.claimed.values()]
        for place, entry in entries:
            found.setdefault(entry.queue, [0, 0, 0])[place] += 1
        return {queue: (ready, later, held) for queue, (ready, later, held) in found.items()}


def _held_until(received: Received) -> float | None:
    """Return until when a message is to be held here; None for one that may be claimed now."""
    now = wall()
    for due, most in ((received.record.due, SKEW), (received.eta, HELD)):
        if due is not None and now < due <= now + most:
            return due
    return None
