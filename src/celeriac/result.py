"""Results as the caller sees them.

``AsyncResult`` is a handle: an id and the backend that will know. Reading costs one look-up; waiting
is told by the store, not by polling. Failures are raised as the exception class the task raised,
with the worker's traceback attached. ``EagerResult`` has the same surface for a task that ran here.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Generic, Protocol, TypeVar
from weakref import ref

from celeriac import imports, states
from celeriac.backend import Backend, Host, late
from celeriac.current import get_current_app
from celeriac.exceptions import ImproperlyConfigured, TaskError, TaskRevokedError, TimeoutError
from celeriac.joining import allow_join_result, assert_will_not_block, denied_join_result
from celeriac.lineage import ResultBase
from celeriac.reading import DocumentedResult, meta
from celeriac.results.base import task_key
from celeriac.wire import result as wire

__all__ = [
    "AsyncResult",
    "EagerResult",
    "ResultBase",
    "allow_join_result",
    "assert_will_not_block",
    "denied_join_result",
    "result_from_tuple",
]

R = TypeVar("R")

log = logging.getLogger("celeriac.result")

Callback = Callable[[Any], object]


class Awaiter(Protocol):
    """Waits on behalf of coroutines."""

    def result(self, key: str, timeout: float | None) -> Awaitable[bytes]:
        """Return the first document of a final state under ``key``. Raises TimeoutError."""
        ...


class ResultHost(Host, Protocol):
    """What a result needs of its app."""

    @property
    def backend(self) -> Backend:
        """Where results are read and written."""
        ...

    @property
    def awaiter(self) -> Awaiter:
        """Who waits for coroutines."""
        ...


class AsyncResult(DocumentedResult[R], Generic[R]):
    """The result of one task, which may not be there yet. Cheap; thread-safe.

    Two of them are equal if their ids are, and one is equal to its id. ``task_name`` is not used.
    Raises ValueError without an id.
    """

    app: ResultHost | None = None
    TimeoutError = TimeoutError
    ignored = False
    """The call was made with ``ignore_result``: ``get()`` returns None at once (RES-17)."""

    def __init__(
        self,
        id: str,
        backend: Backend | None = None,
        task_name: str | None = None,
        app: ResultHost | None = None,
        parent: ResultBase[Any] | None = None,
    ) -> None:
        if id is None:
            raise ValueError("a result needs the id of its task, not None")
        self.id = id
        self.parent = parent
        if app is not None:
            self.app = app
        self._backend = backend
        self._final: wire.ResultDocument | None = None
        # Those who wait with ``then``, and how they are told.
        self._callbacks: list[tuple[Callback, Callback | None]] = []

    # -- reading

    @property
    def children(self) -> "list[AsyncResult[Any]] | None":
        """The results of the tasks that it sent; None if nobody knows them (CALL-12).

        Of a group that it sent, the members.
        """
        children = self._document().children
        if children is None:
            return None
        return [result for child in children for result in _members(child, self.app)]

    def exists(self) -> bool:
        """Whether the store knows anything of it; a PENDING task may be a forgotten one (RES-11)."""
        return self.backend.task_result_exists(self.id)

    @property
    def backend(self) -> Backend:
        """Where it is read. Raises ImproperlyConfigured if it belongs to no app."""
        if self._backend is None:
            self._backend = self._host.backend
        return self._backend

    @property
    def supports_native_join(self) -> bool:
        """Whether many of them are read at once faster than one by one."""
        return self.backend.supports_native_join

    # -- waiting

    def get(  # noqa: PLR0913 - the signature is Celery's
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        no_ack: bool = True,
        follow_parents: bool = True,
        callback: Callable[[str, Any], object] | None = None,
        on_message: Callable[[dict[str, Any]], object] | None = None,
        on_interval: Callable[[], object] | None = None,
        disable_sync_subtasks: bool = True,
        EXCEPTION_STATES: Iterable[str] = states.EXCEPTION_STATES,
        PROPAGATE_STATES: Iterable[str] = states.PROPAGATE_STATES,
    ) -> R:
        """Wait for the result and return it (RES-02).

        Raises what the task raised, with the worker's traceback as ``__cause__``; with
        ``propagate`` off the exception is returned instead. With ``follow_parents``, what an earlier
        step raised is raised as well (RES-03). What is no Exception (SystemExit ...) is told by a
        TaskError. Raises TimeoutError after ``timeout`` seconds; 0 looks once (RES-23). Raises
        RuntimeError inside a task, where waiting for others can starve them, unless
        ``disable_sync_subtasks`` is off or ``allow_join_result()`` is around it (TASK-45).

        ``callback(id, value)`` is called before it returns, ``on_message(meta)`` with each state that
        is seen while it waits, and ``on_interval()`` about every ``interval`` seconds; what they
        raise comes through. ``no_ack`` and the two sets of states change nothing.
        """
        if self.ignored:
            return None  # type: ignore[return-value]
        if disable_sync_subtasks:
            assert_will_not_block()
        parents = self._unfinished_parents() if follow_parents and propagate else {}

        def heard(id_: str, document: wire.ResultDocument) -> None:
            if id_ in parents:
                parents[id_]._settle(document)
                if parents[id_]._final is not None:
                    parents[id_].maybe_throw()
            elif on_message is not None:
                on_message(meta(document))

        if self._final is None:
            listening = heard if parents or on_message is not None else None
            self._settle(
                self.backend.final(self.id, timeout, interval, on_interval, listening, parents)
            )
        return self.maybe_throw(propagate, callback)

    wait = get

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        *,
        follow_parents: bool = True,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Wait like ``get()``, without blocking the event loop.

        Parents that have failed already are followed; those that fail meanwhile are not.
        """
        if self.ignored:
            return None  # type: ignore[return-value]
        if disable_sync_subtasks:
            assert_will_not_block()
        if follow_parents and propagate:
            self._unfinished_parents()
        if self._final is None:
            self.backend.store  # noqa: B018 - says that results are disabled, if they are
            try:
                data = await self._host.awaiter.result(task_key(self.id), timeout)
            except TimeoutError:
                raise late(self.id, timeout) from None
            self._settle(self.backend.read(self.id, data))
        return self.maybe_throw(propagate)

    def then(
        self, callback: Callback, on_error: Callback | None = None, weak: bool = False
    ) -> "AsyncResult[R]":
        """Call ``callback(result)`` once it is ready, whether it succeeded or failed (RES-05).

        At once if it is known to be ready; else in the thread that sees it first: one that waits
        for this result, or the listener's, which should not be kept busy for long. What the callback
        raises goes to ``on_error(exception)``, or into the log. ``weak`` leaves the result to the
        garbage collector meanwhile; who drops it is not called.
        """
        self._callbacks.append((callback, on_error))
        if self._final is not None:
            self._call_back()
        else:
            _subscribe(self, weak)
        return self

    def forget(self) -> None:
        """Delete the stored result, and those of its parents (RES-06)."""
        self._final = None
        if isinstance(self.parent, AsyncResult):
            self.parent.forget()
        self.backend.forget(self.id)

    # -- inside

    @property
    def _host(self) -> ResultHost:
        if self.app is None:
            # As for everything that belongs to no app, the current one is meant.
            return get_current_app()  # type: ignore[no-any-return]
        return self.app

    @property
    def _rebuilds_tracebacks(self) -> bool:
        return self.backend.app.settings.task_remote_tracebacks

    def _document(self) -> wire.ResultDocument:
        return self._final or self._settle(self.backend.document(self.id))

    def _settle(self, document: wire.ResultDocument) -> wire.ResultDocument:
        """Keep a document if it is final, and tell those who wait for it."""
        if self._final is None and document.status in states.READY_STATES:
            self._final = document
            if self._callbacks:
                self._call_back()
        return document

    def _call_back(self) -> None:
        while self._callbacks:
            try:
                # One step, in whichever thread: each of them is called once.
                callback, on_error = self._callbacks.pop(0)
            except IndexError:
                return
            _guarded(callback, self, on_error)

    def _unfinished_parents(self) -> "dict[str, AsyncResult[Any]]":
        """Return the parents that may still fail; raise the error of the earliest that has."""
        parents = {p.id: p for p in self.ancestors() if isinstance(p, AsyncResult)}
        open_ = [p for p in parents.values() if p._final is None]
        if open_:
            documents = self.backend.documents([p.id for p in open_])
            for parent in open_:
                parent._settle(documents[parent.id])
        for parent in reversed(parents.values()):
            if parent._final is not None:
                parent.maybe_throw()
        return {id_: p for id_, p in parents.items() if p._final is None}

    def __eq__(self, other: object) -> bool:
        if isinstance(other, AsyncResult):
            return bool(other.id == self.id)
        return other == self.id if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __copy__(self) -> "AsyncResult[R]":
        copy = type(self)(self.id, self._backend, None, self.app, self.parent)
        copy.ignored = self.ignored
        return copy

    def __reduce__(self) -> tuple[Any, ...]:
        """What is pickled knows id and parents; it belongs to no app until it is given one."""
        return type(self), (self.id, None, None, None, self.parent)


