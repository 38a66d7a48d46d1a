"""``celeriac queues`` and ``purge``: look into the broker, and clear it."""

import click

from celeriac.cli.options import app_option, listed_names, load
from celeriac.wire.legible import escaped


@click.command()
@app_option
@click.option(
    "--release",
    metavar="NAMES",
    help="Have delayed messages of these queues come at once, for Celery workers to keep.",
)
def queues(spec: str, release: str | None) -> None:
    """Show what each queue holds: ready, delayed, in the hands of workers, unknown tasks."""
    app = load(spec)
    for name in listed_names(release, "--release"):
        click.echo(f"{name}: {app.broker.release(name)} delayed messages are ready")
    sizes = app.broker.sizes()
    if not sizes:
        click.echo("all queues are empty")
        return
    click.echo(f"{'queue':<24}{'ready':>10}{'delayed':>10}{'running':>10}")
    for name, size in sizes.items():
        click.echo(f"{name:<24}{size.ready:>10}{size.delayed:>10}{size.leased:>10}")
        for task, count in size.unknown.items():
            shown = escaped(task)
            click.echo(f"  unknown task {shown}: {count} waiting for a worker that knows it")


@click.command()
@app_option
@click.option(
    "-Q", "--queues", "names", help="Queues to purge, separated by commas [the default one]."
)
@click.option("-f", "--force", is_flag=True, help="Do not ask.")
def purge(spec: str, names: str | None, force: bool) -> None:
    """Remove all waiting messages from queues. There is no way back."""
    app = load(spec)
    chosen = listed_names(names, "-Q") or (app.settings.task_default_queue,)
    if not force:
        click.confirm(f"Remove all waiting messages from {', '.join(chosen)}?", abort=True)
    for name in chosen:
        click.echo(f"{name}: {app.broker.purge(name)} messages removed")
    if others := app.broker.sizes().keys() - set(chosen):
        click.echo(f"other queues hold messages: {', '.join(sorted(others))}", err=True)
