"""The options of a task as attributes, and what follows from them.

What a task leaves open, the settings decide. What a task does with its options is ``task``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from celeriac.call_options import Moment
from celeriac.retry import RetryPolicy


class TaskPolicy:
    """The options of a task as attributes (TASK-04 to TASK-32). None leaves one to the settings."""

    app: Any
    name: str = ""
    typing: bool | None = None
    """Check arguments against the signature when the task is called (TASK-22)."""
    max_retries: int | None = 3
    """Retries after the first run; None is unlimited (TASK-06)."""
    default_retry_delay: float = 180
    """Seconds (TASK-07)."""
    rate_limit: str | int | float | None = None
    """Runs per second, or text such as ``10/m`` (TASK-08)."""
    throws: tuple[type[BaseException], ...] = ()
    """Exceptions that are expected: logged without traceback (TASK-21)."""
    time_limit: float | None = None
    soft_time_limit: float | None = None
    """Seconds; checked when the task is called: it must not be longer than ``time_limit``."""
    ignore_result: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    store_eager_result: bool | None = None
    """Keep results of eager runs in the store (CALL-17)."""
    trail: bool = True
    """Keep the tasks that a run has sent in its result (TASK-19)."""
    send_events: bool = True
    """Whether events of this task are sent, where events are sent at all (TASK-20)."""
    acks_late: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    retry_on_worker_lost: bool | None = None
    """Retry a run whose process died, as ``retry()`` would, in place of running it again."""
    track_started: bool | None = None
    serializer: str | None = None
    """How arguments are written: ``json``, ``yaml`` ... (TASK-12)."""
    compression: str | None = None
    priority: int | None = None
    expires: float | Moment | None = None
    """Seconds from the call, or the moment, after which it is not run any more (TASK-23)."""
    queue: Any = None
    exchange: Any = None
    routing_key: str | None = None
    exchange_type: str | None = None
    delivery_mode: int | str | None = None
    resultrepr_maxsize: int = 1024
    """Characters of the result that logs show (TASK-24)."""
    autoretry_for: Sequence[type[BaseException]] = ()
    """Exceptions after which it is retried without asking for it (TASK-32)."""
    dont_autoretry_for: Sequence[type[BaseException]] = ()
    retry_kwargs: Mapping[str, Any] = {}
    """What these retries pass to ``retry()``: ``max_retries``, ``countdown``, ..."""
    retry_backoff: bool | float = False
    """Seconds before the first of them, doubled each time; True is 1."""
    retry_backoff_max: float = 600
    """Seconds that no such delay exceeds."""
    retry_jitter: bool = True
    """Draw each such delay from 0 up to the computed one."""
    pydantic: bool = False
    """Validate arguments that are annotated with models, and dump models that are returned."""
    pydantic_strict: bool = False
    pydantic_context: Mapping[str, Any] | None = None
    pydantic_dump_kwargs: Mapping[str, Any] | None = None

    retry_policy: RetryPolicy = RetryPolicy()
    """The options about retries as a value, made for each class."""

    def make_retry_policy(self) -> RetryPolicy:
        """Return what the attributes say about retries now."""
        return RetryPolicy(
            autoretry_for=tuple(self.autoretry_for),
            dont_autoretry_for=tuple(self.dont_autoretry_for),
            retry_kwargs=dict(self.retry_kwargs),
            backoff=float(self.retry_backoff),
            backoff_max=self.retry_backoff_max,
            jitter=self.retry_jitter,
        )

    # -- the task's word, or else the settings'

    @property
    def checks_arguments(self) -> bool:
        """Whether arguments are checked when the task is called (TASK-22)."""
        return _first(self.typing, getattr(self.app, "strict_typing", True))

    @property
    def ignores_result(self) -> bool:
        """Whether no result is kept (TASK-10)."""
        return _first(self.ignore_result, self.app.settings.task_ignore_result)

    @property
    def stores_errors(self) -> bool:
        """Whether failures are kept even if results are not (TASK-11)."""
        settings = self.app.settings
        return _first(self.store_errors_even_if_ignored, settings.task_store_errors_even_if_ignored)

    @property
    def stores_eagerly(self) -> bool:
        """Whether results of eager runs are kept in the store (CALL-17)."""
        return _first(self.store_eager_result, self.app.settings.task_store_eager_result)

    @property
    def acks_failure(self) -> bool:
        """Whether a failed run is acknowledged (TASK-15)."""
        settings = self.app.settings
        return _first(
            self.acks_on_failure,
            self.acks_on_failure_or_timeout,
            settings.task_acks_on_failure,
            settings.task_acks_on_failure_or_timeout,
        )

    @property
    def acks_overtime(self) -> bool:
        """Whether a run that the hard limit ended is acknowledged (TASK-15)."""
        settings = self.app.settings
        return _first(
            self.acks_on_timeout,
            self.acks_on_failure_or_timeout,
            settings.task_acks_on_timeout,
            settings.task_acks_on_failure_or_timeout,
        )


def _first(*choices: bool | None) -> bool:
    """Return the first choice that somebody made."""
    return next((choice for choice in choices if choice is not None), False)
