"""Time zones by name. Loaded only by apps that configure one, since ``zoneinfo`` costs 4 ms."""

from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo


def zone(name: str | None) -> tzinfo:
    """Return the time zone of this name; ``None`` and ``UTC`` are UTC, ``local`` the machine's.

    Raises ValueError if the zone is not known on this machine.
    """
    if name is None or name.upper() == "UTC":
        return UTC
    if name == "local":
        return _Local()
    try:
        return ZoneInfo(name)
    except (KeyError, OSError, ValueError):
        raise ValueError(
            f"no time zone called {name!r}; write a name such as Europe/Berlin"
        ) from None


class _Local(tzinfo):
    """The zone of this machine, whatever rules it has at the moment that is asked about."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return _here(moment).utcoffset()

    def dst(self, moment: datetime | None) -> timedelta | None:
        # The datetime module knows the whole offset of the machine only, not which part is summer's.
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return _here(moment).tzname()

    def fromutc(self, moment: datetime) -> datetime:
        return _here(moment.replace(tzinfo=UTC)).replace(tzinfo=self)


def _here(moment: datetime | None) -> datetime:
    if moment is None:
        moment = datetime.now()
    return (
        moment.replace(tzinfo=None) if isinstance(moment.tzinfo, _Local) else moment
    ).astimezone()
