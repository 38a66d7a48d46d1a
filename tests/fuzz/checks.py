"""What must hold for every decoder, whatever bytes it is given.

A target calls its decoder inside ``judged``: only documented errors may come out of it, nothing is
imported on the way, and the text of an error stays short enough to be logged.
"""

import codecs
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from click import UsageError

from celeriac.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    ImproperlyConfigured,
    SecurityError,
)

READING = (DecodeError, ContentDisallowed, SecurityError)
"""What reading a message or a document may raise."""
WRITING = (EncodeError,)
CONFIGURING = (ImproperlyConfigured,)

LONGEST_ERROR = 20_000
"""Characters: an error that shows all of what it was given would fill the disk through the log."""


class Finding(AssertionError):
    """A rule that did not hold."""


def require(holds: bool, *what: object) -> None:
    """Raise Finding unless it holds."""
    if not holds:
        raise Finding(": ".join(f"{one!r:.400}" if i else str(one) for i, one in enumerate(what)))


# Python loads its own codecs when they are first used.
for _codec in (
    "raw_unicode_escape",
    "unicode_escape",
    "latin-1",
    "utf-16",
    "utf-32",
    "ascii",
    "idna",
):
    codecs.lookup(_codec)

_known: set[str] = set(sys.modules)


def prepare(target: Callable[[bytes], None], inputs: Iterable[bytes]) -> None:
    """Have a target load what it loads at first use, and take what is imported then as what may be."""
    for data in inputs:
        try:
            target(data)
        except Exception:  # noqa: BLE001 - it is found again, when it counts
            pass
    _known.update(sys.modules)


@contextmanager
def judged(*allowed: type[Exception]) -> Iterator[None]:
    """Let these errors pass, if they are short; raise Finding if something was imported."""
    before = len(sys.modules)
    try:
        yield
    except allowed as error:
        text = str(error)
        # Who writes settings may write long ones; what comes in messages must not fill the log.
        own = isinstance(error, ImproperlyConfigured | UsageError)
        require(own or len(text) <= LONGEST_ERROR, "the error is too long", text)
    if len(sys.modules) != before:
        new = set(sys.modules) - _known
        require(not new, "reading imported", sorted(new))


def weight(value: Any) -> tuple[int, int]:
    """Return how many nodes a value has, and how many characters and bytes are in its texts.

    Shared parts are counted wherever they stand, up to ten million nodes in all.
    """
    nodes = length = 0
    left = [value]
    while left:
        nodes += 1
        require(nodes < 10_000_000, "the value has ten million nodes")
        one = left.pop()
        if isinstance(one, str | bytes):
            length += len(one)
        elif isinstance(one, dict):
            left += one.keys()
            left += one.values()
        elif isinstance(one, list | tuple | set | frozenset):
            left += one
    return nodes, length
