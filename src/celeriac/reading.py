"""What is known about one task, read off its result document.

Where the document comes from, and how one waits for a final one, is not known here.
"""

from collections.abc import Callable
from datetime import datetime
from types import TracebackType
from typing import Any, Generic, NoReturn, TypeVar

from celeriac import imports, states
from celeriac.exceptions import RemoteTraceback, TaskError
from celeriac.lineage import ResultBase
from celeriac.wire import result as wire

R = TypeVar("R")


class DocumentedResult(ResultBase[R], Generic[R]):
    """The result of one task, as its document tells it."""

    def _document(self) -> wire.ResultDocument:
        """Return the newest document."""
        raise TypeError(f"{type(self).__name__} has no document; define _document()")

    @property
    def _rebuilds_tracebacks(self) -> bool:
        """Whether errors are to be raised with the frames that the worker saw (RES-15)."""
        return False

    @property
    def state(self) -> str:
        """The state now; PENDING also for ids that nobody knows (RES-01, QUIRK-29)."""
        return self._document().status

    status = state

    @property
    def result(self) -> Any:
        """The value if it succeeded, the exception if it failed, else what the state tells."""
        return value_of(self._document())

    info = result

    @property
    def traceback(self) -> str | None:
        """The worker's traceback of a failure, as text (RES-15)."""
        return self._document().traceback

    @property
    def date_done(self) -> datetime | None:
        """When it became final; None before that."""
        text = self._document().date_done
        return datetime.fromisoformat(text) if text else None

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

    @property
    def task_id(self) -> str:
        """The id, by another name."""
        return self.id

    # -- raising

    def maybe_throw(
        self, propagate: bool = True, callback: Callable[[str, Any], object] | None = None
    ) -> R:
        """Return the value as it is known now, or raise what the task raised; wait for nothing.

        ``callback(id, value)`` is called before it returns. With ``propagate`` off, an exception
        is a value.
        """
        document = self._document()
        if document.status not in states.PROPAGATE_STATES:
            value = value_of(document)
        else:
            value = self._error(document)
            if propagate:
                self._raise(value, document.traceback)
        if callback is not None:
            callback(self.id, value)
        return value  # type: ignore[no-any-return]

    maybe_reraise = maybe_throw

    def throw(self, exc: BaseException, tb: TracebackType | None = None) -> NoReturn:
        """Raise an exception."""
        raise exc if tb is None else exc.with_traceback(tb)

    def _get_task_meta(self) -> dict[str, Any]:
        """Return what is known now, as a dict."""
        return meta(self._document()) | {"children": self.children}

    @staticmethod
    def _error(document: wire.ResultDocument) -> Exception:
        error = wire.rebuild_exception(document.result)
        if isinstance(error, Exception):
            return error
        # A SystemExit that ended a task in a worker must not end its caller too.
        return TaskError(f"the task raised {error!r}")

    def _raise(self, error: Exception, text: str | None) -> NoReturn:
        if text and self._rebuilds_tracebacks:
            frames = imports.load("celeriac.remote_traceback:rebuilt")(text)
            if frames is not None:
                raise error.with_traceback(frames)
        raise error from (RemoteTraceback(text) if text else None)


def value_of(document: wire.ResultDocument) -> Any:
    """Return the value, or the exception that a failure describes (RES-16)."""
    if document.status in states.EXCEPTION_STATES and isinstance(document.result, dict):
        return wire.rebuild_exception(document.result)
    return document.result


_ABOUT = (
    "task_id",
    "group_id",
    "parent_id",
    "name",
    "args",
    "kwargs",
    "worker",
    "retries",
    "queue",
)


def meta(document: wire.ResultDocument) -> dict[str, Any]:
    """Return a document as the dict that Celery's users know."""
    found = {
        "status": document.status,
        "result": value_of(document),
        "traceback": document.traceback,
        "children": document.children,
        "date_done": document.date_done,
    }
    more = {name: getattr(document, name) for name in _ABOUT}
    return found | {name: value for name, value in more.items() if value is not None}
