"""The two clocks: wall time for what people read, monotonic time for what is measured.

Leases use the clock of the server that keeps them (on an embedded file the monotonic clock of this
machine, together with its boot id). All times are seconds as ``float``. Thread-safe.

Tests may put another clock in place of the wall clock (``tell``): what is due, expires or is kept for
a time follows it. Monotonic time (timeouts, leases, run times) stays what it is, so that nothing that
waits can be made to wait for ever.
"""

from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from time import monotonic, time

__all__ = ["boot_id", "iso", "monotonic", "parse_iso", "tell", "unix", "wall"]

_FAR = 4e9
"""Seconds until which a float tells microseconds apart without rounding."""
_BOOT_ID_FILE = "/proc/sys/kernel/random/boot_id"


_source: Callable[[], float] = time


def wall() -> float:
    """Return the wall time now, in seconds since 1970."""
    return _source()


def tell(source: Callable[[], float] = time) -> Callable[[], float]:
    """Have ``wall`` say what ``source`` says; return the source before it, to be put back.

    For tests, and for this process only: ``celeriac.testing.FakeClock`` uses it, and undoes it.
    """
    global _source
    earlier, _source = _source, source
    return earlier


def iso(seconds: float, tz: tzinfo = UTC) -> str:
    """Return a wall time as ISO 8601 with offset, microseconds kept."""
    if tz is UTC and 0 <= seconds < _FAR:
        # Every result names the time: all but the microseconds is the same for a whole second.
        whole, rest = divmod(round(seconds * 1e6), 1_000_000)
        return f"{_second(whole)}.{rest:06d}+00:00" if rest else f"{_second(whole)}+00:00"
    return datetime.fromtimestamp(seconds, tz).isoformat()


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def unix(moment: datetime, naive: tzinfo = UTC) -> float:
    """Return a datetime as wall time; one without a zone is taken to be in ``naive``."""
    return (moment if moment.tzinfo else moment.replace(tzinfo=naive)).timestamp()


def parse_iso(text: str, naive: tzinfo = UTC) -> float:
    """Return the wall time that an ISO 8601 text names.

    Raises ValueError for other text.
    """
    return unix(datetime.fromisoformat(text), naive)


def boot_id() -> str:
    """Return an id that changes when the machine starts again, for clocks that restart with it."""
    try:
        # As bytes: an encoding of its own would be imported now, and a process that was forked by
        # another thread meanwhile would wait for that import for ever.
        with open(_BOOT_ID_FILE, "rb") as file:
            return file.read().decode().strip()
    except OSError:
        # Without /proc: the moment of boot, as far as the two clocks tell, to the nearest minute.
        return f"boot-{round((time() - monotonic()) / 60)}"
