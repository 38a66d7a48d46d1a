"""From what ``-A`` says to an app (APP-39)."""

import os
from collections.abc import Iterator
from types import ModuleType
from typing import Any

from celeriac import imports
from celeriac.app import Celery
from celeriac.exceptions import AppNotFound


def find_app(spec: str) -> Celery:
    """Return the app that ``-A`` names (APP-39).

    ``module:attribute``; or a module (or ``module.attribute``) in which ``app``, then ``celery``,
    then the submodule ``celery``, then the first app found is taken. Raises AppNotFound with what
    to write instead; what the user's own modules raise comes through as it is.
    """
    if "/" in spec or spec.endswith(".py"):
        name = spec.rpartition("/")[2].removesuffix(".py")
        raise AppNotFound(f"-A {spec}: write the name of a module, not of a file: -A {name}")
    module_name, colon, attribute = spec.partition(":")
    if colon:
        return _as_app(_attribute(_import(module_name, spec), attribute, spec), spec)
    try:
        found: Any = _import(spec, spec)
    except AppNotFound:
        parent, dot, attribute = spec.rpartition(".")
        if not dot:
            raise
        found = _attribute(_import(parent, spec), attribute, spec)
    return _as_app(found, spec)


def _import(name: str, spec: str) -> ModuleType:
    try:
        return imports.module(name)
    except ModuleNotFoundError as error:
        if not imports.missing_is(error, name):
            raise
        raise AppNotFound(
            f"-A {spec}: there is no module {name!r} here ({os.getcwd()}); write -A module or "
            "-A module:app, from the folder that holds the module"
        ) from None


def _attribute(module: ModuleType, path: str, spec: str) -> Any:
    found: Any = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            apps = [n for n, value in vars(module).items() if isinstance(value, Celery)]
            raise AppNotFound(
                f"-A {spec}: module {module.__name__} has no {path!r}; "
                f"its apps are: {', '.join(apps) or 'none'}"
            ) from None
    return found


def _as_app(found: Any, spec: str) -> Celery:
    if isinstance(found, Celery):
        return found
    if not isinstance(found, ModuleType):
        raise AppNotFound(f"-A {spec}: {spec} is a {type(found).__name__}, not a Celery app")
    app = next(_apps_in(found), None)
    if app is None:
        raise AppNotFound(
            f"-A {spec}: module {found.__name__} holds no Celery app; make one there: "
            f"app = Celery({found.__name__!r})"
        )
    return app


def _apps_in(module: ModuleType) -> Iterator[Celery]:
    """Yield the apps that a module holds, the one that is most likely meant first."""
    for name in ("app", "celery"):
        found = getattr(module, name, None)
        found = getattr(found, "app", None) if isinstance(found, ModuleType) else found
        if isinstance(found, Celery):
            yield found
    if hasattr(module, "__path__"):
        name = f"{module.__name__}.celery"
        try:
            yield from _apps_in(imports.module(name))
        except ModuleNotFoundError as error:
            if not imports.missing_is(error, name):
                raise
    yield from (value for value in list(vars(module).values()) if isinstance(value, Celery))
