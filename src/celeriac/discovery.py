"""Find the modules that hold tasks: ``package.tasks`` for each package (APP-18)."""

from collections.abc import Callable, Iterable
from types import ModuleType

from celeriac import imports

Packages = Iterable[str] | Callable[[], Iterable[str]]


def related_modules(packages: Packages, related_name: str | None = "tasks") -> list[ModuleType]:
    """Import the module ``related_name`` of each package, and return those that are there.

    A package may be named by something inside of it (``shop.apps.ShopConfig``). Without a related
    name the packages themselves are imported. What a module that is there raises comes through.
    """
    names = packages() if callable(packages) else packages
    found = (_related(name, related_name) for name in names)
    return [module for module in found if module is not None]


def _related(package: str, related_name: str | None) -> ModuleType | None:
    try:
        whole = imports.module(package)
    except ModuleNotFoundError as error:
        outer = package.rpartition(".")[0]
        if not outer or not imports.missing_is(error, package):
            raise
        package = outer
    else:
        if not related_name:
            return whole
    name = f"{package}.{related_name or 'tasks'}"
    try:
        return imports.module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None
