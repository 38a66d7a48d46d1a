"""What a worker is told when it is started. Light: the command line needs it before the worker."""

from msgspec import Struct


class WorkerOptions(Struct, frozen=True, kw_only=True):
    """What the command line says; None leaves it to the settings."""

    hostname: str
    concurrency: int | None = None
    grace: float | None = None
    """Seconds of warm stop after which it turns cold; None waits without limit."""
    quiet: bool = False
