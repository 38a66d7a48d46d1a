"""``celeriac worker``: start a worker and stay until it has stopped."""

import re
import socket
import sys

import click

from celeriac import log
from celeriac.cli.development import develop
from celeriac.cli.options import app_option, queue_names, show_traceback
from celeriac.exceptions import ImproperlyConfigured
from celeriac.pools.child import ChildConfig
from celeriac.pools.nursery import AppFailedError
from celeriac.pools.processes import ProcessPool
from celeriac.pools.template import TemplateConfig
from celeriac.settings import Settings
from celeriac.worker.worker import Worker, WorkerOptions


@click.command()
@app_option
@click.option(
    "-l",
    "--loglevel",
    default="WARNING",
    type=click.Choice(log.LEVELS, case_sensitive=False),
    show_default=True,
    help="Log messages from this level on.",
)
@click.option("-c", "--concurrency", type=click.IntRange(1, 1000), help="Child processes [CPUs].")
@click.option("-n", "--hostname", help="Name of the worker; %h host, %n name, %d domain.")
@click.option("-Q", "--queues", help="Queues to consume, separated by commas.")
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
    loglevel: str,
    concurrency: int | None,
    hostname: str | None,
    queues: str | None,
    grace: float | None,
    max_tasks_per_child: int | None,
    max_memory_per_child: int | None,
    quiet: bool,
    dev: bool,
) -> None:
    """Start a worker: it runs tasks until it gets TERM (warm stop) or QUIT (cold stop)."""
    name = node_name(hostname)
    chosen = queue_names(queues)
    child = ChildConfig(
        hostname=name,
        loglevel=loglevel.upper(),
        max_tasks=max_tasks_per_child,
        max_memory=max_memory_per_child,
    )
    config = TemplateConfig(spec=spec, child=child)
    options = WorkerOptions(
        hostname=name,
        queues=chosen,
        concurrency=concurrency,
        grace=grace,
        quiet=quiet,
    )
    if dev:
        sys.exit(develop(config, options))
    pool = ProcessPool(config)
    pool.launch()
    try:
        manifest = pool.manifest()
    except AppFailedError as error:
        if error.traceback:
            show_traceback(error.traceback)
        raise
    settings = Settings(**manifest.settings)
    log.set_up(
        child.loglevel,
        settings.worker_log_format,
        settings.worker_task_log_format,
        hijack_root=settings.worker_hijack_root_logger,
        process="MainProcess",
    )
    sys.exit(Worker(pool, manifest, options).run())


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
