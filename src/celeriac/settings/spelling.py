"""The spellings of setting names: new, old, misspelt.

Every setting has its new lower-case name; most have one from before Celery 4, in upper case
(APP-09). This module translates, and finds what a wrong name was meant to be. It knows nothing of
values.
"""

from collections.abc import Iterable
from functools import cache

from celeriac.settings.table import NAMES, entries

PREFIXES = ("CELERY_", "CELERYD_", "CELERYBEAT_", "BROKER_")
"""What an upper-case name must begin with to be claimed as one of ours."""

NOT_SETTINGS = frozenset(
    {
        "BROKER_BACKEND",
        "CELERY_CONFIG_MODULE",
        "CELERY_DB_REUSE_MAX",
        "CELERY_LOADER",
        "TIME_ZONE",
    }
)
"""Names in configuration sources that other parts of a project read, or that only very old Celery
did.
"""


def new_name(spelling: str) -> str | None:
    """The setting that ``spelling`` means, in either style, or None."""
    if spelling in NAMES:
        return spelling
    return old_spellings().get(spelling) if spelling.isupper() else None


@cache
def old_spellings() -> dict[str, str]:
    """Old name to new name. Evaluates the whole table, so that it is asked only when needed."""
    return {old: line.name for line in entries() for old in line.old_names}


def old_name(name: str) -> str:
    """The old spelling of the setting ``name``, or ``name`` itself where there is none."""
    return next((old for old, new in old_spellings().items() if new == name), name)


def suggestion(spelling: str) -> str:
    """What to write instead of an unknown name, as the end of an error message."""
    lower = spelling.lower()
    if lower in NAMES:
        return f"write {lower!r} in lower case"
    under_namespace = lower.removeprefix("celery_")
    if under_namespace in NAMES:
        return f"write {under_namespace!r}, or load the source with namespace='CELERY'"
    near = nearest(spelling)
    return f"did you mean {near!r}?" if near else "docs/reference/settings.md lists all names"


def nearest(spelling: str) -> str | None:
    """The known name closest to ``spelling``, or None if none is close."""
    known = old_spellings() if spelling.isupper() else NAMES
    return nearest_of(spelling, known, max(2, len(spelling) // 3))


def nearest_of(spelling: str, known: Iterable[str], most: int) -> str | None:
    """The name among ``known`` that differs least, by ``most`` letters at the most, or None."""
    # It takes so many letters to make them equally long: what is far too long is not compared at all.
    near = (name for name in sorted(known) if abs(len(name) - len(spelling)) <= most)
    smallest, name = min(
        ((_distance(spelling, name), name) for name in near), default=(most + 1, "")
    )
    return name if smallest <= most else None


def _distance(left: str, right: str) -> int:
    """How many letters must be put in, left out or changed (difflib would cost 1 ms to import)."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]
