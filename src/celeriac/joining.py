"""Whether whoever asks may wait for a result (TASK-45).

A task that waits for another one holds a place that the other may need: with all places taken like
that, nothing moves any more. So tasks may not, unless somebody says that it cannot happen. How one
waits is not known here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from celeriac.context import Context, running

_joining: ContextVar[bool | None] = ContextVar("celeriac_joining", default=None)


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Let a task wait for others while the block runs (TASK-45)."""
    token = _joining.set(True)
    try:
        yield
    finally:
        _joining.reset(token)


@contextmanager
def denied_join_result() -> Iterator[None]:
    """Let nobody wait for results while the block runs, outside of tasks too (TASK-45)."""
    token = _joining.set(False)
    try:
        yield
    finally:
        _joining.reset(token)


def assert_will_not_block() -> None:
    """Raise RuntimeError where a task waits for another one, unless that is allowed (TASK-45)."""
    allowed = _joining.get()
    request = _who_may_not(running())
    if allowed or (allowed is None and request is None):
        return
    who = "this" if request is None else f"task {request.task}"
    raise RuntimeError(
        f"{who} waits for the result of another task. If all processes do that, none is left to run "
        "what they wait for; let the second task be sent by the first, or combine the two. If it "
        "cannot happen here, say so: with allow_join_result(): ..., or "
        "get(disable_sync_subtasks=False)"
    )


def _who_may_not(request: Context | None) -> Context | None:
    """Return the run that must not wait, None if there is none.

    An eager run that was asked for by ``apply()`` takes nobody's place; what matters is where it was
    asked for. One that stands in for a task that is sent behaves like that.
    """
    while request is not None and request.is_eager and not request.in_place:
        request = request.caller
    return request
