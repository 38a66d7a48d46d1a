"""``app.conf``: layers of settings, and the frozen snapshot that the house reads.

From the lowest to the highest layer: the column of defaults, what ``add_defaults`` gave, the loaded
source, direct assignments, and four environment variables (APP-14). A direct assignment therefore
survives a source that is loaded after it (APP-04). A source may be put off until somebody reads a
setting (``later``). Finding and importing a source is the app's work; reading it is that of
``sources``.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Literal

from msgspec.structs import asdict

from celeriac.settings.masking import censor, shown
from celeriac.settings.sources import old_names_in, read_source, unknown
from celeriac.settings.spelling import new_name
from celeriac.settings.table import Settings, celery_column
from celeriac.settings.validation import coerce

ENVIRONMENT = {
    "CELERY_BROKER_URL": "broker_url",
    "CELERY_BROKER_READ_URL": "broker_read_url",
    "CELERY_BROKER_WRITE_URL": "broker_write_url",
    "CELERY_RESULT_BACKEND": "result_backend",
}

# One lock for all: changes are rare and short, and a Configuration without one can be pickled.
_changing = threading.Lock()


class _Here(threading.local):
    """Which configurations this thread is loading just now, by id."""

    def __init__(self) -> None:
        self.loading: set[int] = set()


_here = _Here()


class Configuration(Mapping[str, Any]):
    """Settings by attribute and by key, under new and old names, for reading and writing.

    Every value is checked when it is given; ImproperlyConfigured tells what is wrong. Reading goes
    to the snapshot, which is built once after a change, so it costs one call. Safe to use from
    several threads: a reader sees the state before or after a change, never half of one.
    """

    __slots__ = (
        "_assigned",
        "_defaults",
        "_fallbacks",
        "_loaded",
        "_old",
        "_put_off",
        "_snapshot",
        "_version",
    )

    def __init__(self, column: Literal["celeriac", "celery"] = "celeriac") -> None:
        # kept as objects, so that app.conf.beat_schedule["x"] = ... lives through a rebuild
        self._defaults = asdict(Settings()) | (celery_column() if column == "celery" else {})
        self._fallbacks: dict[str, Any] = {}
        self._loaded: dict[str, Any] = {}
        self._assigned: dict[str, Any] = {}
        self._put_off: tuple[Callable[[], None], ...] = ()
        self._old: dict[str, str] = {}
        self._snapshot: Settings | None = None
        self._version = 0

    @property
    def version(self) -> int:
        """A number that grows with every change."""
        return self._version

    @property
    def snapshot(self) -> Settings:
        """The settings as they are now. The same object until something changes."""
        return self._snapshot or self._build()

    def is_set(self, name: str) -> bool:
        """Whether anybody gave ``name`` a value, be it the default one."""
        self._catch_up()
        key = new_name(name)
        return any(key in layer for layer in (*self._layers(), self._environment()))

    @property
    def deprecated(self) -> dict[str, str]:
        """Deprecated names and settings in use, and what to write in their place (APP-10).

        What comes from Django's settings is left out: there, old names are a project's own.
        """
        found = dict(self._old)
        if self.is_set("task_acks_on_failure_or_timeout"):
            found["task_acks_on_failure_or_timeout"] = "task_acks_on_failure, task_acks_on_timeout"
        return found

    # -- layers

    def later(self, load: Callable[[], None]) -> None:
        """Have ``load`` called, once, before a setting is read the next time.

        What it raises is raised by whoever reads, and it is called again at the next reading.
        """
        with _changing:
            if load not in self._put_off:
                self._put_off = (*self._put_off, load)
            self._snapshot = None

    @property
    def has_source(self) -> bool:
        """Whether a source was loaded."""
        return bool(self._loaded)

    @property
    def assigned(self) -> dict[str, Any]:
        """What was assigned directly, by name."""
        return dict(self._assigned)

    @property
    def is_read(self) -> bool:
        """Whether somebody has read settings since the last change."""
        return self._snapshot is not None

    def _catch_up(self) -> None:
        """Do what was put off.

        Without a lock over it, since it imports modules, which have locks of their own: threads that
        come together may each load the same. A thread that reads while it loads sees what is there.
        """
        if not self._put_off or id(self) in _here.loading:
            return
        _here.loading.add(id(self))
        try:
            while self._put_off:
                load = self._put_off[0]
                load()
                with _changing:
                    self._put_off = tuple(one for one in self._put_off if one is not load)
        finally:
            _here.loading.discard(id(self))

    def add_defaults(self, source: object, *, source_name: str = "add_defaults") -> None:
        """Give settings that count only where nobody else gave any, earlier calls included."""
        values = read_source(source, name=source_name)
        self._old |= old_names_in(source)
        self._change("_fallbacks", lambda earlier: values | earlier)

    def load(
        self, source: object, *, namespace: str | None = None, source_name: str | None = None
    ) -> None:
        """Read a mapping, a module or an object, in place of what was loaded before (APP-05).

        With a ``namespace`` only ``<NAMESPACE>_<NAME>`` is looked at (APP-08). Of modules and
        objects only known names are taken; an unknown one that begins as ours do is an error.
        """
        name = source_name or getattr(source, "__name__", "") or type(source).__name__
        values = read_source(source, namespace=namespace, name=name)
        if not namespace and name.lower() != "django.conf:settings":
            self._old |= old_names_in(source)
        self._change("_loaded", lambda _: values)

    def update(
        self, source: Mapping[str, Any] | Iterable[tuple[str, Any]] = (), /, **settings: Any
    ) -> None:
        """Assign several settings at once: all of them or, if one is wrong, none."""
        given = dict(source, **settings)
        values = read_source(given)
        self._old |= old_names_in(given)
        self._change("_assigned", lambda earlier: earlier | values)

    def setdefault(self, name: str, default: Any = None) -> Any:
        """Assign ``default`` unless the setting was given a value; return what it is then."""
        if not self.is_set(name):
            self[name] = default
        return self[name]

    def _change(self, layer: str, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        with _changing:
            setattr(self, layer, change(getattr(self, layer)))
            self._version += 1
            self._snapshot = None

    def _layers(self) -> tuple[dict[str, Any], ...]:
        return self._fallbacks, self._loaded, self._assigned

    def _environment(self) -> dict[str, Any]:
        given = {name: os.environ.get(variable) for variable, name in ENVIRONMENT.items()}
        return {name: coerce(name, url, "the environment") for name, url in given.items() if url}

    def _build(self) -> Settings:
        self._catch_up()
        with _changing:
            values = dict(self._defaults)
            for layer in (*self._layers(), self._environment()):
                values.update(layer)
            snapshot = Settings(**values)
            if not self._put_off:
                self._snapshot = snapshot
        return snapshot

    # -- attributes

    def __getattr__(self, name: str) -> Any:
        if name[0] != "_":
            try:
                return getattr(self._snapshot or self._build(), name)
            except AttributeError:
                key = new_name(name)
            if key is not None:
                return getattr(self.snapshot, key)
        # with name and obj set, the interpreter itself names the nearest when it prints the error;
        # to look for it here would make every hasattr() cost 15 ms
        raise AttributeError(f"there is no setting {name!r}", name=name, obj=self)

    def __dir__(self) -> Iterable[str]:
        return [*super().__dir__(), *Settings.__struct_fields__]

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] == "_":
            object.__setattr__(self, name, value)
        else:
            self.update({name: value})

    def __delattr__(self, name: str) -> None:
        """Take back a direct assignment; the layers below show again."""
        key = new_name(name)
        if key is None:
            raise unknown(name)
        self._change("_assigned", lambda all_: {k: v for k, v in all_.items() if k != key})

    # -- keys

    def __getitem__(self, name: str) -> Any:
        key = new_name(name)
        if key is None:
            raise KeyError(name)
        return getattr(self.snapshot, key)

    def __setitem__(self, name: str, value: Any) -> None:
        self.update({name: value})

    __delitem__ = __delattr__

    def __iter__(self) -> Iterator[str]:
        return iter(Settings.__struct_fields__)

    def __len__(self) -> int:
        return len(Settings.__struct_fields__)

    @property
    def changes(self) -> dict[str, Any]:
        """What was given, by anybody, by name: all that is not a default (APP-27)."""
        self._catch_up()
        given: dict[str, Any] = {}
        for layer in self._layers():
            given.update(layer)
        return given

    def table(self, with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        """Return the settings by name, those that were given or all; secrets hidden (APP-11)."""
        chosen = asdict(self.snapshot) if with_defaults else {**self.changes, **self._environment()}
        return {n: censor(n, value) for n, value in chosen.items()} if censored else chosen

    def humanize(self, with_defaults: bool = False, censored: bool = True) -> str:
        """Return the settings as text, a line for each, secrets hidden (APP-11)."""
        table = self.table(with_defaults, censored)
        return "\n".join(f"{name}: {value!r}" for name, value in sorted(table.items()))

    def get_by_parts(self, *parts: str) -> Any:
        """Return the setting whose name these parts make: ``("task", "serializer")``."""
        return self["_".join(part for part in parts if part)]

    def find_value_for_key(self, name: str, namespace: str = "celery") -> Any:
        """Return a setting by its name without the first word; KeyError if there is none."""
        return self.get_by_parts(namespace, name)

    def without_defaults(self) -> dict[str, Any]:
        """Return what was given, by name."""
        return dict(self.changes)

    def __reduce__(self) -> Any:
        # As its layers: what is put off is read now, and functions are left behind.
        self._catch_up()
        layers = (self._defaults, self._fallbacks, self._loaded, self._assigned)
        return _from_layers, (layers, self._version)

    def __repr__(self) -> str:
        given: dict[str, Any] = {}
        for layer in (*self._layers(), self._environment()):
            given.update(layer)
        return f"<Configuration: {', '.join(f'{n}={shown(n, v)}' for n, v in given.items())}>"


def _from_layers(layers: tuple[dict[str, Any], ...], version: int) -> Configuration:
    made = Configuration()
    made._defaults, made._fallbacks, made._loaded, made._assigned = layers
    made._version = version
    return made
