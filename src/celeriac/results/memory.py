"""The result store in memory: documents of one process, for tests and for runs without a worker.

One ``MemoryStore`` object is one server. Nothing outlives the process, and a fork copies it. A test
may put it to sleep, to see what happens when a store is away.
"""

from collections.abc import Collection, Sequence
from itertools import islice
from threading import Condition
from time import monotonic

from celeriac.clock import wall
from celeriac.completion import Put
from celeriac.exceptions import OperationalError
from celeriac.results.base import ResultStore, Watch
from celeriac.states import SUCCESS

EXPIRE_AT_MOST = 500
"""Documents deleted by one call of ``expire``."""


class MemoryStore(ResultStore):
    """Documents of this process."""

    def __init__(self) -> None:
        self.url = "memory://"
        self.changed = Condition()
        self._awake = True
        # The document, its state, and the wall time at which it may be forgotten.
        self._documents: dict[str, tuple[bytes, str, float]] = {}
        self._watches: set[MemoryWatch] = set()

    @property
    def location(self) -> str:
        """Identity of the server: this object."""
        return f"memory:{id(self):x}"

    def sleep(self) -> None:
        """Be away: every call of this store and of its watches raises until ``wake_up``.

        Only ``close`` and ``Watch.wake``, which ask nothing of a server, go on working.
        """
        with self.changed:
            self._awake = False
            self.changed.notify_all()

    def wake_up(self) -> None:
        """Be back, with everything that was here before."""
        with self.changed:
            self._awake = True
            self.changed.notify_all()

    def check_awake(self) -> None:
        """Raise ``OperationalError`` while asleep."""
        if not self._awake:
            raise OperationalError(
                f"the result store at {self.url} does not answer: it was put to sleep; "
                "call wake_up() on it"
            )

    def put(self, puts: Sequence[Put]) -> None:
        with self.changed:
            self.check_awake()
            for put in puts:
                self._put(put)
            self.changed.notify_all()

    def _put(self, put: Put) -> None:
        now = wall()
        _, state, expires = self._documents.get(put.key, (b"", "", 0.0))
        if state == SUCCESS and expires > now:
            return
        until = float("inf") if put.ttl is None else now + put.ttl
        self._documents[put.key] = (put.value, put.state, until)
        for watch in self._watches:
            watch.stored(put.key)

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        with self.changed:
            self.check_awake()
            return self.found(keys)

    def found(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the documents that are there, for callers who hold the lock."""
        now = wall()
        rows = [(key, self._documents.get(key)) for key in keys]
        return {key: row[0] for key, row in rows if row is not None and row[2] > now}

    def forget(self, keys: Sequence[str]) -> None:
        with self.changed:
            self.check_awake()
            for key in keys:
                self._documents.pop(key, None)

    def watch(self) -> "MemoryWatch":
        with self.changed:
            self.check_awake()
            watch = MemoryWatch(self)
            self._watches.add(watch)
            return watch

    def unwatch(self, watch: "MemoryWatch") -> None:
        """Tell this watch nothing any more, for callers who hold the lock."""
        self._watches.discard(watch)

    def expire(self) -> int:
        with self.changed:
            self.check_awake()
            now = wall()
            rows = self._documents.items()
            old = [*islice((key for key, row in rows if row[2] <= now), EXPIRE_AT_MOST)]
            for key in old:
                del self._documents[key]
            return len(old)

    def close(self) -> None:
        """Nothing to let go of: the documents stay with this object."""


class MemoryWatch(Watch):
    """Waits on the condition of its store; what was stored is noted while the lock is held."""

    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._keys: set[str] = set()
        self._fresh: set[str] = set()
        self._woken = False

    def stored(self, key: str) -> None:
        """Note that a document was stored; the store's lock is held."""
        if key in self._keys:
            self._fresh.add(key)

    def add(self, keys: Collection[str]) -> None:
        with self._store.changed:
            self._store.check_awake()
            self._keys.update(keys)
            self._fresh.update(keys)
            self._store.changed.notify_all()

    def discard(self, keys: Collection[str]) -> None:
        with self._store.changed:
            self._store.check_awake()
            self._keys.difference_update(keys)
            self._fresh.difference_update(keys)

    def wait(self, timeout: float | None) -> dict[str, bytes]:
        deadline = float("inf") if timeout is None else monotonic() + timeout
        with self._store.changed:
            while True:
                self._store.check_awake()
                fresh, self._fresh = self._fresh, set()
                if found := self._store.found(sorted(fresh)):
                    return found
                left = deadline - monotonic()
                if self._woken or left <= 0:
                    self._woken = False
                    return {}
                self._store.changed.wait(None if timeout is None else left)

    def wake(self) -> None:
        with self._store.changed:
            self._woken = True
            self._store.changed.notify_all()

    def close(self) -> None:
        with self._store.changed:
            self._store.unwatch(self)
