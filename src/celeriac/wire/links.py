"""What the body of a task message says of what is to follow from it: links, a chain, a chord.

They are signatures as messages hold them, mappings. What is made of them is not known here. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

NOTHING_FOLLOWS = b'{"callbacks": null, "errbacks": null, "chain": null, "chord": null}]'
"""How bodies in JSON end that have none, as Celery and Celeriac write them."""


def listed(links: Any) -> Sequence[Any]:
    """Return links as a sequence: a message may hold one alone, or none."""
    given: Sequence[Any] = [links] if isinstance(links, Mapping) else links or ()
    return given


def beyond(links: Mapping[str, Any]) -> str | None:
    """Return what is to follow and is more than a task; None if there is no such thing.

    This version cannot do that, which is better known before the task runs than after it.
    """
    if links.get("chord"):
        return "it is a member of a chord"
    for name in ("chain", "callbacks", "errbacks"):
        for one in listed(links.get(name)):
            if isinstance(one, Mapping) and (kind := one.get("subtask_type")):
                return f"a {kind} is among its {name}"
    return None