class EagerResult(AsyncResult[R]):
    """The result of a task that ran here, and of which nothing need be stored (RES-14)."""

    def __init__(
        self,
        id: str,
        ret_value: Any,
        state: str,
        traceback: str | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(id)
        self._taken = (ret_value, state, traceback, name)

    def _document(self) -> wire.ResultDocument:
        value, state, traceback, name = self._taken
        return wire.ResultDocument(
            status=state,
            result=value,
            traceback=traceback,
            name=name,
            task_id=self.id,
            children=None,
        )

    @property
    def result(self) -> Any:
        """The value, or the exception."""
        return self._taken[0]

    info = result

    @property
    def supports_native_join(self) -> bool:
        """Whether many of them are read at once faster than one by one."""
        return False

    def ready(self) -> bool:
        """It ran, so it is ready."""
        return True

    def exists(self) -> bool:
        """It is here."""
        return True

    def get(  # type: ignore[override]  # the signature is Celery's
        self,
        timeout: float | None = None,
        propagate: bool = True,
        disable_sync_subtasks: bool = True,
        **kwargs: Any,
    ) -> R:
        """Return the value, or raise what the task raised; with ``propagate`` off, return that.

        None if the task was to be retried. Raises RuntimeError inside a task, as ``AsyncResult`` does.
        """
        if disable_sync_subtasks:
            assert_will_not_block()
        value, state, *_ = self._taken
        if state == states.SUCCESS:
            return value  # type: ignore[no-any-return]
        if state not in states.PROPAGATE_STATES:
            return None  # type: ignore[return-value]
        if propagate:
            raise value if isinstance(value, Exception) else TaskError(value)
        return value  # type: ignore[no-any-return]

    wait = get  # type: ignore[assignment]

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        *,
        follow_parents: bool = True,
        disable_sync_subtasks: bool = True,
    ) -> R:
        """Return the value, as ``get()`` does."""
        return self.get(timeout, propagate, disable_sync_subtasks)

    def then(
        self, callback: Callback, on_error: Callback | None = None, weak: bool = False
    ) -> "EagerResult[R]":
        """Call ``callback(result)``, now."""
        _guarded(callback, self, on_error)
        return self

    def maybe_throw(
        self, propagate: bool = True, callback: Callable[[str, Any], object] | None = None
    ) -> R:
        """Return the value, or raise what the task raised."""
        value = self._taken[0]
        if propagate and self.state in states.PROPAGATE_STATES:
            raise value if isinstance(value, Exception) else TaskError(value)
        if callback is not None:
            callback(self.id, value)
        return value  # type: ignore[no-any-return]

    maybe_reraise = maybe_throw

    def forget(self) -> None:
        """Nothing is stored."""

    def revoke(self, *_: Any, **__: Any) -> None:
        """Become REVOKED. The task has run; only what is told of it is another."""
        self._taken = (TaskRevokedError("revoked"), states.REVOKED, None, self._taken[3])

    def __copy__(self) -> "EagerResult[R]":
        return EagerResult(self.id, *self._taken)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.id, *self._taken)


