"""``celeriac worker``: start a worker and stay until it has stopped."""

import logging
import os
import re
import socket
import sys
from typing import NamedTuple

import click
import msgspec

from celeriac import log, log_setup, run_log
from celeriac.cli.development import develop
from celeriac.cli.options import app_option, listed_names, show_traceback
from celeriac.exceptions import ImproperlyConfigured
from celeriac.pools.child import ChildConfig
from celeriac.pools.manifest import Manifest
from celeriac.pools.nursery import AppFailedError
from celeriac.pools.processes import ProcessPool
from celeriac.pools.template import TemplateConfig
from celeriac.settings import Settings
from celeriac.worker.ahead import LoadingAhead, foreseen
from celeriac.worker.options import WorkerOptions


class LogLevel(click.ParamType[int]):
    """A level by name, in any case, or by number (LOG-05)."""

    name = "level"

    def convert(
        self, value: int | str, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the level as a number."""
        try:
            return log.level_number(value)
        except ImproperlyConfigured as error:
            self.fail(str(error), param, ctx)


@click.command()
@app_option
@click.option(
    "-l",
    "--loglevel",
    default="WARNING",
    type=LogLevel(),
    show_default=True,
    help=f"Log messages from this level on: {', '.join(log.LEVELS)}, or a number.",
)
@click.option(
    "-f", "--logfile", help="Log file; %n, %h, %i and %I as for -n, and the child's number."
)
@click.option(
    "--log-format",
    type=click.Choice(log_setup.STYLES),
    help="Lines of text, or a JSON object a line [the setting worker_log_style].",
)
@click.option("-c", "--concurrency", type=click.IntRange(1, 1000), help="Child processes [CPUs].")
@click.option("-n", "--hostname", help="Name of the worker; %h host, %n name, %d domain.")
@click.option(
    "-Q", "--queues", help="Queues to consume, separated by commas [all configured ones]."
)
@click.option("-X", "--exclude-queues", help="Queues not to consume, separated by commas.")
@click.option("-I", "--include", help="Modules to import as well, separated by commas.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    help="Seconds that a warm stop may take before it turns cold.",
)
@click.option(
    "--max-tasks-per-child", type=click.IntRange(1), help="Replace a child after N tasks."
)
@click.option(
    "--max-memory-per-child",
    type=click.IntRange(1),
    help="Replace a child that has grown over N KiB.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print no banner.")
@click.option("--dev", is_flag=True, help="For development: start again when a file is saved.")
def worker(  # noqa: PLR0913 - one for each option
    spec: str,
    loglevel: int,
    logfile: str | None,
    log_format: str | None,
    concurrency: int | None,
    hostname: str | None,
    queues: str | None,
    include: str | None,
    exclude_queues: str | None,
    grace: float | None,
    max_tasks_per_child: int | None,
    max_memory_per_child: int | None,
    quiet: bool,
    dev: bool,
) -> None:
    """Start a worker: it runs tasks until it gets TERM (warm stop) or QUIT (cold stop)."""
    name = node_name(hostname)
    child = ChildConfig(
        hostname=name,
        loglevel=loglevel,
        logfile=logfile,
        max_tasks=max_tasks_per_child,
        max_memory=max_memory_per_child,
    )
    said = {**click.get_current_context().params, "hostname": name}
    style = {} if log_format is None else {"worker_log_style": log_format}
    config = TemplateConfig(
        spec=spec,
        child=child,
        settings=style,
        options=said,
        include=listed_names(include, "-I", "modules"),
        queues=listed_names(queues, "-Q"),
        exclude_queues=listed_names(exclude_queues, "-X"),
    )
    options = WorkerOptions(hostname=name, concurrency=concurrency, grace=grace, quiet=quiet)
    if dev:
        sys.exit(develop(config, options))
    pool = ProcessPool(config)
    pool.launch()
    # What is needed from here on is imported while the template imports the app.
    ahead = LoadingAhead(["celeriac.worker.worker:Worker", *foreseen(os.environ)])
    try:
        manifest = pool.manifest()
    except AppFailedError as error:
        if error.traceback:
            show_traceback(error.traceback)
        raise
    ahead.finish()
    from celeriac.worker.worker import Worker

    set_up_logging(manifest, child)
    if manifest.settings["worker_log_style"] == "json":
        options = msgspec.structs.replace(options, quiet=True)
    sys.exit(Worker(pool, manifest, options).run())


class Configured(NamedTuple):
    """The app's settings, in the process that does not have the app."""

    settings: Settings


def set_up_logging(manifest: Manifest, child: ChildConfig) -> None:
    """Log in the worker's parent, by what the template says of the app. Raises ImproperlyConfigured."""
    log_setup.name_process("MainProcess")
    configured = Configured(Settings(**manifest.settings))
    for name, level in manifest.levels.items():
        logging.getLogger(name).setLevel(level)
    log_setup.Logging(configured).setup(child.loglevel, child.logfile, hostname=child.hostname)
    run_log.use(manifest.texts)


def node_name(name: str | None) -> str:
    """Return the worker's name: ``celery@host`` unless given (WORK-11). Raises ImproperlyConfigured."""
    host = socket.gethostname()
    short, _, domain = host.partition(".")
    if not name:
        return f"celery@{host}"
    full = name.replace("%h", host).replace("%n", short).replace("%d", domain)
    full = full if "@" in full else f"{full}@{host}"
    if not re.fullmatch(r"[^\s@]+@[^\s@]+", full):
        raise ImproperlyConfigured(
            f"-n {name!r} makes the name {full!r}, which names no worker; write a word, or word@host "
            "(%h is the host, %n its first part, %d the rest)"
        )
    return full
