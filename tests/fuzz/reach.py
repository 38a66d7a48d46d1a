"""Chooses the few inputs that together reach all that many reach: what a corpus is worth keeping for."""

import sys
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import celeriac
from tests.fuzz.targets import TARGETS

SOURCES = (str(Path(celeriac.__file__).parent), "/yaml/")
LARGEST = 2000
"""Bytes of an input that is kept."""

Step = tuple[str, int, int]


class _Steps:
    """Notes which line follows on which, in the decoders, while it is entered."""

    def __init__(self) -> None:
        self.steps: set[Step] = set()

    def __enter__(self) -> "_Steps":
        sys.settrace(self._called)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        name = frame.f_code.co_filename
        if not any(source in name for source in SOURCES):
            return None
        last = frame.f_code.co_firstlineno

        def line(frame: FrameType, event: str, argument: Any) -> Any:
            nonlocal last
            self.steps.add((name, last, frame.f_lineno))
            last = frame.f_lineno
            return line

        return line


def reached(target: str, data: bytes) -> set[Step]:
    """Return the steps that a target takes with this input, none if it finds something."""
    with _Steps() as tracing:
        try:
            TARGETS[target](data)
        except Exception:  # noqa: BLE001 - a finding belongs into a test of its own
            return set()
    return tracing.steps


def fewest(target: str, inputs: Iterable[bytes]) -> list[bytes]:
    """Return inputs that reach all that these reach: the shortest first, then what adds something."""
    known: set[Step] = set()
    chosen = []
    for data in sorted(set(inputs), key=lambda one: (len(one), one)):
        if len(data) <= LARGEST and not (steps := reached(target, data)) <= known:
            known |= steps
            chosen.append(data)
    return chosen
