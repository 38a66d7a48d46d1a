"""Tasks: a function with a name and defaults, and the ways to call it.

A task belongs to one app. Calling it runs it here; ``delay`` and its siblings send it. What it does
in a worker (context, limits, outcome) is ``execution``; the road out is ``client``.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import (
    TYPE_CHECKING,
    Any,
    Generic,
    NoReturn,
    ParamSpec,
    Protocol,
    TypedDict,
    TypeVar,
    Unpack,
)

import msgspec

from celeriac import states
from celeriac.client import Client, Moment, Options, retry_options
from celeriac.completion import Put
from celeriac.context import Context, current
from celeriac.exceptions import MaxRetriesExceededError, Retry
from celeriac.message import Publish
from celeriac.result import AsyncResult as Result
from celeriac.result import ResultHost
from celeriac.results.base import task_key
from celeriac.retry import RetryPolicy
from celeriac.settings import Settings
from celeriac.wire import result as wire

if TYPE_CHECKING:
    from collections.abc import Awaitable

P = ParamSpec("P")
R = TypeVar("R")


class CallOptions(TypedDict, total=False):
    """The options of ``apply_async``, by name (CALL-02)."""

    task_id: str | None
    countdown: float | None
    eta: Moment | None
    expires: float | Moment | None
    queue: str | None
    priority: int | None
    headers: Mapping[str, Any] | None
    ignore_result: bool | None
    time_limit: float | None
    soft_time_limit: float | None
    shadow: str | None
    root_id: str | None
    parent_id: str | None
    reply_to: str | None


class Publisher(Protocol):
    """Publishes on behalf of coroutines, in batches."""

    def publish(self, client: Client, publish: Publish) -> "Awaitable[None]":
        """Hand over a message; done when the broker has it."""


class TaskHost(ResultHost, Protocol):
    """What a task needs of its app."""

    @property
    def client(self) -> Client:
        """The road out."""

    @property
    def settings(self) -> Settings:
        """The settings now."""

    @property
    def awaiter(self) -> Any:
        """Who publishes and waits for coroutines."""


class Task(Generic[P, R]):
    """A task. Subclass it for class-based tasks (TASK-03), or let ``app.task`` make one."""

    app: TaskHost
    name: str = ""
    max_retries: int | None = 3
    """Retries after the first run; None is unlimited (TASK-06)."""
    default_retry_delay: float = 180
    """Seconds (TASK-07)."""
    throws: tuple[type[BaseException], ...] = ()
    """Exceptions that are expected: logged without traceback (TASK-21)."""
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    acks_late: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    track_started: bool | None = None
    priority: int | None = None
    expires: float | Moment | None = None
    """Seconds from the call, or the moment, after which it is not run any more (TASK-23)."""
    queue: str | None = None
    retry_policy: RetryPolicy = RetryPolicy()
    _options: Options | None = None
    _handlers: frozenset[str] | None = None

    # -- what a task does

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The work. Class-based tasks override it."""
        raise TypeError(f"task {self.name} has no run(); define it in {type(self).__qualname__}")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task here and now, and return its value; nothing is stored (TASK-26).

        A class that overrides this is called by the worker in place of ``run`` (TASK-03).
        """
        request = current.get()
        if request is not None and request.through_call:
            # The worker has come through an overridden __call__: the context is set already.
            request.through_call = False
            return self.run(*args, **kwargs)  # type: ignore[no-any-return]
        token = current.set(Context(task=self.name, args=args, kwargs=kwargs))
        try:
            return self.run(*args, **kwargs)  # type: ignore[no-any-return]
        finally:
            current.reset(token)

    @property
    def request(self) -> Context:
        """The request of the run that is going on; an empty one outside of runs (TASK-25)."""
        request = current.get()
        return request if request is not None and request.task == self.name else Context()

    # -- calling

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send the task with these arguments (CALL-01).

        Raises EncodeError for arguments that cannot be written, OperationalError if the broker is
        out of reach for ``broker_timeout`` seconds.
        """
        client = self.app.client
        publish = client.compose(self.name, args, kwargs, self.options)
        client.send((publish,))
        return self._sent(client, publish, self.options)

    def apply_async(
        self,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> Result[R]:
        """Send the task, with options for this call (CALL-02). Raises as ``delay`` does."""
        client = self.app.client
        chosen = self.chosen(options)
        publish = client.compose(self.name, tuple(args), kwargs or {}, chosen)
        client.send((publish,))
        return self._sent(client, publish, chosen)

    def delay_many(
        self, calls: Iterable[Sequence[Any] | Mapping[str, Any]], **options: Unpack[CallOptions]
    ) -> list[Result[R]]:
        """Send the task once for each tuple of positional, or mapping of keyword, arguments.

        One batch: the broker takes all of them or none. Results are in the order of the calls.
        """
        client = self.app.client
        chosen = self.chosen(options)
        publishes = []
        for call in calls:
            args, kwargs = ((), call) if isinstance(call, Mapping) else (tuple(call), {})
            publishes.append(client.compose(self.name, args, kwargs, chosen))
        client.send(publishes)
        return [self._sent(client, publish, chosen) for publish in publishes]

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send like ``delay``, from a coroutine: calls made at the same time share a batch."""
        client = self.app.client
        publish = client.compose(self.name, args, kwargs, self.options)
        await self.app.awaiter.publish(client, publish)
        return self._sent(client, publish, self.options)

    @property
    def options(self) -> Options:
        """The options of a call that says nothing of its own. Built once."""
        return self._options or self._default_options()

    @options.setter
    def options(self, options: Options) -> None:
        self._options = options

    def chosen(self, options: CallOptions) -> Options:
        """Return the task's options, changed by those of one call.

        Raises TypeError for options that do not exist.
        """
        given = {name: value for name, value in options.items() if value is not None}
        return msgspec.structs.replace(self.options, **given) if given else self.options

    def _default_options(self) -> Options:
        self._options = options = Options(
            queue=self.queue,
            priority=self.priority,
            expires=self.expires,
            ignore_result=self.ignores_result,
        )
        return options

    def _sent(self, client: Client, publish: Publish, options: Options) -> Result[R]:
        client.note_child(publish.message.id)
        return Result(publish.message.id, self.app, bool(options.ignore_result))

    def AsyncResult(self, task_id: str) -> Result[R]:
        """Return the result of an earlier call of this task."""
        return Result(task_id, self.app)

    # -- steering a run

    def retry(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Moment | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Unpack[CallOptions],
    ) -> Retry:
        """End this run and ask for another one later (TASK-27).

        Raises Retry (returns it if ``throw`` is off). When the retries are used up it raises
        ``exc``, or MaxRetriesExceededError (TASK-28). Called outside a worker it raises ``exc`` or
        the exception that is being handled (TASK-29). ``max_retries`` holds for this call only.
        """
        request = self.request
        cause = exc or sys.exc_info()[1]
        limit = self.max_retries if max_retries is None else max_retries
        if request.called_directly and cause is not None:
            raise cause
        if limit is not None and request.retries >= limit:
            self._give_up(exc, request)
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        chosen = retry_options(request, {**options, "eta": eta, "countdown": countdown})
        args = request.args if args is None else args
        publish = self.app.client.compose(self.name, args, kwargs or request.kwargs, chosen)
        request.follow_ups.append(publish)
        retry = Retry(exc=cause, when=eta if countdown is None else countdown, follow_up=publish)
        if throw:
            raise retry from cause
        return retry

    def _give_up(self, exc: BaseException | None, request: Context) -> NoReturn:
        if exc is not None:
            raise exc
        raise MaxRetriesExceededError(
            f"Can't retry {self.name}[{request.id}] args:{request.args} kwargs:{request.kwargs}",
            task_args=request.args,
            task_kwargs=request.kwargs,
        )

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None
    ) -> None:
        """Store a state of the user's own, with ``meta`` as what ``result.info`` shows (TASK-36).

        For the running task, or the one with ``task_id``. Ignored once SUCCESS is stored.
        """
        request = self.request
        own = task_id is None or task_id == request.id
        key = task_key(task_id or request.id or "")
        document = wire.ResultDocument(
            status=state or states.STARTED,
            task_id=task_id or request.id,
            result=meta,
            children=request.children if own else None,
        )
        put = Put(key, wire.encode(document), self.app.settings.result_expires, document.status)
        if own and request.port is not None:
            request.port.store(put)
        elif self.app.store is not None:
            self.app.store.put([put])

    # -- handlers, called in the worker's child (TASK-35)

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        """Called before the task runs."""

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None:
        """Called when the task has succeeded."""

    def on_failure(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called when the task has failed, also when its process was killed or lost."""

    def on_retry(
        self, exc: BaseException, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called when the task is to be retried."""

    def after_return(
        self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any
    ) -> None:
        """Called when the run is over, whatever came of it."""

    @property
    def handlers(self) -> frozenset[str]:
        """Names of the handlers that a subclass has made its own; the others are not worth a call."""
        if self._handlers is None:
            own = (h for h in HANDLERS if getattr(type(self), h) is not getattr(Task, h))
            self._handlers = frozenset(own)
        return self._handlers

    # -- policy: the task's word, or else the settings'

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

    def __repr__(self) -> str:
        return f"<Task: {self.name}>"


def _first(*choices: bool | None) -> bool:
    """Return the first choice that somebody made."""
    return next((choice for choice in choices if choice is not None), False)


HANDLERS = ("before_start", "on_success", "on_failure", "on_retry", "after_return")

TASK_OPTIONS = frozenset(
    name
    for name in vars(Task).get("__annotations__", {})
    if name not in ("app", "retry_policy", "_options", "_handlers")
)
"""Names of the options that a task has as attributes."""

RETRY_OPTIONS = {
    "autoretry_for": "autoretry_for",
    "dont_autoretry_for": "dont_autoretry_for",
    "retry_kwargs": "retry_kwargs",
    "retry_backoff": "backoff",
    "retry_backoff_max": "backoff_max",
    "retry_jitter": "jitter",
}
"""Options of a task that make up its retry policy, and their names there (TASK-32)."""


def make_task(
    fun: Callable[..., Any], base: type[Task[Any, Any]], *, name: str, bind: bool, **options: Any
) -> Task[Any, Any]:
    """Return a task that runs ``fun``.

    Raises TypeError for options that do not exist; the text names the nearest one.
    """
    policy = {}
    for option, field in RETRY_OPTIONS.items():
        value = options.pop(option, getattr(base, option, None))
        if value is not None:
            policy[field] = tuple(value) if field.endswith("autoretry_for") else value
    namespace: dict[str, Any] = {
        "name": name,
        "run": fun if bind else staticmethod(fun),
        "retry_policy": RetryPolicy(**_policy(policy)) if policy else base.retry_policy,
        "__doc__": fun.__doc__,
        "__module__": fun.__module__,
        "__wrapped__": fun,
        **options,
    }
    kind = type(getattr(fun, "__name__", "Task"), (base,), namespace)
    task: Task[Any, Any] = kind()
    return task


def _policy(fields: dict[str, Any]) -> dict[str, Any]:
    if fields.get("backoff") is True:
        fields["backoff"] = 1.0
    fields["backoff"] = float(fields.get("backoff") or 0.0)
    return fields
