"""Make tasks of functions: at once, or when something is asked of them.

What is wrong with a function or its options is said when it is decorated. Where tasks are kept is
``registry``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypedDict

from celeriac import imports
from celeriac.call_options import Moment
from celeriac.parameters import parameter_check
from celeriac.settings.spelling import nearest_of
from celeriac.task import Task


class TaskOptions(TypedDict, total=False):
    """The options of ``app.task``, by name."""

    name: str
    base: type[Task[Any, Any]]
    shared: bool
    lazy: bool
    filter: Callable[[Any], Any]
    typing: bool | None
    max_retries: int | None
    default_retry_delay: float
    rate_limit: str | int | float | None
    autoretry_for: Sequence[type[BaseException]]
    dont_autoretry_for: Sequence[type[BaseException]]
    retry_kwargs: Mapping[str, Any]
    retry_backoff: bool | float
    retry_backoff_max: float
    retry_jitter: bool
    throws: tuple[type[BaseException], ...]
    time_limit: float | None
    soft_time_limit: float | None
    ignore_result: bool | None
    store_errors_even_if_ignored: bool | None
    store_eager_result: bool | None
    trail: bool
    send_events: bool
    acks_late: bool | None
    acks_on_failure: bool | None
    acks_on_timeout: bool | None
    acks_on_failure_or_timeout: bool | None
    reject_on_worker_lost: bool | None
    retry_on_worker_lost: bool | None
    track_started: bool | None
    serializer: str | None
    compression: str | None
    priority: int | None
    expires: float | Moment | None
    queue: str | None
    exchange: Any
    routing_key: str | None
    exchange_type: str | None
    delivery_mode: int | str | None
    resultrepr_maxsize: int
    shadow_name: Callable[..., str | None]
    pydantic: bool
    pydantic_strict: bool
    pydantic_context: Mapping[str, Any] | None
    pydantic_dump_kwargs: Mapping[str, Any] | None


TASK_OPTIONS = frozenset(TaskOptions.__annotations__) | {"bind"}
"""Names of the options of ``app.task``."""


class PendingTask(Task[Any, Any]):
    """A decorated function that is no task yet, and becomes one when something is asked of it.

    It turns into the task itself, so that whoever holds it holds the task (APP-03).
    """

    def __init__(self, make: Callable[["PendingTask"], Task[Any, Any]]) -> None:
        object.__getattribute__(self, "__dict__")["make"] = make

    def made(self) -> Task[Any, Any]:
        """Return the task, making it first if need be. Raises what is wrong with its options."""
        make = object.__getattribute__(self, "__dict__").get("make")
        if make is None:
            return self
        task: Task[Any, Any] = make(self)
        if task is not self:
            # Another function has the name: this becomes that function's task, too.
            become(self, type(task), task.__dict__)
        return task

    def __getattribute__(self, name: str) -> Any:
        if name == "made":
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "made")(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.made(), name, value)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.made()(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self.made())


@cache
def pending_class(base: type[Task[Any, Any]]) -> type[PendingTask]:
    """Return the class of pending tasks that are going to be of this base class."""
    return PendingTask if base is Task else type("PendingTask", (PendingTask, base), {})


def become(pending: PendingTask, kind: type[Task[Any, Any]], fields: dict[str, Any]) -> None:
    """Turn a pending task into an instance of this class with these attributes."""
    own = object.__getattribute__(pending, "__dict__")
    object.__setattr__(pending, "__class__", kind)
    own.clear()
    own.update(fields)


def make_task(
    fun: Callable[..., Any],
    base: type[Task[Any, Any]],
    *,
    name: str,
    bind: bool,
    pending: PendingTask | None = None,
    **options: Any,
) -> Task[Any, Any]:
    """Return a task that runs ``fun``, with these attributes in place of those of ``base``.

    ``pending`` becomes the task. Its metadata are those of the function (TASK-50).
    """
    models = None
    if options.get("pydantic", base.pydantic):
        models = imports.load("celeriac.models:with_models")(fun, base, name, bind, options)
        fun = models.function
    run = fun if bind else staticmethod(fun)
    original = fun if models is None else models.original
    header = parameter_check(original, bound=bind)
    namespace: dict[str, Any] = {
        "name": name,
        "run": run,
        "models": models,
        "__doc__": fun.__doc__,
        "__module__": fun.__module__,
        "__annotations__": getattr(fun, "__annotations__", {}),
        "__wrapped__": run,
        "__header__": None if header is None else staticmethod(header),
        **options,
    }
    kind = type(getattr(fun, "__name__", "Task"), (base,), namespace)
    if pending is None:
        task: Task[Any, Any] = kind()
    else:
        become(pending, kind, {})
        kind.__init__(pending)  # type: ignore[misc]  # it is an instance of kind by now
        task = pending
    task.__dict__["__qualname__"] = getattr(fun, "__qualname__", name)
    return task


def check_function(name: str, fun: Callable[..., Any], base: type[Task[Any, Any]]) -> None:
    """Raise TypeError for what cannot be the function of a task of this base class."""
    if base.__call__ is not Task.__call__:
        return  # It may await what the function returns.
    code = getattr(fun, "__code__", None)
    if code is not None and code.co_flags & 0x80:  # CO_COROUTINE
        raise TypeError(
            f"task {name} is an async function; this version runs tasks in processes, one at a time. "
            "Write a plain function that calls asyncio.run()"
        )


def check_options(name: str, options: Mapping[str, Any], base: type[Task[Any, Any]] | None) -> None:
    """Raise TypeError for an option that is misspelt; what resembles none is an attribute."""
    for option in options:
        if option in TASK_OPTIONS or hasattr(base or Task, option):
            continue
        near = nearest_of(option, TASK_OPTIONS, max(1, len(option) // 3))
        if near is not None:
            raise TypeError(
                f"task {name} has an option {option!r} that does not exist; did you mean {near!r}? "
                f"Options are: {', '.join(sorted(TASK_OPTIONS))}"
            )
