"""One worker's hold on queues of RabbitMQ.

A lease is the server's own: a message is ours while its channel is open, and the connection is kept
alive by the link's thread, so that nothing need be renewed or swept. A receipt names the consumer,
its channel and the delivery. When the channel goes, the server delivers all of its messages again. One
that comes back here goes to the run that lost it, whose receipt holds again; until then nothing is
committed for it. If it does not come back, somebody else has it, and the receipt is stale. Who gets one
cannot know what became of the run before: it is suspect, unless this process has given it back itself
and remembers that. How a start is put on record is told in ``trials``.
"""

import os
from collections.abc import Callable, Sequence
from threading import RLock
from time import monotonic
from typing import TYPE_CHECKING

from celeriac.brokers.amqp import shipping, trials
from celeriac.brokers.amqp.addresses import HEARTBEAT
from celeriac.brokers.amqp.connection import Arrival
from celeriac.brokers.amqp.hold import Entry, Hold, Returns
from celeriac.brokers.amqp.intake import Intake
from celeriac.brokers.amqp.joins import joined
from celeriac.brokers.amqp.link import Link
from celeriac.brokers.amqp.orphans import Orphans, release
from celeriac.brokers.amqp.properties import Record
from celeriac.brokers.amqp.session import Session
from celeriac.brokers.amqp.supply import Supply
from celeriac.brokers.base import Consumer
from celeriac.clock import wall
from celeriac.completion import AWAY, SETTLED, STALE, Completion, Settlement, Verdict, refused
from celeriac.exceptions import OperationalError
from celeriac.message import Delivery, Publish

if TYPE_CHECKING:
    from celeriac.results.base import ResultStore

FRESH = 300.0
"""Seconds that a message is held before a copy takes its place: RabbitMQ closes a channel on which one
stays unsettled for half an hour (``consumer_timeout``), or for less if its administrator says so.
"""

MISSED = 1.5
"""Heartbeats for which it is hoped that a message comes back that was lost with its connection: when the
server finds out by heartbeats that we have gone, it does so about as late as we do.
"""

