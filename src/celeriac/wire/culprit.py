"""Finds out why a value cannot be written, and where in it the culprit is.

Loaded and run only after a serializer has failed: finding the path encodes parts of the value again,
which costs too much for anything but an error text. Pure and thread-safe.
"""

from collections.abc import Callable, Iterable, Iterator
from json import dumps
from typing import Any

from celeriac.exceptions import EncodeError
from celeriac.wire.repr import saferepr

__all__ = ["About", "explained"]

# A path longer than this helps nobody, and finding each step encodes what lies below it once more.
_LONGEST_PATH = 24


About = tuple[str, str, str]
"""What an error text says about a format: its name, what keys may be, what to pass instead."""


def explained(
    value: Any,
    root: str | tuple[str, ...],
    error: Exception,
    encode: Callable[[Any], object],
    about: About,
) -> EncodeError:
    """Return the error that names the path to what ``encode`` could not write, and why.

    The path starts at ``root``; a tuple of names stands for the items of the sequence or mapping
    ``value`` instead.
    """
    return _Search(encode, about).explained(value, root, error)


class _Search:
    def __init__(self, encode: Callable[[Any], object], about: About) -> None:
        self._encode = encode
        self._name, self._keys, self._advice = about

    def explained(self, value: Any, root: str | tuple[str, ...], error: Exception) -> EncodeError:
        for path, part in _roots(value, root):
            reason = self._failure(part)
            if isinstance(reason, RecursionError):
                return self._error(path, "it is nested too deeply")
            if reason is not None:
                return self._located(path, part, reason)
        return self._error(_named(root), _cause(error))

    def _error(self, path: str, why: str) -> EncodeError:
        return EncodeError(f"cannot write {path} as {self._name}: {why}")

    def _located(self, path: str, value: Any, reason: Exception) -> EncodeError:
        """Walk down to the innermost part that fails, and say what it is."""
        seen = {id(value)}
        for _ in range(_LONGEST_PATH):
            inner = next(self._failing(path, value), None)
            if inner is None:
                break
            path, value, reason = inner
            if id(value) in seen:
                return self._error(path, "it contains itself")
            seen.add(id(value))
        if isinstance(value, dict) and (key := self._bad_key(value)) is not None:
            return self._error(path, f"its key {key} is not {self._keys}")
        advice = f". {self._advice}" if self._advice else ""
        shown = saferepr(value, 80)
        return self._error(path, f"{_cause(reason)} (the value: {shown}){advice}")

    def _failing(self, path: str, value: Any) -> Iterator[tuple[str, Any, Exception]]:
        """Yield the parts of a container that cannot be written, with their paths."""
        for step, part in _parts(value):
            reason = self._failure(part)
            if reason is not None:
                yield path + step, part, reason

    def _bad_key(self, value: dict[Any, Any]) -> str | None:
        bad = (key for key in value if self._failure({key: None}) is not None)
        return next((saferepr(key, 80) for key in bad), None)

    def _failure(self, value: Any) -> Exception | None:
        """Return why the value cannot be written, or None if it can."""
        try:
            self._encode(value)
        except Exception as error:  # noqa: BLE001 - the value's own hooks may raise anything
            return error
        return None


def _roots(value: Any, root: str | tuple[str, ...]) -> Iterable[tuple[str, Any]]:
    if isinstance(root, str):
        return [(root, value)]
    return zip(root, value.values() if isinstance(value, dict) else value, strict=True)


def _named(root: str | tuple[str, ...]) -> str:
    return root if isinstance(root, str) else ", ".join(root)


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"[{_key(key)}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{index}]", part) for index, part in enumerate(value))


def _key(key: Any) -> str:
    return dumps(key[:40]) if isinstance(key, str) else saferepr(key, 40)


def _cause(error: Exception) -> str:
    if isinstance(error, TypeError | ValueError) and error.args:
        return str(error)
    return f"{type(error).__name__}: {error}"
