"""Calls and results for coroutines, over the same synchronous client and store as everybody's.

Two background threads: one publishes what coroutines hand over, in batches, the other waits for the
results that they want. Neither blocks an event loop, and both serve all loops of the process. The
only module of the caller's side that imports asyncio, so the app loads it when it is first needed.
What a call says and what a document means is not known here.
"""

import asyncio
import builtins
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from celeriac import states
from celeriac.client import Client
from celeriac.exceptions import DecodeError, OperationalError, TimeoutError
from celeriac.message import Publish
from celeriac.results.base import ResultStore, Watch
from celeriac.service import Service
from celeriac.wire import result as wire

MOST = 200
"""Messages in one batch."""
MOST_BYTES = 4 * 1024 * 1024
"""Bytes of message bodies in one batch; one larger message goes alone."""

_S = TypeVar("_S", bound=Service)


class Host(Protocol):
    """What an awaiter needs of its app."""

    @property
    def store(self) -> ResultStore | None:
        """Where results are kept; None if they are disabled."""
        ...


class Awaiter:
    """Publishes and waits on behalf of coroutines.

    Threads start on first use, and again in a forked child. Any loop of any thread may use it.
    """

    def __init__(self, app: Host) -> None:
        self._app = app
        # By process: a fork copies the objects, but neither their threads nor the locks' owners.
        self._publishers: dict[int, _Publisher] = {}
        self._listeners: dict[int, _Listener] = {}

    async def publish(self, client: Client, publish: Publish) -> None:
        """Publish a message, in one batch with those that are handed over meanwhile.

        Raises OperationalError, as all calls of the batch do, if the broker cannot take it. A call
        that is cancelled before its batch is on its way is not sent.
        """
        await self._mine(self._publishers, _Publisher).ask(client, publish)

    async def result(self, key: str, timeout: float | None) -> bytes:
        """Wait for a document of a final state under ``key`` and return it.

        Raises TimeoutError after ``timeout`` seconds; 0 looks once.
        """
        store = self._app.store
        assert store is not None, "results are enabled, or nobody would ask"
        listener = self._mine(self._listeners, lambda: _Listener(store))
        once = timeout is not None and timeout <= 0
        future = listener.ask(key, once)
        try:
            async with asyncio.timeout(None if once else timeout):
                return await future
        except builtins.TimeoutError:
            raise TimeoutError(f"nothing final under {key} within {timeout:g} s") from None
        finally:
            listener.leave(key, future)

    def close(self) -> None:
        """End the threads of this process; what still waits fails with OperationalError."""
        ended: list[Service | None] = [
            self._publishers.pop(os.getpid(), None),
            self._listeners.pop(os.getpid(), None),
        ]
        for service in filter(None, ended):
            service.stop()
            service.join()

    @staticmethod
    def _mine(services: dict[int, _S], make: Callable[[], _S]) -> _S:
        """Return this process's service."""
        pid = os.getpid()
        # setdefault is one step: two threads that come first together get the same one.
        return services.get(pid) or services.setdefault(pid, make())


class _Parcel(Struct, frozen=True):
    """A message on its way to the broker."""

    client: Client
    publish: Publish
    future: "asyncio.Future[None]"


class _Publisher(Service):
    """Publishes whatever has gathered while the last batch was on its way."""

    name = "celeriac-publisher"

    def __init__(self) -> None:
        super().__init__()
        self._changed = threading.Condition()
        self._parcels: deque[_Parcel] = deque()

    def ask(self, client: Client, publish: Publish) -> "asyncio.Future[None]":
        """Hand over a message; the future is done when the broker has it. Never blocks."""
        parcel = _Parcel(client, publish, asyncio.get_running_loop().create_future())
        with self._changed:
            _refuse_if_closed(self)
            self.start()
            self._parcels.append(parcel)
            self._changed.notify()
        return parcel.future

    def wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def run(self) -> None:
        try:
            while batch := self._batch():
                self._send(batch)
        finally:
            left = [(parcel.future, _closed("was sent")) for parcel in self._parcels]
            _hand_back(left)

    def _batch(self) -> list[_Parcel]:
        """Wait for messages; return those of one client that fit, none when it is time to end."""
        batch: list[_Parcel] = []
        size = 0
        with self._changed:
            self._changed.wait_for(lambda: self._parcels or self.stopping)
            while self._parcels and not self.stopping:
                parcel = self._parcels[0]
                size += len(parcel.publish.message.body)
                full = len(batch) >= MOST or size > MOST_BYTES
                if batch and (full or parcel.client is not batch[0].client):
                    break
                batch.append(self._parcels.popleft())
        return batch

    @staticmethod
    def _send(batch: list[_Parcel]) -> None:
        wanted = [parcel for parcel in batch if not parcel.future.cancelled()]
        answer: BaseException | None = None
        try:
            if wanted:
                wanted[0].client.send([parcel.publish for parcel in wanted])
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait for this batch
            answer = error
        _hand_back([(parcel.future, answer) for parcel in wanted])


class _Waiter(Struct, frozen=True):
    """A coroutine that waits for a document."""

    future: "asyncio.Future[bytes]"
    once: bool
    """It wants to know what is there now, and nothing later."""


