"""Joins: counting the members of a chord with a server that cannot count, in the result store.

Each member is a document of its own, so that it counts once however often it comes. Whoever finds
them all tries to write the claim, which only the first can: a SUCCESS is never overwritten. The claim
belongs to a member, not to a worker: when its holder dies its message comes again, to whoever that
is, and is held again. Knows nothing of queues or messages.
"""

from celeriac.completion import STALE, Join, Put, Verdict, held
from celeriac.results.base import ResultStore
from celeriac.states import SUCCESS

KEPT = 7 * 86400.0
"""Seconds: members that wait longer than that for the last one are forgotten."""
PREFIX = "celeriac-chord-"


def joined(store: ResultStore, join: Join, receipt: str) -> Verdict | None:
    """Count a member; return ``held`` for the one that must bring the body, STALE for a body that
    comes too late, and None for one that is simply settled.
    """
    base = f"{PREFIX}{join.group}"
    done, claim = f"{base}-done", f"{base}-claim"
    if join.token is not None:
        if join.token != receipt or _first(store, done, receipt) != receipt:
            return STALE
        store.forget([*_members(base, join), claim])
        return None
    if store.get([done]):
        return None
    members = _members(base, join)
    store.put([Put(members[join.index], join.member, KEPT, SUCCESS)])
    found = store.get(members)
    if len(found) < join.size:
        return None
    if _first(store, claim, str(join.index)) != str(join.index):
        return None
    return held(tuple(found[key] for key in members), receipt)


def _members(base: str, join: Join) -> list[str]:
    return [f"{base}-{index}" for index in range(join.size)]


def _first(store: ResultStore, key: str, value: str) -> str:
    """Write a value unless there is one; return the one that is there."""
    store.put([Put(key, value.encode(), KEPT, SUCCESS)])
    return store.get([key]).get(key, b"").decode()
