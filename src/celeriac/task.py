"""Tasks: a function with a name and defaults, and the ways to call it.

A task belongs to one app. Calling it runs it here; ``delay`` and its siblings send it. What it does
in a worker (context, limits, outcome) is ``execution``; the road out is ``client``; its options are
``task_options``.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, NoReturn, ParamSpec, Protocol, TypeVar, Unpack

from celeriac import states
from celeriac.backend import Backend
from celeriac.call_options import (
    Arguments,
    CallOptions,
    Moment,
    Options,
    RunOptions,
    arguments,
    changed,
    retry_options,
)
from celeriac.canvas.signatures import Signature
from celeriac.client import Client, note_child
from celeriac.context import Context, current, running
from celeriac.current import get_current_app
from celeriac.exceptions import MaxRetriesExceededError, Reject, Retry
from celeriac.message import Publish
from celeriac.parameters import merged_arguments, parameter_check
from celeriac.result import AsyncResult as Result
from celeriac.result import Awaiter, ResultHost
from celeriac.settings import Settings
from celeriac.task_options import TaskPolicy

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

    @property
    def eager(self) -> Any:
        """Who runs tasks here and now."""
        ...


class Task(TaskPolicy, Generic[P, R]):
    """A task. Subclass it for class-based tasks (TASK-03), or let ``app.task`` make one."""

    app: TaskHost
    handlers: frozenset[str] = frozenset()
    """Names of the handlers that a class has made its own; the others are not worth a call."""
    models: Any = None
    """What turns models of a call into data, for tasks with ``pydantic`` (TASK-48)."""
    MaxRetriesExceededError = MaxRetriesExceededError
    _options: Options | None = None
    _options_under: Settings | None = None
    _is_plain = True
    _check: Callable[..., Any] | None = None

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.on_annotated()

    @classmethod
    def on_annotated(cls) -> None:
        """Take in that attributes of the class are new or have changed (APP-36)."""
        cls.retry_policy = cls.make_retry_policy(cls)  # type: ignore[arg-type]
        cls.handlers = frozenset(h for h in HANDLERS if getattr(cls, h) is not getattr(Task, h))

    @classmethod
    def on_bound(cls, app: Any) -> None:
        """Called when the task has found its app; for classes that want to know."""

    @property
    def backend(self) -> Backend:
        """The result documents of its app (TASK-13)."""
        return self.app.backend

    # -- what a task does

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """The work. Class-based tasks override it."""
        raise TypeError(f"task {self.name} has no run(); define it in {type(self).__qualname__}")

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run the task here and now, and return its value; nothing is stored (TASK-26).

        A class that overrides this is called by the worker in place of ``run`` (TASK-03).
        """
        request = current.get()
        if request is not None and request.through_call and request.instance is self:
            # The worker has come through an overridden __call__: the context is set already.
            request.through_call = False
            return self.run(*args, **kwargs)  # type: ignore[no-any-return]
        own = Context(task=self.name, args=args, kwargs=kwargs, caller=request, instance=self)
        token = current.set(own)
        try:
            return self.run(*args, **kwargs)  # type: ignore[no-any-return]
        finally:
            current.reset(token)

    @property
    def request(self) -> Context:
        """The request of the run that is going on; an empty one outside of runs (TASK-25)."""
        request = current.get()
        while request is not None and request.task != self.name:
            request = request.caller  # Of a run that has called another task here.
        return Context() if request is None else request

    def push_request(self, *args: Any, **fields: Any) -> None:
        """Be in a run with these fields until ``pop_request``; for tests of what a run does."""
        request = Context(**dict(*args, **fields))
        request.update(task=self.name, instance=self, caller=current.get())
        current.set(request)

    def pop_request(self) -> Context:
        """Leave the run that ``push_request`` began, and return its request."""
        request = current.get()
        if request is None:
            raise LookupError(f"no request of {self.name} was pushed here")
        current.set(request.caller)
        return request

    # -- calling

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send the task with these arguments (CALL-01).

        Raises TypeError for arguments that do not fit its parameters (TASK-22), EncodeError for
        those that cannot be written, OperationalError if the broker is out of reach for
        ``broker_timeout`` seconds.
        """
        options = self.options
        own = type(self).apply_async is not _APPLY_ASYNC or "apply_async" in self.__dict__
        if own or not self._is_plain:
            # Of a subclass, or put there by a program that watches calls: it sees all of them.
            return self.apply_async(args, kwargs)
        if self._check is not None:
            self._check(*args, **kwargs)
        client = self.app.client
        publish = client.compose(self.name, args, kwargs, options)
        client.send((publish,))
        return sent(self.app, publish, options, self.AsyncResult)

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
        return self._call(args, kwargs, changed(self.options, options))

    def _call(
        self, args: Arguments | None, kwargs: Mapping[str, Any] | None, options: Options
    ) -> Result[R]:
        """Send the task, or run it if tasks are called eagerly (CALL-15)."""
        args, kwargs, options = self._prepared(args, kwargs, options)
        if self.app.settings.task_always_eager:
            found: Result[R] = self.app.eager.call(self, args, kwargs, options)
            return found
        return send(self.app, self.name, args, kwargs, options, self.AsyncResult)

    def _prepared(
        self, args: Arguments | None, kwargs: Mapping[str, Any] | None, options: Options
    ) -> tuple[Arguments, Mapping[str, Any], Options]:
        """Return arguments and options as they are sent; TypeError if they do not fit."""
        positional, named = arguments(args, kwargs)
        if self._check is not None:
            self._check(*positional, **named)
        if options.shadow is None and type(self).shadow_name is not Task.shadow_name:
            shadow = self.shadow_name(positional, named, options)
            options = changed(options, {"shadow": shadow})
        if self.models is not None and options.serializer != "pickle":
            positional, named = self.models.dump(positional, named)
        return positional, named, options

    def delay_many(
        self, calls: Iterable[Arguments | Mapping[str, Any]], **options: Unpack[CallOptions]
    ) -> list[Result[R]]:
        """Send the task once for each tuple of positional, or mapping of keyword, arguments.

        One batch: the broker takes all of them or none. Results are in the order of the calls.
        Raises as ``apply_async`` does.
        """
        chosen = changed(self.options, options)
        both = ((None, call) if isinstance(call, Mapping) else (call, None) for call in calls)
        prepared = [self._prepared(args, kwargs, chosen) for args, kwargs in both]
        if self.app.settings.task_always_eager:
            return [self.app.eager.call(self, *one) for one in prepared]
        client = self.app.client
        publishes = [client.compose(self.name, *one) for one in prepared]
        client.send(publishes, chosen)
        return [sent(self.app, publish, chosen, self.AsyncResult) for publish in publishes]

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> Result[R]:
        """Send like ``delay``, from a coroutine: calls made at the same time share a batch.

        Receivers of the publishing signals run in a thread of their own then.
        """
        if self.app.settings.task_always_eager:
            return self._call(args, kwargs, self.options)
        client = self.app.client
        publish = client.compose(self.name, *self._prepared(args, kwargs, self.options))
        await self.app.awaiter.publish(client, publish)
        return sent(self.app, publish, self.options, self.AsyncResult)

    def apply(
        self,
        args: Arguments | None = None,
        kwargs: Mapping[str, Any] | None = None,
        throw: bool | None = None,
        retries: int = 0,
        **options: Unpack[CallOptions],
    ) -> Result[R]:
        """Run the task here and now, with everything around it, and return its EagerResult (CALL-16).

        Retries follow at once. ``throw`` raises what the task raises; without it the setting
        ``task_eager_propagates`` decides.
        """
        positional, named = arguments(args, kwargs)
        chosen = changed(self.options, {**options, "retries": retries})
        found: Result[R] = self.app.eager.run(self, positional, named, chosen, throw)
        return found

    @property
    def options(self) -> Options:
        """The options of a call that says nothing of its own, under the settings as they are now."""
        settings = self.app.settings
        if self._options is None or self._options_under is not settings:
            self._options = self._make_options(settings)
            self._options_under = settings
        return self._options

    def _make_options(self, settings: Settings) -> Options:
        self._check = self._parameter_check() if self.checks_arguments else None
        own_shadow = type(self).shadow_name is not Task.shadow_name
        self._is_plain = not (settings.task_always_eager or own_shadow or self.models)
        return Options(
            queue=self.queue,
            exchange=self.exchange,
            routing_key=self.routing_key,
            exchange_type=self.exchange_type,
            delivery_mode=self.delivery_mode,
            priority=self.priority,
            serializer=self.serializer,
            compression=self.compression,
            expires=self.expires,
            ignore_result=self.ignores_result,
            time_limit=self.time_limit,
            soft_time_limit=self.soft_time_limit,
        )

    def _parameter_check(self) -> Callable[..., Any] | None:
        run = self.run
        fun = getattr(run, "__func__", run) if self.models is None else self.models.original
        return parameter_check(fun, bound=hasattr(run, "__self__"))

    def shadow_name(self, args: Any, kwargs: Any, options: Any) -> str | None:
        """Return the name that logs and monitors show for a call, to be overridden (TASK-41)."""
        return None

    def AsyncResult(self, task_id: str, **options: Any) -> Result[R]:
        """Return the result of an earlier call of this task."""
        return Result(task_id, app=self.app, **options)

    # -- signatures (TASK-40)

    def signature(
        self, args: Arguments | None = None, kwargs: Mapping[str, Any] | None = None, **more: Any
    ) -> Signature:
        """Return a call of this task that is not made yet, to be sent or linked later."""
        return Signature(self, args, kwargs, app=self.app, **more)

    subtask = signature

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """Return the signature of a call with these arguments; others may come before them."""
        return self.signature(args, kwargs)

    def si(self, *args: P.args, **kwargs: P.kwargs) -> Signature:
        """Return the signature of a call that takes no result of an earlier task."""
        return self.signature(args, kwargs, immutable=True)

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
        raises ``exc``, or Retry (TASK-29). ``max_retries`` holds for this call only. Raises Reject if
        the next run cannot be sent, because its arguments cannot be written (TASK-30).
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
        again = arguments(*merged_arguments(self.run, request, args, kwargs))
        when = eta if countdown is None else countdown
        retry = Retry(exc=cause, when=when, follow_up=self._next_run(*again, chosen))
        if throw:
            raise retry from cause
        return retry

    def _next_run(self, args: Arguments, kwargs: Mapping[str, Any], options: Options) -> Any:
        """Return the next run of a retry, and put it among what follows from this one."""
        request = self.request
        if request.is_eager:
            return request.again(args, kwargs, options)
        try:
            client = self.app.client
            publish = client.announced(client.compose(self.name, args, kwargs, options))
        except Exception as error:
            raise Reject(error, requeue=False) from error
        request.follow_ups.append(publish)
        return publish

    def _give_up(self, exc: BaseException | None, request: Context) -> NoReturn:
        if exc is not None:
            raise exc
        raise self.MaxRetriesExceededError(
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

    def __reduce__(self) -> Any:
        # By name: whoever receives it has the task itself, in the app that is current there.
        return _task_of_name, (self.name,)

    def __repr__(self) -> str:
        return f"<Task: {self.name}>"


_APPLY_ASYNC = Task.apply_async

HANDLERS = ("before_start", "on_success", "on_failure", "on_retry", "after_return")


def _task_of_name(name: str) -> Task[Any, Any]:
    task: Task[Any, Any] = get_current_app().tasks[name]
    return task


# -- calls
# ------------------------------------------------------------------------------------------


def send(
    app: TaskHost,
    name: str,
    args: Arguments,
    kwargs: Mapping[str, Any],
    options: Options,
    kind: Callable[[str], Result[Any]] | None = None,
) -> Result[Any]:
    """Send a task by name. Raises as ``Task.apply_async`` does."""
    client = app.client
    publish = client.compose(name, args, kwargs, options)
    client.send((publish,), options)
    return sent(app, publish, options, kind)


def sent(
    app: TaskHost,
    publish: Publish,
    options: Options,
    kind: Callable[[str], Result[Any]] | None = None,
) -> Result[Any]:
    """Return the result of a message that is out, and remember it in the run that sent it.

    ``kind`` makes results of a task's own kind; ``result_cls`` of the call goes before it.
    """
    task_id = publish.message.id
    if options.add_to_parent is not False:
        note_child(task_id, running())
    if options.result_cls is not None:
        result: Result[Any] = options.result_cls(task_id, app=app)
    else:
        result = Result(task_id, app=app) if kind is None else kind(task_id)
    result.ignored = bool(options.ignore_result)
    return result