class _Listener(Service):
    """Waits for all results with one watch. Everything that may block is done in its thread."""

    name = "celeriac-listener"

    def __init__(self, store: ResultStore) -> None:
        super().__init__()
        self._store = store
        self._changed = threading.Condition()
        self._waiters: dict[str, list[_Waiter]] = {}
        # Keys to be looked up, and keys that nobody waits for any more.
        self._fresh: set[str] = set()
        self._left: set[str] = set()
        self._watch: Watch | None = None
        self._watched: set[str] = set()

    def ask(self, key: str, once: bool) -> "asyncio.Future[bytes]":
        """Want a document; the future is done when there is a final one. Never blocks."""
        waiter = _Waiter(asyncio.get_running_loop().create_future(), once)
        with self._changed:
            _refuse_if_closed(self)
            self.start()
            self._waiters.setdefault(key, []).append(waiter)
            # Whoever made it not empty has woken the thread, which has not been here since.
            first = not self._fresh
            self._fresh.add(key)
        if first:
            self.wake()
        return waiter.future

    def leave(self, key: str, future: "asyncio.Future[bytes]") -> None:
        """Want it no longer, whether it came or not. Never blocks."""
        with self._changed:
            kept = [w for w in self._waiters.get(key, ()) if w.future is not future]
            if kept:
                self._waiters[key] = kept
            gone = not kept and self._waiters.pop(key, None) is not None
            if gone:
                self._left.add(key)
        if gone:
            self.wake()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify()
            watch = self._watch
        if watch is not None:
            watch.wake()

    def run(self) -> None:
        try:
            while self._has_work():
                try:
                    self._round()
                except Exception as error:  # noqa: BLE001 - it belongs to those who wait
                    self._fail(error)
        finally:
            self._fail(_closed("came"))

    def _has_work(self) -> bool:
        """Wait until somebody wants something; False when it is time to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiters or self._left or self.stopping)
            return not self.stopping

    def _round(self) -> None:
        """Take in who came and who left, then wait for documents once."""
        watch = self._watch = self._watch or self._store.watch()
        with self._changed:
            # Whoever comes after this finds the watch, and wakes it.
            left, self._left = self._left, set()
            fresh, self._fresh = self._fresh & self._waiters.keys(), set()
        self._discard(watch, left)
        self._look(watch, fresh)
        if self._waiters and not self.stopping:
            self._arrived(watch.wait(None))

    def _look(self, watch: Watch, keys: set[str]) -> None:
        """Look for what is there already, and watch for the rest."""
        if not keys:
            return
        self._arrived(self._store.get(sorted(keys)))
        missing = []
        with self._changed:
            for key in keys & self._waiters.keys():
                missing += [w.future for w in self._waiters[key] if w.once]
            wanted = (keys & self._waiters.keys()) - self._watched
        _hand_back([(future, TimeoutError("it is not there")) for future in missing])
        for key in wanted:
            watch.add(key)
            self._watched.add(key)

    def _discard(self, watch: Watch, keys: set[str]) -> None:
        for key in keys & self._watched:
            self._watched.discard(key)
            with suppress(OperationalError):  # A watch too many costs a wake-up, nothing more.
                watch.discard(key)

    def _arrived(self, documents: dict[str, bytes]) -> None:
        answers: list[tuple[asyncio.Future[bytes], bytes | BaseException]] = []
        for key, data in documents.items():
            answer = _final(data)
            if answer is not None:
                with self._changed:
                    waiters = self._waiters.pop(key, [])
                    self._left.add(key)
                answers += [(waiter.future, answer) for waiter in waiters]
        _hand_back(answers)

    def _fail(self, error: Exception) -> None:
        """Tell everybody who waits, and begin anew with the next who comes."""
        with self._changed:
            waiters = [waiter for found in self._waiters.values() for waiter in found]
            self._waiters.clear()
            self._fresh.clear()
            self._left.clear()
            watch, self._watch = self._watch, None
        self._watched.clear()
        if watch is not None:
            with suppress(OperationalError):
                watch.close()
        _hand_back([(waiter.future, error) for waiter in waiters])


def _final(data: bytes) -> bytes | BaseException | None:
    """Return the document if its state is final, the error if it cannot be read, else None."""
    try:
        return data if wire.decode(data).status in states.READY_STATES else None
    except DecodeError as error:
        return error


def _hand_back(answers: Iterable[tuple["asyncio.Future[Any]", Any]]) -> None:
    """Complete futures, each in its own loop, which is woken once for all of them."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Any]]] = {}
    for future, answer in answers:
        loops.setdefault(future.get_loop(), []).append((future, answer))
    for loop, own in loops.items():
        with suppress(RuntimeError):  # The loop was closed meanwhile: nobody waits there any more.
            loop.call_soon_threadsafe(_complete, own)


def _complete(answers: list[tuple["asyncio.Future[Any]", Any]]) -> None:
    for future, answer in answers:
        if future.done():
            continue  # Cancelled, or its time is up.
        if isinstance(answer, BaseException):
            future.set_exception(answer)
        else:
            future.set_result(answer)


def _refuse_if_closed(service: Service) -> None:
    if service.stopping or service.failure is not None:
        raise _closed("was called")


def _closed(what: str) -> OperationalError:
    return OperationalError(f"the app was closed before this {what}; call it again")
