"""The one error of the suite: a measurement could not be made, and what to do about it."""


class BenchmarkError(Exception):
    """A measurement failed; the message says of what, how, and what to do next."""
