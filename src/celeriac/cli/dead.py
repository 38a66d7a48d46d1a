"""``celeriac dead``: messages that will not be delivered again, and what to do about them.

Exit status 1 says that nothing, or not everything that was named, was there.
"""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar

import click
from msgspec import Struct
from msgspec.structs import replace

from celeriac.brokers.base import Broker
from celeriac.cli import letters
from celeriac.cli.options import app_option, load, print_json
from celeriac.message import ALL_DEAD, DeadSelection

F = TypeVar("F", bound=Callable[..., Any])

LOOKED_AT = 1000
"""Letters that a look for expired ones takes in."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@click.group()
def dead() -> None:
    """Messages that will not be delivered again."""


def _filters(command: F) -> F:
    command = click.option("--queue", help="Only those from this queue.")(command)
    return click.option("--task", help="Only those of the task of this name.")(command)


def _checked(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
    """Refuse the empty id, which messages have that nobody could read: it tells nothing apart."""
    if "" in ([value] if isinstance(value, str) else value):
        raise click.BadParameter("'' is no id; celeriac dead list shows them", ctx, param)
    return value


@dead.command("list")
@app_option
@_filters
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="At most N.")
@json_option
def dead_list(spec: str, task: str | None, queue: str | None, limit: int, as_json: bool) -> None:
    """List dead letters, newest first, with their last words."""
    found = load(spec).broker.dead(limit, DeadSelection(task=task, queue=queue))
    if as_json:
        print_json([letters.summary(letter) for letter in found])
        return
    if not found:
        click.echo("there are no dead letters")
    for letter in found:
        click.echo(letters.line(letter))


@dead.command("show")
@app_option
@click.argument("id", callback=_checked)
@click.option("--full", is_flag=True, help="Do not shorten what is long.")
@json_option
def dead_show(spec: str, id: str, full: bool, as_json: bool) -> None:
    """Show all of the dead letter ID. It may be the id of its task."""
    app = load(spec)
    selection = _named(app.broker, id, DeadSelection())
    # A task may have died more than once.
    found = app.broker.dead(100, selection) if selection else []
    if not found:
        _end(0, [id])
    if as_json:
        documents = [letters.everything(app, letter) for letter in found]
        print_json(documents[0] if len(documents) == 1 else documents)
        return
    click.echo("\n\n".join(letters.page(app, letter, full=full) for letter in found))


class Choice(Struct, frozen=True):
    """What the command line says of the letters that are meant."""

    ids: tuple[str, ...]
    task: str | None
    queue: str | None
    everything: bool

    @property
    def filters(self) -> DeadSelection:
        return DeadSelection(task=self.task, queue=self.queue)

    def check(self) -> None:
        """Refuse what names nothing, and what contradicts itself."""
        named = bool(self.ids) or self.filters != ALL_DEAD
        if not (named or self.everything):
            raise click.UsageError("which dead letters? Name ids, --task, --queue or --all")
        if self.everything and named:
            raise click.UsageError("--all means every dead letter; leave out ids and filters")

    def __str__(self) -> str:
        words = f"dead letters {', '.join(self.ids)}" if self.ids else "all dead letters"
        words += f" of task {self.task}" if self.task is not None else ""
        return words + (f" from queue {self.queue}" if self.queue is not None else "")


def _choice(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the arguments and options that choose letters, as one value ``choice``."""

    @wraps(command)
    def chosen(
        *, ids: tuple[str, ...], task: str | None, queue: str | None, everything: bool, **rest: Any
    ) -> None:
        choice = Choice(ids, task, queue, everything)
        choice.check()
        command(choice=choice, **rest)

    option = click.option("--all", "everything", is_flag=True, help="All dead letters.")
    return click.argument("ids", nargs=-1, callback=_checked)(_filters(option(chosen)))


force_option = click.option("-f", "--force", is_flag=True, help="Do not ask.")


@dead.command("retry")
@app_option
@_choice
@force_option
def dead_retry(spec: str, choice: Choice, force: bool) -> None:
    """Put the dead letters IDS back to their queues, to be run again.

    An id is that of a letter, or of its task. Asks with --all only.
    """
    broker = load(spec).broker
    late = _expired(broker, choice)
    if choice.everything and not force:
        click.confirm("Put all dead letters back to their queues?", abort=True)
    count, missing = _act(broker, choice, broker.revive)
    if count:
        click.echo(f"{_messages(count)} back in the queue, to be run again")
    if late and count:
        click.echo(
            f"celeriac: warning: {late} of them expired while dead: workers will revoke them",
            err=True,
        )
    _end(count, missing)


@dead.command("delete")
@app_option
@_choice
@force_option
def dead_delete(spec: str, choice: Choice, force: bool) -> None:
    """Delete the dead letters IDS. There is no way back.

    An id is that of a letter, or of its task.
    """
    broker = load(spec).broker
    if not force:
        click.confirm(f"Delete {choice}? There is no way back.", abort=True)
    count, missing = _act(broker, choice, broker.delete_dead)
    if count:
        click.echo(f"{_messages(count)} deleted")
    _end(count, missing)


def _named(broker: Broker, id_: str, filters: DeadSelection) -> DeadSelection | None:
    """Return what selects the letter of this id, or else those of the task of this id."""
    by_letter, by_task = replace(filters, ids=(id_,)), replace(filters, task_ids=(id_,))
    return next((which for which in (by_letter, by_task) if broker.dead(1, which)), None)


def _act(
    broker: Broker, choice: Choice, action: Callable[[DeadSelection], int]
) -> tuple[int, list[str]]:
    """Act on the letters; return how many there were, and which ids named none."""
    if not choice.ids:
        return action(choice.filters), []
    counts = {}
    for id_ in dict.fromkeys(choice.ids):
        which = _named(broker, id_, choice.filters)
        counts[id_] = action(which) if which else 0
    return sum(counts.values()), [id_ for id_, count in counts.items() if not count]


def _expired(broker: Broker, choice: Choice) -> int:
    """Return how many of the letters have expired, as far as a look at the newest tells."""
    named = (_named(broker, id_, choice.filters) for id_ in dict.fromkeys(choice.ids))
    selections = list(filter(None, named)) if choice.ids else [choice.filters]
    found = {one.id: one for which in selections for one in broker.dead(LOOKED_AT, which)}
    return sum(letters.expired(letter) for letter in found.values())


def _messages(count: int) -> str:
    return "1 message is" if count == 1 else f"{count:,} messages are"


def _end(count: int, missing: Sequence[str]) -> None:
    """Say what was not there, and exit with 1 if it was named, or if nothing was there at all."""
    for id_ in missing:
        click.echo(f"celeriac: there is no dead letter {id_!r}", err=True)
    if not count and not missing:
        click.echo("celeriac: there are no such dead letters", err=True)
    if missing or not count:
        sys.exit(1)
