"""Results as the caller sees them.

``AsyncResult`` is a handle: an id and the store that will know. Reading costs one look-up; waiting
is told by the store, not by polling. Failures are raised as the exception class the task raised,
with the worker's traceback attached.
"""

from collections.abc import Awaitable
from contextlib import suppress
from time import monotonic
from typing import Any, Generic, Protocol, TypeVar

from celeriac import states
from celeriac.context import running
from celeriac.exceptions import (
    ImproperlyConfigured,
    OperationalError,
    RemoteTraceback,
    TaskError,
    TimeoutError,
)
from celeriac.results.base import ResultStore, task_key
from celeriac.wire import result as wire

R = TypeVar("R")


class Awaiter(Protocol):
    """Waits on behalf of coroutines."""

    def result(self, key: str, timeout: float | None) -> Awaitable[bytes]:
        """Return the first document of a final state under ``key``. Raises TimeoutError."""
        ...


class ResultHost(Protocol):
    """What a result needs of its app."""

    @property
    def store(self) -> ResultStore | None:
        """Where results are kept; None if they are disabled."""
        ...

    @property
    def awaiter(self) -> Awaiter:
        """Who waits for coroutines."""
        ...


class AsyncResult(Generic[R]):
    """The result of one task, which may not be there yet. Cheap; thread-safe."""

    def __init__(self, id: str, app: ResultHost, ignored: bool = False) -> None:
        self.id = id
        self.ignored = ignored
        """The call was made with ``ignore_result``: ``get()`` returns None at once (RES-17)."""
        self._app = app
        self._final: wire.ResultDocument | None = None

    # -- reading

    @property
    def state(self) -> str:
        """The state now; PENDING also for ids that nobody knows (RES-01, QUIRK-29)."""
        return self._document().status

    status = state

    @property
    def result(self) -> Any:
        """The value if it succeeded, the exception if it failed, else what the state tells."""
        document = self._document()
        if document.status in states.EXCEPTION_STATES and isinstance(document.result, dict):
            return wire.rebuild_exception(document.result)
        return document.result

    info = result

    @property
    def traceback(self) -> str | None:
        """The worker's traceback of a failure, as text."""
        return self._document().traceback

    @property
    def date_done(self) -> str | None:
        """When it became final, as ISO 8601 text."""
        return self._document().date_done

    @property
    def children(self) -> Any:
        """Result tuples of the tasks that it sent."""
        return self._document().children

    def ready(self) -> bool:
        """Whether the state is final."""
        return self.state in states.READY_STATES

    def successful(self) -> bool:
        """Whether it succeeded."""
        return self.state == states.SUCCESS

    def failed(self) -> bool:
        """Whether it failed."""
        return self.state == states.FAILURE

    # These are stored with ``result_extended`` only, and None without it (RES-04).

    @property
    def name(self) -> str | None:
        """The name of the task."""
        return self._document().name

    @property
    def args(self) -> Any:
        """The positional arguments."""
        return self._document().args

    @property
    def kwargs(self) -> Any:
        """The keyword arguments."""
        return self._document().kwargs

    @property
    def worker(self) -> str | None:
        """The worker that ran it."""
        return self._document().worker

    @property
    def retries(self) -> int | None:
        """How often it was retried."""
        return self._document().retries

    @property
    def queue(self) -> str | None:
        """The queue it came from."""
        return self._document().queue

    # -- waiting

    def get(self, timeout: float | None = None, propagate: bool = True) -> R:
        """Wait for the result and return it (RES-02).

        Raises what the task raised, with the worker's traceback as ``__cause__``; with
        ``propagate`` off the exception is returned instead. What is no Exception (SystemExit ...)
        is told by a TaskError. Raises TimeoutError after ``timeout`` seconds; 0 looks once. Raises
        RuntimeError inside a task, where waiting for others can starve them (TASK-45).
        """
        if self.ignored:
            return None  # type: ignore[return-value]
        refuse_in_task()
        return self._outcome(self._wait(timeout), propagate)

    wait = get

    async def aget(self, timeout: float | None = None, propagate: bool = True) -> R:
        """Wait like ``get()``, without blocking the event loop."""
        if self.ignored:
            return None  # type: ignore[return-value]
        refuse_in_task()
        if self._final is None:
            self._store  # noqa: B018 - says that results are disabled, if they are
            try:
                data = await self._app.awaiter.result(task_key(self.id), timeout)
            except TimeoutError:
                raise self._late(timeout) from None
            self._final = wire.decode(data)
        return self._outcome(self._final, propagate)

    def forget(self) -> None:
        """Delete the stored result (RES-06)."""
        self._final = None
        self._store.forget([task_key(self.id)])

    # -- inside

    @property
    def _store(self) -> ResultStore:
        store = self._app.store
        if store is None:
            raise ImproperlyConfigured(
                "results are disabled (result_backend is disabled://); set result_backend to keep them"
            )
        return store

    def _document(self) -> wire.ResultDocument:
        if self._final is not None:
            return self._final
        key = task_key(self.id)
        data = self._store.get([key]).get(key)
        return self._read(data) if data else wire.ResultDocument(status=states.PENDING)

    def _read(self, data: bytes) -> wire.ResultDocument:
        document = wire.decode(data)
        if document.status in states.READY_STATES:
            self._final = document
        return document

    def _wait(self, timeout: float | None) -> wire.ResultDocument:
        if self._document().status in states.READY_STATES and self._final is not None:
            return self._final
        deadline = float("inf") if timeout is None else monotonic() + timeout
        watch = self._store.watch()
        try:
            watch.add(task_key(self.id))
            while self._final is None:
                left = deadline - monotonic()
                if left <= 0:
                    raise self._late(timeout, f" (state {self.state})")
                for data in watch.wait(None if timeout is None else left).values():
                    self._read(data)
            return self._final
        finally:
            with suppress(OperationalError):  # The result is here, or a better error is on its way.
                watch.close()

    def _late(self, timeout: float | None, state: str = "") -> TimeoutError:
        return TimeoutError(
            f"task {self.id} has no result after {timeout or 0:g} s{state}; "
            "is a worker running on its queue?"
        )

    def _outcome(self, document: wire.ResultDocument, propagate: bool) -> R:
        if document.status not in states.PROPAGATE_STATES:
            return document.result  # type: ignore[no-any-return]
        error = wire.rebuild_exception(document.result)
        if not isinstance(error, Exception):
            # A SystemExit that ended a task in a worker must not end its caller too.
            error = TaskError(f"the task raised {error!r}")
        if not propagate:
            return error  # type: ignore[return-value]
        raise error from (RemoteTraceback(document.traceback) if document.traceback else None)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AsyncResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<AsyncResult: {self.id}>"


def refuse_in_task() -> None:
    """Raise RuntimeError where a task waits for another one (TASK-45)."""
    request = running()
    if request is not None:
        raise RuntimeError(
            f"task {request.task} waits for the result of another task. If all processes do that, "
            "none is left to run what they wait for; let the second task be sent by the first, or "
            "combine the two"
        )
