"""Waiting and asserting in integration tests, with workers of any kind (TESTH-05).

What asks workers about their tasks (``inspect``) is not here; results are asked instead.
"""

import itertools
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, TextIO, TypeVar

from celeriac import states
from celeriac.app import Celery
from celeriac.exceptions import OperationalError, TimeoutError
from celeriac.result import AsyncResult

T = TypeVar("T")

Catch = type[BaseException] | tuple[type[BaseException], ...]


class Sentinel(Exception):
    """What was waited for has not happened yet."""


class ManagerMixin:
    """The methods of ``Manager``, for classes that have an ``app``; ``_init_manager`` comes first."""

    app: Celery

    def _init_manager(
        self,
        block_timeout: float = 30 * 60.0,
        no_join: bool = False,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self.block_timeout = block_timeout
        self.no_join = no_join
        self.stdout = sys.stdout if stdout is None else stdout
        self.stderr = sys.stderr if stderr is None else stderr
        self.connerrors: tuple[type[BaseException], ...] = (OperationalError,)

    def remark(self, s: str, sep: str = "-") -> None:
        """Print a remark."""
        self.stdout.write(f"{sep}{s}\n")

    def warn(self, s: str) -> None:
        """Print a warning."""
        self.stderr.write(f"{s}\n")

    def wait_for(  # noqa: PLR0913 - the signature is Celery's
        self,
        fun: Callable[..., T],
        catch: Catch,
        desc: str = "thing",
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        errback: Callable[[BaseException, float, int], object] | None = None,
        max_retries: int = 10,
        interval_start: float = 0.1,
        interval_step: float = 0.5,
        interval_max: float = 5.0,
        emit_warning: bool = False,
    ) -> T:
        """Call ``fun`` until it raises nothing of ``catch``; return what it returns then.

        Intervals are seconds. After ``max_retries`` further calls the last exception is raised.
        """

        def on_error(error: BaseException, pause: float, retries: int) -> None:
            if emit_warning:
                self.warn(f"still waiting for {desc}, trying again in {pause:g} s: {error!r}")
            if errback is not None:
                errback(error, pause, retries)

        return self.retry_over_time(
            fun,
            catch,
            args=args,
            kwargs=kwargs,
            errback=on_error,
            max_retries=max_retries,
            interval_start=interval_start,
            interval_step=interval_step,
            interval_max=interval_max,
        )

    def ensure_not_for_a_while(
        self,
        fun: Callable[..., Any],
        catch: Catch,
        desc: str = "thing",
        max_retries: int = 20,
        interval_start: float = 0.1,
        interval_step: float = 0.02,
        interval_max: float = 1.0,
        emit_warning: bool = False,
    ) -> None:
        """Fail with AssertionError if ``fun`` ceases to raise something of ``catch``."""
        try:
            self.wait_for(
                fun,
                catch,
                desc=desc,
                max_retries=max_retries,
                interval_start=interval_start,
                interval_step=interval_step,
                interval_max=interval_max,
                emit_warning=emit_warning,
            )
        except catch:
            return
        raise AssertionError(f"this should not have happened: {desc}")

    def retry_over_time(
        self,
        fun: Callable[..., T],
        catch: Catch,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        errback: Callable[[BaseException, float, int], object] | None = None,
        max_retries: int | None = None,
        interval_start: float = 2.0,
        interval_step: float = 2.0,
        interval_max: float = 30.0,
    ) -> T:
        """Call ``fun`` until it raises nothing of ``catch``, with growing pauses in seconds.

        ``errback`` is told of each exception, the pause that follows and how many there were before.
        """
        pauses = _pauses(interval_start, interval_step, interval_max)
        for retries, pause in enumerate(pauses):
            try:
                return fun(*args, **(kwargs or {}))
            except catch as error:
                if max_retries is not None and retries >= max_retries:
                    raise
                if errback is not None:
                    errback(error, pause, retries)
            threading.Event().wait(pause)
        raise AssertionError("pauses never end")

    def join(
        self,
        r: AsyncResult[Any] | Sequence[AsyncResult[Any]],
        propagate: bool = False,
        max_retries: int = 10,
        timeout: float = 10.0,
        **kwargs: Any,
    ) -> Any:
        """Wait for one or several results and return the values; a remark tells of each delay.

        Raises AssertionError when ``timeout`` seconds have passed ``max_retries`` times (0: no limit).
        With ``no_join`` it returns at once.
        """
        if self.no_join:
            return None
        results = [r] if isinstance(r, AsyncResult) else list(r)
        for _ in range(max_retries) if max_retries else itertools.count():
            try:
                values = [
                    one.get(timeout=timeout, propagate=propagate, **kwargs) for one in results
                ]
            except TimeoutError as error:
                missing = self.missing_results(results)
                count = len(missing)
                shown = ", ".join(missing)[:80]
                self.remark(f"still waiting for {count}/{len(results)}: [{shown}]: {error!r}", "!")
            except self.connerrors as error:
                self.remark(f"join: connection lost: {error!r}", "!")
            else:
                return values[0] if isinstance(r, AsyncResult) else values
        missing = self.missing_results(results)
        raise AssertionError(f"these tasks have no result: {', '.join(missing)}")

    def missing_results(self, r: Sequence[AsyncResult[Any]]) -> Sequence[str]:
        """Return the ids of those that have no final state."""
        return [result.id for result in r if not result.ready()]

    def assert_result_tasks_in_progress_or_completed(
        self,
        async_results: Sequence[AsyncResult[Any]],
        interval: float = 0.5,
        desc: str = "waiting for tasks to be started or completed",
        **policy: Any,
    ) -> None:
        """Wait until all of these have started (``track_started``) or succeeded."""
        self.assert_task_state_from_result(
            self.is_result_task_in_progress, async_results, interval=interval, desc=desc, **policy
        )

    def assert_task_state_from_result(
        self,
        fun: Callable[..., bool],
        results: Sequence[AsyncResult[Any]],
        interval: float = 0.5,
        **policy: Any,
    ) -> None:
        """Wait until ``fun(results, timeout=interval)`` is true. Raises Sentinel if it stays false."""
        look = partial(self.true_or_raise, fun, results, timeout=interval)
        self.wait_for(look, (Sentinel,), **policy)

    @staticmethod
    def is_result_task_in_progress(results: Sequence[AsyncResult[Any]], **_: Any) -> bool:
        """Whether all of these have started or succeeded."""
        return all(result.state in (states.STARTED, states.SUCCESS) for result in results)

    @staticmethod
    def true_or_raise(fun: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Return what ``fun`` returns. Raises Sentinel if it is false."""
        found = fun(*args, **kwargs)
        if not found:
            raise Sentinel()
        return found


class Manager(ManagerMixin):
    """Helps in tests of an app."""

    def __init__(self, app: Celery, **kwargs: Any) -> None:
        self.app = app
        self._init_manager(**kwargs)


def _pauses(start: float, step: float, most: float) -> Iterator[float]:
    return (min(start + step * number, most) for number in itertools.count())
