"""Time zones by name. Loaded only by apps that configure one, since ``zoneinfo`` costs 4 ms."""

from datetime import UTC, tzinfo
from zoneinfo import ZoneInfo


def zone(name: str | None) -> tzinfo:
    """Return the time zone of this name; ``None`` and ``UTC`` are UTC.

    Raises ValueError if the zone is not known on this machine.
    """
    if name is None or name.upper() == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(
            f"no time zone called {name!r}; write a name such as Europe/Berlin"
        ) from None
