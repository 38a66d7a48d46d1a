"""What several commands share: ``-A`` behind the command, loading the app it names, lists of queues."""

import json
import re
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

import celeriac
from celeriac.app import Celery
from celeriac.app_spec import find_app
from celeriac.exceptions import CeleriacError, ImproperlyConfigured

F = TypeVar("F", bound=Callable[..., Any])

_HOUSE = str(Path(celeriac.__file__).parent)
_FRAME = re.compile(r'^(?=  File ")', re.MULTILINE)


def app_option(command: F) -> F:
    """Give a command ``-A``, for those who write it behind the command."""
    return click.option(
        "-A", "--app", "spec", metavar="MODULE[:NAME]", help="The app to use.", callback=_outer
    )(command)


def _outer(ctx: click.Context, _: click.Parameter, value: str | None) -> str:
    spec = value or ctx.find_root().obj
    if not spec:
        command = ctx.command_path.removeprefix("celeriac ")
        raise ImproperlyConfigured(
            f"which app? Name the module that holds it: celeriac -A module {command}"
        )
    return str(spec)


def load(spec: str) -> Celery:
    """Return the app that ``-A`` names.

    Raises AppNotFound; or ImproperlyConfigured if the user's code raises something, whose traceback is
    printed.
    """
    try:
        return find_app(spec)
    except CeleriacError:
        raise
    except Exception as error:  # noqa: BLE001 - the user's module may raise anything
        raise _users_fault(spec, error) from None


def load_whole(spec: str) -> Celery:
    """Return the app with everything that it includes imported, as a worker has it.

    Raises as ``load`` does.
    """
    app = load(spec)
    try:
        app.loader.import_default_modules()
        app.finalize()
    except CeleriacError:
        raise
    except Exception as error:  # noqa: BLE001 - as above
        raise _users_fault(spec, error) from None
    return app


def _users_fault(spec: str, error: Exception) -> ImproperlyConfigured:
    """Print the traceback of what the user's code has raised; return the line that ends it."""
    show_traceback("".join(traceback.format_exception(error)))
    return ImproperlyConfigured(f"-A {spec}: importing it raised {error!r}")


def show_traceback(text: str) -> None:
    """Print the traceback of the user's code, without the frames of ours that led there."""
    head, *frames = _FRAME.split(text)
    while len(frames) > 1 and _leads_there(frames[0]):
        del frames[0]
    click.echo(head + "".join(frames).rstrip(), err=True)


def _leads_there(frame: str) -> bool:
    path = frame.split('"')[1]
    importing = path.startswith("<frozen importlib") or path.endswith("/importlib/__init__.py")
    return importing or path.startswith(_HOUSE)


def print_json(value: Any) -> None:
    """Print a value for programs, whatever the encoding of the terminal."""
    click.echo(json.dumps(value, indent=2))


def listed_names(text: str | None, option: str, what: str = "queues") -> tuple[str, ...]:
    """Return the names that an option lists; empty if it is not given. Raises ImproperlyConfigured."""
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise ImproperlyConfigured(
            f"{option} {text!r} has an empty name; write {what} separated by commas: "
            f"{option} mail,reports"
        )
    return tuple(dict.fromkeys(names))
