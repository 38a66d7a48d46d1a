"""Commits whose answer was lost: whether they were done.

A receipt that holds no lease any more, although nobody else may have taken it yet, was settled by the
very commit whose answer did not arrive. Later than that nobody can tell. Nothing is asked of the server
here.
"""

from collections.abc import Iterable
from time import monotonic


class Doubts:
    """What one consumer knows of its leases, and of its commits. Times are monotonic seconds."""

    def __init__(self, lease: float) -> None:
        self._lease = lease
        self._since: dict[str, float] = {}
        self.doubted: set[str] = set()
        """Receipts that have been settled, perhaps."""

    def leased(self, receipts: Iterable[str], since: float) -> None:
        """Note that they were leased, or renewed, by a call that began then."""
        self._since.update(dict.fromkeys(receipts, since))

    def doubt(self, receipts: Iterable[str]) -> None:
        """Note that these have been settled, perhaps."""
        self.doubted.update(receipts)

    def settled(self, receipt: str) -> bool:
        """Whether one that was found without a lease just now was settled by its own commit."""
        ends = self._since.get(receipt, float("-inf")) + self._lease
        return receipt in self.doubted and monotonic() < ends

    def forget(self, receipts: Iterable[str]) -> None:
        """Forget those that will not be asked about again."""
        for receipt in receipts:
            self._since.pop(receipt, None)
            self.doubted.discard(receipt)
