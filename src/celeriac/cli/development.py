"""``celeriac worker --dev``: what the command line says of a worker for development."""

from contextlib import suppress

import click
from click.core import ParameterSource
from msgspec.structs import replace

from celeriac.cli.options import show_traceback
from celeriac.pools.manifest import AppFailed
from celeriac.pools.template import TemplateConfig
from celeriac.worker.options import WorkerOptions

POOL_OPTIONS = {
    "concurrency": "-c",
    "max_tasks_per_child": "--max-tasks-per-child",
    "max_memory_per_child": "--max-memory-per-child",
}
"""Options of child processes, of which there are none."""


def develop(config: TemplateConfig, options: WorkerOptions) -> int:
    """Run a worker for development; return the exit status. Logs from INFO on, unless told to."""
    from celeriac.worker.development import Development
    from celeriac.worker.development import develop as run

    context = click.get_current_context()
    for name, option in POOL_OPTIONS.items():
        if _given(context, name):
            raise click.UsageError(
                f"--dev runs one task at a time, in one process: leave out {option}"
            )
    if not _given(context, "loglevel"):
        config = replace(config, child=replace(config.child, loglevel="INFO"))
    return run(Development(config=config, options=options, say=_say, failed=_show))


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is not ParameterSource.DEFAULT


def _say(text: str) -> None:
    with suppress(OSError):  # The terminal may have gone; the rest goes on.
        click.echo(f"celeriac: {text}", err=True)


def _show(failure: AppFailed) -> None:
    if failure.traceback:
        show_traceback(failure.traceback)
    _say(failure.message)
