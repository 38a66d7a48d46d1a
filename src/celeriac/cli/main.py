"""The program ``celeriac``: global options, and the commands by name.

``-A`` may stand before or after the command. What a user can mend is said in one line, with exit status 2;
help and tracebacks of the user's own code are the only longer texts.
"""

import sys
import warnings
from typing import NoReturn, TextIO

import click

from celeriac import __version__, imports
from celeriac.exceptions import CeleriacError, CeleriacWarning

COMMANDS = {
    "call": "celeriac.cli.tasks:call",
    "check": "celeriac.cli.inspection:check",
    "dead": "celeriac.cli.dead:dead",
    "purge": "celeriac.cli.queues:purge",
    "queues": "celeriac.cli.queues:queues",
    "report": "celeriac.cli.inspection:report",
    "result": "celeriac.cli.tasks:result",
    "shell": "celeriac.cli.shell:shell",
    "worker": "celeriac.cli.worker:worker",
}


class Commands(click.Group):
    """Loads a command when it is named, so that a worker does not wait for the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        path = COMMANDS.get(cmd_name)
        return None if path is None else imports.load(path)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS:
            raise click.UsageError(
                f"there is no command {args[0]!r}; commands are: {', '.join(sorted(COMMANDS))}"
            )
        return super().resolve_command(ctx, args)


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-A", "--app", envvar="CELERIAC_APP", metavar="MODULE[:NAME]", help="The app to use.")
@click.version_option(__version__, prog_name="celeriac")
@click.pass_context
def celeriac(ctx: click.Context, app: str | None) -> None:
    """Celeriac: a distributed task queue."""
    ctx.obj = app


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the program and exit."""
    warnings.showwarning = _show_warning
    try:
        sys.exit(celeriac.main(arguments, prog_name="celeriac", standalone_mode=False))
    except click.Abort:
        _end("aborted", 1)
    except click.exceptions.NoArgsIsHelpError as wanted:
        wanted.show()
        sys.exit(2)
    except click.ClickException as error:
        _end(_usage(error), 2)
    except CeleriacError as error:
        _end(str(error), 2)


def _end(text: str, status: int) -> NoReturn:
    click.echo(f"celeriac: {text}", err=True)
    sys.exit(status)


def _usage(error: click.ClickException) -> str:
    """Return in one line what is wrong with the command line, and where its options are told."""
    text = " ".join(error.format_message().split()).rstrip(".")
    context = error.ctx if isinstance(error, click.UsageError) else None
    return text if context is None else f"{text} (see {context.command_path} --help)"


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning of ours as other lines are printed; where in the code it arose helps nobody."""
    if issubclass(category, CeleriacWarning):
        click.echo(f"celeriac: warning: {message}", err=True)
    else:
        text = warnings.formatwarning(message, category, filename, lineno, line)
        click.echo(text, file=file or sys.stderr, nl=False)
