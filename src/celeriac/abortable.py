"""Tasks that look now and then whether somebody has asked them to end (RES-25).

To abort is to ask: ``abort()`` writes the state ABORTED, and a task that cares reads it with
``is_aborted()`` and returns. A task that does not look runs on, and its outcome replaces the state.
Nothing is stopped from outside here.
"""

from typing import Any, ParamSpec, TypeVar

from celeriac.result import AsyncResult
from celeriac.task import Task

__all__ = ["ABORTED", "AbortableAsyncResult", "AbortableTask"]

P = ParamSpec("P")
R = TypeVar("R")

ABORTED = "ABORTED"
"""Asked to end. Not a final state: the task has the last word."""


class AbortableAsyncResult(AsyncResult[R]):
    """The result of a task that can be asked to end."""

    def abort(self) -> None:
        """Ask the task to end. Ignored once it has succeeded (RES-20)."""
        self.backend.store_result(self.id, None, ABORTED)

    def is_aborted(self) -> bool:
        """Whether it was asked to end, and has not ended yet."""
        return self.state == ABORTED


class AbortableTask(Task[P, R]):
    """A task that can be asked to end: ``@app.task(bind=True, base=AbortableTask)``."""

    def AsyncResult(self, task_id: str, **options: Any) -> AbortableAsyncResult[R]:
        """Return the result of an earlier call of this task."""
        return AbortableAsyncResult(task_id, app=self.app, **options)

    def is_aborted(self, **kwargs: Any) -> bool:
        """Whether the running task was asked to end, or the one with ``task_id``.

        Each call asks the store; between two there should be some work. Always False in a direct
        call, of which nobody knows the id.
        """
        task_id = kwargs.get("task_id", self.request.id)
        return task_id is not None and self.AsyncResult(task_id).is_aborted()
