"""Every key that is used on a Redis server: its name, who owns it, and how long it lives.

Celery's keys have the names that kombu gives them. Those of our own begin with ``celeriac:``. All of
them stand behind ``global_keyprefix``. Nothing is read or written here.

============================  ======  ================================================================
key                           type    what, whose, for how long
============================  ======  ================================================================
``<queue>[<sep><step>]``      list    messages that are ready; gone when empty
``unacked``                   hash    messages in hands, and those kept for later, by tag
``unacked_index``             zset    when they were taken, by tag; with ``unacked``
``unacked_mutex``             string  held by whoever restores what Celery workers lost; has a TTL
``_kombu.binding.<exchange>`` set     which queue gets what; the user's, as with Celery (and
                                      ``_kombu.binding_permanent.<exchange>``: the same)
``celeriac:leases``           zset    until when, by receipt; the sweep of any worker clears it
``celeriac:started``          set     receipts whose runs have begun; with the lease
``celeriac:delayed:<queue>``  zset    tags of messages for later, by due time; with the message
``celeriac:unknown:<queue>``  hash    names of tasks that nobody knows, by tag; with the message
``celeriac:express:<queue>``  zset    tags of messages that go before the lists; with the message
``celeriac:fanout:<exchange>`` zset   queues that an exchange of type fanout leads to, and until when;
                                      those who consume them; 30 days after the last of them
``celeriac:listened``        string  when somebody has last entered a queue there; a day
``celeriac:listening``       string  the server was away: nobody is struck off there; some minutes
``celeriac:heard:<queue>:...`` string a message of a Celery caller that is in the queue; ten minutes
``celeriac:queues``           set     names of queues that were used; 30 days after the last use
``celeriac:workers``          zset    last sign of life of each worker; an hour after the last one
``celeriac:swept``            string  when leases were looked at last; a day
``celeriac:away``             string  since when the server is back; some seconds
``celeriac:serial``           string  numbers for dead letters and express messages; the server's
``celeriac:dead``             zset    numbers of dead letters; the user's, who deletes or revives them
``celeriac:dead:<number>``    hash    one dead letter; with its number
``celeriac:chord:<group>``    hash    members of a chord that have reported in; a day after the last
``<result>.celeriac:new:...`` string  a large document on its way to its place; a minute
``<result>.celeriac:done``    string  marks a success that its own bytes do not tell; as the result
============================  ======  ================================================================
"""

from collections.abc import Mapping
from typing import Any

SEPARATOR = "\x06\x16"
STEPS = (0, 3, 6, 9)
RECORDED, LASTING = "_kombu.binding.", "_kombu.binding_permanent."


class Keys:
    """The names of keys under one set of transport options."""

    def __init__(self, options: Mapping[str, Any], database: int = 0) -> None:
        self.prefix = prefix = str(options.get("global_keyprefix") or "")
        self.separator = str(options.get("sep") or SEPARATOR)
        self.steps = tuple(sorted(int(step) for step in options.get("priority_steps") or STEPS))
        self.unacked = prefix + str(options.get("unacked_key") or "unacked")
        self.unacked_index = prefix + str(options.get("unacked_index_key") or "unacked_index")
        self.unacked_mutex = prefix + str(options.get("unacked_mutex_key") or "unacked_mutex")
        self._fanout = _fanout(options, database)
        self._patterns = bool(options.get("fanout_patterns", True))
        self.own = f"{prefix}celeriac:"
        self.leases = self.own + "leases"
        self.started = self.own + "started"
        self.queues = self.own + "queues"
        self.workers = self.own + "workers"
        self.serial = self.own + "serial"
        self.dead = self.own + "dead"

    def step(self, priority: int) -> int:
        """Return the step of a priority as the wire has it: the largest that is not above it."""
        priority = min(max(priority, 0), 9)
        return max((step for step in self.steps if step <= priority), default=self.steps[0])

    def lane(self, queue: str, step: int) -> str:
        """Return the list of a queue for the priorities of one step."""
        return self.prefix + queue + (f"{self.separator}{step}" if step else "")

    def lanes(self, queue: str) -> list[str]:
        """Return all lists of a queue, the soonest first."""
        return [self.lane(queue, step) for step in self.steps]

    def binding(self, exchange: str) -> str:
        """Return the set that says which queues an exchange leads to."""
        return f"{self.prefix}{RECORDED}{exchange}"

    def bindings(self, exchange: str) -> tuple[str, str]:
        """Return the sets that a binding that stays is written to."""
        return self.binding(exchange), f"{self.prefix}{LASTING}{exchange}"

    def channel(self, exchange: str, key: str) -> str:
        """Return the channel on which Celery speaks of messages to a fanout exchange."""
        name = f"{self.prefix}{self._fanout}{exchange}"
        return f"{name}/{key}" if key and self._patterns else name

    def delayed(self, queue: str) -> str:
        """Return the index of the messages that wait for their time."""
        return f"{self.own}delayed:{queue}"

    def unknown(self, queue: str) -> str:
        """Return the names of the tasks that nobody knew, of messages that wait."""
        return f"{self.own}unknown:{queue}"

    def express(self, queue: str) -> str:
        """Return the index of the messages that go before all lists."""
        return f"{self.own}express:{queue}"

    def letter(self, number: str) -> str:
        """Return the key of one dead letter."""
        return f"{self.dead}:{number}"


def _fanout(options: Mapping[str, Any], database: int) -> str:
    """Return what stands before the names of fanout exchanges in channels."""
    prefix = options.get("fanout_prefix", True)
    return (prefix if isinstance(prefix, str) else "/{db}." if prefix else "").format(db=database)
