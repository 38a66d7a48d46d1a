"""One worker's hold on queues of RabbitMQ.

A lease is the server's own: a message is ours while its channel is open, and the connection is kept
alive by the link's thread, so that nothing need be renewed or swept. A receipt names the consumer,
its channel and the delivery; when the channel goes, all of its receipts are stale, and the server
delivers their messages again. Who gets one again cannot know what became of the run before: it is
suspect, unless this process has given it back itself and remembers that. How a start is put on
record is told in ``trials``.
"""

import os
from collections.abc import Callable, Sequence
from threading import Lock
from time import monotonic
from typing import TYPE_CHECKING

from celeriac.brokers.amqp import shipping, trials
from celeriac.brokers.amqp.connection import Arrival
from celeriac.brokers.amqp.hold import Entry, Hold, Returns
from celeriac.brokers.amqp.intake import Intake
from celeriac.brokers.amqp.joins import joined
from celeriac.brokers.amqp.link import Link
from celeriac.brokers.amqp.pace import Pace
from celeriac.brokers.amqp.properties import Record
from celeriac.brokers.amqp.session import Session
from celeriac.brokers.base import Consumer
from celeriac.clock import wall
from celeriac.completion import SETTLED, STALE, Completion, Settlement, Verdict, refused
from celeriac.exceptions import OperationalError
from celeriac.message import Delivery, Publish

if TYPE_CHECKING:
    from celeriac.results.base import ResultStore

IDLE = 0.1
"""Seconds without a claim after which what nobody has claimed goes back to others."""

SOON = 0.005
"""Seconds that a claim waits for the next messages of a stream."""

Ship = Callable[[shipping.Shipment], None]
Bury = Callable[[Sequence[tuple[Entry, str]]], None]


