"""The tasks of an app: made of functions, kept by name, finalized once.

A decorated function becomes a task when somebody uses it, or when the app is finalized, which
happens when its tasks are asked for (APP-03). Until then base class, name and annotations may still
be decided. ``shared_task`` is for modules that know no app: every app gets such a task (APP-35).
"""

import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, Protocol

from celeriac import imports
from celeriac.annotations import annotate
from celeriac.current import get_current_app
from celeriac.exceptions import DuplicateTaskNameWarning, NotRegistered
from celeriac.proxies import Proxy, unwrapped
from celeriac.settings import Settings
from celeriac.signals import Signal
from celeriac.task import Task
from celeriac.task_factory import (
    PendingTask,
    check_function,
    check_options,
    make_task,
    pending_class,
)

AnyTask = Task[Any, Any]
Options = Mapping[str, Any]


class TaskRegistry(dict[str, AnyTask]):
    """The tasks of an app, by name (TASK-43)."""

    def __missing__(self, name: str) -> NoReturn:
        known = ", ".join(sorted(self)) or "none"
        raise NotRegistered(f"no task {name!r} is registered here; known tasks: {known}")

    def register(self, task: AnyTask | type[AnyTask]) -> None:
        """Take in a task, class or instance, that has a name."""
        instance = task() if isinstance(task, type) else unwrapped(task)
        if not instance.name:
            raise ValueError(f"{instance!r} has no name; app.register_task() derives one")
        self[instance.name] = instance

    def unregister(self, name: str | AnyTask) -> None:
        """Let go of a task. Raises NotRegistered."""
        name = name if isinstance(name, str) else name.name
        self[name]
        del self[name]

    def regular(self) -> dict[str, AnyTask]:
        """Return the tasks that are not of the old periodic kind: all of them."""
        return dict(self)

    def periodic(self) -> dict[str, AnyTask]:
        """Return the tasks of the old periodic kind, which exists no more."""
        return {}


class Registering(Protocol):
    """What the registrar needs of its app."""

    main: str
    on_after_finalize: Signal

    @property
    def settings(self) -> Settings:
        """The settings now."""
        ...

    @property
    def Task(self) -> type[AnyTask]:
        """The base class of its tasks."""
        ...

    @property
    def likely_base(self) -> type[AnyTask]:
        """The base class of its tasks, as far as it is known already."""
        ...

    def gen_task_name(self, name: str, module: str) -> str:
        """Return the name for a task that has none."""
        ...


