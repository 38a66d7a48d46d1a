"""Calls and results for coroutines, over the same synchronous client and store as everybody's.

Two background threads: one publishes what coroutines hand over, in batches, the other, that of the
backend's listener, waits for the results that they want. Neither blocks an event loop, and both
serve all loops of the process. The only module of the caller's side that imports asyncio, so the app
loads it when it is first needed. What a call says and what a document means is not known here.
"""

import asyncio
import builtins
import os
import threading
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol
from weakref import WeakSet

from msgspec import Struct

from celeriac.backend import Backend
from celeriac.client import Client
from celeriac.exceptions import TimeoutError
from celeriac.listener import Subscription, closed, refuse_if_closed
from celeriac.message import Publish
from celeriac.service import Service

MOST = 200
"""Messages in one batch."""
MOST_BYTES = 4 * 1024 * 1024
"""Bytes of message bodies in one batch; one larger message goes alone."""


class Host(Protocol):
    """What an awaiter needs of its app."""

    @property
    def backend(self) -> Backend:
        """Where results are read."""
        ...


class Awaiter:
    """Publishes and waits on behalf of coroutines.

    Threads start on first use, and again in a forked child. Any loop of any thread may use it.
    """

    def __init__(self, app: Host) -> None:
        self._app = app
        # By process: a fork copies the objects, but neither their threads nor the locks' owners.
        self._publishers: dict[int, _Publisher] = {}

    async def publish(self, client: Client, publish: Publish) -> None:
        """Publish a message, in one batch with those that are handed over meanwhile.

        Raises OperationalError, as all calls of the batch do, if the broker cannot take it. A call
        that is cancelled before its batch is on its way is not sent.
        """
        await self._publisher().ask(client, publish)

    async def result(self, key: str, timeout: float | None) -> bytes:
        """Wait for a document of a final state under ``key`` and return it.

        Raises TimeoutError after ``timeout`` seconds; 0 looks once.
        """
        listener = self._app.backend.listener
        once = timeout is not None and timeout <= 0
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        subscription = Subscription(key, _hand_back, future, once=once)
        listener.subscribe(subscription)
        try:
            async with asyncio.timeout(None if once else timeout):
                return await future
        except builtins.TimeoutError:
            raise TimeoutError(f"nothing final under {key} within {timeout:g} s") from None
        finally:
            listener.unsubscribe(subscription)

    def close(self) -> None:
        """End the thread of this process; what was not sent fails with OperationalError."""
        service = self._publishers.pop(os.getpid(), None)
        if service is not None:
            service.stop()
            service.join()

    def _publisher(self) -> "_Publisher":
        """Return this process's publisher."""
        pid = os.getpid()
        # setdefault is one step: two threads that come first together get the same one.
        return self._publishers.get(pid) or self._publishers.setdefault(pid, _Publisher())


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
        # Loops that will ring when all who are ready in them have had their turn.
        self._to_ring: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    def ask(self, client: Client, publish: Publish) -> "asyncio.Future[None]":
        """Hand over a message; the future is done when the broker has it. Never blocks.

        What coroutines hand over in one turn of their loop goes together: the thread is woken at its
        end, and not by the first, beside which the others would come too late.
        """
        loop = asyncio.get_running_loop()
        parcel = _Parcel(client, publish, loop.create_future())
        with self._changed:
            refuse_if_closed(self)
            self.start()
            self._parcels.append(parcel)
            if loop not in self._to_ring:
                self._to_ring.add(loop)
                loop.call_soon(self._ring, loop)
        return parcel.future

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._changed:
            self._to_ring.discard(loop)
            self._changed.notify()

    def wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def run(self) -> None:
        try:
            while batch := self._batch():
                self._send(batch)
        finally:
            left = [(parcel.future, closed("was sent")) for parcel in self._parcels]
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
