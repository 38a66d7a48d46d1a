"""Exchanges of type fanout: each queue that is bound to one gets every message.

A queue of ours is a list, and is entered in the register of its exchange by those who consume it; who
publishes puts the message into every queue that the register names (``send.lua``). So nothing is
missed by a worker that is away for a moment, as it is on the channels by which Celery's workers hear
of such messages. We speak on these, too; what is said there by others ``hearing`` sees to.

A caller of Celery's that has not declared the exchange takes it for a direct one, and puts messages into
the lists of all queues that kombu's table names (tried: its own workers never look there, and the
message is lost). So our queues are in that table as well.
"""

from collections.abc import Iterable, Sequence
from time import monotonic

from celeriac.brokers.redis.bindings import member
from celeriac.brokers.redis.posting import FANOUT, Posting, scripted
from celeriac.queues import Binding, Queue
from celeriac.redis.link import Argument, Link
from celeriac.redis.scripts import script

LISTEN = script("held", "entries", "empty", "listen")

PASSING = 300.0
"""Seconds for which a queue that its workers should take with them outlives one that was killed."""
LASTING = 30 * 86400.0
"""Seconds for which other queues are served after somebody has last consumed them."""
RENEWED_EVERY = 60.0
AWAY = 150.0
"""Seconds without any renewal after which the server is taken to have been away."""
GRACE = 180
"""Seconds for which nobody is struck off then."""


def bindings(queues: Iterable[Queue]) -> list[tuple[Binding, Queue]]:
    """Return the bindings of these queues to exchanges of type fanout."""
    return [(one, queue) for queue in queues for one in queue.all_bindings if is_fanout(one)]


def is_fanout(binding: Binding) -> bool:
    """Whether this binding is one to an exchange of type fanout."""
    return binding.exchange.type == FANOUT and bool(binding.exchange.name)


class Register:
    """The entries of one consumer in the registers of exchanges. Any thread."""

    def __init__(self, link: Link, posting: Posting, queues: Sequence[Queue]) -> None:
        self._link = link
        self._keys = posting.keys
        self._scripted = scripted(posting.keys)
        self._bindings = bindings(queues)
        self._entered = float("-inf")

    def enter(self) -> None:
        """Enter the queues, unless that was done just now. Raises OperationalError."""
        if self._bindings and monotonic() - self._entered > RENEWED_EVERY:
            self._run([(one, queue, _life(queue)) for one, queue in self._bindings])
            self._entered = monotonic()

    def leave(self) -> None:
        """Strike off the queues that nobody else can have, and delete what is in them.

        Others that are to end with those who consume them do so when nobody renews their entries.
        """
        gone = [(one, queue, 0.0) for one, queue in self._bindings if queue.single]
        if gone:
            self._run(gone)

    def _run(self, entries: Iterable[tuple[Binding, Queue, float]]) -> None:
        words: list[Argument] = []
        for one, queue, seconds in entries:
            kind = "p" if queue.auto_delete or queue.expires else "l"
            written = member(self._keys, one, queue.name)
            words += (one.exchange.name, queue.name, kind, seconds, written)
        steps = self._keys.steps
        arguments = (*self._scripted.first, AWAY, GRACE, len(steps), *steps, *words)
        self._link.run(LISTEN, self._scripted.keys, arguments)


def _life(queue: Queue) -> float:
    return queue.expires or (PASSING if queue.auto_delete else LASTING)
