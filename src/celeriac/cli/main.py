"""The program ``celeriac``: global options, and the commands by name.

``-A`` may stand before or after the command. Errors that a user can mend are one line, exit status
2.
"""

import sys
from typing import Any

import click

from celeriac import __version__, imports
from celeriac.exceptions import CeleriacError

COMMANDS = {
    "call": "celeriac.cli.tasks:call",
    "dead": "celeriac.cli.queues:dead",
    "purge": "celeriac.cli.queues:purge",
    "queues": "celeriac.cli.queues:queues",
    "result": "celeriac.cli.tasks:result",
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


def main(arguments: list[str] | None = None) -> Any:
    """Run the program and exit."""
    try:
        celeriac.main(arguments, prog_name="celeriac", standalone_mode=True)
    except CeleriacError as error:
        click.echo(f"celeriac: {error}", err=True)
        sys.exit(2)
