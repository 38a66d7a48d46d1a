"""Documents as scripts get them: the one form in which both a commit and a store write results."""

from celeriac.completion import Put
from celeriac.redis.link import Argument
from celeriac.states import SUCCESS


def put_arguments(put: Put, key: str) -> tuple[Argument, ...]:
    """Return the arguments of ``store.lua`` for one document under its full key."""
    # Redis refuses a life of nothing.
    life: Argument = "" if put.ttl is None else max(1, round(put.ttl * 1000))
    return key, put.value, life, 1 if put.state == SUCCESS else 0
