"""A stand-in for an object that is looked up anew each time it is used.

For what depends on who asks: the current app, the running task, a shared task of whatever app is
current. A proxy passes for its object in all that Python asks of an object's class and attributes;
``_get_current_object()`` returns the object itself, to be kept or compared by identity.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

_OWN = frozenset(("_get_current_object", "_find", "_name"))


class Proxy:
    """Stands for what ``find()`` returns. ``find`` may raise; then every use of the proxy does."""

    __slots__ = ("__weakref__", "_find", "_name")

    def __init__(self, find: Callable[[], Any], name: str = "") -> None:
        object.__setattr__(self, "_find", find)
        object.__setattr__(self, "_name", name)

    def _get_current_object(self) -> Any:
        """Return the object that this stands for now."""
        return object.__getattribute__(self, "_find")()

    def __getattribute__(self, name: str) -> Any:
        # Also for ``__class__``, ``__doc__`` and ``__module__``: isinstance() and help() ask these.
        if name in _OWN:
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "_find")(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._get_current_object(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._get_current_object(), name)

    def __dir__(self) -> Iterable[str]:
        return dir(self._get_current_object())

    def __repr__(self) -> str:
        try:
            return repr(self._get_current_object())
        except Exception:  # noqa: BLE001 - a repr() that raises hides what one wanted to see
            return f"<Proxy {self._name}: nothing to stand for>"

    def __str__(self) -> str:
        return str(self._get_current_object())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._get_current_object()(*args, **kwargs)

    def __bool__(self) -> bool:
        return bool(self._get_current_object())

    def __eq__(self, other: object) -> bool:
        return bool(self._get_current_object() == other)

    def __hash__(self) -> int:
        return hash(self._get_current_object())

    def __len__(self) -> int:
        return len(self._get_current_object())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._get_current_object())

    def __contains__(self, item: object) -> bool:
        return item in self._get_current_object()

    def __getitem__(self, key: Any) -> Any:
        return self._get_current_object()[key]

    def __setitem__(self, key: Any, value: Any) -> None:
        self._get_current_object()[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._get_current_object()[key]

    def __enter__(self) -> Any:
        return self._get_current_object().__enter__()

    def __exit__(self, *exc: Any) -> Any:
        return self._get_current_object().__exit__(*exc)

    def __reduce__(self) -> Any:
        return self._get_current_object().__reduce__()

    def __copy__(self) -> Any:
        return self._get_current_object()


def unwrapped(value: Any) -> Any:
    """Return the object that a proxy stands for, and anything else as it is."""
    return value._get_current_object() if type(value) is Proxy else value