class AmqpConsumer(Consumer):
    """Claims and settles messages of RabbitMQ."""

    def __init__(
        self,
        link: Link,
        queues: Sequence[str],
        lease: float,
        returns: Returns,
        ship: Ship,
        bury: Bury,
        *,
        turns: bool = True,
    ) -> None:
        self.lease = lease
        self._link = link
        self._queues = list(queues)
        self._turns = turns
        self._returns = returns
        self._ship = ship
        self._bury = bury
        self._hold = Hold(os.urandom(6).hex(), returns)
        self._changed = self._hold.changed
        self._intake: Intake | None = None
        self._serial = 0
        self._pace = Pace()
        # Queues with a watch that has brought nothing yet; and whether there is any watch at all.
        self._watched: set[str] = set()
        self._armed = False
        self._waiting = self._woken = self._closed = False
        self._claimed_at = 0.0
        self._committing = Lock()
        self._store: ResultStore | None = None
        self._minding = False
        try:
            link.call(self._open)
        except OperationalError:
            # A worker may be there before its broker is; its claims say what is wrong.
            pass

    # -- claiming

    def claim(self, count: int, size: int) -> list[Delivery]:
        with self._changed:
            self._claimed_at = monotonic()
            self._hold.promote()
            if self._pace.prefetch and not self._hold.ready():
                # The next ones of a stream are on their way, and sooner here than if asked for.
                self._changed.wait(SOON)
            taken = self._hold.take(self._queues, count, size)
        if not taken:
            taken = self._pull(count, size)
        self._regulate(count, len(taken))
        if self._turns:
            # The queue that came first comes last the next time.
            self._queues.append(self._queues.pop(0))
        return taken

    def _pull(self, count: int, size: int) -> list[Delivery]:
        """Get messages from the server, until there are enough that may be claimed, or no more."""
        taken: list[Delivery] = []
        empty = False
        while not taken and not empty:

            async def pull(session: Session) -> tuple[int, list[Arrival], bool]:
                intake = await self._open(session)
                arrivals, empty = await intake.pull(self._queues, count, size)
                return intake.serial, arrivals, empty

            serial, arrivals, empty = self._link.call(pull)
            with self._changed:
                if self._serial == serial and self._intake is not None:
                    for arrival in arrivals:
                        self._hold.add(serial, arrival)
                self._hold.promote()
                taken = self._hold.take(self._queues, count, size)
        return taken

    async def _open(self, session: Session) -> Intake:
        """Return the intake, opened if need be. In the I/O thread."""
        if self._intake is not None:
            return self._intake
        if self._closed:
            raise OperationalError("this consumer is closed")
        self._serial += 1
        intake = await Intake.open(session, self._serial, self._queues, self._arrived, self._ended)
        with self._changed:
            self._intake = intake
            self._watched.clear()
            self._armed = False
            self._pace = Pace()
        return intake

    def _arrived(self, intake: Intake, arrival: Arrival) -> None:
        """Something came for a subscription. In the I/O thread."""
        with self._changed:
            if self._intake is not intake:
                return
            self._watched.discard(arrival.queue)
            self._hold.add(intake.serial, arrival)
            self._changed.notify_all()
            self._mind(intake)

    def _ended(self, intake: Intake) -> None:
        """The channel has gone: so have its leases. In the I/O thread."""
        with self._changed:
            self._hold.lose(intake.serial)
            if self._intake is intake:
                self._intake = None
            self._changed.notify_all()

    def _regulate(self, count: int, taken: int) -> None:
        """Choose the way in that fits what has been asked for and what there was."""
        with self._changed:
            intake, held = self._intake, len(self._hold.claimed)
            before, now = self._pace.prefetch, self._pace.after(count, taken, held)
            armed, self._armed = self._armed, False
            self._watched.clear()
        if intake is None or (before == now and not armed):
            return

        def change() -> None:
            intake.unsubscribe()
            if now:
                intake.subscribe(self._queues, now)
                self._mind(intake)

        self._link.post(change)

    def _mind(self, intake: Intake) -> None:
        """See to it that nothing lies here that others could run. In the I/O thread."""
        if not self._minding:
            self._minding = True
            intake.channel.line.ioloop.call_later(IDLE, lambda: self._look_after(intake))

    def _look_after(self, intake: Intake) -> None:
        self._minding = False
        with self._changed:
            if self._intake is not intake:
                return
            streaming = self._pace.prefetch > 0
            if self._waiting or monotonic() - self._claimed_at < IDLE:
                if streaming or self._hold.ready():
                    self._mind(intake)
                return
            entries = self._put_down()
            self._pace = Pace()
        if streaming:
            intake.unsubscribe()
        intake.channel.give_back([entry.arrival.tag for entry in entries])

    def _put_down(self) -> list[Entry]:
        """Give out of hand what is not claimed, so that it is known when it comes back."""
        entries = self._hold.put_down()
        for entry in entries:
            self._returns.keep(entry)
        return entries

    # -- waiting

    def wait(self, timeout: float) -> None:
        deadline = monotonic() + timeout
        with self._changed:
            self._waiting = True
            try:
                while not self._woken and self._intake is not None:
                    self._hold.promote()
                    pause = min(deadline - monotonic(), self._hold.next_due() - wall())
                    if self._hold.ready() or pause <= 0:
                        break
                    self._watch(self._intake)
                    self._changed.wait(pause)
            finally:
                self._waiting = self._woken = False

    def _watch(self, intake: Intake) -> None:
        """Have a message of each queue sent as soon as there is one."""
        queues = [queue for queue in self._queues if queue not in self._watched]
        if self._pace.prefetch or not queues:
            return
        self._watched.update(queues)

        self._armed = True
        # A subscription that has brought its message brings no other: it is made anew.
        self._link.post(lambda: intake.subscribe(queues, 1))

    def wake(self) -> None:
        with self._changed:
            self._woken = True
            self._changed.notify_all()

    # -- leases

    def renew(self, receipts: Sequence[str]) -> set[str]:
        with self._changed:
            return self._hold.stale(receipts)

    def start(self, receipts: Sequence[str]) -> set[str]:
        with self._changed:
            held = [e for r in receipts if (e := self._hold.claimed.get(r)) and not e.started]
            intake = self._intake
        if held and intake is not None:

            async def put_on_trial(session: Session) -> dict[str, Arrival]:
                return await trials.put_on_trial(session, intake.channel, held)

            with self._link.exclusive:
                started = self._link.call(put_on_trial)
            with self._changed:
                self._hold.started(started)
        with self._changed:
            return self._hold.stale(receipts)

    def defer(self, receipt: str, due: float, *, unknown: bool = False) -> bool:
        with self._changed:
            entry = self._hold.claimed.get(receipt)
        if entry is None:
            return False
        self._ship(shipping.shipment([again(entry, due=due, unknown=unknown)]))
        return self._let_go([receipt]) == 1

    def requeue(self, receipts: Sequence[str]) -> None:
        self._send_home(receipts)
        with self._changed:
            entries = [e for r in receipts if (e := self._hold.release(r)) is not None]
            for entry in entries:
                self._returns.keep(entry)
            intake = self._intake
        if intake is not None and entries:
            self._give_back(intake, entries)

    def _send_home(self, receipts: Sequence[str]) -> None:
        """Give back what is on trial: it is not in its own queue, and goes to the tail of that."""
        with self._changed:
            held = {r: e for r in receipts if (e := self._hold.claimed.get(r)) and e.started}
        if held:
            self._ship(shipping.shipment(again(entry) for entry in held.values()))
            self._let_go(list(held))

    def _give_back(self, intake: Intake, entries: Sequence[Entry]) -> None:
        async def give_back(_: Session) -> None:
            if self._intake is intake:
                await intake.channel.give_back([entry.arrival.tag for entry in entries])

        self._link.call(give_back)

    def sweep(self) -> int:
        with self._link.exclusive:
            return self._link.call(trials.sweep)

    def close(self) -> None:
        if not self._closed:
            self._send_home(list(self._hold.claimed))
        with self._changed:
            if self._closed:
                return
            self._closed = True
            intake, self._intake = self._intake, None
            for entry in [*self._hold.claimed.values(), *self._put_down()]:
                self._returns.keep(entry)
            self._hold.claimed.clear()
            self._changed.notify_all()
        if intake is not None and intake.channel.is_open:

            async def end(_: Session) -> None:
                if intake.channel.is_open:
                    await intake.close()

            self._link.call(end)

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Return what is in hand of each queue: ready, for later, claimed."""
        with self._changed:
            self._hold.promote()
            return self._hold.counts()

    def drop(self, queue: str) -> int:
        """Settle what is in hand of a queue and not claimed: it is purged; return how many."""
        with self._changed:
            entries = self._hold.put_down(queue)
            intake = self._intake
        if intake is not None:
            tags = [entry.arrival.tag for entry in entries]
            self._link.post(lambda: intake.channel.ack(tags))
        return len(entries)

    # -- commit

    def _publish(self, publishes: Sequence[Publish]) -> None:
        if publishes:
            self._ship(shipping.new(publishes))

    def _stale(self, receipts: Sequence[str]) -> set[str]:
        with self._changed:
            return self._hold.stale(receipts)

    def commit(
        self, completions: Sequence[Completion], store: "ResultStore | None"
    ) -> list[Verdict]:
        with self._committing:
            self._store = store
            return super().commit(completions, store)

    def _settle(self, completions: Sequence[Completion]) -> list[Verdict]:
        with self._changed:
            held = self._hold.claimed
            entries = {c.receipt: e for c in completions if (e := held.get(c.receipt))}
        verdicts: list[Verdict] = []
        settled: dict[str, Completion] = {}
        for completion in completions:
            receipt = completion.receipt
            live = receipt in entries and receipt not in settled
            verdict = self._joined(completion) if live else STALE
            verdicts.append(verdict)
            if verdict is SETTLED and completion.settlement is not Settlement.KEEP:
                settled[receipt] = completion
        self._bring_round([(entries[r], c) for r, c in settled.items()])
        self.requeue([r for r, c in settled.items() if c.settlement is Settlement.REQUEUE])
        self._let_go([r for r, c in settled.items() if c.settlement is not Settlement.REQUEUE])
        return verdicts

    def _joined(self, completion: Completion) -> Verdict:
        """Count the join, if any; return SETTLED for a completion that may be settled now."""
        if completion.join is None:
            return SETTLED
        if self._store is None:
            return refused(_NO_STORE)
        return joined(self._store, completion.join, completion.receipt) or SETTLED

    def _bring_round(self, settled: Sequence[tuple[Entry, Completion]]) -> None:
        """Publish what is not simply settled: back to the tail, or to the dead letters."""
        back = [
            again(entry, loss=done.settlement is Settlement.LOSS)
            for entry, done in settled
            if done.settlement in (Settlement.RETURN, Settlement.LOSS)
        ]
        if back:
            self._ship(shipping.shipment(back))
        if dead := [(e, done.reason) for e, done in settled if done.settlement is Settlement.DEAD]:
            self._bury(dead)

    def _let_go(self, receipts: Sequence[str]) -> int:
        """Settle deliveries for good; return of how many we still had the lease."""
        with self._changed:
            entries = [e for r in receipts if (e := self._hold.release(r)) is not None]
            intake = self._intake
        if intake is not None and entries:
            tags = [entry.arrival.tag for entry in entries]
            self._link.post(lambda: intake.channel.ack(tags))
        return len(entries)


_NO_STORE = (
    "a chord cannot be counted without a result store; set result_backend, or have the tasks called "
    "without a chord"
)


def again(
    entry: Entry, *, due: float | None = None, unknown: bool = False, loss: bool = False
) -> tuple[Publish, Record]:
    """Return a claimed message as it goes to the tail of its queue, with what it has been through."""
    delivery = entry.delivery
    assert delivery is not None, "it was claimed"
    parked = delivery.parked
    record = Record(
        claims=delivery.claims,
        suspect=delivery.suspect,
        losses=delivery.losses + loss,
        parked=wall() if unknown and parked is None else parked,
        parkings=delivery.parkings + unknown,
    )
    return Publish(queue=delivery.queue, message=delivery.message, due=due), record
