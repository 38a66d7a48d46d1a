"""Messages: one request to run a task, on its way out, in hand, or dead.

All are frozen values without behaviour. ``headers`` and ``body`` stay bytes until somebody needs to
know what is in them: the caller's side encodes them once, the worker's parent decodes the few
headers it decides by, and only the child that runs the task decodes the body.
"""

from msgspec import Struct

from celeriac.queues import Queue


class Message(Struct, frozen=True, kw_only=True, array_like=True):
    """One request to run a task, in Celery's task protocol 2."""

    id: str
    """Task id; empty if the headers could not be read."""
    task: str
    """Registered name of the task; empty if the headers could not be read."""
    headers: bytes
    """The message headers, a JSON object."""
    body: bytes
    """The encoded arguments, in the form that ``content_type`` names."""
    content_type: str = "application/json"
    content_encoding: str = "utf-8"
    priority: int = 0
    """0 to 255; higher is sooner. Adapters translate it to what their server means by it."""
    reply_to: str | None = None


class Publish(Struct, frozen=True, kw_only=True):
    """A message and where it goes: routing is resolved before anything is published."""

    queue: str
    """The first of its queues; empty if none is known here, and the server resolves ``exchange``."""
    message: Message
    due: float | None = None
    """Wall time in seconds before which the broker keeps the message to itself; None is now."""
    exchange: str = ""
    """The exchange that led here; empty is the broker's own, whose keys are names of queues."""
    exchange_type: str = "direct"
    """Its type, as far as it is known here."""
    routing_key: str = ""
    """The key it was published with; empty is the queue's name."""
    copies: tuple[str, ...] = ()
    """Further queues that get the message too."""
    delivery_mode: int = 2
    """1 may be lost when its server ends, 2 may not. Embedded queues keep all alike."""
    broadcast: bool = False
    """Meant for whoever listens now: that nobody does is no error."""
    declarations: tuple[Queue, ...] = ()
    """What the sender knows of queues better than the broker: of its own, and of those that must be
    there and bound before. One without a name stands for its exchange alone.
    """


class Delivery(Struct, frozen=True, kw_only=True):
    """A message that a consumer holds under a lease."""

    message: Message
    queue: str
    receipt: str
    """The fence of this delivery: new each time, worthless once the lease is lost."""
    claims: int = 1
    """How often the message has been delivered, this time included."""
    suspect: bool = False
    """An earlier holder vanished: its start must be on record before it runs again."""
    losses: int = 0
    """Runs that had started and were lost, counted against ``task_delivery_limit``."""
    parked: float | None = None
    """Wall time at which it was first put back because no task of its name was known."""
    parkings: int = 0
    """How often it was put back for that reason."""


class DeadLetter(Struct, frozen=True, kw_only=True):
    """A message that will not be delivered again, with its last words."""

    id: str
    """Tells it from all dead letters of its broker, past ones included. Not the id of the task."""
    message: Message
    queue: str
    reason: str
    died: float
    """Wall time in seconds."""
    losses: int = 0
    """Runs that had started and were lost, before the one that brought it here."""


class DeadSelection(Struct, frozen=True, kw_only=True):
    """Which dead letters are meant: those that meet every condition given; with none, all."""

    ids: tuple[str, ...] | None = None
    """Ids of letters."""
    task_ids: tuple[str, ...] | None = None
    """Ids of the tasks in them."""
    task: str | None = None
    """The name of the task."""
    queue: str | None = None
    """The queue that they came from."""


ALL_DEAD = DeadSelection()


class QueueSize(Struct, frozen=True, kw_only=True):
    """What a queue holds, by place."""

    ready: int = 0
    delayed: int = 0
    """Waiting in the broker for their time, parked ones included."""
    leased: int = 0
    """In the hands of workers."""
    unknown: dict[str, int] = {}
    """Of the delayed: those parked because no worker knew the task, by task name."""
