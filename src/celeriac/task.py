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
    TypeVar,
    Unpack,
)

from celeriac import states
from celeriac.client import (
    Arguments,
    CallOptions,
    Client,
    Moment,
    Options,
    RunOptions,
    arguments,
    changed,
    retry_options,
)
from celeriac.context import Context, current
from celeriac.exceptions import MaxRetriesExceededError, Retry
from celeriac.message import Publish
from celeriac.result import AsyncResult as Result
from celeriac.result import Awaiter, ResultHost
from celeriac.retry import RetryPolicy
from celeriac.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable

P = ParamSpec("P")
R = TypeVar("R")


class Publisher(Awaiter, Protocol):
    """Publishes and waits on behalf of coroutines, in batches."""

    def publish(self, client: Client, publish: Publish) -> "Awaitable[None]":
        """Hand over a message; done when the broker has it."""
        ...


class TaskHost(ResultHost, Protocol):
    """What a task needs of its app."""

    @property
    def client(self) -> Client:
        """The road out."""
        ...

    @property
    def settings(self) -> Settings:
        """The settings now."""
        ...

    @property
    def awaiter(self) -> Publisher:
        """Who publishes and waits for coroutines."""
        ...


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

    retry_policy: RetryPolicy = RetryPolicy()
    """The six options above as a value, made for each class."""
    handlers: frozenset[str] = frozenset()
    """Names of the handlers that a class has made its own; the others are not worth a call."""
    _options: Options | None = None
    _options_under: Settings | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.retry_policy = RetryPolicy(
            autoretry_for=tuple(cls.autoretry_for),
            dont_autoretry_for=tuple(cls.dont_autoretry_for),
            retry_kwargs=dict(cls.retry_kwargs),
            backoff=float(cls.retry_backoff),
            backoff_max=cls.retry_backoff_max,
            jitter=cls.retry_jitter,
        )
        cls.handlers = frozenset(h for h in HANDLERS if getattr(cls, h) is not getattr(Task, h))

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
        token = current.set(Context(task=self.name, args=args, kwargs=kwargs, caller=request))
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
        client, options = self.app.client, self.options
        publish = client.compose(self.name, args, kwargs, options)
        client.send((publish,))
        return sent(self.app, client, publish, options, self.AsyncResult)

    def apply_async(
        self,
        args: Arguments | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> Result[R]:
        """Send the task, with options for this call (CALL-02).

        Raises as ``delay`` does, ValueError for options that contradict each other, TypeError for
        options that do not exist and for arguments that are no list, tuple or mapping.
        """
        chosen = changed(self.options, options)
        return send(self.app, self.name, args, kwargs, chosen, self.AsyncResult)

    def delay_many(
        self, calls: Iterable[Arguments | Mapping[str, Any]], **options: Unpack[CallOptions]
    ) -> list[Result[R]]:
        """Send the task once for each tuple of positional, or mapping of keyword, arguments.

        One batch: the broker takes all of them or none. Results are in the order of the calls.
        Raises as ``apply_async`` does.
        """
        client, chosen = self.app.client, changed(self.options, options)
        publishes = []
        for call in calls:
            args, kwargs = (None, call) if isinstance(call, Mapping) else (call, None)
            publishes.append(client.compose(self.name, *arguments(args, kwargs), chosen))
        client.send(publishes)
        kind = self.AsyncResult
        return [sent(self.app, client, publish, chosen, kind) for publish in publishes]

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send like ``delay``, from a coroutine: calls made at the same time share a batch.

        Receivers of the publishing signals run in a thread of their own then.
        """
        client, options = self.app.client, self.options
        publish = client.compose(self.name, args, kwargs, options)
        await self.app.awaiter.publish(client, publish)
        return sent(self.app, client, publish, options, self.AsyncResult)

    @property
    def options(self) -> Options:
        """The options of a call that says nothing of its own, under the settings as they are now."""
        settings = self.app.settings
        if self._options is None or self._options_under is not settings:
            self._options_under = settings
            self._options = Options(
                queue=self.queue,
                priority=self.priority,
                expires=self.expires,
                ignore_result=self.ignores_result,
                time_limit=self.time_limit,
                soft_time_limit=self.soft_time_limit,
            )
        return self._options

    def AsyncResult(self, task_id: str) -> Result[R]:
        """Return the result of an earlier call of this task."""
        return Result(task_id, app=self.app)

    # -- steering a run

    def retry(
        self,
        args: Arguments | None = None,
        kwargs: Mapping[str, Any] | None = None,
        exc: BaseException | None = None,
        throw: bool = True,
        eta: Moment | None = None,
        countdown: float | None = None,
        max_retries: int | None = None,
        **options: Unpack[RunOptions],
    ) -> Retry:
        """End this run and ask for another one later (TASK-27).

        Raises Retry (returns it if ``throw`` is off). When the retries are used up it raises
        ``exc``, or MaxRetriesExceededError (TASK-28). In a direct call, which nobody can repeat, it
        raises ``exc``, or Retry (TASK-29). ``max_retries`` holds for this call only.
        """
        request = self.request
        handled = sys.exc_info()[1]
        cause = exc or handled
        limit = self.max_retries if max_retries is None else max_retries
        if request.called_directly:
            raise exc or Retry("Task can be retried") from handled
        if limit is not None and request.retries >= limit:
            self._give_up(exc, request)
        if eta is None and countdown is None:
            countdown = self.default_retry_delay
        chosen = retry_options(request, {**options, "eta": eta, "countdown": countdown})
        args = request.args if args is None else args
        kwargs = request.kwargs if kwargs is None else kwargs
        publish = self.app.client.compose(self.name, *arguments(args, kwargs), chosen)
        request.follow_ups.append(publish)
        retry = Retry(exc=cause, when=eta if countdown is None else countdown, follow_up=publish)
        if throw:
            raise retry from cause
        return retry

    def _give_up(self, exc: BaseException | None, request: Context) -> NoReturn:
        if exc is not None:
            raise exc
        raise MaxRetriesExceededError(
            f"Can't retry {self.name}[{request.id}] args:{tuple(request.args)} "
            f"kwargs:{request.kwargs}",
            task_args=request.args,
            task_kwargs=request.kwargs,
        )

    def update_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None
    ) -> None:
        """Store a state of the user's own, with ``meta`` as what ``result.info`` shows (TASK-36).

        For the running task, or the one with ``task_id``. Ignored once SUCCESS is stored, and in a
        direct call, of which nothing is stored. Raises EncodeError for ``meta`` that cannot be
        written.
        """
        request = self.request
        about = task_id or request.id
        if about is not None:
            run = request if about == request.id else None
            self.app.backend.store_result(about, meta, state or states.STARTED, request=run)

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
        """Called when the task has succeeded or failed; not before a retry."""

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
    if name not in ("app", "handlers", "retry_policy") and not name.startswith("_")
)
"""Names of the options that a task has as attributes."""


def make_task(
    fun: Callable[..., Any], base: type[Task[Any, Any]], *, name: str, bind: bool, **options: Any
) -> Task[Any, Any]:
    """Return a task that runs ``fun``, with these attributes in place of those of ``base``."""
    run = fun if bind else staticmethod(fun)
    namespace: dict[str, Any] = {
        "name": name,
        "run": run,
        "__doc__": fun.__doc__,
        "__module__": fun.__module__,
        "__wrapped__": run,
        **options,
    }
    kind = type(getattr(fun, "__name__", "Task"), (base,), namespace)
    task: Task[Any, Any] = kind()
    return task


# -- calls
# ------------------------------------------------------------------------------------------


def send(
    app: TaskHost,
    name: str,
    args: Arguments | None,
    kwargs: Mapping[str, Any] | None,
    options: Options,
    kind: Callable[[str], Result[Any]] | None = None,
) -> Result[Any]:
    """Send a task by name. Raises as ``Task.apply_async`` does."""
    client = app.client
    publish = client.compose(name, *arguments(args, kwargs), options)
    client.send((publish,))
    return sent(app, client, publish, options, kind)


def sent(
    app: TaskHost,
    client: Client,
    publish: Publish,
    options: Options,
    kind: Callable[[str], Result[Any]] | None = None,
) -> Result[Any]:
    """Return the result of a message that is out, and remember it in the run that sent it.

    ``kind`` makes results of a task's own kind.
    """
    client.note_child(publish.message.id)
    task_id = publish.message.id
    result: Result[Any] = Result(task_id, app=app) if kind is None else kind(task_id)
    result.ignored = bool(options.ignore_result)
    return result
