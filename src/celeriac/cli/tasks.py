"""``celeriac call`` and ``celeriac result``: send one task, read one result."""

from typing import Any

import click

from celeriac.cli.options import app_option, load
from celeriac.exceptions import CeleriacError, DecodeError, RemoteTraceback
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
@click.option("--eta", help="Time before which it does not run, ISO 8601.")
@click.option("--expires", help="Seconds, or ISO 8601 time, after which it is not run any more.")
@click.option("--queue", help="Queue to send it to.")
@click.option("--priority", type=click.IntRange(0, 255), help="Higher is sooner.")
@click.option("--wait", is_flag=True, help="Wait for the result and print it.")
def call(
    spec: str, name: str, args: list[Any], kwargs: dict[str, Any], wait: bool, **options: Any
) -> None:
    """Send the task NAME and print its id."""
    app = load(spec)
    if options["expires"] is not None:
        options["expires"] = _number(options["expires"])
    try:
        sent = app.send_task(name, args, kwargs, **options)
    except ValueError as error:
        raise CeleriacError(f"cannot send {name}: {error}") from None
    click.echo(sent.id)
    if wait:
        _show(sent, None)


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
        click.echo(found.traceback or "no traceback")
        return
    _show(found, timeout)


def _show(found: Any, timeout: float | None) -> None:
    """Print a result; a failure is one line, and exit status 1."""
    try:
        click.echo(found.get(timeout))
    except CeleriacError:
        raise
    except Exception as error:
        if not isinstance(error.__cause__, RemoteTraceback):
            raise
        click.echo(f"the task failed: {error!r}", err=True)
        raise SystemExit(1) from None


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
