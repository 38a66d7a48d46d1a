"""The contract of a pool: it takes jobs, runs each in a slot of its own, and reports what happened.

Three threads of the worker meet at a pool: one submits, one reads the reports, one supervises. A
job is known by its number, which is never used twice. Every submitted job is reported exactly once,
as finished or lost, unless it was recalled or cancelled.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

from msgspec import Struct

from celeriac.completion import Put
from celeriac.message import Message
from celeriac.outcome import Outcome


class Job(Struct, frozen=True, array_like=True):
    """One run to be made, as it travels to the slot that takes it."""

    number: int
    message: Message
    queue: str
    redelivered: bool = False
    asks: bool = False
    """The slot reports the start and waits for ``permit`` before the function runs."""
    tells: bool = False
    """The slot stores the state STARTED before the function runs (``track_started``)."""


class Limits(Struct, frozen=True):
    """Time limits of a run, in seconds of monotonic time from its start; None is no limit."""

    soft: float | None = None
    hard: float | None = None


NO_LIMITS = Limits()


class Started(Struct, frozen=True):
    """A job that asks is about to begin. It may be told again, if the slot died before permission."""

    number: int


class Stored(Struct, frozen=True):
    """A running job wants a document stored now (a state, progress)."""

    number: int
    put: Put


class Finished(Struct, frozen=True):
    """A job ended in its slot."""

    number: int
    outcome: Outcome


class Lost(Struct, frozen=True):
    """A job's slot died, or was killed, while it ran the job."""

    number: int
    reason: str
    """How it died, in one line: the signal or the exit status."""
    overtime: float | None = None
    """The hard limit in seconds, if passing it was the reason."""


class Unrun(Struct, frozen=True):
    """A job that lost its slot through no fault of its own, after the pool was told to drain."""

    number: int


Report = Started | Stored | Finished | Lost | Unrun


class Chores(Protocol):
    """Does what needs user code but belongs to no run: receivers of signals, handlers of the dead."""

    def do(self, **fields: Any) -> None:
        """Have a chore done, soon: the fields of ``pools.chores.Chore``. Any thread; never blocks."""

    @property
    def busy(self) -> bool:
        """Whether a chore is not done yet."""
        ...


class ExecutorPool(ABC):
    """Runs jobs in slots. Each method says from which thread it may be called."""

    spare: Chores
    """Where chores are done."""

    @abstractmethod
    def start(self, slots: int) -> None:
        """Open this many slots. Returns when jobs can be submitted."""

    @abstractmethod
    def submit(self, job: Job, limits: Limits = NO_LIMITS) -> bool:
        """Hand over a job; False if there is no room: try again when something has finished.

        Any one thread; never blocks. Jobs begin in the order in which they were submitted, and none
        waits behind a running one while a slot is free.
        """

    @abstractmethod
    def permit(self, number: int, allowed: bool) -> None:
        """Answer a job that asked: run, or end without running (and without a report)."""

    @abstractmethod
    def reports(self, timeout: float | None) -> list[Report]:
        """Wait up to ``timeout`` seconds for news; return them, per job in their order. One thread."""

    @abstractmethod
    def wake(self) -> None:
        """Make ``reports`` return. Any thread; never blocks."""

    @abstractmethod
    def supervise(self, timeout: float) -> None:
        """Look after slots and limits for up to ``timeout`` seconds. One thread, again and again."""

    @abstractmethod
    def nudge(self) -> None:
        """Make ``supervise`` return. Any thread, and signal handlers; never blocks."""

    @abstractmethod
    def recall(self) -> list[int]:
        """Take back the jobs that no slot has begun; return their numbers. Any thread."""

    @abstractmethod
    def cancel(self, number: int) -> None:
        """End a job, wherever it is, with all processes it started. It is not reported. Any thread."""

    @abstractmethod
    def resize(self, slots: int) -> None:
        """Change the number of slots. Slots that are too many end after their job. Supervisor."""

    @abstractmethod
    def running(self) -> dict[int, float]:
        """Return the jobs that run now, with the seconds since their start. Any thread.

        A job that waits for ``permit`` has run for 0 s.
        """

    @property
    @abstractmethod
    def outstanding(self) -> int:
        """How many jobs were submitted and not yet reported, recalled or cancelled. Any thread."""

    @abstractmethod
    def drain(self) -> None:
        """Let the slots end when they have nothing to do. Any thread; idempotent.

        From now on ``submit`` returns False. What was submitted is run, or reported as ``Unrun``.
        """

    @abstractmethod
    def halt(self) -> None:
        """End what runs, with all processes it started; none of it is reported. Supervisor."""

    @abstractmethod
    def stop(self) -> Sequence[int]:
        """End all slots at once, with all processes their jobs started.

        Return the numbers of the jobs that were not reported; of those, ``reports`` may still tell
        the outcome if it was there. Idempotent: a second time it returns nothing. Supervisor.
        """
