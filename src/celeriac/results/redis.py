"""The result store on a Redis server: Celery's keys and documents, told to those who watch them.

A document is stored by one script, which leaves a success as it is (RES-20). Watches of a process
subscribe on a connection of their own to the keys they wait for, as Celery's clients do.
"""

import os
import select
import threading
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from redis import exceptions as driver

from celeriac.completion import Put
from celeriac.redis.address import addresses
from celeriac.redis.documents import documents
from celeriac.redis.feed import Feed, Push
from celeriac.redis.link import Link
from celeriac.redis.scripts import script
from celeriac.results.base import ResultStore, Watch

STORE = script("put", "store")

BATCH = 500
"""Keys, or documents, that one command or script deals with."""
SIGN_OF_LIFE = 10.0
"""Seconds of silence after which a watch asks whether its connection is still one."""
_ENDS = ":_-."


class RedisStore(ResultStore):
    """Documents on a Redis server. ``options`` are those of ``result_backend_transport_options``."""

    max_bytes = 512 * 1024 * 1024 - 1024
    tells = True

    def __init__(
        self, url: str, timeout: float = 5.0, options: Mapping[str, Any] | None = None
    ) -> None:
        options = options or {}
        self.link = Link(addresses(url, timeout, options))
        self.url = self.link.urls
        prefix = str(options.get("global_keyprefix") or "")
        self._prefix = prefix if not prefix or prefix[-1] in _ENDS else f"{prefix}_"

    @property
    def location(self) -> str:
        """Identity of the server, and the database in it."""
        return f"redis:{self.link.server}/{self.link.address.db}"

    def named(self, key: str) -> str:
        return self._prefix + key

    def put(self, puts: Sequence[Put]) -> None:
        for n in range(0, len(puts), BATCH):
            some = puts[n : n + BATCH]
            told = documents(some, self.named)
            absent = self.link.run(STORE, (), told.arguments, before=told.beside)
            if absent:
                told = documents([some[n] for n in absent], self.named, inline=True)
                self.link.run(STORE, (), told.arguments)

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for n in range(0, len(keys), BATCH):
            some = keys[n : n + BATCH]
            values = self.link.call("MGET", *map(self.named, some))
            pairs = zip(some, values, strict=True)
            found.update((key, value) for key, value in pairs if value is not None)
        return found

    def forget(self, keys: Sequence[str]) -> None:
        for n in range(0, len(keys), BATCH):
            names = [self.named(key) for key in keys[n : n + BATCH]]
            self.link.call("DEL", *names, *(f"{name}.celeriac:done" for name in names))

    def watch(self) -> "RedisWatch":
        return RedisWatch(self)

    def expire(self) -> int:
        """Return 0: the server deletes them itself."""
        return 0

    def close(self) -> None:
        self.link.close()


class RedisWatch(Watch):
    """Waits at a connection that is subscribed to the keys."""

    def __init__(self, store: RedisStore) -> None:
        self._store = store
        self._sending = threading.Lock()
        self._keys: set[str] = set()
        self._dropped: set[str] = set()
        self._feed: Feed | None = None
        # Keys whose documents were asked for on this connection, in the order of the questions.
        self._asked: deque[str] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._woken = False
        self._heard = 0.0
        self._closed = False

    def add(self, keys: Collection[str]) -> None:
        self._keys.update(keys)
        self._dropped.difference_update(keys)
        try:
            with self._sending:
                feed = self._feed
                if feed is None:
                    # Whoever waits subscribes to all of them.
                    self._connect(self._keys)
                else:
                    self._subscribe(feed, keys)
        except (driver.RedisError, OSError) as error:
            self._hang_up()
            raise self._store.link.failure(error) from error
        if feed is None:
            # Who waits does so elsewhere. Otherwise the answer is what he hears.
            self._ring()

    def discard(self, keys: Collection[str]) -> None:
        self._keys.difference_update(keys)
        self._dropped.update(keys)

    def wait(self, timeout: float | None) -> dict[str, bytes]:
        deadline = float("inf") if timeout is None else monotonic() + timeout
        try:
            while True:
                feed = self._connected()
                left = deadline - monotonic()
                if self._listen(feed, left) and (found := self._read(feed)):
                    return found
                if self._woken or left <= 0:
                    self._woken = False
                    return {}
        except (driver.RedisError, OSError) as error:
            self._hang_up()
            raise self._store.link.failure(error) from error

    def wake(self) -> None:
        self._woken = True
        self._ring()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._hang_up()
            os.close(self._bell)

    def _ring(self) -> None:
        with suppress(OSError):
            os.eventfd_write(self._bell, 1)

    def _connected(self) -> Feed:
        with self._sending:
            return self._feed or self._connect(self._keys)

    def _connect(self, keys: Collection[str]) -> Feed:
        self._feed = Feed(self._store.link)
        self._asked.clear()
        self._heard = monotonic()
        self._subscribe(self._feed, keys)
        return self._feed

    def _subscribe(self, feed: Feed, keys: Collection[str]) -> None:
        """Hear of these keys from now on, and ask for what is there already, in this order."""
        dropped, self._dropped = self._dropped, set()
        names = {key: self._store.named(key) for key in sorted(keys)}
        commands: list[tuple[str, ...]] = []
        if dropped:
            commands.append(("UNSUBSCRIBE", *map(self._store.named, sorted(dropped))))
        for n in range(0, len(names), BATCH):
            commands.append(("SUBSCRIBE", *list(names.values())[n : n + BATCH]))
        commands += [("GET", name) for name in names.values()]
        self._asked.extend(names)
        if commands:
            feed.send_all(commands)

    def _listen(self, feed: Feed, left: float) -> bool:
        """Wait until something has come, or somebody rings; return whether something has come."""
        poll = select.poll()
        poll.register(self._bell, select.POLLIN)
        poll.register(feed, select.POLLIN)
        ready = [
            descriptor for descriptor, _ in poll.poll(max(0.0, min(left, SIGN_OF_LIFE)) * 1000)
        ]
        if self._bell in ready:
            with suppress(BlockingIOError):
                os.eventfd_read(self._bell)
        if not ready and left > SIGN_OF_LIFE:
            self._ask_for_life(feed)
        return any(descriptor != self._bell for descriptor in ready)

    def _ask_for_life(self, feed: Feed) -> None:
        """Find out whether a silent connection is still one: ask again for all that is watched."""
        if monotonic() - self._heard > 2 * SIGN_OF_LIFE + self._store.link.address.timeout:
            raise driver.TimeoutError("the connection that results are told on is dead")
        with self._sending:
            self._asked.append("")
            feed.send("GET", self._store.named("celeriac:alive"))

    def _read(self, feed: Feed) -> dict[str, bytes]:
        """Take in what has come; return the documents."""
        found: dict[str, bytes] = {}
        prefix = len(self._store.named(""))
        self._heard = monotonic()
        for reply in feed.receive():
            if isinstance(reply, driver.ResponseError):
                raise reply
            if not isinstance(reply, Push):
                key, value = self._asked.popleft(), reply
            elif reply[0] == b"message":
                key, value = reply[1].decode()[prefix:], reply[2]
            else:
                continue
            if value is not None and key in self._keys:
                found[key] = value
        return found

    def _hang_up(self) -> None:
        with self._sending:
            feed, self._feed = self._feed, None
            self._asked.clear()
        if feed is not None:
            feed.close()
