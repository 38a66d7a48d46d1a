"""Check one value against the type that the table gives its setting, and bring it into shape.

Text is understood where a number or a truth value is expected, since settings come from files,
environments and command lines as well. Ranges, and whether a URL can be opened, are checked by
whoever uses the value.
"""

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from math import isnan
from types import NoneType
from typing import Any, get_args

from celeriac.exceptions import ImproperlyConfigured
from celeriac.settings.masking import shown
from celeriac.settings.table import Options, Strings, entry

_TRUTH = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}


def coerce(name: str, value: object, source: str = "") -> Any:
    """Return ``value`` in the type of the setting ``name``; dictionaries stay the same object.

    Raises ImproperlyConfigured, which shows the value (masked where it is a secret), the
    ``source`` it came from, and what would fit.
    """
    kinds = _kinds(name)
    for kind in kinds:
        try:
            return _CONVERSIONS[kind][0](value)
        except (TypeError, ValueError, ArithmeticError):
            continue
    where = f" in {source}" if source else ""
    *others, last = (_CONVERSIONS[kind][1] for kind in kinds)
    expected = f"{', '.join(others)} or {last}" if others else last
    raise ImproperlyConfigured(
        f"the setting {name!r}{where} cannot be {shown(name, value)}: give {expected}"
    )


def _kinds(name: str) -> tuple[Any, ...]:
    """The alternatives of the setting's type, in the order in which they are tried."""
    hint = entry(name).type
    return (hint,) if hint in _CONVERSIONS else get_args(hint)


def _bool(value: object) -> bool:
    if isinstance(value, str):
        value = _TRUTH.get(value.strip().lower())
    if value in (True, False):
        return bool(value)
    raise TypeError


def _int(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    whole = int(value)
    if not isinstance(value, str) and whole != value:
        raise ValueError
    return whole


def _float(value: object) -> float:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise TypeError
    number = float(value)
    if isnan(number):
        raise ValueError
    return number


def _str(value: object) -> str:
    if isinstance(value, str):
        return value if type(value) is str else str.__str__(value)
    if isinstance(value, os.PathLike):
        path: object = os.fspath(value)
        return _str(path)
    raise TypeError


def _bytes(value: object) -> bytes:
    if isinstance(value, bytes):
        return value
    raise TypeError


def _strings(value: object) -> Strings:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    if isinstance(value, set | frozenset):
        return tuple(sorted(map(_str, value)))
    if isinstance(value, list | tuple):
        return tuple(map(_str, value))
    raise TypeError


def _options(value: object) -> Options:
    if isinstance(value, dict):
        return value
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _class(value: object) -> type[Any]:
    if isinstance(value, type):
        return value
    raise TypeError


def _none(value: object) -> None:
    if value is not None:
        raise TypeError


def _anything(value: object) -> object:
    return value


_CONVERSIONS: dict[Any, tuple[Callable[[object], object], str]] = {
    bool: (_bool, "True or False"),
    int: (_int, "a whole number"),
    float: (_float, "a number (a timedelta stands for its seconds)"),
    str: (_str, "a string"),
    bytes: (_bytes, "bytes"),
    Strings: (_strings, "a list of strings"),
    Options: (_options, "a dictionary"),
    type[Any]: (_class, "a class"),
    NoneType: (_none, "None"),
    Any: (_anything, "anything"),
}
