"""The app: settings, tasks and the client, put together; the only place that opens URLs.

Every process of a program has broker and store objects of its own behind one app, opened on first
use. What lives above this floor is named in ``UPWARD`` and loaded when somebody asks for it.
"""

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import (
    Any,
    Concatenate,
    Literal,
    NoReturn,
    ParamSpec,
    TypedDict,
    TypeVar,
    Unpack,
    overload,
)

from celeriac import imports
from celeriac.backend import Backend
from celeriac.brokers.base import Broker
from celeriac.brokers.urls import broker_url, open_broker
from celeriac.client import Arguments, CallOptions, Client, Moment, Options, changed
from celeriac.exceptions import (
    AppNotFound,
    DuplicateTaskNameWarning,
    ImproperlyConfigured,
    NotRegistered,
)
from celeriac.result import AsyncResult as Result
from celeriac.results.base import ResultStore
from celeriac.results.urls import open_store, store_url
from celeriac.settings import Configuration, Settings
from celeriac.task import TASK_OPTIONS, Publisher, make_task, send
from celeriac.task import Task as BaseTask

P = ParamSpec("P")
R = TypeVar("R")
AnyTask = TypeVar("AnyTask", bound=BaseTask[Any, Any])
Part = TypeVar("Part")

UPWARD = {
    "Awaiter": "celeriac.awaiting:Awaiter",
}
"""What the app loads by name when it is used, because it stands above or costs too much to import.
"""


class TaskOptions(TypedDict, total=False):
    """The options of ``app.task``, by name (TASK-04 to TASK-32)."""

    name: str
    base: type[BaseTask[Any, Any]]
    max_retries: int | None
    default_retry_delay: float
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
    acks_late: bool | None
    acks_on_failure: bool | None
    acks_on_timeout: bool | None
    acks_on_failure_or_timeout: bool | None
    reject_on_worker_lost: bool | None
    track_started: bool | None
    priority: int | None
    expires: float | Moment | None
    queue: str | None


