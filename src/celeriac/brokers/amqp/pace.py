"""Pace: whether messages are asked for each time, or sent without asking, and how many ahead.

Pure arithmetic on what claims ask for and find. A claim that is as large as a batch and comes back
full, twice in a row, says that the worker is busy and the queue long: then a stream pays, with a
prefetch of what is held and twice what is asked for. It ends when the queue runs dry or when much
less is asked for, so that nothing waits in one worker that another could run.
"""

BATCH = 8
"""Messages: smaller claims are no sign of being busy."""
FULL = 2
"""Full claims in a row that begin a stream."""
FEWER = 4
"""Claims in a row that ask for much less, and end or shrink it."""
MOST = 1000
"""Messages: the largest prefetch."""


class Pace:
    """Follows the claims of one consumer."""

    def __init__(self) -> None:
        self.prefetch = 0
        """Of the stream; 0 without one."""
        self._full = 0
        self._small = 0

    def after(self, count: int, taken: int, held: int) -> int:
        """Take in a claim of ``count`` that found ``taken``, of ``held`` now; return the prefetch."""
        full = taken >= count >= BATCH
        self._full = self._full + 1 if full else 0
        wanted = min(MOST, held + 2 * count)
        if not self.prefetch:
            if self._full >= FULL:
                self.prefetch, self._small = wanted, 0
        elif not taken:
            self.prefetch = 0
        elif full and wanted > 1.5 * self.prefetch:
            self.prefetch = wanted
        else:
            self._small = self._small + 1 if wanted < self.prefetch // 4 else 0
            if self._small >= FEWER:
                self.prefetch, self._small = wanted if full else 0, 0
        return self.prefetch
