"""The result store on the embedded file."""

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from time import monotonic

from celeriac.clock import wall
from celeriac.completion import Put
from celeriac.embedded.database import Database
from celeriac.embedded.doorbells import SUPPORTED, Doorbell, Ringer
from celeriac.exceptions import OperationalError
from celeriac.results.base import ResultStore, Watch

_PUT = """INSERT INTO result (key, state, expires, value) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET state = excluded.state, expires = excluded.expires, value = excluded.value
WHERE result.state <> 'SUCCESS' OR result.expires <= ?"""
_GET = "SELECT value FROM result WHERE key = ? AND (expires IS NULL OR expires > ?)"
_EXPIRE = """DELETE FROM result WHERE key IN
(SELECT key FROM result WHERE expires IS NOT NULL AND expires < ? ORDER BY expires LIMIT 500)"""
_ANY_EXPIRED = """SELECT EXISTS (SELECT 1 FROM result WHERE expires < ?)
OR EXISTS (SELECT 1 FROM watch_bell WHERE expires < ?)"""
_WATCHES = "SELECT address FROM watch_bell WHERE key = ?"
_UNWATCH_KEY = "DELETE FROM watch_bell WHERE key = ? AND address = ?"
_UNWATCH = "DELETE FROM watch_bell WHERE address = ?"
_WATCH = "INSERT OR REPLACE INTO watch_bell (key, address, expires) VALUES (?, ?, ?)"

POLL = 0.25 if SUPPORTED else 0.05
"""Seconds between looks at the file, the net under the doorbell."""
MOST_DROPPED = 100
"""Keys whose bells wait to be taken down; a ring too many costs less than a write."""
WATCH_FOR = 300.0
"""Seconds after which a watch that was not renewed is forgotten: its process is gone."""


class SqliteStore(ResultStore):
    """Documents in an embedded file."""

    def __init__(self, path: str, timeout: float = 5.0) -> None:
        self.url = f"sqlite:///{path}"
        self.database = Database(path, timeout)
        self._ringer = Ringer()

    @property
    def location(self) -> str:
        """Identity of the server: the file."""
        return f"sqlite:{self.database.path}"

    def put(self, puts: Sequence[Put]) -> None:
        now = wall()
        rows = [
            (p.key, p.state, None if p.ttl is None else now + p.ttl, p.value, now) for p in puts
        ]
        with self.database.write(durable=True) as connection:
            connection.executemany(_PUT, rows)
        self._ring({put.key for put in puts})

    def _ring(self, keys: Iterable[str]) -> None:
        """Wake those who watch these keys; never raises, since the documents are stored."""
        with suppress(OperationalError):
            gone: set[str] = set()
            for key in keys:
                addresses = [row[0] for row in self.database.read(_WATCHES, (key,))]
                gone.update(a for a in addresses if self._ringer.ring(a, key) is False)
            if gone:
                with self.database.write() as connection:
                    connection.executemany(_UNWATCH, [(address,) for address in gone])

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        now = wall()
        rows = {key: self.database.read(_GET, (key, now)) for key in keys}
        return {key: found[0][0] for key, found in rows.items() if found}

    def forget(self, keys: Sequence[str]) -> None:
        with self.database.write() as connection:
            connection.executemany("DELETE FROM result WHERE key = ?", [(key,) for key in keys])

    def watch(self) -> "SqliteWatch":
        return SqliteWatch(self)

    def expire(self) -> int:
        now = wall()
        # A look first: mostly there is nothing, and a look does not disturb the writers.
        if not self.database.read(_ANY_EXPIRED, (now, now))[0][0]:
            return 0
        with self.database.write() as connection:
            connection.execute("DELETE FROM watch_bell WHERE expires < ?", (now,))
            return connection.execute(_EXPIRE, (now,)).rowcount

    def close(self) -> None:
        self._ringer.close()
        self.database.close()


class SqliteWatch(Watch):
    """Waits at its own doorbell; rings name the key that was stored."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._bell = Doorbell()
        self._keys: set[str] = set()
        # Keys that are watched no more, but stand in the file until something is written there.
        self._dropped: set[str] = set()
        # Keys to look up. Only the waiting thread takes keys out.
        self._fresh: set[str] = set()
        self._woken = False
        self._looked = 0.0
        self._version = (0, 0)
        self._registered = monotonic()
        self._closed = False

    def add(self, keys: Collection[str]) -> None:
        # First the bell, then the look at what is there already: nothing falls in between.
        self._register(keys)
        self._keys.update(keys)
        self._fresh.update(keys)
        self._bell.wake()

    def discard(self, keys: Collection[str]) -> None:
        self._keys.difference_update(keys)
        self._dropped.update(keys)
        if len(self._dropped) >= MOST_DROPPED:
            self._register(())

    def wait(self, timeout: float | None) -> dict[str, bytes]:
        deadline = float("inf") if timeout is None else monotonic() + timeout
        pause = 0.0
        while True:
            self._fresh.update(self._bell.wait(pause))
            self._look_for_lost_rings()
            if found := self._look_up():
                return found
            left = deadline - monotonic()
            if self._woken or left <= 0:
                self._woken = False
                return {}
            pause = min(POLL, left)
            self._renew()

    def _look_up(self) -> dict[str, bytes]:
        fresh = {self._fresh.pop() for _ in range(len(self._fresh))}
        try:
            return self._store.get(sorted(fresh & self._keys))
        except OperationalError:
            self._fresh |= fresh
            raise

    def _look_for_lost_rings(self) -> None:
        """Take every key for fresh if the file has changed, at most once in a while.

        What was stored between two waits counts too, so the version is remembered from wait to wait.
        """
        now = monotonic()
        if now - self._looked < POLL:
            return
        self._looked = now
        version = self._store.database.version()
        if version != self._version:
            self._version = version
            self._fresh |= self._keys

    def wake(self) -> None:
        self._woken = True
        self._bell.wake()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            if self._keys or self._dropped:
                with self._store.database.write() as connection:
                    connection.execute(_UNWATCH, (self._bell.address,))
        finally:
            self._bell.close()

    def _renew(self) -> None:
        if monotonic() - self._registered > WATCH_FOR / 3:
            self._register(sorted(self._keys))
            self._registered = monotonic()

    def _register(self, keys: Collection[str]) -> None:
        """Have the bell rung for these keys, and no longer for those that were dropped."""
        address = self._bell.address
        dropped, self._dropped = self._dropped, set()
        if address:
            expires = wall() + WATCH_FOR
            with self._store.database.write() as connection:
                if dropped:
                    old = [(key, address) for key in dropped]
                    connection.executemany(_UNWATCH_KEY, old)
                connection.executemany(_WATCH, [(key, address, expires) for key in keys])
