"""When a failed run is tried again: a decision as a value, computed without a worker.

``RetryPolicy`` is what ``autoretry_for`` and its companions say (TASK-32). What a retry *does* (the
next message, the RETRY document) is ``Task.retry`` and ``execution``.
"""

from typing import Any

from msgspec import Struct

from celeriac.backoff import exponential, full_jitter


class RetryPolicy(Struct, frozen=True, kw_only=True):
    """Which exceptions are retried without the task asking, and after what delay."""

    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: dict[str, Any] = {}
    """Passed on to ``retry()``: ``max_retries``, ``countdown``, ..."""
    backoff: float = 0.0
    """Seconds of the first delay, doubled with each retry; 0 leaves ``default_retry_delay``."""
    backoff_max: float = 600.0
    """Seconds that no delay exceeds."""
    jitter: bool = True
    """Draw the delay evenly from 0 up to the computed one, so that retries do not come in waves."""

    def covers(self, error: BaseException) -> bool:
        """Whether a run that raised this exception is to be retried."""
        return isinstance(error, self.autoretry_for) and not isinstance(
            error, self.dont_autoretry_for
        )

    def options(self, retries: int) -> dict[str, Any]:
        """Return the options for ``retry()`` after ``retries`` earlier retries."""
        options = dict(self.retry_kwargs)
        if self.backoff:
            delay = exponential(retries, factor=self.backoff, maximum=self.backoff_max)
            options["countdown"] = full_jitter(delay) if self.jitter else delay
        return options
