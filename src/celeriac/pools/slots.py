"""The shared memory in which each child says what it runs: one small slot per child.

A child writes its job and when it began; the parent reads that without a message, for time limits,
for blame after a death, and for what is running. All words are 8 bytes, aligned, and written by one
side only, so that a reader sees either the old or the new value.
"""

import mmap
import os
from time import monotonic_ns

_WORDS = 8
_JOB, _BEGAN, _WANTED, _TAKEN = range(4)
CAPACITY = 1024
"""The most children that a pool can have."""


class Slots:
    """A view on the shared memory; ``descriptor`` is handed to the processes that share it."""

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = os.memfd_create("celeriac-slots", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, CAPACITY * _WORDS * 8)
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, CAPACITY * _WORDS * 8)
        self._words = memoryview(self._memory).cast("Q")

    def begin(self, slot: int, job: int) -> None:
        """In the child: this job runs from now on."""
        base = slot * _WORDS
        self._words[base + _BEGAN] = monotonic_ns()
        self._words[base + _JOB] = job
        self._words[base + _TAKEN] += 1

    def end(self, slot: int) -> None:
        """In the child: no job runs any more."""
        self._words[slot * _WORDS + _JOB] = 0

    def clear(self, slot: int) -> None:
        """In the parent: a new child gets this slot."""
        base = slot * _WORDS
        for word in range(_WORDS):
            self._words[base + word] = 0

    def job(self, slot: int) -> int:
        """Return the number of the job that runs, 0 for none."""
        return self._words[slot * _WORDS + _JOB]

    def seconds(self, slot: int) -> float:
        """Return for how long it has been running."""
        return (monotonic_ns() - self._words[slot * _WORDS + _BEGAN]) / 1e9

    def taken(self, slot: int) -> int:
        """Return how many jobs the child has taken so far."""
        return self._words[slot * _WORDS + _TAKEN]

    def want(self, slot: int, job: int) -> None:
        """In the parent: the soft limit of this job has passed."""
        self._words[slot * _WORDS + _WANTED] = job

    def wanted(self, slot: int) -> int:
        """Return the job whose soft limit has passed, 0 for none."""
        return self._words[slot * _WORDS + _WANTED]

    def close(self) -> None:
        """Let go of the memory. The descriptor is closed too."""
        self._words.release()
        self._memory.close()
        os.close(self.descriptor)
