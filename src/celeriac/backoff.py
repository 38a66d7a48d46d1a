"""Exponential delay with jitter, for reconnects and retries. Pure; draws from ``random``."""

from random import uniform


def exponential(attempt: int, *, factor: float = 1.0, maximum: float = 600.0) -> float:
    """Return ``factor * 2 ** attempt`` seconds, at most ``maximum``; the first attempt is 0."""
    # Beyond 2 ** 60 the product is over any maximum, and a float would overflow near 2 ** 1024.
    return min(maximum, factor * float(2 ** min(max(attempt, 0), 60)))


def full_jitter(delay: float) -> float:
    """Return a random delay between 0 and ``delay`` seconds (TASK-32)."""
    return uniform(0.0, delay)


def spread(delay: float) -> float:
    """Return ``delay`` give or take a quarter, so that many who wait do not wake together."""
    return delay * uniform(0.75, 1.25)
