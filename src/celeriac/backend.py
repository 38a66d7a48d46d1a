"""The backend: result documents, as users and the rest of the house read and write them.

It joins the result store, which knows keys and bytes, with the wire format of documents, and holds
the policies between them: how long a document lives, what is tried again while the store is away,
which results are kept in this process. The one place outside of workers that writes documents. It
knows single tasks only, and raises nothing that a task raised.
"""

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from celeriac import clock, imports, states
from celeriac.backoff import exponential, full_jitter
from celeriac.completion import Put
from celeriac.context import Context, running
from celeriac.exceptions import (
    ImproperlyConfigured,
    OperationalError,
    StorageCorrupt,
    TaskRevokedError,
    TimeoutError,
)
from celeriac.lineage import ResultBase
from celeriac.reading import meta, value_of
from celeriac.result_cache import ResultCache
from celeriac.results.base import ResultStore, task_key
from celeriac.settings import Settings
from celeriac.settings.masking import masked_url
from celeriac.task_ids import age
from celeriac.wire import result as wire
from celeriac.wire import serializers

if TYPE_CHECKING:
    from celeriac.listener import Listener

log = logging.getLogger("celeriac.result")

T = TypeVar("T")

FRESH = 0.05
"""Seconds for which there is hardly a result yet."""
UNKNOWN = wire.ResultDocument(status=states.PENDING, children=None)
"""What is known about an id that the store does not know (QUIRK-29)."""


class Host(Protocol):
    """What a backend needs of its app."""

    @property
    def store(self) -> ResultStore | None:
        """Where results are kept; None if they are disabled."""
        ...

    @property
    def settings(self) -> Settings:
        """The settings now."""
        ...

    @property
    def store_url(self) -> str:
        """The URL of the store, with its password."""
        ...


def lifetime(settings: Settings, state: str) -> float | None:
    """Return the seconds for which a document of this state is kept, None for ever (RES-18).

    ``result_failure_expires`` is for FAILURE, and ``result_expires`` for the rest. Of both, None
    and 0 keep; only that a ``result_failure_expires`` of None means: as the others.
    """
    expires = settings.result_expires
    if state == states.FAILURE and settings.result_failure_expires is not None:
        expires = settings.result_failure_expires
    return expires or None


def storable(value: Any, serializer: str = "json") -> Any:
    """Return what is written in place of a value: a result as its tuple (RES-21), an exception as
    its description (RES-16) or, pickled, as itself, and everything else as it is.
    """
    if isinstance(value, ResultBase):
        return value.as_tuple()
    if isinstance(value, BaseException):
        return wire.stored_exception(value, serializer)
    return value


def document_about(
    task_id: str, written: Any, state: str, traceback: str | None, request: Context | None
) -> wire.ResultDocument:
    """Return the document of a state, with what ``request``, the run in question, says besides."""
    about = request or Context()
    return wire.ResultDocument(
        status=state,
        task_id=task_id,
        result=written,
        traceback=traceback,
        children=None if request is None else request.children,
        date_done=clock.iso(clock.wall()) if state in states.READY_STATES else None,
        group_id=about.group,
        parent_id=about.parent_id,
        name=about.task,
        args=about.args,
        kwargs=about.kwargs,
        worker=about.hostname,
        retries=about.retries,
        queue=about.delivery_info.get("routing_key"),
    )


def decoded(settings: Settings, data: bytes) -> wire.ResultDocument:
    """Return what a document says, in a form that is accepted (SER-09). Raises DecodeError."""
    accept = settings.result_accept_content or settings.accept_content
    return wire.decode(data, settings.result_serializer, serializers.accepted(accept))


