"""The short text of arguments that travels beside a message, for logs, events and dashboards.

Work and output are bounded whatever the value is, as far as its own ``repr()`` allows; nothing that
runs a task reads this text. It is the text Celery writes for ordinary small values, except that
strings and bytes are always valid Python literals: a newline inside an argument cannot forge a line
in a log. Pure and thread-safe.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from types import NoneType
from typing import Any

__all__ = ["saferepr"]

_ATOMS = frozenset((float, bool, NoneType))
_CONTAINERS = frozenset((tuple, dict, list))

# What counts as small: containers of so many items, strings of so many characters.
_FEW = 8
_SHORT = 100

# Numbers up to here are printed in full; printing takes time with the square of their length.
_BIG = 10**200

# What a depth of nothing or less stands for, where Celery would descend without end.
_DEEPEST = 20


def saferepr(value: Any, limit: int = 1024, depth: int = 3) -> str:
    """Return a text of at most ``limit`` characters that shows the value.

    Containers are shown ``depth`` levels deep. Never raises: a ``repr()`` that fails is named in
    the text.
    """
    if depth <= 0:
        depth = _DEEPEST
    try:
        if (not value and type(value) in _CONTAINERS) or _is_small((value,), depth):
            text = repr(value)
            if len(text) <= limit:
                return text
    except RuntimeError:  # another thread changed the container just now
        pass
    return _Writer(limit, depth).text(value)


def _is_small(parts: Iterable[Any], depth: int) -> bool:
    """Return whether ``repr()`` of these is short, quick and what Celery would show."""
    for part in parts:
        kind = type(part)
        if kind is int:
            if not -_BIG < part < _BIG:
                return False
        elif kind is str:
            if len(part) > _SHORT:
                return False
        elif kind in _CONTAINERS:
            if depth <= 0 or len(part) > _FEW or not _is_small(part, depth - 1):
                return False
            if kind is dict and not _is_small(part.values(), depth - 1):
                return False
        elif kind not in _ATOMS:
            return False
    return True


class _Writer:
    """Collects pieces of text until its room is used up. Used once."""

    def __init__(self, limit: int, depth: int) -> None:
        self._limit = limit
        self._room = limit
        self._depth = depth
        self._pieces: list[str] = []

    def text(self, value: Any) -> str:
        self._show(value, 0)
        return _cut("".join(self._pieces), self._limit)

    def _put(self, piece: str) -> None:
        self._pieces.append(piece)
        self._room -= len(piece)

    def _show(self, value: Any, level: int) -> None:
        try:
            brackets = _brackets(value)
            if brackets is None:
                self._put(_atom(value, max(self._room, 0)))
            elif level >= self._depth:
                self._put(f"{brackets[0]}...{brackets[1]}")
            else:
                self._container(value, brackets, level)
        except Exception as error:  # noqa: BLE001 - repr(), len() and iteration are the user's code
            self._put(f"<{type(value).__name__}: its repr() raised {type(error).__name__}>")

    def _container(self, value: Any, brackets: tuple[str, str], level: int) -> None:
        opening, closing = brackets
        self._put(opening)
        self._room -= len(closing) + len(", ...")
        pairs = isinstance(value, dict)
        for index, item in enumerate(_items(value, self._room)):
            if index:
                self._put(", ")
            if self._room <= 0:
                self._put("...")
                break
            if pairs:
                self._show(item[0], level + 1)
                self._put(": ")
            self._show(item[1] if pairs else item, level + 1)
        self._room += len(closing) + len(", ...")
        self._put(closing)


def _items(value: Any, room: int) -> Iterator[Any]:
    """Return the items that could possibly be shown: each takes a character or more."""
    items: Iterable[Any] = value.items() if isinstance(value, dict) else value
    return islice(iter(items), max(room, 0) + 1)


def _brackets(value: Any) -> tuple[str, str] | None:
    """Return what opens and closes this container, or None for what is no container."""
    if isinstance(value, dict):
        return "{", "}"
    if isinstance(value, list):
        return "[", "]"
    if isinstance(value, tuple):
        return "(", ",)" if len(value) == 1 else ")"
    if isinstance(value, set | frozenset) and value:
        name = type(value).__name__
        return ("{", "}") if name == "set" else (f"{name}({{", "})")
    return None


def _atom(value: Any, room: int) -> str:
    """Return the text of one value, cut to the room there is."""
    if isinstance(value, str | bytes | bytearray):
        return _cut(repr(value[: room + 1]), room)
    if isinstance(value, int) and not -_BIG < value < _BIG:
        return f"<int of {value.bit_length()} bits>"
    return _cut(str(value) if isinstance(value, int | float) else repr(value), room)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else text[: max(room - 3, 0)] + "..."
