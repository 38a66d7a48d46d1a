"""The fake clock: the wall clock of this process stands still, and moves when a test says so.

All that Celeriac reads of the wall clock follows it: ``countdown``, ``eta``, ``expires``, the pauses of
retries, how long results are kept. What tasks read themselves (``datetime.now()``) does not; neither
do other processes.
"""

import weakref
from datetime import UTC, datetime
from typing import Protocol

from celeriac import clock


class Sleeper(Protocol):
    """Somebody who waits until something is due by the wall clock."""

    def wake(self) -> None:
        """Look again: it may be due now."""


sleepers: "weakref.WeakSet[Sleeper]" = weakref.WeakSet()
"""Those to be woken whenever a fake clock is moved."""


class FakeClock:
    """A wall clock that is moved by hand. A context manager: at its end the real one is back.

    ``at`` is where it stands at first, an aware datetime or seconds since 1970; without it, at the
    real time. Clocks can be nested; each gives way to the one before it.
    """

    def __init__(self, at: datetime | float | None = None) -> None:
        self._now = clock.wall() if at is None else seconds_of(at)

    @property
    def seconds(self) -> float:
        """The time that it shows, in seconds since 1970."""
        return self._now

    @property
    def now(self) -> datetime:
        """The time that it shows, in UTC."""
        return datetime.fromtimestamp(self._now, UTC)

    def advance(
        self, *, seconds: float = 0, minutes: float = 0, hours: float = 0, days: float = 0
    ) -> None:
        """Move it by so much. Raises ValueError for a move backwards."""
        self.move_to(self._now + length(seconds, minutes, hours, days))

    def move_to(self, at: datetime | float) -> None:
        """Move it forward to a moment. Raises ValueError for one that has passed."""
        moment = seconds_of(at)
        if moment < self._now:
            raise ValueError(
                f"a fake clock moves forward only, not from {self.now} back by "
                f"{self._now - moment:g} s; begin another one there"
            )
        self._now = moment
        for sleeper in list(sleepers):
            sleeper.wake()

    def __enter__(self) -> "FakeClock":
        self._earlier = clock.tell(self._tell)
        return self

    def __exit__(self, *_: object) -> None:
        clock.tell(self._earlier)

    def _tell(self) -> float:
        return self._now

    def __repr__(self) -> str:
        return f"<FakeClock {self.now.isoformat()}>"


def length(seconds: float, minutes: float, hours: float, days: float) -> float:
    """Return a length of time in seconds."""
    return seconds + 60 * minutes + 3600 * hours + 86_400 * days


def seconds_of(at: datetime | float) -> float:
    """Return a moment in seconds since 1970. Raises ValueError for one without a zone."""
    if not isinstance(at, datetime):
        return float(at)
    if at.tzinfo is None:
        raise ValueError(f"{at!r} has no time zone; give it one: datetime(..., tzinfo=UTC)")
    return at.timestamp()
