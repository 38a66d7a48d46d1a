"""``celeriac call`` and ``celeriac result``: send one task, read one result."""

from typing import Any

import click

from celeriac import clock, states
from celeriac.app import Celery
from celeriac.cli.options import app_option, load
from celeriac.exceptions import CeleriacError, DecodeError, NotRegistered
from celeriac.result import AsyncResult as Result
from celeriac.wire import json


class Json(click.ParamType):  # type: ignore[type-arg]  # generic only in newer versions of click
    """A JSON value of one type on the command line."""

    def __init__(self, kind: type, example: str) -> None:
        self.name = f"json {kind.__name__}"
        self._kind = kind
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the decoded value; a usage error shows what to write."""
        if isinstance(value, self._kind):
            return value
        try:
            decoded = json.decode(value)
        except DecodeError:
            decoded = None
        if not isinstance(decoded, self._kind):
            self.fail(
                f"{value!r} is not a JSON {self._kind.__name__}; write {self._example}", param, ctx
            )
        return decoded


class Moment(click.ParamType):  # type: ignore[type-arg]  # as above
    """A time in ISO 8601; with ``or_seconds`` also a number of seconds."""

    name = "time"

    def __init__(self, *, or_seconds: bool = False) -> None:
        self._or_seconds = or_seconds

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the text, or the number; a usage error shows what to write."""
        if self._or_seconds:
            try:
                return float(value)
            except ValueError:
                pass
        try:
            clock.parse_iso(value)
        except ValueError:
            also = " or seconds, such as 60" if self._or_seconds else ""
            self.fail(
                f"{value!r} is no time; write ISO 8601, such as 2030-12-31T12:00:00+01:00{also}",
                param,
                ctx,
            )
        return value


@click.command()
@app_option
@click.argument("name")
@click.option(
    "-a", "--args", type=Json(list, "'[1, 2]'"), default="[]", help="Positional, as JSON."
)
@click.option(
    "-k", "--kwargs", type=Json(dict, "'{\"x\": 1}'"), default="{}", help="Keyword, as JSON."
)
@click.option("--countdown", type=float, help="Seconds to wait before it runs.")
@click.option("--eta", type=Moment(), help="Time before which it does not run, ISO 8601.")
@click.option(
    "--expires",
    type=Moment(or_seconds=True),
    help="Seconds, or ISO 8601 time, after which it is not run any more.",
)
@click.option("--queue", help="Queue to send it to.")
@click.option("--priority", type=click.IntRange(0, 255), help="Higher is sooner.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
@click.option("--unregistered", is_flag=True, help="Send it even if this app has no such task.")
def call(
    spec: str,
    name: str,
    args: list[Any],
    kwargs: dict[str, Any],
    wait: bool,
    unregistered: bool,
    **options: Any,
) -> None:
    """Send the task NAME and print its id."""
    app = load(spec)
    if not unregistered:
        _check_name(app, name)
    try:
        sent = app.send_task(name, args, kwargs, **options)
    except ValueError as error:
        raise CeleriacError(f"cannot send {name}: {error}") from None
    click.echo(sent.id)
    if wait and sent.ignored:
        raise CeleriacError(f"task {name} keeps no result (ignore_result); leave out --wait")
    if wait:
        _show(sent, None)


def _check_name(app: Celery, name: str) -> None:
    """Refuse a name that the app does not know: its message would wait for a day, mostly in vain."""
    if name in app.tasks:
        return
    import difflib

    near = difflib.get_close_matches(name, app.tasks, 1)
    instead = f"did you mean {near[0]!r}?" if near else "is its module imported (imports, include)?"
    raise NotRegistered(
        f"app {app.main} has no task {name!r}; {instead} "
        "If workers of another app run it, add --unregistered"
    )


@click.command()
@app_option
@click.argument("task_id")
@click.option("--timeout", type=click.FloatRange(min=0), help="Wait at most this many seconds.")
@click.option("--traceback", is_flag=True, help="Print the traceback of a failure.")
def result(spec: str, task_id: str, timeout: float | None, traceback: bool) -> None:
    """Wait for the result of the task TASK_ID and print it."""
    app = load(spec)
    found = app.AsyncResult(task_id)
    if traceback:
        found.get(timeout, propagate=False)
        click.echo((found.traceback or "no traceback").rstrip())
        return
    _show(found, timeout)


def _show(found: Result[Any], timeout: float | None) -> None:
    """Print a result; a failure is one line, and exit status 1."""
    value = found.get(timeout, propagate=False)
    if found.state not in states.PROPAGATE_STATES:
        click.echo(value)
        return
    how = "failed" if found.state == states.FAILURE else "was revoked"
    click.echo(f"the task {how}: {value!r}", err=True)
    raise SystemExit(1)
