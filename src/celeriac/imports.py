"""Load an object by its dotted name. The only place that imports by name at run time."""

import importlib
import os
import sys
import warnings
from types import ModuleType
from typing import Any


def load(path: str) -> Any:
    """Return the object that ``package.module:attribute`` (or ``package.module.attribute``) names.

    Raises ImportError or AttributeError as the import machinery does.
    """
    module, colon, attribute = path.partition(":")
    if not colon:
        module, _, attribute = path.rpartition(".")
        if not module:
            return importlib.import_module(path)
    found: Any = importlib.import_module(module)
    for part in attribute.split(".") if attribute else ():
        found = getattr(found, part)
    return found


def module(name: str) -> ModuleType:
    """Import and return a module, with the current directory on the path as ``python -m`` has it."""
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)


def missing_is(error: ModuleNotFoundError, name: str) -> bool:
    """Whether ``error`` says that ``name`` itself, or a parent of it, is what cannot be found.

    A module that exists but imports something missing is a different mistake, and must be told so.
    """
    return error.name is not None and (name == error.name or name.startswith(error.name + "."))


def level_of_caller() -> int:
    """Return the ``stacklevel`` with which a warning points at the user's own line.

    That is the first one on the stack outside of this package; to be given to ``warnings.warn`` by
    the function that asks.
    """
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("celeriac."):
        level, frame = level + 1, frame.f_back
    return level


def warn(text: str, category: type[Warning]) -> None:
    """Issue a warning that points at the user's own line."""
    warnings.warn(text, category, stacklevel=level_of_caller())
