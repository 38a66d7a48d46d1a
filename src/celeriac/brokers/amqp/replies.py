"""Coroutines on pika's callbacks: what happens on a connection, written in the order it happens.

A ``Reply`` is one thing that a coroutine waits for, a ``Run`` drives a coroutine from one reply to
the next. All in the I/O thread; there is no event loop but pika's.
"""

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Reply(Generic[T]):
    """An answer that is still to come: a value, or an error that is raised where it is awaited."""

    def __init__(self) -> None:
        self.done = False
        self._value: Any = None
        self._error: BaseException | None = None
        self._then: list[Callable[[], None]] = []

    def set(self, value: Any = None) -> None:
        """Answer. A second answer, or one after an error, is not heard."""
        self._end(value, None)

    def fail(self, error: BaseException) -> None:
        """Answer with an error."""
        self._end(None, error)

    def then(self, action: Callable[[], None]) -> None:
        """Have something done once it is answered; at once if it is."""
        if self.done:
            action()
        else:
            self._then.append(action)

    def _end(self, value: Any, error: BaseException | None) -> None:
        if self.done:
            return
        self.done, self._value, self._error = True, value, error
        waiting, self._then = self._then, []
        for action in waiting:
            action()

    def __await__(self) -> Generator["Reply[T]", None, T]:
        if not self.done:
            yield self
        if self._error is not None:
            raise self._error
        value: T = self._value
        return value


class Run:
    """Drives a coroutine, and tells ``ended`` what it returned or raised."""

    def __init__(
        self,
        coroutine: Coroutine[Reply[Any], None, Any],
        ended: Callable[[Any, BaseException | None], None],
    ) -> None:
        self._coroutine = coroutine
        self._ended = ended
        self._over = False
        self._step()

    def stop(self, error: BaseException) -> None:
        """Raise an error where it waits, if it still does."""
        if not self._over:
            self._step(error)

    def _step(self, error: BaseException | None = None) -> None:
        if self._over:
            return
        try:
            reply = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration as end:
            self._finish(end.value, None)
        except BaseException as failure:  # noqa: BLE001 - it is raised where the work was asked for
            self._finish(None, failure)
        else:
            reply.then(self._step)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        self._over = True
        self._ended(value, error)
