"""The supply of a consumer: how messages come into its hold.

What is claimed is asked for when it is claimed, as many as there is room for, and nothing ahead.
While there is nothing to do a watch waits for the first message of each queue. What nobody claims
soon after all goes back to others. Settling messages is not done here.
"""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import partial
from time import monotonic

from celeriac.brokers.amqp.connection import AMQPError, Arrival
from celeriac.brokers.amqp.hold import Entry, Hold, Returns
from celeriac.brokers.amqp.intake import Intake
from celeriac.brokers.amqp.link import Link
from celeriac.brokers.amqp.orphans import Orphans, Wanted
from celeriac.brokers.amqp.properties import Received
from celeriac.brokers.amqp.replies import Reply
from celeriac.brokers.amqp.session import Session
from celeriac.clock import wall
from celeriac.exceptions import OperationalError
from celeriac.message import Delivery

IDLE = 0.1
"""Seconds without a claim after which what nobody has claimed goes back to others."""

BRIEF = 1.0
"""Seconds: if two channels in a row do not last so long, something is wrong with the third, too."""
STANDS = 60.0
"""Seconds after which even what a standing subscription has brought goes back, and comes again: the
server would take one that is never settled for a fault.
"""


class Supply:
    """Fills a hold. ``claim`` and ``wait`` are for one thread, the rest for any."""

    def __init__(
        self,
        link: Link,
        queues: Sequence[str],
        hold: Hold,
        returns: Returns,
        orphans: Orphans,
        *,
        turns: bool,
    ) -> None:
        self.intake: Intake | None = None
        """The channel, while there is one. Changed while the hold's condition is held."""
        self._link = link
        self._queues = list(queues)
        self._turns = turns
        self._hold = hold
        self._changed = hold.changed
        self._returns = returns
        self._orphans = orphans
        self._serial = 0
        self._brief = False
        self._opening: Reply[Intake] | None = None
        # Queues with a watch that has brought nothing yet; and whether there is any watch at all.
        self._watched: set[str] = set()
        self._armed = False
        self._busy = self._woken = self._minding = self._over = False
        self._claimed_at = 0.0

    def open(self) -> None:
        """Open the channel, declare the queues, and be seen. Raises OperationalError."""
        self._link.call(self._open)

    async def _open(self, session: Session) -> Intake:
        """Return the intake, opened if need be; several at once get the same. In the I/O thread."""
        if self.intake is not None:
            return self.intake
        if self._opening is not None:
            return await self._opening
        opening = self._opening = Reply[Intake]()
        try:
            intake = await self._opened(session)
        except BaseException as error:
            opening.fail(error)
            raise
        finally:
            self._opening = None
        opening.set(intake)
        return intake

    async def _opened(self, session: Session) -> Intake:
        if self._over:
            raise OperationalError("this consumer was closed; open another one")
        self._serial += 1
        queues = tuple(self._queues)
        intake = await Intake.open(session, self._serial, queues, self._arrived, self._ended)
        with self._changed:
            self.intake = intake
            self._watched.clear()
            self._armed = False
        # Only now: what they bring is for this intake.
        try:
            await intake.stand(session.declarations, queues)
            await self._search(intake, session)
        except BaseException:
            # Half open it is of no use: nobody would look after what ends with it.
            if intake.channel.is_open:
                intake.channel.close()
            raise
        return intake

    def search(self) -> None:
        """Look for messages that were lost with a connection. Raises OperationalError."""

        async def search(session: Session) -> None:
            await self._search(await self._open(session), session, again=True)

        self._link.call(search)

    async def _search(self, intake: Intake, session: Session, *, again: bool = False) -> None:
        """Get as many messages as are missing from their queues: if they are there, then at the head.

        Not ``again`` from quorum queues: they count how often a message is given back, and in the end
        drop it.
        """
        with self._changed:
            lost = list(self._hold.missing.values())
        if any(entry.is_apart for entry in lost):
            await self._orphans.look(session)
            if self._orphans.waiting:
                await self._claim_orphans(intake, None, self._misses)
        missing = Counter(entry.queue for entry in lost if not entry.is_apart)
        for queue, count in missing.items():
            if again and session.declarations.is_quorum(queue):
                continue
            await intake.channel.get(queue, count, partial(self._arrived, intake, asked=True))

    def _misses(self, queue: str, received: Received) -> bool:
        with self._changed:
            return self._hold.misses(queue, received) is not None

    def close(self) -> Intake | None:
        """Be over; return the intake, which is to be closed. The condition is held by the caller."""
        self._over = True
        intake, self.intake = self.intake, None
        self.put_down()
        self._changed.notify_all()
        return intake

    # -- claiming

    def claim(self, count: int, size: int) -> list[Delivery]:
        """Claim what is in the hold, or else what the server has ready."""
        self._busy = True
        try:
            taken = self._take(count, size)
            empty = bool(taken)
            while not taken and not empty:
                empty = self._pull(count, size)
                taken = self._take(count, size)
        finally:
            self._busy = False
        self._stand_down()
        if self._turns:
            # The queue that came first comes last the next time.
            self._queues.append(self._queues.pop(0))
        return taken

    def _take(self, count: int, size: int) -> list[Delivery]:
        with self._changed:
            self._claimed_at = monotonic()
            self._hold.promote()
            return self._hold.take(self._queues, count, size)

    def _pull(self, count: int, size: int) -> bool:
        """Get messages from the server; return whether there are no more. Some may be for later."""
        queues = tuple(self._queues)

        async def pull(session: Session) -> bool:
            intake = await self._open(session)
            first: list[int] = []
            if self._orphans.waiting:
                first = await self._claim_orphans(intake, count, _fitting(queues, count, size))
            return await intake.pull(queues, count - len(first), size - sum(first))

        return self._link.call(pull)

    async def _claim_orphans(self, intake: Intake, most: int | None, wanted: Wanted) -> list[int]:
        """Take those orphans that are wanted; return their sizes in bytes."""
        orphans = await self._orphans.claim(intake.channel, most, wanted)
        for orphan in orphans:
            self._arrived(intake, orphan, asked=True)
        return [len(orphan.body) for orphan in orphans]

    def _stand_down(self) -> None:
        """End the watch: there is something to do, and what it would bring has to be asked for."""
        with self._changed:
            intake, armed = self.intake, self._armed
            self._armed = False
            self._watched.clear()
        if intake is not None and armed:
            self._link.post(intake.stand_down)

    # -- arrivals, in the I/O thread

    def _arrived(self, intake: Intake, arrival: Arrival, *, asked: bool) -> None:
        with self._changed:
            if self.intake is not intake:
                return
            self._hold.add(intake.serial, arrival)
            self._mind(intake)
            if not asked:
                self._watched.discard(arrival.queue)
                self._changed.notify_all()

    def _ended(self, intake: Intake) -> None:
        """The channel has gone, and all leases with it. What comes back at once may still be ours."""
        with self._changed:
            self._hold.lose(intake.serial, intake.alone)
            if self.intake is intake:
                self.intake = None
            missing = bool(self._hold.missing) and not self._over
            self._changed.notify_all()
        # Two in a row that were lost as soon as they were there: that is left to the next renewal.
        before, self._brief = self._brief, monotonic() - intake.since < BRIEF
        if missing and not (before and self._brief):
            self._link.start(self._open)

    def _mind(self, intake: Intake) -> None:
        """See to it that nothing lies here that others could run."""
        if not self._minding:
            self._minding = True
            intake.channel.line.ioloop.call_later(IDLE, lambda: self._look_after(intake))

    def _look_after(self, intake: Intake) -> None:
        self._minding = False
        with self._changed:
            if self.intake is not intake:
                return
            busy = self._busy or monotonic() - self._claimed_at < IDLE
            entries = [] if busy else self.put_down(partial(_may_go, intake))
            if self._hold.ready():
                self._mind(intake)
        try:
            intake.channel.give_back([entry.arrival.tag for entry in entries])
        except AMQPError:
            pass  # The channel is closing, and gives everything back.

    def put_down(self, wanted: Callable[[Entry], bool] = lambda _: True) -> list[Entry]:
        """Give out of hand what is not claimed, so that it is known when it comes back."""
        entries = self._hold.put_down(wanted)
        for entry in entries:
            self._returns.keep(entry)
        return entries

    # -- waiting

    def wait(self, timeout: float) -> None:
        """Block until a claim may find something, or ``wake`` is called."""
        deadline = monotonic() + timeout
        with self._changed:
            self._busy = True
            try:
                while not self._woken and self.intake is not None:
                    self._hold.promote()
                    pause = min(deadline - monotonic(), self._hold.next_due() - wall())
                    if self._hold.ready() or pause <= 0:
                        break
                    self._watch(self.intake)
                    self._changed.wait(pause)
            finally:
                self._busy = self._woken = False

    def _watch(self, intake: Intake) -> None:
        """Have a message of each queue sent as soon as there is one."""
        queues = [queue for queue in self._queues if queue not in self._watched]
        if not queues:
            return
        self._watched.update(queues)
        self._armed = True
        # A subscription that has brought its message brings no other: it is made anew.
        self._link.post(lambda: intake.watch(queues))

    def wake(self) -> None:
        """Make ``wait`` return."""
        with self._changed:
            self._woken = True
            self._changed.notify_all()


def _may_go(intake: Intake, entry: Entry) -> bool:
    """Whether others could have what nobody claims here: a standing subscription brings it back."""
    return entry.arrival.queue not in intake.standing or monotonic() - entry.since > STANDS


def _fitting(queues: Collection[str], count: int, size: int) -> Wanted:
    """Return what chooses up to ``count`` messages of these queues, of about ``size`` bytes."""
    chosen: list[int] = []

    def fits(queue: str, received: Received) -> bool:
        fitting = queue in queues and len(chosen) < count and sum(chosen) < size
        if fitting:
            chosen.append(len(received.message.body))
        return fitting

    return fits