class Backend:
    """Where the results of an app are. Thread-safe; usable after a fork."""

    READY_STATES = states.READY_STATES
    UNREADY_STATES = states.UNREADY_STATES
    EXCEPTION_STATES = states.EXCEPTION_STATES
    TimeoutError = TimeoutError
    supports_native_join: ClassVar[bool] = False
    supports_autoexpire: ClassVar[bool] = True
    """Workers delete what has outlived its time; no periodic task is needed."""
    persistent: ClassVar[bool] = True
    is_async: ClassVar[bool] = True
    """The store tells who waits; ``then()`` is called without anybody asking."""

    def __init__(self, app: Host) -> None:
        self.app = app
        # By process: a fork copies the objects, but neither their threads nor the locks' owners.
        self._listeners: dict[int, Listener] = {}
        self._caches: dict[int, ResultCache] = {}

    # -- the store

    @property
    def enabled(self) -> bool:
        """Whether results are kept at all."""
        return self.app.store is not None

    @property
    def store(self) -> ResultStore:
        """The store. Raises ImproperlyConfigured if results are disabled."""
        store = self.app.store
        if store is None:
            raise ImproperlyConfigured(
                "results are disabled (result_backend is disabled://); set result_backend to keep them"
            )
        return store

    @property
    def listener(self) -> "Listener":
        """Who waits for documents in this process."""
        return _mine(self._listeners, self._new_listener)

    def _new_listener(self) -> "Listener":
        make: type[Listener] = imports.load("celeriac.listener:Listener")
        return make(self.store, self.is_final, self.pause)

    def close(self) -> None:
        """End the waiting of this process; what still waits fails with OperationalError."""
        listener = self._listeners.pop(os.getpid(), None)
        if listener is not None:
            listener.close()

    @property
    def url(self) -> str:
        """The URL of the store, with its password."""
        return self.app.store_url

    def as_uri(self, include_password: bool = False) -> str:
        """Return the URL of the store, its password masked unless it is asked for."""
        return self.url if include_password else str(masked_url(self.url))

    # -- while the store is away (RES-22)

    def pause(self, failures: int) -> float | None:
        """Return the seconds to wait after so many failures, None if it is time to give up.

        A random time up to ``result_backend_base_sleep_between_retries_ms``, doubled each time, if
        ``result_backend_always_retry`` is set; else nothing is tried again.
        """
        settings = self.app.settings
        most = settings.result_backend_max_retries
        if not settings.result_backend_always_retry or (most is not None and failures >= most):
            return None
        base = settings.result_backend_base_sleep_between_retries_ms / 1000
        longest = settings.result_backend_max_sleep_between_retries_ms / 1000
        return full_jitter(exponential(failures + 1, factor=base, maximum=longest))

    def patiently(self, call: Callable[[], T], timeout: float | None = None) -> T:
        """Return what ``call`` returns, trying again while the store is away (RES-22).

        Raises its OperationalError when the settings, or ``timeout`` seconds, allow no further
        attempt.
        """
        deadline = float("inf") if timeout is None else monotonic() + timeout
        failures = 0
        while True:
            try:
                return call()
            except StorageCorrupt:
                raise
            except OperationalError as error:
                pause = self.pause(failures)
                if pause is None or monotonic() + pause > deadline:
                    raise
                log.warning("the result store is away, trying again in %.2g s: %s", pause, error)
            failures += 1
            sleep(pause)

    # -- reading

    def document(self, task_id: str, timeout: float | None = None) -> wire.ResultDocument:
        """Return the newest document about a task, an empty PENDING one if there is none."""
        return self.documents((task_id,), timeout)[task_id]

    def documents(
        self, task_ids: Sequence[str], timeout: float | None = None, cache: bool = True
    ) -> dict[str, wire.ResultDocument]:
        """Return the newest documents about some tasks, in one look.

        ``timeout`` bounds the attempts at a store that is away, in seconds. Raises OperationalError,
        DecodeError, and ImproperlyConfigured if results are disabled.
        """
        known = self.cache.find(task_ids) if cache else {}
        keys = {id_: task_key(id_) for id_ in task_ids if id_ not in known}
        store = self.store
        found = self.patiently(lambda: store.get([*keys.values()]), timeout) if keys else {}
        for id_, key in keys.items():
            known[id_] = self.read(id_, found[key]) if key in found else UNKNOWN
        return known

    def read(self, task_id: str, data: bytes) -> wire.ResultDocument:
        """Return what bytes of the store say about a task. Raises DecodeError."""
        document = decoded(self.app.settings, data)
        if document.status == states.SUCCESS:
            self.cache.keep(task_id, document, self.app.settings.result_cache_max)
        return document

    def is_final(self, data: bytes) -> bool:
        """Whether bytes of the store tell a final state. Raises DecodeError."""
        return decoded(self.app.settings, data).status in states.READY_STATES

    def get_task_meta(self, task_id: str, cache: bool = True) -> dict[str, Any]:
        """Return what is known about a task, as a dict; the result of a failure is its exception."""
        return meta(self.documents((task_id,), cache=cache)[task_id])

    def get_state(self, task_id: str) -> str:
        """Return the state of a task."""
        return self.document(task_id).status

    get_status = get_state

    def get_result(self, task_id: str) -> Any:
        """Return the value of a task, or its exception."""
        return value_of(self.document(task_id))

    def get_traceback(self, task_id: str) -> str | None:
        """Return the traceback of a failed task, as text."""
        return self.document(task_id).traceback

    def get_children(self, task_id: str) -> Any:
        """Return the tasks that a task has sent, as result tuples."""
        return self.document(task_id).children

    def task_result_exists(self, task_id: str) -> bool:
        """Whether the store knows anything of a task (RES-11)."""
        return self.documents((task_id,), cache=False)[task_id] is not UNKNOWN

    def wait_for(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_interval: Callable[[], object] | None = None,
    ) -> dict[str, Any]:
        """Wait for a final state and return what ``get_task_meta`` does.

        ``on_interval`` is called about every ``interval`` seconds. Raises TimeoutError.
        """
        return meta(self.final(task_id, timeout, interval, on_interval))

    def final(
        self,
        task_id: str,
        timeout: float | None = None,
        interval: float = 0.5,
        on_interval: Callable[[], object] | None = None,
        on_news: Callable[[str, wire.ResultDocument], object] | None = None,
        also: Iterable[str] = (),
    ) -> wire.ResultDocument:
        """Wait for a document of a final state and return it.

        ``on_news(id, document)`` is told what comes, of the tasks ``also`` too; what it raises ends
        the wait. Raises TimeoutError after ``timeout`` seconds; at 0 or less it looks once.
        """
        deadline = float("inf") if timeout is None else monotonic() + timeout
        document = self._seen(task_id, timeout)
        if document.status in states.READY_STATES:
            return document
        ids = {task_key(id_): id_ for id_ in (task_id, *also)}
        if timeout is not None and timeout <= 0:
            raise late(task_id, timeout, document.status)
        with self.listener.wait([*ids]) as wait:
            while True:
                left = deadline - monotonic()
                if left <= 0:
                    raise late(task_id, timeout, document.status)
                step = left if on_interval is None else min(left, interval)
                news = wait.next(None if step == float("inf") else step)
                for key, data in news:
                    found = self.read(ids[key], data)
                    if on_news is not None:
                        on_news(ids[key], found)
                    if ids[key] == task_id:
                        document = found
                        if document.status in states.READY_STATES:
                            return document
                if not news and on_interval is not None:
                    on_interval()

    def _seen(self, task_id: str, timeout: float | None) -> wire.ResultDocument:
        """Return what is known before a wait. If that begins with a look itself, a task that was sent
        just now is not looked up before.
        """
        waits = timeout is None or timeout > 0
        if waits and self.store.tells and abs(age(task_id)) < FRESH:
            return self.cache.find((task_id,)).get(task_id, UNKNOWN)
        return self.document(task_id, timeout)

    # -- kept in this process (RES-19)

    @property
    def cache(self) -> ResultCache:
        """The results that are kept in this process: none, unless ``result_cache_max`` says so."""
        return _mine(self._caches, ResultCache)

    def is_cached(self, task_id: str) -> bool:
        """Whether the result of a task is kept in this process."""
        return task_id in self.cache

    def reload_task_result(self, task_id: str) -> None:
        """Read a result anew, also if it is kept."""
        self.documents((task_id,), cache=False)

    # -- writing

    def store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        request: Context | None = None,
        **_: Any,
    ) -> Any:
        """Store a state with what belongs to it; return ``result`` as it is written.

        ``request`` is the run that it is about. What a run in a worker says about itself takes the
        same way as its outcome, and arrives before it. Ignored once SUCCESS is stored (RES-20), and
        if results are disabled. Raises EncodeError for what cannot be written.
        """
        settings = self.app.settings
        written = storable(result, settings.result_serializer)
        if not self.enabled:
            return written
        request = _run_about(task_id, request)
        document = document_about(task_id, written, state, traceback, request)
        extended = settings.result_extended and request is not None
        data = wire.encode(
            document, extended, settings.result_serializer, settings.result_compression
        )
        reply_to = request.reply_to if request is not None else None
        put = Put(task_key(task_id), data, lifetime(settings, state), state, reply_to)
        if request is not None and request.port is not None:
            request.port.store(put)
        else:
            self.patiently(lambda: self.store.put([put]))
        return written

    def mark_as_started(self, task_id: str, **meta: Any) -> Any:
        """Store that a task has begun."""
        return self.store_result(task_id, meta, states.STARTED)

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Context | None = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        """Store the value of a task, unless its call ignores it."""
        if store_result and not (request is not None and request.ignore_result):
            self.store_result(task_id, result, state, request=request)

    def mark_as_failure(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Context | None = None,
        store_result: bool = True,
        call_errbacks: bool = True,
        state: str = states.FAILURE,
    ) -> None:
        """Store that a task has failed. No error callback is called, whatever is asked."""
        if store_result:
            self.store_result(task_id, exc, state, traceback=traceback, request=request)

    def mark_as_retry(
        self,
        task_id: str,
        exc: BaseException,
        traceback: str | None = None,
        request: Context | None = None,
        store_result: bool = True,
        state: str = states.RETRY,
    ) -> None:
        """Store that a task is to be run again."""
        self.mark_as_failure(task_id, exc, traceback, request, store_result, state=state)

    def mark_as_revoked(
        self,
        task_id: str,
        reason: str = "",
        request: Context | None = None,
        store_result: bool = True,
        state: str = states.REVOKED,
    ) -> None:
        """Store that a task will not be run."""
        if store_result:
            self.store_result(task_id, TaskRevokedError(reason), state, request=request)

    def forget(self, task_id: str) -> None:
        """Delete what is known about a task (RES-06)."""
        self.cache.drop(task_id)
        store = self.store
        self.patiently(lambda: store.forget([task_key(task_id)]))

    def cleanup(self) -> None:
        """Delete what has outlived its time; workers do that by themselves (RES-18)."""
        store = self.store
        while self.patiently(store.expire):
            pass

    def __repr__(self) -> str:
        return f"<Backend: {self.as_uri()}>"


def _mine(parts: dict[int, T], make: Callable[[], T]) -> T:
    """Return what belongs to this process."""
    pid = os.getpid()
    # setdefault is one step: two threads that come first together get the same one.
    return parts[pid] if pid in parts else parts.setdefault(pid, make())


def _run_about(task_id: str, request: Context | None) -> Context | None:
    """Return the run that a task is about: the one that was named, or the one that is going on."""
    if request is None:
        run = running()
        return run if run is not None and run.id == task_id else None
    return request if request.id in (None, task_id) else None


def late(task_id: str, timeout: float | None, state: str = "") -> TimeoutError:
    """Return the error of a result that did not come in time."""
    seen = f" (state {state})" if state else ""
    return TimeoutError(
        f"task {task_id} has no result after {timeout or 0:g} s{seen}; "
        "is a worker running on its queue?"
    )
