"""What is ambient while a task runs: its request.

One context variable, so that it holds for threads and coroutines alike. Everything else is passed
in.
"""

from contextvars import ContextVar
from typing import Any, Protocol

from celeriac.completion import Put
from celeriac.message import Publish


class StatePort(Protocol):
    """Takes documents that a running task wants stored, in order, before its outcome."""

    def store(self, put: Put) -> None:
        """Hand over one document."""


class Context:
    """The request of one run, as ``self.request`` shows it (TASK-25).

    Unknown message headers are attributes too, and together in ``headers`` (CALL-14).
    """

    id: str | None = None
    task: str | None = None
    args: Any = ()
    kwargs: dict[str, Any] = {}
    retries: int = 0
    root_id: str | None = None
    parent_id: str | None = None
    group: str | None = None
    group_index: int | None = None
    eta: str | None = None
    expires: str | None = None
    timelimit: tuple[float | None, float | None] = (None, None)
    """``(hard, soft)`` in seconds."""
    hostname: str | None = None
    delivery_info: dict[str, Any] = {}
    reply_to: str | None = None
    correlation_id: str | None = None
    origin: str | None = None
    shadow: str | None = None
    ignore_result: bool | None = None
    headers: dict[str, Any] = {}
    properties: dict[str, Any] = {}
    callbacks: Any = None
    errbacks: Any = None
    chain: Any = None
    chord: Any = None
    stamps: dict[str, Any] = {}
    stamped_headers: Any = None
    replaced_task_nesting: int = 0
    utc: bool = True
    logfile: str | None = None
    loglevel: int | str | None = None
    is_eager: bool = False
    called_directly: bool = True

    instance: Any = None
    """The task itself."""

    caller: "Context | None" = None
    """The request of whoever called this task directly, if that was another task."""

    again: Any = None
    """In eager runs: what makes the next run of a retry."""
    in_place: bool = False
    """The run is eager, and stands in for one that would have been sent."""
    port: StatePort | None = None
    """Where this run's documents go; None outside of workers."""
    through_call: bool = False
    """The worker calls the task through its own ``__call__``, which has not reached ours yet."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)
        self.children: list[list[Any]] = []
        """Result tuples of the tasks that this run has sent (CALL-12)."""
        self.follow_ups: list[Publish] = []
        """Messages that go out together with the outcome of this run."""

    @classmethod
    def having(cls, fields: dict[str, Any]) -> "Context":
        """Return a request with all of these attributes, both lists above among them."""
        request = cls.__new__(cls)
        request.__dict__ = fields
        return request

    @property
    def time_limit(self) -> float | None:
        """The hard limit of this run, in seconds."""
        return self.timelimit[0]

    @property
    def soft_time_limit(self) -> float | None:
        """The soft limit of this run, in seconds."""
        return self.timelimit[1]

    @property
    def taskset(self) -> str | None:
        """The old name of ``group``."""
        return self.group

    def update(self, *args: Any, **fields: Any) -> None:
        """Set attributes, as a dictionary is updated."""
        self.__dict__.update(*args, **fields)

    def clear(self) -> None:
        """Forget everything that was set."""
        self.__dict__.clear()
        self.__init__()  # type: ignore[misc]  # As it was in the beginning.

    def as_execution_options(self) -> dict[str, Any]:
        """Return the options of a call that would be like the one of this run."""
        return {
            "task_id": self.id,
            "root_id": self.root_id,
            "parent_id": self.parent_id,
            "group_id": self.group,
            "group_index": self.group_index,
            "shadow": self.shadow,
            "chord": self.chord,
            "chain": self.chain,
            "link": self.callbacks,
            "link_error": self.errbacks,
            "expires": self.expires,
            "soft_time_limit": self.soft_time_limit,
            "time_limit": self.time_limit,
            "headers": self.headers,
            "retries": self.retries,
            "reply_to": self.reply_to,
            "replaced_task_nesting": self.replaced_task_nesting,
            "origin": self.origin,
        }

    def get(self, name: str, default: Any = None) -> Any:
        """Return an attribute, or ``default``."""
        return getattr(self, name, default)

    def __repr__(self) -> str:
        return f"<Context: {self.task}[{self.id}]>"


current: ContextVar[Context | None] = ContextVar("celeriac_request", default=None)
"""The request of the task that runs here, None outside of tasks."""


def running() -> Context | None:
    """Return the request of the run that a worker began here, None outside of such runs.

    A task that is called directly has a request of its own, but belongs to the run of its caller.
    """
    request = current.get()
    while request is not None and request.called_directly:
        request = request.caller
    return request
