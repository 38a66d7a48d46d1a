"""What several commands share: ``-A`` behind the command, and loading the app it names."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

from celeriac.app import Celery, find_app
from celeriac.exceptions import ImproperlyConfigured

F = TypeVar("F", bound=Callable[..., Any])


def app_option(command: F) -> F:
    """Give a command ``-A``, for those who write it behind the command."""
    return click.option(
        "-A", "--app", "spec", metavar="MODULE[:NAME]", help="The app to use.", callback=_outer
    )(command)


def _outer(ctx: click.Context, _: click.Parameter, value: str | None) -> str:
    spec = value or ctx.obj
    if not spec:
        raise ImproperlyConfigured(
            "which app? Name the module that holds it: celeriac -A module "
            f"{ctx.info_name or 'worker'}"
        )
    return str(spec)


def load(spec: str) -> Celery:
    """Return the app, with everything that it includes. Raises AppNotFound."""
    return find_app(spec)
