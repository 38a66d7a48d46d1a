"""What a worker says of itself when it starts: app, broker, store, guarantee, pool, queues, tasks."""

from collections.abc import Sequence

from celeriac.pools.manifest import Manifest, TaskOptions
from celeriac.settings import masked_url

NAMED = 3
"""Tasks that the line about the guarantee names; the others it counts."""


def banner(manifest: Manifest, hostname: str, slots: int, queues: Sequence[str]) -> str:
    """Return the banner as text (WORK-14)."""
    lines = [
        f"celeriac worker {hostname}",
        "",
        f"  app        {manifest.app}",
        f"  broker     {masked_url(manifest.broker)}",
        f"  results    {masked_url(manifest.store)}",
        f"  guarantee  {guarantee(manifest.tasks)}",
        f"  pool       {slots} process{'' if slots == 1 else 'es'}",
        f"  queues     {', '.join(queues)}",
        "",
        "  tasks",
        *(f"    . {task.name}" for task in manifest.tasks),
    ]
    if not manifest.tasks:
        lines.append("    (none)")
    return "\n".join([*lines, "", "Ctrl-C stops it; -l info shows what it does.", ""])


def guarantee(tasks: Sequence[TaskOptions]) -> str:
    """Return what the tasks' ack policies promise, in one line."""
    early = [task.name for task in tasks if not task.acks_late]
    if not early:
        return "at least once: a task may run twice, none is lost"
    if len(early) == len(tasks):
        return "at most once: a task is lost if its process or worker dies"
    named, more = ", ".join(early[:NAMED]), len(early) - NAMED
    return f"at least once, but at most once for: {named}{f' and {more} more' if more > 0 else ''}"
