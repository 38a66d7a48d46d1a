"""Documents as scripts get them: the one form in which both a commit and a store write results.

To hand a script a large text costs a server 1 ns for each byte and each copy, since Lua counts every
byte of every string (measured: 50 us for 20 KB, against 6 us for a SET). So a large document is put
beside its place before, by a plain command in the same round trip, and the script only renames it. What
is not there then, because the server is full or has evicted it, is handed over after all.
"""

from collections.abc import Callable, Iterable
from random import getrandbits

from msgspec import Struct

from celeriac.completion import Put
from celeriac.redis.link import Argument, Command
from celeriac.states import SUCCESS

DOCUMENT = 4
"""Arguments that tell a script of a document."""
LARGE = 4096
"""Bytes from which a document is put beside its place."""
ASIDE = 60_000
"""Milliseconds for which it stays there, if nobody fetches it."""
_SUCCESS, _BESIDE = 1, 2


class Documents(Struct, frozen=True):
    """Documents on their way into a script."""

    beside: list[Command]
    """What is done before, in the database of the documents."""
    arguments: list[Argument]
    """``DOCUMENT`` of them for each: see ``put.lua``."""


def documents(
    puts: Iterable[Put], named: Callable[[str], str], *, inline: bool = False
) -> Documents:
    """Return documents as scripts get them, their keys ``named`` in full.

    ``inline`` puts nothing beside.
    """
    beside: list[Command] = []
    arguments: list[Argument] = []
    for put in puts:
        key = named(put.key)
        value: Argument = put.value
        how = _SUCCESS if put.state == SUCCESS else 0
        if len(put.value) >= LARGE and not inline:
            # Under a name of its own: there may be several for one place, and from several workers.
            name = f"{getrandbits(64):016x}"
            beside.append(("SET", f"{key}.celeriac:new:{name}", put.value, "PX", ASIDE))
            value, how = name, how | _BESIDE
        # Redis refuses a life of nothing.
        life: Argument = "" if put.ttl is None else max(1, round(put.ttl * 1000))
        arguments += (key, value, life, how)
    return Documents(beside, arguments)
