"""The contract of a result store.

A store keeps documents under keys and wakes those who watch them. It knows nothing of what a
document says, but for the state beside it: a stored SUCCESS is never overwritten (RES-20). Stores
are synchronous, thread-safe, and usable after a fork.

All methods raise ``OperationalError`` when the server cannot do its work before the deadline.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

from celeriac.completion import Put

TASK_KEY = "celery-task-meta-"
GROUP_KEY = "celery-taskset-meta-"


def task_key(task_id: str) -> str:
    """Return the key under which the result of a task is kept."""
    return TASK_KEY + task_id


class ResultStore(ABC):
    """Remembers documents. One object per app and process."""

    url: str
    """The address it was opened with, passwords masked."""
    reply_to: str | None = None
    """The queue that callers of this process have results sent to; None where a store keeps them."""
    max_bytes: int = 256 * 1024 * 1024
    """The largest document it takes."""
    tells: bool = False
    """Whether a watch costs hardly more than a look, so that who is going to wait need not look before."""

    @property
    @abstractmethod
    def location(self) -> str:
        """Identity of the server: a broker with the same location can share a transaction.

        Where only the server knows it, it is asked, and this raises OperationalError when it is away.
        """

    def named(self, key: str) -> str:
        """Return the key as it is called on the server: others may stand in front of it there."""
        return key

    @abstractmethod
    def put(self, puts: Sequence[Put]) -> None:
        """Store documents, in order, and wake their watchers. Idempotent.

        A document is skipped if one with state SUCCESS is stored under its key.
        """

    @abstractmethod
    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the documents that are there and not expired."""

    @abstractmethod
    def forget(self, keys: Sequence[str]) -> None:
        """Delete documents; unknown keys are fine."""

    @abstractmethod
    def watch(self) -> "Watch":
        """Return a new watch, to wait for documents."""

    @abstractmethod
    def expire(self) -> int:
        """Delete what has outlived its ttl, a bounded amount per call; return how many documents."""

    @abstractmethod
    def close(self) -> None:
        """Let go of connections. The store opens them again if it is used again."""

    def refusal(self, put: Put) -> str | None:
        """Return why this store will never take a document, None if it will."""
        if len(put.value) <= self.max_bytes:
            return None
        return (
            f"the result is {len(put.value):,} bytes; the result store at {self.url} takes at most "
            f"{self.max_bytes:,}. Store large results elsewhere and return a reference to them"
        )


class Watch(ABC):
    """Waits for documents under the keys that were added. One waiting thread; the rest any thread."""

    @abstractmethod
    def add(self, keys: Collection[str]) -> None:
        """Report these keys from now on; documents that are there already are reported too."""

    @abstractmethod
    def discard(self, keys: Collection[str]) -> None:
        """Report these keys no longer. Cheap: what a server must be told may wait for the next call."""

    @abstractmethod
    def wait(self, timeout: float | None) -> dict[str, bytes]:
        """Block until watched documents changed; return them, empty after timeout or ``wake``.

        A document may be reported more than once, and not every change of one is seen; its newest
        state always is.
        """

    @abstractmethod
    def wake(self) -> None:
        """Make ``wait`` return. Any thread; never blocks."""

    @abstractmethod
    def close(self) -> None:
        """End the watch. Idempotent."""