class Registrar:
    """Makes and keeps the tasks of one app. Thread-safe."""

    def __init__(self, app: Registering, *, autofinalize: bool, registry: TaskRegistry) -> None:
        self.app = app
        self.finalized = False
        self.registry = registry
        self._autofinalize = autofinalize
        self._pending: deque[PendingTask] = deque()
        self._lock = threading.RLock()
        _registrars.add(self)

    # -- from functions

    def decorate(self, fun: Callable[..., Any], options: dict[str, Any]) -> AnyTask:
        """Return the task of a function: made on first use, or at once if ``lazy`` is off."""
        options = dict(options)
        lazy = options.pop("lazy", True)
        accept = options.pop("filter", None)
        base: type[AnyTask] = options.get("base") or self.app.likely_base
        check_function(options.get("name") or fun.__name__, fun, base)
        check_options(options.get("name") or fun.__name__, options, options.get("base"))
        if options.pop("shared", False):
            share(fun, options)
        if accept is not None:
            return accept(self.make(fun, options))  # type: ignore[no-any-return]
        if not lazy or self.finalized:
            return self.make(fun, options)
        kind = pending_class(base)  # type: ignore[arg-type]  # python/mypy#11469
        task = kind(lambda itself: self.make(fun, options, itself))
        self._pending.append(task)
        return task

    def make(
        self, fun: Callable[..., Any], options: Options, pending: PendingTask | None = None
    ) -> AnyTask:
        """Make the task of a function, unless it is there already, and register it.

        Raises RuntimeError before an app is finalized that does not do so by itself.
        """
        if not self.finalized and not self._autofinalize:
            raise RuntimeError(_NOT_FINALIZED)
        options = dict(options)
        name = options.pop("name", None) or self.app.gen_task_name(fun.__name__, fun.__module__)
        base = options.pop("base", None) or self.app.Task
        bind = bool(options.pop("bind", False))
        check_options(name, options, base)
        with self._lock:
            if known := self._same_name(name, fun):
                return known
            task = make_task(fun, base, name=name, bind=bind, pending=pending, **options)
            return self._enter(task)

    def _same_name(self, name: str, fun: Callable[..., Any]) -> AnyTask | None:
        """Return the task that has this name already, with a warning if it is another (APP-16)."""
        known = self.registry.get(name)
        if known is not None:
            earlier = getattr(known, "__wrapped__", None)
            if getattr(earlier, "__code__", None) is not getattr(fun, "__code__", object()):
                _warn_of_name(
                    f"task name {name!r} is taken by {earlier or known!r}; {fun!r} is not "
                    "registered. Give it a name of its own: @app.task(name=...)",
                    fun,
                )
        return known

    def known(self, name: str) -> AnyTask | None:
        """Return the task of this name, if there is one; pending ones are made if they may be."""
        if not self.finalized and self._autofinalize:
            self.finalize()
        return self.registry.get(name)

    def register(self, task: AnyTask | type[AnyTask]) -> AnyTask:
        """Register a class-based task; it replaces one of its name, with a warning (APP-17)."""
        instance = task() if isinstance(task, type) else unwrapped(task)
        if not instance.name:
            kind = type(instance)
            instance.name = self.app.gen_task_name(kind.__name__, kind.__module__)
        with self._lock:
            known = self.registry.get(instance.name)
            if known is not None and type(known) is not type(instance):
                _warn_of_name(
                    f"task name {instance.name!r} is taken by {known!r}, which is replaced by "
                    f"{instance!r}. Give one of them a name of its own"
                )
            return self._enter(instance)

    def _enter(self, task: AnyTask) -> AnyTask:
        task.app = self.app  # type: ignore[assignment]
        # That of the function, for functools.wraps and for all who print names of callables.
        task.__dict__.setdefault("__name__", type(task).__name__)
        self.registry[task.name] = task
        if self.finalized:
            self._bind(task)
        return task

    def _bind(self, task: AnyTask) -> None:
        annotate(task, self.app.settings.task_annotations)
        task.on_bound(self.app)

    # -- finalization

    def finalize(self, *, auto: bool = False) -> None:
        """Make all that is pending, take in what is shared, and tell of it, once (APP-03).

        ``auto`` says that nobody asked for it: RuntimeError if the app does not want that.
        """
        with self._lock:
            if self.finalized:
                return
            if auto and not self._autofinalize:
                raise RuntimeError(_NOT_FINALIZED)
            self.finalized = True
            for task in list(self.registry.values()):
                self._bind(task)
            for maker in list(_shared):
                maker(self)
            while self._pending:
                pending = self._pending.popleft()
                if isinstance(pending, PendingTask):  # It may have become the task meanwhile.
                    pending.made()
            self.app.on_after_finalize.send(sender=self.app)


_NOT_FINALIZED = (
    "the app is not finalized, and was made with autofinalize=False: call app.finalize() once all "
    "modules with tasks are imported, before a task is used"
)


def _warn_of_name(text: str, fun: Any = None) -> None:
    """Warn of a name that is taken; of a function, at the line where it stands."""
    code = getattr(fun, "__code__", None)
    if code is None:
        imports.warn(text, DuplicateTaskNameWarning)
    else:
        place = code.co_filename, code.co_firstlineno
        warnings.warn_explicit(text, DuplicateTaskNameWarning, *place, module=fun.__module__)


# -- tasks of every app

_shared: list[Callable[[Registrar], Any]] = []
_registrars: "weakref.WeakSet[Registrar]" = weakref.WeakSet()


def share(fun: Callable[..., Any], options: Options) -> None:
    """Have every app make a task of this function: those that are finalized now, others later."""
    options = dict(options)

    def maker(registrar: Registrar) -> None:
        registrar.make(fun, options)

    _shared.append(maker)
    for registrar in list(_registrars):
        if registrar.finalized:
            maker(registrar)


def shared_task(*args: Any, **options: Any) -> Any:
    """Make a task of every app, for modules that know none (APP-35).

    Used like ``app.task``, with the same options. What it returns stands for the task of the app
    that is current when it is used. Raises TypeError for what is a shared task already.
    """
    if args and not callable(args[0]):
        raise TypeError(f"shared_task takes a function, not {args[0]!r}; options are keywords")
    if args:
        return _shared_proxy(args[0], options)
    return lambda fun: _shared_proxy(fun, options)


def _shared_proxy(fun: Any, options: dict[str, Any]) -> Any:
    if type(fun) is Proxy or isinstance(fun, Task):
        raise TypeError(f"{fun!r} is a task already; apply shared_task once, to the function")
    check_function(options.get("name") or fun.__name__, fun, options.get("base") or Task)
    check_options(options.get("name") or fun.__name__, options, options.get("base"))
    options = {key: value for key, value in options.items() if key not in ("shared", "lazy")}
    share(fun, options)

    def find() -> Any:
        app = get_current_app()
        name = options.get("name") or app.gen_task_name(fun.__name__, fun.__module__)
        return app.tasks[name]

    return Proxy(find, fun.__name__)