CROWD = 16
"""Messages: more than these that have come again at once, for no known reason, are no suspects yet."""

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
        self._returns = returns
        self._ship = ship
        self._bury = bury
        self._hold = Hold(os.urandom(6).hex(), returns)
        self._changed = self._hold.changed
        self._orphans = Orphans()
        self._supply = Supply(link, queues, self._hold, returns, self._orphans, turns=turns)
        self._closed = False
        self._unrecorded: set[str] = set()
        # One at a time changes what is held: a copy takes the place of no message that is being settled.
        self._settling = RLock()
        self._store: ResultStore | None = None
        try:
            self._supply.open()
        except OperationalError:
            # A worker may be there before its broker is; its claims say what is wrong.
            pass

    def claim(self, count: int, size: int) -> list[Delivery]:
        return self._supply.claim(count, size)

    def wait(self, timeout: float) -> None:
        self._supply.wait(timeout)

    def wake(self) -> None:
        self._supply.wake()

    # -- leases

    def renew(self, receipts: Sequence[str]) -> set[str]:
        if (intake := self._supply.intake) is not None:

            async def look(_: Session) -> None:
                await intake.channel.settled()

            # A sign of life: a server that has gone silent is found out by a call that waits for it.
            try:
                self._link.call(look)
            except OperationalError:
                # Without its channel it is known what is lost, and nothing is left to be extended.
                if self._supply.intake is intake:
                    raise
        self._look_for_missing()
        before = monotonic() - FRESH
        with self._changed:
            held = [e for r in receipts if (e := self._hold.claimed.get(r))]
        if any(entry.since < before for entry in held):
            with self._settling:
                self._put_on_trial(receipts, lambda entry: entry.since < before)
        self._give_up_forgotten(receipts)
        with self._changed:
            return self._hold.stale(receipts)

    def _give_up_forgotten(self, receipts: Sequence[str]) -> None:
        """Give back what nobody renews: an error came between its claim and its run."""
        known, before = set(receipts), monotonic() - self.lease
        with self._changed:
            claimed = self._hold.claimed.items()
            forgotten = [r for r, e in claimed if r not in known and e.since < before]
        if forgotten:
            self.requeue(forgotten)

    def _look_for_missing(self) -> None:
        with self._changed:
            heartbeat = self._link.addresses[0].heartbeat or HEARTBEAT
            self._hold.give_up(monotonic() - MISSED * heartbeat)
            missing = bool(self._hold.missing)
        if missing:
            self._supply.search()

    def start(self, receipts: Sequence[str]) -> set[str]:
        with self._settling:
            with self._changed:
                # What comes back between this and the commit has no start on record yet.
                self._unrecorded = self._hold.missing.keys() & set(receipts)
            passed = self._let_pass()
            tried = [receipt for receipt in receipts if receipt not in passed]
            self._put_on_trial(tried, lambda entry: not entry.started, begins=True)
        with self._changed:
            return self._hold.stale(receipts)

    def _let_pass(self) -> set[str]:
        """Put a crowd that has come again on record, all at once; return what may begin with that.

        A server that was killed says of all messages that they come again. To try each would take
        hours, and of the messages of a lost worker hardly one is to blame, either. Their copies count
        no loss; if we end with these, they are known, and tried one by one.
        """
        with self._changed:
            crowd = [r for r, e in self._hold.claimed.items() if e.unheard and not e.started]
        if len(crowd) > CROWD:
            self._put_on_trial(crowd, lambda entry: not entry.on_trial)
        with self._changed:
            return {
                r
                for r, e in self._hold.claimed.items()
                if e.unheard and e.on_trial and not e.started
            }

    def _put_on_trial(
        self, receipts: Sequence[str], wanted: Callable[[Entry], bool], *, begins: bool = False
    ) -> None:
        """Hold copies in place of these messages; if they begin to run, copies that say so."""
        with self._changed:
            held = [e for r in receipts if (e := self._hold.claimed.get(r)) and wanted(e)]
            for entry in held:
                entry.started = entry.started or begins
            intake = self._supply.intake
        if not held or intake is None:
            return

        async def put_on_trial(session: Session) -> dict[str, Arrival]:
            return await trials.put_on_trial(session, intake.channel, held)

        with self._link.exclusive:
            copies = self._link.call(put_on_trial)
        with self._changed:
            self._hold.replace(copies, intake.serial)

    def defer(self, receipt: str, due: float, *, unknown: bool = False) -> bool:
        with self._settling:
            with self._changed:
                entry = self._hold.claimed.get(receipt)
            if entry is None:
                return False
            self._ship(shipping.shipment([again(entry, due=due, unknown=unknown)]))
            return self._let_go([receipt]) == 1

    def requeue(self, receipts: Sequence[str]) -> None:
        with self._settling:
            self._requeue(receipts)

    def _requeue(self, receipts: Sequence[str]) -> None:
        self._send_home(receipts)
        with self._changed:
            entries = [e for r in receipts if (e := self._hold.release(r)) is not None]
            for entry in entries:
                self._returns.keep(entry)
            intake = self._supply.intake
        if intake is not None and entries:
            self._give_back(intake, entries)

    def _send_home(self, receipts: Sequence[str]) -> None:
        """Give back what is on trial: it is not in its own queue, and goes to the tail of that.

        So does what the server does not have any more.
        """
        with self._changed:
            held = {r: e for r in receipts if (e := self._hold.claimed.get(r)) and e.is_elsewhere}
        if held:
            self._ship(shipping.shipment(again(entry) for entry in held.values()))
            self._let_go(list(held))

    def _give_back(self, intake: Intake, entries: Sequence[Entry]) -> None:
        async def give_back(_: Session) -> None:
            if self._supply.intake is intake:
                await intake.channel.give_back([entry.arrival.tag for entry in entries])

        self._link.call(give_back)

    def sweep(self) -> int:
        with self._link.exclusive:
            found = self._link.call(trials.sweep)
        if found is None:
            # Then there is no queue of orphans either, and the server would note each question.
            return 0
        self._link.call(self._orphans.look)
        if self._orphans.waiting:
            # There may be room for them at once.
            self._supply.wake()
        return found

    def close(self) -> None:
        with self._settling:
            self._close()

    def _close(self) -> None:
        if not self._closed:
            self._send_home(list(self._hold.claimed))
        with self._changed:
            if self._closed:
                return
            self._closed = True
            for entry in self._hold.claimed.values():
                self._returns.keep(entry)
            self._hold.claimed.clear()
            self._hold.missing.clear()
            intake = self._supply.close()
        if intake is not None and intake.channel.is_open:

            async def end(session: Session) -> None:
                if intake.channel.is_open:
                    await intake.close()
                    await release(session)

            self._link.call(end)

    def counts(self) -> dict[str, tuple[int, int, int]]:
        """Return what is in hand of each queue: ready, for later, claimed."""
        with self._changed:
            self._hold.promote()
            return self._hold.counts()

    def drop(self, queue: str) -> int:
        """Settle what is in hand of a queue and not claimed: it is purged; return how many."""
        with self._changed:
            entries = self._hold.put_down(lambda entry: entry.arrival.queue == queue)
            intake = self._supply.intake
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
        with self._settling:
            self._store = store
            with self._changed:
                missing = {c.receipt for c in completions} & (
                    self._hold.missing.keys() | self._unrecorded
                )
            here = [c for c in completions if c.receipt not in missing]
            verdicts = iter(super().commit(here, store))
            return [AWAY if c.receipt in missing else next(verdicts) for c in completions]

    def _settle(self, completions: Sequence[Completion]) -> list[Verdict]:
        with self._changed:
            held = self._hold.claimed
            entries = {c.receipt: e for c in completions if (e := held.get(c.receipt))}
        verdicts: list[Verdict] = []
        settled: dict[str, Completion] = {}
        for completion in completions:
            receipt = completion.receipt
            live = receipt in entries and receipt not in settled
            verdict = self._joined(completion) if live else self._gone(receipt)
            verdicts.append(verdict)
            if verdict is SETTLED and completion.settlement is not Settlement.KEEP:
                settled[receipt] = completion
        self._bring_round([(entries[r], c) for r, c in settled.items()])
        self.requeue([r for r, c in settled.items() if c.settlement is Settlement.REQUEUE])
        self._let_go([r for r, c in settled.items() if c.settlement is not Settlement.REQUEUE])
        return verdicts

    def _gone(self, receipt: str) -> Verdict:
        with self._changed:
            return AWAY if receipt in self._hold.missing else STALE

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
            intake = self._supply.intake
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
