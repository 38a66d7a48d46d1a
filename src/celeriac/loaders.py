"""Loaders: how an app finds its settings and modules, with hooks for a program's own (APP-34).

A class of one's own is given as ``Celery(loader=...)``, or by ``CELERY_LOADER`` for the default
app. Its hooks run where the user's code runs: in the worker's template and children, never in the
worker's parent.
"""

import os
import re
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol

from celeriac import imports, signals
from celeriac.exceptions import ImproperlyConfigured
from celeriac.settings import Settings

if TYPE_CHECKING:
    from celeriac.discovery import Packages

CONFIG_MODULES = ("celeriacconfig", "celeryconfig")
"""Modules that the default app reads its settings from: the first one that is there."""

_CAST = re.compile(r"\((\w+)\)")
_BY_JSON = frozenset(("json", "tuple", "list", "dict"))


class Loaded(Protocol):
    """What a loader needs of its app."""

    @property
    def settings(self) -> Settings:
        """The settings now."""
        ...


class Loader:
    """The loader of apps that a program makes itself."""

    def __init__(self, app: Loaded, **_: Any) -> None:
        self.app = app
        self.task_modules: set[str] = set()
        self.worker_initialized = False

    # -- hooks

    def on_task_init(self, task_id: str, task: Any) -> None:
        """Called in the child before a task runs."""

    def on_process_cleanup(self) -> None:
        """Called in the child after a task has run."""

    def on_worker_init(self) -> None:
        """Called in the worker's template when everything is imported."""

    def on_worker_process_init(self) -> None:
        """Called in each child when it starts."""

    def on_worker_shutdown(self) -> None:
        """Called once when the worker ends, in its spare child."""

    # -- settings

    def read_configuration(self) -> Any:
        """Return the source of settings of an app that names none; None if there is none.

        It is the module that ``CELERY_CONFIG_MODULE`` names, which must be there.
        """
        name = os.environ.get("CELERY_CONFIG_MODULE")
        return None if not name else self.config_source(name)

    def config_source(self, name: str, *, silent: bool = False) -> Any:
        """Return what ``module`` or ``module:attribute`` names (APP-05).

        ``silent`` returns None if it is not there, else ImproperlyConfigured is raised. What is
        missing *inside* a module that is there is a mistake of another kind, and is raised as it is.
        """
        source = _named(name)
        if source is None and not silent:
            hint = f"; write {name[:-3]!r}, without .py" if name.endswith(".py") else ""
            raise ImproperlyConfigured(
                f"there is no {name!r} to read settings from; write module or module:attribute, "
                f"as it is imported{hint}"
            )
        return source

    def cmdline_config_parser(self, words: Sequence[str], namespace: str = "celery") -> Any:
        """Return the settings that words like ``worker.concurrency=4`` give (APP-07).

        The first point may be an underscore; a name that begins with it is in ``namespace``. A type
        may stand before the value: ``(json)[1, 2]``, ``(int)3``. Raises ImproperlyConfigured.
        """
        return dict(_setting(word, namespace) for word in words)

    # -- modules

    def import_module(self, module: str, package: str | None = None) -> ModuleType:
        """Import a module, with the current directory on the path."""
        return imports.module(module if package is None else f"{package}{module}")

    def import_task_module(self, module: str) -> ModuleType:
        """Import a module that holds tasks."""
        self.task_modules.add(module)
        return self.import_module(module)

    def import_default_modules(self) -> list[ModuleType]:
        """Import what ``imports`` and ``include`` name, after the receivers of ``import_modules``."""
        signals.import_modules.send(sender=self.app)
        settings = self.app.settings
        return [self.import_task_module(m) for m in (*settings.imports, *settings.include)]

    def autodiscover_tasks(self, packages: "Packages", related_name: str | None = "tasks") -> None:
        """Import the modules with tasks of these packages."""
        find = imports.load("celeriac.discovery:related_modules")
        self.task_modules.update(module.__name__ for module in find(packages, related_name))

    def init_worker(self) -> None:
        """Prepare a worker, once: import everything, then ``on_worker_init``."""
        if not self.worker_initialized:
            self.worker_initialized = True
            self.import_default_modules()
            self.on_worker_init()


class DefaultLoader(Loader):
    """The loader of the default app, which reads a module of settings by itself (APP-02)."""

    def read_configuration(self) -> Any:
        """Return the module of settings; None if there is none."""
        name = os.environ.get("CELERY_CONFIG_MODULE")
        if name:
            return self.config_source(name)
        sources = (self.config_source(name, silent=True) for name in CONFIG_MODULES)
        return next((source for source in sources if source is not None), None)


ALIASES: dict[str, type[Loader]] = {"app": Loader, "default": DefaultLoader}
"""Short names of loaders, as ``CELERY_LOADER`` takes them."""


def loader_class(given: str | type[Loader] | None) -> type[Loader]:
    """Return the class that a dotted name, an alias or nothing stands for.

    Raises ImproperlyConfigured.
    """
    if given is None:
        return Loader
    if not isinstance(given, str):
        return given
    if given in ALIASES:
        return ALIASES[given]
    try:
        found: type[Loader] = imports.load(given)
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(
            f"loader {given!r} cannot be imported ({error}); write package.module:Class"
        ) from error
    return found


def wants_runs(loader: Loader) -> bool:
    """Whether a loader has hooks of its own that are called around each run."""
    kind = type(loader)
    hooks = ("on_task_init", "on_process_cleanup")
    return any(getattr(kind, hook) is not getattr(Loader, hook) for hook in hooks)


def _named(name: str) -> Any:
    """Return the module, or the attribute of one, that a name leads to; None if it leads nowhere."""
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


def _setting(word: str, namespace: str) -> tuple[str, Any]:
    """Return name and value of one ``key=value``."""
    key, equals, value = word.partition("=")
    if not equals:
        raise ImproperlyConfigured(
            f"{word!r} sets nothing; write name=value, such as worker.concurrency=4"
        )
    key = key.strip().lower().replace(".", "_")
    if key.startswith("_"):
        key = f"{namespace}{key}" if namespace else key[1:]
    cast = _CAST.match(value)
    return key, value if cast is None else _cast(word, cast[1], value[cast.end() :])


def _cast(word: str, kind: str, value: str) -> Any:
    if kind in _BY_JSON:
        decode = imports.load("celeriac.wire.json:decode")
        try:
            return decode(value)
        except ValueError as error:
            raise ImproperlyConfigured(f"{word!r}: {error}") from error
    simple = {"int": int, "float": float, "string": str, "str": str}
    if kind == "bool":
        return value.strip().lower() in ("1", "true", "yes", "on")
    if kind not in simple:
        raise ImproperlyConfigured(
            f"{word!r}: there is no type {kind!r}; types are "
            f"{', '.join(sorted({*simple, 'bool', *_BY_JSON}))}"
        )
    try:
        return simple[kind](value)
    except ValueError as error:
        raise ImproperlyConfigured(f"{word!r}: {error}") from error
