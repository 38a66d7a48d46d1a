"""The shared memory in which each child says what it runs: one small slot per child.

A child writes its job and when it began; the parent reads that without a message, for time limits,
for blame after a death, and for what is running. All words are 8 bytes, aligned, and written by one
side only, so that a reader sees either the old or the new value.

One word more belongs to all: the fence. A packet whose serial number is not above it is void, unless
its job has begun. The parent raises the fence and then looks at the slots; a child writes its slot
and then looks at the fence: at least one of them sees the other, and no job runs twice.
"""

import mmap
import os
from time import monotonic_ns

_WORDS = 8
_JOB, _BEGAN, _WANTED, _USED = range(4)
CAPACITY = 1024
"""The most children that a pool can have."""
SPARE_SLOT = CAPACITY - 1
"""The slot of the spare child; the numbers there are those of chores."""
_FENCE = CAPACITY * _WORDS
UNFENCED = 2**63
"""The serial number of what no fence is to stop."""
_SIZE = (CAPACITY + 1) * _WORDS * 8


class Slots:
    """A view on the shared memory; ``descriptor`` is handed to the processes that share it."""

    def __init__(self, descriptor: int | None = None) -> None:
        if descriptor is None:
            descriptor = os.memfd_create("celeriac-slots", os.MFD_CLOEXEC)
            os.ftruncate(descriptor, _SIZE)
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _SIZE)
        self._words = memoryview(self._memory).cast("Q")

    # -- in the child

    def begin(self, slot: int, job: int, serial: int) -> bool:
        """This job runs from now on; False if its packet is void, and it must not run."""
        words, base = self._words, slot * _WORDS
        words[base + _USED] = 1
        words[base + _BEGAN] = monotonic_ns()
        words[base + _JOB] = job
        if serial > words[_FENCE]:
            return True
        words[base + _JOB] = 0
        return False

    def hold(self, slot: int) -> None:
        """The job that has begun waits for permission to run."""
        self._words[slot * _WORDS + _BEGAN] = 0

    def resume(self, slot: int) -> None:
        """The job that waited runs from now on."""
        self._words[slot * _WORDS + _BEGAN] = monotonic_ns()

    def end(self, slot: int) -> None:
        """No job runs any more."""
        self._words[slot * _WORDS + _JOB] = 0

    # -- in the parent

    def clear(self, slot: int) -> None:
        """A new child gets this slot."""
        base = slot * _WORDS
        for word in range(_WORDS):
            self._words[base + word] = 0

    def fence(self, serial: int) -> None:
        """Make void every packet up to this one whose job has not begun."""
        self._words[_FENCE] = serial

    def want(self, slot: int, job: int) -> None:
        """The soft limit of this job has passed."""
        self._words[slot * _WORDS + _WANTED] = job

    # -- in both

    def job(self, slot: int) -> int:
        """Return the number of the job that runs, 0 for none."""
        return self._words[slot * _WORDS + _JOB]

    def jobs(self) -> list[int]:
        """Return what ``job`` returns, of every slot but the spare one."""
        return self._words[_JOB : SPARE_SLOT * _WORDS : _WORDS].tolist()

    def seconds(self, slot: int) -> float:
        """Return for how long its job has been running; 0 while that waits for permission."""
        began = self._words[slot * _WORDS + _BEGAN]
        return (monotonic_ns() - began) / 1e9 if began else 0.0

    def waits(self, slot: int) -> bool:
        """Return whether its job waits for permission to run."""
        return self.job(slot) != 0 and self._words[slot * _WORDS + _BEGAN] == 0

    def used(self, slot: int) -> bool:
        """Return whether its child has ever taken a job."""
        return self._words[slot * _WORDS + _USED] != 0

    def wanted(self, slot: int) -> int:
        """Return the job whose soft limit has passed, 0 for none."""
        return self._words[slot * _WORDS + _WANTED]

    def close(self) -> None:
        """Let go of the memory and of its descriptor. Idempotent."""
        if self.descriptor >= 0:
            self._words.release()
            self._memory.close()
            os.close(self.descriptor)
            self.descriptor = -1
