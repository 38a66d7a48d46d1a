"""The result store on the embedded file."""

from collections.abc import Sequence
from time import monotonic

from celeriac.clock import wall
from celeriac.completion import Put
from celeriac.embedded.database import Database
from celeriac.embedded.doorbells import SUPPORTED, Doorbell, Ringer
from celeriac.results.base import ResultStore, Watch

_PUT = """INSERT INTO result (key, state, expires, value) VALUES (?, ?, ?, ?)
ON CONFLICT (key) DO UPDATE SET state = excluded.state, expires = excluded.expires, value = excluded.value
WHERE result.state <> 'SUCCESS' OR result.expires <= ?"""
_GET = "SELECT value FROM result WHERE key = ? AND (expires IS NULL OR expires > ?)"
_EXPIRE = """DELETE FROM result WHERE key IN
(SELECT key FROM result WHERE expires IS NOT NULL AND expires < ? ORDER BY expires LIMIT 500)"""
_WATCH = "INSERT OR REPLACE INTO watch_bell (key, address, expires) VALUES (?, ?, ?)"

POLL = 0.25 if SUPPORTED else 0.05
"""Seconds between looks at the file, the net under the doorbell."""
WATCH_FOR = 300.0
"""Seconds after which a watch that was not renewed is forgotten: its process is gone."""


class SqliteStore(ResultStore):
    """Documents in an embedded file."""

    def __init__(self, path: str, timeout: float = 5.0) -> None:
        self.url = f"sqlite:///{path}"
        self.location = f"sqlite:{path}"
        self.database = Database(path, timeout)
        self._ringer = Ringer()

    def put(self, puts: Sequence[Put]) -> None:
        now = wall()
        rows = [
            (p.key, p.state, None if p.ttl is None else now + p.ttl, p.value, now) for p in puts
        ]
        with self.database.write(durable=True) as connection:
            connection.executemany(_PUT, rows)
        for put in puts:
            for (address,) in self.database.read(
                "SELECT address FROM watch_bell WHERE key = ?", (put.key,)
            ):
                self._ringer.ring(address, put.key)

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
        if not self.database.read("SELECT 1 FROM result WHERE expires < ? LIMIT 1", (wall(),)):
            return 0
        with self.database.write() as connection:
            connection.execute("DELETE FROM watch_bell WHERE expires < ?", (wall(),))
            return connection.execute(_EXPIRE, (wall(),)).rowcount

    def close(self) -> None:
        self._ringer.close()
        self.database.close()


class SqliteWatch(Watch):
    """Waits at its own doorbell; rings name the key that was stored."""

    def __init__(self, store: SqliteStore) -> None:
        self._store = store
        self._bell = Doorbell()
        self._keys: set[str] = set()
        self._fresh: set[str] = set()
        self._registered = monotonic()
        self._closed = False

    def add(self, key: str) -> None:
        # First the bell, then the look at what is there already: nothing falls in between.
        self._register([key])
        self._keys.add(key)
        self._fresh.add(key)
        self._bell.wake()

    def discard(self, key: str) -> None:
        self._keys.discard(key)
        self._fresh.discard(key)
        with self._store.database.write() as connection:
            connection.execute(
                "DELETE FROM watch_bell WHERE key = ? AND address = ?", (key, self._bell.address)
            )

    def wait(self, timeout: float | None) -> dict[str, bytes]:
        deadline = float("inf") if timeout is None else monotonic() + timeout
        version = self._store.database.version()
        while True:
            if self._fresh:
                fresh, self._fresh = self._fresh, set()
                if found := self._store.get(sorted(fresh & self._keys)):
                    return found
            left = deadline - monotonic()
            rung = self._bell.wait(max(0.0, min(POLL, left)))
            self._fresh.update(rung)
            self._fresh.discard("")
            if left <= 0 or (rung and not self._fresh):
                return {}
            if not rung and version != (version := self._store.database.version()):
                self._fresh.update(self._keys)
            self._renew()

    def wake(self) -> None:
        self._bell.wake()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if self._keys:
            with self._store.database.write() as connection:
                connection.execute(
                    "DELETE FROM watch_bell WHERE address = ?", (self._bell.address,)
                )
        self._bell.close()

    def _renew(self) -> None:
        if monotonic() - self._registered > WATCH_FOR / 3:
            self._register(sorted(self._keys))
            self._registered = monotonic()

    def _register(self, keys: Sequence[str]) -> None:
        if self._bell.address:
            expires = wall() + WATCH_FOR
            with self._store.database.write() as connection:
                rows = [(key, self._bell.address, expires) for key in keys]
                connection.executemany(_WATCH, rows)
