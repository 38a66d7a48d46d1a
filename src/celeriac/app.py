"""The app: settings, tasks and the client, put together; the only place that opens URLs.

Settings are ``app.conf``, tasks are made and kept by a ``Registrar``, broker and store are opened by
``Connections`` on first use, in each process anew. What lives above this floor, or costs too much to
import, is named in ``UPWARD`` and loaded when somebody asks for it.
"""

import os
import sys
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, tzinfo
from typing import (
    TYPE_CHECKING,
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

from celeriac import clock, current, imports, signals
from celeriac.backend import Backend
from celeriac.call_options import Arguments, CallOptions, Options, arguments, changed
from celeriac.canvas.signatures import Signature
from celeriac.client import zone
from celeriac.configured import Configured
from celeriac.connections import Connected, Connections
from celeriac.exceptions import AlwaysEagerIgnored
from celeriac.loaders import Loader, loader_class, wants_runs
from celeriac.registry import Registrar, TaskRegistry
from celeriac.result import AsyncResult as Result
from celeriac.routing.amqp import AMQP
from celeriac.signals import Signal
from celeriac.task import Publisher, send
from celeriac.task import Task as BaseTask
from celeriac.task_factory import TaskOptions

if TYPE_CHECKING:
    from celeriac.discovery import Packages

P = ParamSpec("P")
R = TypeVar("R")
AnyTask = TypeVar("AnyTask", bound=BaseTask[Any, Any])

UPWARD = {
    "Awaiter": "celeriac.awaiting:Awaiter",
    "Eager": "celeriac.eager:Eager",
    "bugreport": "celeriac.report:bugreport",
    "Logging": "celeriac.log_setup:Logging",
    "program": "celeriac.__main__:main",
}
"""What the app loads by name when it is used, because it stands above or costs too much to import.
"""


class AppOptions(TypedDict, total=False):
    """What an app can be made of beside settings (APP-01)."""

    loader: str | type[Loader] | None
    amqp: str | type[AMQP] | None
    log: Any
    set_as_current: bool
    tasks: Mapping[str, BaseTask[Any, Any]] | None
    changes: Mapping[str, Any] | None
    fixups: Iterable[str | Callable[[Any], Any]] | None
    task_cls: str | type[BaseTask[Any, Any]] | None
    autofinalize: bool
    strict_typing: bool
    config_source_silent: bool


class Celery(Configured, Connected):
    """An app: a set of tasks, and where their messages and results go (APP-01).

    ``main`` names it, and stands for ``__main__`` in task names. ``broker`` and ``backend`` are
    URLs; without them an embedded file serves as both. Keywords that are no ``AppOptions`` are
    settings. Making an app makes it the current one, unless ``set_as_current`` is off. Thread-safe.
    """

    task_cls: str | type[BaseTask[Any, Any]] = BaseTask
    """The base class of tasks: a class or its dotted name, which is imported with the first task."""
    loader_cls: str | type[Loader] | None = None
    amqp_cls: str | type[AMQP] = AMQP
    log_cls: Any = None
    """The class of ``app.log``, or its dotted name."""

    def __init__(
        self,
        main: str | None = None,
        *,
        broker: str | None = None,
        backend: str | None = None,
        include: Sequence[str] = (),
        config_source: object = None,
        namespace: str | None = None,
        **options: Any,
    ) -> None:
        chosen = AppOptions(**{k: options.pop(k) for k in _APP_OPTIONS if k in options})  # type: ignore[typeddict-item]
        self.main = main or "__main__"
        self.log_cls = chosen.get("log") or self.log_cls
        self._log: Any = None
        kind = chosen.get("amqp") or self.amqp_cls
        self.amqp: AMQP = (imports.load(kind) if isinstance(kind, str) else kind)(self)
        self.module, self.folder = _caller()
        """The folder of the module that made the app: it tells embedded files of equal names apart.
        """
        super().__init__(namespace, chosen.get("config_source_silent", False))
        self.strict_typing = chosen.get("strict_typing", True)
        self.task_cls = chosen.get("task_cls") or self.task_cls
        self.on_after_finalize = Signal("app.on_after_finalize")
        self.on_after_fork = Signal("app.on_after_fork")
        self.user_options: defaultdict[str, set[Any]] = defaultdict(set)
        """Options of a program's own for the command line, by command (APP-31)."""
        self.steps: defaultdict[str, set[Any]] = defaultdict(set)
        self.connections = Connections(self)
        registry = TaskRegistry(chosen.get("tasks") or {})
        autofinalize = chosen.get("autofinalize", True)
        self._registrar = Registrar(self, autofinalize=autofinalize, registry=registry)
        given = chosen.get("loader") or self.loader_cls or os.environ.get("CELERY_LOADER")
        self.loader = loader_class(given)(self)
        self.loader_hooks = wants_runs(self.loader)
        settings = {
            "broker_url": broker,
            "result_backend": backend,
            "include": tuple(include) or None,
        }
        settings = {k: v for k, v in settings.items() if v is not None}
        self.conf.update({**settings, **options, **(chosen.get("changes") or {})})
        if config_source is not None:
            self.config_from_object(config_source, silent=self._silent, namespace=namespace)
        self.fixups = [_fixup(one)(self) for one in chosen.get("fixups") or ()]
        if chosen.get("set_as_current", True):
            self.set_current()
        _apps.add(self)
        self.on_init()

    def on_init(self) -> None:
        """Called at the end of the constructor, for subclasses."""

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

        ``bind`` passes the task as the first argument (TASK-02). ``shared`` makes one for every
        other app too, ``lazy`` puts the work off until the task is used, ``filter`` is called with
        the task and returns what to use. The rest are ``TaskOptions`` and attributes of one's own;
        TypeError names the option that a misspelt one was meant to be.
        """
        if args:
            if len(args) != 1 or not callable(args[0]):
                raise TypeError(f"app.task takes a function; options are keywords: {args[0]!r}")
            return self._registrar.decorate(args[0], options)
        return lambda fun: self._registrar.decorate(fun, options)

    def register_task(self, task: AnyTask | type[AnyTask], **options: Any) -> AnyTask:
        """Register a class-based task, class or instance (APP-17). It replaces one of its name."""
        instance = self._registrar.register(task)
        for name, value in options.items():
            setattr(instance, name, value)
        return instance  # type: ignore[return-value]

    @property
    def tasks(self) -> TaskRegistry:
        """The tasks, by name. Asking for them finalizes the app (APP-03)."""
        if not self._registrar.finalized:
            self._registrar.finalize(auto=True)
        return self._registrar.registry

    @property
    def registry(self) -> TaskRegistry:
        """The tasks that are made so far, by name; asking for them finalizes nothing."""
        return self._registrar.registry

    @property
    def finalized(self) -> bool:
        """Whether all pending tasks are made."""
        return self._registrar.finalized

    def finalize(self, auto: bool = False) -> None:
        """Make all pending tasks and those that are shared; then ``on_after_finalize`` (APP-03)."""
        self._registrar.finalize(auto=auto)

    @property
    def Task(self) -> type[BaseTask[Any, Any]]:
        """The base class of this app's tasks (TASK-05). May be assigned."""
        base: type[BaseTask[Any, Any]] | None = self.__dict__.get("_task_base")
        if base is None:
            given = self.task_cls
            kind: type[BaseTask[Any, Any]] = (
                imports.load(given) if isinstance(given, str) else given
            )
            base = type("Task", (kind,), {"app": self, "__module__": __name__})
            self._task_base = base
        return base

    @Task.setter
    def Task(self, base: type[BaseTask[Any, Any]]) -> None:
        self._task_base = base

    @property
    def likely_base(self) -> type[BaseTask[Any, Any]]:
        """The base class of tasks, as far as it can be told without importing anything."""
        return BaseTask if isinstance(self.task_cls, str) else self.task_cls

    def gen_task_name(self, name: str, module: str) -> str:
        """Return the name for a task that has none: ``module.function`` (APP-15)."""
        return f"{self.main if module == '__main__' else module}.{name}"

    def find_task(self, name: str) -> BaseTask[Any, Any]:
        """Return the task of this name. Raises NotRegistered."""
        registrar = self._registrar
        return (registrar.registry if registrar.finalized else self.tasks)[name]

    def known_task(self, name: str) -> BaseTask[Any, Any] | None:
        """Return the task of this name, None if there is none here."""
        return self.tasks.get(name)

    def autodiscover_tasks(
        self,
        packages: "Packages | None" = None,
        related_name: str | None = "tasks",
        force: bool = False,
    ) -> None:
        """Import ``package.tasks`` of each package when a worker starts, or now (APP-18).

        ``packages`` is a list, or a function that returns one, called when it is needed; without
        it the fixups are asked. ``related_name`` of None imports the packages alone. In a program
        that only sends, tasks are found when they are asked for with ``force``.
        """

        def discover(**_: Any) -> None:
            asked = packages if packages is not None else self._packages_of_fixups()
            self.loader.autodiscover_tasks(asked, related_name)

        if force:
            discover()
        else:
            signals.import_modules.connect(discover, weak=False, sender=self)

    def _packages_of_fixups(self) -> list[str]:
        asks = (getattr(fixup, "autodiscover_tasks", None) for fixup in self.fixups)
        return [package for ask in asks if ask is not None for package in ask()]

    # -- calling by name

    def send_task(
        self,
        name: str,
        args: Arguments | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> Result[Any]:
        """Send a task by name, without its code (APP-20). Raises as ``Task.apply_async`` does.

        The options of the task count if it is known here; else the worker's do (QUIRK-35). It is
        sent even if tasks are called eagerly.
        """
        if self.settings.task_always_eager:
            imports.warn("task_always_eager has no effect on send_task", AlwaysEagerIgnored)
        task = self._registrar.known(name)
        own = Options() if task is None else task.options
        return send(self, name, *arguments(args, kwargs), changed(own, options))

    def AsyncResult(self, id: str, **options: Any) -> Result[Any]:
        """Return the result of the task with this id (APP-21)."""
        return Result(id, app=self, **options)

    def signature(self, *args: Any, **options: Any) -> Signature:
        """Return the signature of a task, bound to this app (APP-22)."""
        return Signature(*args, **{**options, "app": self})

    # -- what is opened on first use

    @property
    def backend(self) -> Backend:
        """Result documents, as they are read and written (APP-24)."""
        return self.connections.opened("backend", lambda: Backend(self))

    @property
    def awaiter(self) -> Publisher:
        """Who publishes and waits for coroutines."""
        make: Callable[[Celery], Publisher] = imports.load(UPWARD["Awaiter"])
        return self.connections.opened("awaiter", lambda: make(self))

    @property
    def eager(self) -> Any:
        """Who runs tasks here and now (CALL-16)."""
        make: Callable[[Celery], Any] = imports.load(UPWARD["Eager"])
        return self.connections.opened("eager", lambda: make(self))

    @property
    def spec(self) -> str:
        """What to write behind ``-A`` to find this app, as far as it can be told."""
        known = (name for name in (self.module, _main_module(), self.main) if name != "__main__")
        return next(known, "your_module")

    def close(self) -> None:
        """Let go of connections, and be no current app any more (APP-28).

        Connections are opened again when needed.
        """
        self.connections.close()
        current.let_go(self)

    def __enter__(self) -> "Celery":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- the current app, and time

    def set_current(self) -> None:
        """Make this the current app of the thread (APP-02)."""
        current.set_current_app(self)

    def set_default(self) -> None:
        """Make this the app of all threads that have none of their own."""
        current.set_default_app(self)

    @property
    def current_task(self) -> Any:
        """The task that runs here; None outside of tasks."""
        return current.running_task()

    @property
    def current_worker_task(self) -> Any:
        """The task that a worker runs here, not one that it calls; None outside of workers."""
        return current.worker_task()

    @property
    def timezone(self) -> tzinfo:
        """The zone of the app: ``timezone``, else UTC, else the local one (APP-30)."""
        return zone(self.settings)

    def now(self) -> datetime:
        """Return the time now, in the zone of the app (APP-30)."""
        return datetime.fromtimestamp(clock.wall(), self.timezone)

    def uses_utc_timezone(self) -> bool:
        """Whether the zone of the app is UTC."""
        return self.timezone is UTC

    # -- the command line, logs, reports

    @property
    def log(self) -> Any:
        """Who sets up logging: ``app.log.setup(...)``, as a worker does (APP-23). May be assigned."""
        if self._log is None:
            given = self.log_cls or UPWARD["Logging"]
            make: Callable[[Celery], Any] = imports.load(given) if isinstance(given, str) else given
            self._log = make(self)
        return self._log

    @log.setter
    def log(self, log: Any) -> None:
        self._log = log

    def bugreport(self) -> str:
        """Return versions, addresses and settings as text, secrets masked (APP-33)."""
        report: Callable[[Celery], str] = imports.load(UPWARD["bugreport"])
        return report(self)

    def start(self, argv: Sequence[str] | None = None) -> NoReturn:
        """Run the program ``celeriac`` for this app, with these words or those of the process."""
        words = list(sys.argv[1:] if argv is None else argv)
        program: Callable[..., NoReturn] = imports.load(UPWARD["program"])
        program(words if {"-A", "--app"} & set(words) else ["-A", self.spec, *words])

    def worker_main(self, argv: Sequence[str] | None = None) -> NoReturn:
        """Run a worker of this app (APP-32). Raises ValueError if the words ask for something else."""
        words = list(sys.argv[1:] if argv is None else argv)
        if "worker" not in words:
            raise ValueError(
                f"worker_main() runs the command worker, which {words!r} does not name; write "
                "app.worker_main(['worker', ...]), or app.start() for other commands"
            )
        self.start(words)

    def __reduce__(self) -> Any:
        return _unpickled, (type(self), self.__reduce_keys__())

    def __reduce_keys__(self) -> dict[str, Any]:
        """Return the keywords that make an equal app in another process (APP-27)."""
        return {
            "main": self.main,
            "changes": self.conf.assigned,
            "loader": type(self.loader),
            "config_source": self._source,
            "config_source_silent": self._silent,
            "namespace": self.namespace,
            "strict_typing": self.strict_typing,
        }

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.main}>"


_APP_OPTIONS = tuple(AppOptions.__annotations__)

_apps: "weakref.WeakSet[Celery]" = weakref.WeakSet()


def _caller() -> tuple[str, str]:
    """Return name and folder of the first module outside this one on the stack."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    file = frame.f_globals.get("__file__")
    folder = os.path.dirname(os.path.abspath(file)) if file else os.getcwd()
    return str(frame.f_globals.get("__name__", "__main__")), folder


def _main_module() -> str:
    """Return the name under which the program that runs can be imported; ``__main__`` if none."""
    program = sys.modules.get("__main__")
    spec = getattr(program, "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    file = os.path.basename(getattr(program, "__file__", None) or "")
    stem = file.removesuffix(".py")
    return stem if file.endswith(".py") and stem.isidentifier() else "__main__"


def _fixup(given: Any) -> Callable[[Any], Any]:
    fixup: Callable[[Any], Any] = imports.load(given) if isinstance(given, str) else given
    return fixup


def _unpickled(kind: type[Celery], keywords: dict[str, Any]) -> Celery:
    # Not the current app: an app that arrives in a message changes nothing around it.
    return kind(**keywords, set_as_current=False)


def _default_app() -> Celery:
    """Return an app for programs that make none (APP-02)."""
    loader = os.environ.get("CELERY_LOADER") or "default"
    return Celery("default", loader=loader, set_as_current=False)


def _after_fork() -> None:
    for app in list(_apps):
        if app.on_after_fork.receivers:
            app.on_after_fork.send(sender=app)


current.make_default_with(_default_app)
os.register_at_fork(after_in_child=_after_fork)