# -- callbacks
# ------------------------------------------------------------------------------------------


def _subscribe(result: AsyncResult[Any], weak: bool) -> None:
    """Have a result settled as soon as its document is there."""
    listener = result.backend.listener
    subscription = imports.load("celeriac.listener:Subscription")(
        task_key(result.id), _told, None, patient=True
    )
    if weak:
        subscription.token = ref(result, lambda _: listener.orphan(subscription))
    else:
        subscription.token = lambda: result
    listener.subscribe(subscription)


def _told(answers: list[tuple[Callable[[], AsyncResult[Any] | None], Any]]) -> None:
    """Settle results; runs in the listener's thread."""
    for find, answer in answers:
        result = find()
        if result is None:
            continue
        try:
            if isinstance(answer, BaseException):
                raise answer
            result._settle(result.backend.read(result.id, answer))
        except Exception as error:  # noqa: BLE001 - nobody else is there to hear of it
            _fail_callbacks(result, error)


def _fail_callbacks(result: AsyncResult[Any], error: Exception) -> None:
    callbacks, result._callbacks = result._callbacks, []
    for _, on_error in callbacks:
        if on_error is None:
            log.error("cannot tell when the result %s is there: %s", result.id, error)
        else:
            _guarded(on_error, error, None)


def _guarded(call: Callback, argument: Any, on_error: Callback | None) -> None:
    """Call user code; what it raises goes to ``on_error``, or into the log."""
    try:
        call(argument)
    except Exception as error:
        if on_error is None:
            log.exception("callback %r failed for %r", call, argument)
        else:
            _guarded(on_error, error, None)


# -- tuples (RES-10)
# ------------------------------------------------------------------------------------------


def result_from_tuple(r: Any, app: ResultHost | None = None) -> Any:
    """Return the result that ``as_tuple`` wrote down; a result is returned as it is (RES-10).

    Lists will do, as JSON makes of tuples. Raises ValueError for what is no such tuple, and
    ImproperlyConfigured for the tuple of a group.
    """
    if isinstance(r, ResultBase):
        return r
    id_, parent, members = _taken_apart(r)
    if members is not None:
        raise ImproperlyConfigured(
            f"{id_} is the result of a group, and this version has no canvas to make one of it; read "
            "its members one by one with result_from_tuple()"
        )
    return _restored(id_, parent, app)


def _members(r: Any, app: ResultHost | None) -> "list[AsyncResult[Any]]":
    """Return the results of single tasks that a tuple stands for."""
    id_, parent, members = _taken_apart(r)
    if members is None:
        return [_restored(id_, parent, app)]
    return [result for member in members for result in _members(member, app)]


def _restored(id_: str, parent: Any, app: ResultHost | None) -> "AsyncResult[Any]":
    return AsyncResult(id_, app=app, parent=result_from_tuple(parent, app) if parent else None)


def _taken_apart(r: Any) -> tuple[str, Any, Any]:
    """Return id, parent and members."""
    try:
        own, members = r
        id_, parent = (own, None) if isinstance(own, str) else own
    except (TypeError, ValueError):
        raise ValueError(f"{r!r} is no result tuple; write ((id, parent), None)") from None
    return id_, parent, members