class Celery:
    """An app: a set of tasks, and where their messages and results go (APP-01).

    ``main`` names it, and stands for ``__main__`` in task names. ``broker`` and ``backend`` are
    URLs; without them an embedded file serves as both. Further keywords are settings. Thread-safe.
    """

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Sequence[str] = (),
        config_source: object = None,
        namespace: str | None = None,
        **settings: Any,
    ) -> None:
        self.main = main or "__main__"
        self.conf = Configuration()
        self.tasks = TaskRegistry()
        self.module, self.folder = _caller()
        """The folder of the module that made the app: it tells embedded files of equal names apart.
        """
        self._opening = threading.RLock()
        self._open: dict[str, Any] = {}
        if config_source is not None:
            self.config_from_object(config_source, namespace=namespace)
        given = {"broker_url": broker, "result_backend": backend, "include": tuple(include) or None}
        self.conf.update({k: v for k, v in given.items() if v is not None} | settings)

    # -- settings

    @property
    def settings(self) -> Settings:
        """The frozen settings as they are now."""
        return self.conf.snapshot

    def config_from_object(
        self, source: object, *, silent: bool = False, namespace: str | None = None
    ) -> None:
        """Read settings from an object, or from the module or ``module:attribute`` named (APP-05).

        ``silent`` ignores a module that is not there. ``namespace`` takes only names that begin
        with it, in upper case (APP-08).
        """
        name = source if isinstance(source, str) else None
        if name is not None:
            source = _settings_source(name)
            if source is None and silent:
                return
            if source is None:
                raise ImproperlyConfigured(
                    f"there is no {name!r} to read settings from; write module or module:attribute, "
                    "as it is imported"
                )
        self.conf.load(source, namespace=namespace, source_name=name)

    # -- tasks

    @overload
    def task(self, fun: Callable[P, R], /) -> BaseTask[P, R]: ...

    @overload
    def task(
        self, *, bind: Literal[True], **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[Concatenate[Any, P], R]], BaseTask[P, R]]: ...

    @overload
    def task(
        self, *, bind: Literal[False] = False, **options: Unpack[TaskOptions]
    ) -> Callable[[Callable[P, R]], BaseTask[P, R]]: ...

    def task(self, *args: Any, **options: Any) -> Any:
        """Make a task of a function; a decorator with or without options (TASK-01).

        ``bind`` passes the task as the first argument (TASK-02). The options are those of
        ``TaskOptions``; TypeError names the nearest one for others.
        """
        if args:
            return self._make(args[0], {})
        return lambda fun: self._make(fun, options)

    def _make(self, fun: Callable[..., Any], options: dict[str, Any]) -> BaseTask[Any, Any]:
        options = dict(options)
        name = options.pop("name", None) or self.gen_task_name(fun.__name__, fun.__module__)
        base = options.pop("base", None) or self.Task
        bind = bool(options.pop("bind", False))
        _check_options(name, options, base)
        _check_function(name, fun)
        if known := self._same_name(name, fun):
            return known
        return self.register_task(make_task(fun, base, name=name, bind=bind, **options))

    def _same_name(self, name: str, fun: Callable[..., Any]) -> BaseTask[Any, Any] | None:
        """Return the task that has this name already, with a warning if it is another one."""
        known = self.tasks.get(name)
        if known is not None:
            earlier = getattr(known, "__wrapped__", None)
            if getattr(earlier, "__code__", None) is not getattr(fun, "__code__", object()):
                warnings.warn(
                    f"task name {name!r} is taken by {earlier or known!r}; {fun!r} is not registered. "
                    "Give it a name of its own: @app.task(name=...)",
                    DuplicateTaskNameWarning,
                    stacklevel=4,
                )
        return known

    def register_task(self, task: AnyTask | type[AnyTask]) -> AnyTask:
        """Register a class-based task, class or instance (APP-17). It replaces one of its name."""
        instance = task() if isinstance(task, type) else task
        if not instance.name:
            kind = type(instance)
            instance.name = self.gen_task_name(kind.__name__, kind.__module__)
        instance.app = self
        self.tasks[instance.name] = instance
        return instance

    @property
    def Task(self) -> type[BaseTask[Any, Any]]:
        """The base class of this app's tasks (TASK-05)."""
        base: type[BaseTask[Any, Any]] | None = self.__dict__.get("_task_base")
        if base is None:
            base = self._task_base = type(
                "Task", (BaseTask,), {"app": self, "__module__": __name__}
            )
        return base

    def gen_task_name(self, name: str, module: str) -> str:
        """Return the name for a task that has none: ``module.function`` (APP-15)."""
        return f"{self.main if module == '__main__' else module}.{name}"

    def find_task(self, name: str) -> BaseTask[Any, Any]:
        """Return the task of this name. Raises NotRegistered."""
        return self.tasks[name]

    # -- calling by name

    def send_task(
        self,
        name: str,
        args: Arguments | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> Result[Any]:
        """Send a task by name, without its code (APP-20). Raises as ``Task.apply_async`` does.

        The options of the task count if it is known here; else the worker's do (QUIRK-35).
        """
        task = self.tasks.get(name)
        own = Options() if task is None else task.options
        return send(self, name, args, kwargs, changed(own, options))

    def AsyncResult(self, id: str) -> Result[Any]:
        """Return the result of the task with this id (APP-21)."""
        return Result(id, app=self)

    # -- what is opened on first use

    @property
    def broker(self) -> Broker:
        """The broker."""
        return self._opened(
            "broker", lambda: open_broker(self.broker_url, self.settings.broker_timeout)
        )

    @property
    def store(self) -> ResultStore | None:
        """The result store; None if results are disabled."""
        return self._opened(
            "store", lambda: open_store(self.store_url, self.settings.broker_timeout)
        )

    @property
    def backend(self) -> Backend:
        """Result documents, as they are read and written."""
        return self._opened("backend", lambda: Backend(self))

    @property
    def client(self) -> Client:
        """The road out, under the settings as they are now."""
        client: Client | None = self._open.get("client")
        if client is None or client.settings is not self.conf.snapshot:
            return self._new_client()
        return client

    def _new_client(self) -> Client:
        with self._opening:
            earlier: Client | None = self._open.get("client")
            warned = earlier is not None and earlier.warned
            client = Client(self.settings, self.broker, self.spec, warned=warned)
            self._open["client"] = client
            return client

    @property
    def awaiter(self) -> Publisher:
        """Who publishes and waits for coroutines."""
        make: Callable[[Celery], Publisher] = imports.load(UPWARD["Awaiter"])
        return self._opened("awaiter", lambda: make(self))

    @property
    def spec(self) -> str:
        """What to write behind ``-A`` to find this app, as far as it can be told."""
        known = (name for name in (self.module, self.main) if name != "__main__")
        return next(known, "your_module")

    def close(self) -> None:
        """Let go of connections. They are opened again when needed (APP-28)."""
        with self._opening:
            opened, self._open = self._open, {}
        for part in ("awaiter", "client", "backend", "broker", "store"):
            if (close := getattr(opened.get(part), "close", None)) is not None:
                close()

    def _opened(self, part: str, make: Callable[[], Part]) -> Part:
        try:
            opened: Part = self._open[part]
        except KeyError:
            with self._opening:
                if part not in self._open:
                    self._open[part] = make()
                opened = self._open[part]
        return opened

    @property
    def broker_url(self) -> str:
        """The URL of the broker, with its password: as configured, or the embedded file's."""
        return broker_url(self.settings.broker_url, (self.main, self.folder))

    @property
    def store_url(self) -> str:
        """The URL of the result store, with its password."""
        return store_url(self.settings.result_backend, self.broker_url)

    def __repr__(self) -> str:
        return f"<Celery {self.main}>"


class TaskRegistry(dict[str, BaseTask[Any, Any]]):
    """The tasks of an app, by name (TASK-43)."""

    def __missing__(self, name: str) -> NoReturn:
        known = ", ".join(sorted(self)) or "none"
        raise NotRegistered(f"no task {name!r} is registered here; known tasks: {known}")


def _settings_source(name: str) -> Any:
    """Return the module, or the attribute of one, that a name leads to; None if it leads nowhere.

    What is missing *inside* a module that is there is a mistake of another kind, and is raised.
    """
    module, _, attribute = name.partition(":")
    while True:
        try:
            found: Any = imports.module(module)
        except ModuleNotFoundError as error:
            if not imports.missing_is(error, module):
                raise
        else:
            for step in attribute.split(".") if attribute else ():
                found = getattr(found, step, None)
            return found
        # Without a colon the last words may be attributes: a class of settings in a module.
        module, dot, last = module.rpartition(".")
        if not dot or ":" in name:
            return None
        attribute = f"{last}.{attribute}" if attribute else last


def _caller() -> tuple[str, str]:
    """Return name and folder of the first module outside this one on the stack."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    file = frame.f_globals.get("__file__")
    folder = os.path.dirname(os.path.abspath(file)) if file else os.getcwd()
    return str(frame.f_globals.get("__name__", "__main__")), folder


def _check_options(name: str, options: Mapping[str, Any], base: type[BaseTask[Any, Any]]) -> None:
    """Refuse options that do not exist; the attributes of the base class are options too."""
    for option in options:
        if option not in TASK_OPTIONS and not hasattr(base, option):
            known = TASK_OPTIONS | {"name", "bind", "base"}
            raise TypeError(
                f"task {name} has an option {option!r} that does not exist in this version; "
                f"options are: {', '.join(sorted(known))}"
            )


def _check_function(name: str, fun: Callable[..., Any]) -> None:
    code = getattr(fun, "__code__", None)
    if code is not None and code.co_flags & 0x80:  # CO_COROUTINE
        raise TypeError(
            f"task {name} is an async function; this version runs tasks in processes, one at a time. "
            "Write a plain function that calls asyncio.run()"
        )


def find_app(spec: str) -> Celery:
    """Return the app that ``-A`` names (APP-39).

    ``module:attribute``; or a module (or ``module.attribute``) in which ``app``, then ``celery``,
    then the submodule ``celery``, then the first app found is taken. Raises AppNotFound with what
    to write instead; what the user's own modules raise comes through as it is.
    """
    if "/" in spec or spec.endswith(".py"):
        name = spec.rpartition("/")[2].removesuffix(".py")
        raise AppNotFound(f"-A {spec}: write the name of a module, not of a file: -A {name}")
    module_name, colon, attribute = spec.partition(":")
    if colon:
        return _as_app(_attribute(_import(module_name, spec), attribute, spec), spec)
    try:
        found: Any = _import(spec, spec)
    except AppNotFound:
        parent, dot, attribute = spec.rpartition(".")
        if not dot:
            raise
        found = _attribute(_import(parent, spec), attribute, spec)
    return _as_app(found, spec)


def _import(name: str, spec: str) -> ModuleType:
    try:
        return imports.module(name)
    except ModuleNotFoundError as error:
        if not imports.missing_is(error, name):
            raise
        raise AppNotFound(
            f"-A {spec}: there is no module {name!r} here ({os.getcwd()}); write -A module or "
            "-A module:app, from the folder that holds the module"
        ) from None


def _attribute(module: ModuleType, path: str, spec: str) -> Any:
    found: Any = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            apps = [n for n, value in vars(module).items() if isinstance(value, Celery)]
            raise AppNotFound(
                f"-A {spec}: module {module.__name__} has no {path!r}; "
                f"its apps are: {', '.join(apps) or 'none'}"
            ) from None
    return found


def _as_app(found: Any, spec: str) -> Celery:
    if isinstance(found, Celery):
        return found
    if not isinstance(found, ModuleType):
        raise AppNotFound(f"-A {spec}: {spec} is a {type(found).__name__}, not a Celery app")
    app = next(_apps_in(found), None)
    if app is None:
        raise AppNotFound(
            f"-A {spec}: module {found.__name__} holds no Celery app; make one there: "
            f"app = Celery({found.__name__!r})"
        )
    return app


def _apps_in(module: ModuleType) -> Iterator[Celery]:
    """Yield the apps that a module holds, the one that is most likely meant first."""
    for name in ("app", "celery"):
        found = getattr(module, name, None)
        found = getattr(found, "app", None) if isinstance(found, ModuleType) else found
        if isinstance(found, Celery):
            yield found
    if hasattr(module, "__path__"):
        name = f"{module.__name__}.celery"
        try:
            yield from _apps_in(imports.module(name))
        except ModuleNotFoundError as error:
            if not imports.missing_is(error, name):
                raise
    yield from (value for value in list(vars(module).values()) if isinstance(value, Celery))
