"""The window: how many messages a worker may hold at once.

Short tasks, by their measured run time, are claimed ahead, so that claims and commits come in
batches and no slot waits for the broker; long ones, and those never measured, are claimed for free
slots only, so that nothing waits here that could run elsewhere. Pure arithmetic; used by two
threads without a lock, since a stale number only makes one claim a little larger or smaller.
"""

MOST = 200
"""Messages in one batch."""
MOST_AHEAD = 500
"""Messages ahead of the slots. Time limits it sooner, except for the shortest tasks: with 200, no-ops on
Redis ran 10% slower, since their claims were small.
"""
MOST_BYTES = 4 * 1024 * 1024
AHEAD = 0.05
"""Seconds of measured work that may wait ahead of each slot."""
OVERHEAD = 0.0001
"""Seconds that even an empty task keeps a slot busy."""
_WEIGHT = 0.2


class Window:
    """Decides how much to claim. ``multiplier`` fixes it to that many messages per slot (0: the
    most).
    """

    def __init__(self, slots: int, multiplier: int | None = None) -> None:
        self.slots = slots
        self._multiplier = multiplier
        self._means: dict[str, float] = {}
        self._recent: float | None = None
        self._pending = 0.0
        self._budget = slots * AHEAD
        """Seconds of work that may wait ahead of the slots that no long task keeps."""
        self._cap = MOST_AHEAD
        self._clogged = False

    def learn(self, task: str, seconds: float) -> None:
        """Take in the measured run time of one run."""
        self._clogged = False
        seconds = max(seconds, OVERHEAD)
        mean = self._means.get(task, seconds)
        self._means[task] = mean + _WEIGHT * (seconds - mean)
        recent = seconds if self._recent is None else self._recent
        self._recent = recent + _WEIGHT * (seconds - recent)

    def room(self, held: int) -> int:
        """Return how many messages may be claimed by a worker that holds ``held``."""
        if self._multiplier is not None:
            return max(0, min(MOST, self._fixed() - held))
        free = max(0, self.slots - held)
        ahead = 0
        if self._recent is not None and self._recent < AHEAD and not self._clogged:
            ahead = int(self._budget / self._recent)
        total = min(MOST_AHEAD, self._cap, self.slots + ahead)
        return max(free, min(MOST, total - held), 0)

    def low(self, held: int) -> bool:
        """Whether so little is held that the next claim is worth its price.

        A quarter has run by then. With half, the slots had often run the rest before the claim was
        done (measured on Redis: 5% fewer tasks a second with no-ops as with 10 KB).
        """
        return held < self.slots or held <= 3 * self.room(held)

    def admits(self, task: str, held: int) -> bool:
        """Whether a claimed message may stay, given that ``held`` others are here already."""
        if self._multiplier is not None or held < self.slots:
            return True
        mean = self._means.get(task)
        return mean is not None and mean < AHEAD and self._pending + mean <= self._budget

    def enter(self, task: str) -> None:
        """Count a message that stays."""
        mean = self._means.get(task)
        if mean is None or mean >= AHEAD:
            self._budget = max(0.0, self._budget - AHEAD)
        else:
            self._pending += mean

    def reset(self, tasks: list[str]) -> None:
        """Count anew: these are the messages that are held now."""
        self._pending, self._budget = 0.0, self.slots * AHEAD
        for task in tasks:
            self.enter(task)

    def overflowed(self, kept: int) -> None:
        """A claim brought more than may stay: claim less the next times."""
        self._cap = max(self.slots, kept // 2)

    def fitted(self) -> None:
        """A claim brought only what may stay: claim more the next time."""
        self._cap = min(MOST_AHEAD, self._cap * 2)

    def clogged(self) -> None:
        """Every slot runs much longer than was thought: claim nothing ahead until a run has ended."""
        self._clogged = True

    def _fixed(self) -> int:
        return MOST_AHEAD if self._multiplier == 0 else self.slots * (self._multiplier or 0)
