"""Results that are sent to whoever waits for them, as messages (``rpc://``, BACK-02).

Nothing is kept: a worker sends each document to the queue that the caller named in its message, and the
caller's process, the only one that can ever read it, keeps it until it is forgotten. The broker is
whatever the app has; queues and messages have the form of Celery's. Thread-safe.
"""

import os
import threading
from collections import ChainMap
from collections.abc import Collection, Sequence
from time import monotonic
from typing import cast
from uuid import uuid4

from celeriac.brokers.base import Broker, Consumer
from celeriac.completion import Completion, Put, Settlement
from celeriac.exceptions import QueueNotFound
from celeriac.message import Message, Publish
from celeriac.queues import Exchange, Queue
from celeriac.results.base import TASK_KEY, ResultStore, Watch, task_key
from celeriac.states import SUCCESS

CLAIM = 200
CLAIM_BYTES = 4 * 1024 * 1024
DAY = 86400.0
"""Seconds that queues and documents of nobody live, where the settings say nothing."""
TRANSIENT, PERSISTENT = 1, 2


class RpcStore(ResultStore):
    """Documents in messages. ``expires`` is ``result_expires`` in seconds."""

    def __init__(
        self,
        broker: Broker,
        expires: float | None = DAY,
        form: tuple[str, str] = ("application/json", "utf-8"),
        *,
        persistent: bool = False,
    ) -> None:
        """``form`` is the content type and the encoding of documents."""
        self.url = "rpc://"
        self._form = form
        self._broker = broker
        self._expires = expires or DAY
        self._mode = PERSISTENT if persistent else TRANSIENT
        self._lock = threading.RLock()
        self._pid = 0
        self._inbox: _Inbox | None = None

    @property
    def location(self) -> str:
        """Identity of the server: none shares a transaction with it."""
        return f"rpc:{id(self):x}"

    @property
    def reply_to(self) -> str:  # type: ignore[override]
        """The queue of this process, which is there from now on. Raises OperationalError."""
        return self.inbox.queue

    @property
    def inbox(self) -> "_Inbox":
        """What came for this process. Raises OperationalError."""
        if self._pid != os.getpid():
            # A child has callers of its own: what comes for its parent is none of its business.
            self._pid, self._inbox, self._lock = os.getpid(), None, threading.RLock()
        with self._lock:
            if self._inbox is None:
                self._inbox = _Inbox(self._broker, self._expires)
            return self._inbox

    def put(self, puts: Sequence[Put]) -> None:
        """Send documents to those who wait; where nobody does, they are dropped."""
        letters = [self._letter(put, put.reply_to) for put in puts if put.reply_to]
        if letters:
            try:
                self._broker.publish(letters)
            except QueueNotFound:
                self._send_one_by_one(letters)

    def _send_one_by_one(self, letters: Sequence[Publish]) -> None:
        """Send them to those who are still there."""
        for letter in letters:
            try:
                self._broker.publish([letter])
            except QueueNotFound:
                pass  # Whoever asked has gone.

    def _letter(self, put: Put, queue: str) -> Publish:
        message = Message(
            id=put.key.removeprefix(TASK_KEY),
            task="",
            headers=b"{}",
            body=put.value,
            content_type=self._form[0],
            content_encoding=self._form[1],
        )
        theirs = Queue(queue, no_declare=True, expires=self._expires)
        return Publish(
            queue=queue, message=message, delivery_mode=self._mode, declarations=(theirs,)
        )

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        inbox = self.inbox
        inbox.take_in()
        return inbox.found(keys)

    def forget(self, keys: Sequence[str]) -> None:
        self.inbox.forget(keys)

    def watch(self) -> "RpcWatch":
        return RpcWatch(self.inbox)

    def expire(self) -> int:
        return self._inbox.expire() if self._inbox is not None else 0

    def close(self) -> None:
        with self._lock:
            inbox, self._inbox = self._inbox, None
        if inbox is not None and self._pid == os.getpid():
            inbox.close()


class _Inbox:
    """The queue of one process, and the documents that have come to it."""

    def __init__(self, broker: Broker, expires: float) -> None:
        self.queue = str(uuid4())
        self._expires = expires
        # Not auto_delete, as Celery's: who reads it may have no subscription for a while.
        declared = Queue(self.queue, Exchange(""), self.queue, expires=expires)
        broker.queues = ChainMap({self.queue: declared}, cast(dict[str, Queue], broker.queues))
        self.consumer: Consumer = broker.consumer([self.queue])
        self._claiming = threading.Lock()
        # The document, and when it may be forgotten.
        self._documents: dict[str, tuple[bytes, float]] = {}
        self._watches: set[RpcWatch] = set()

    def take_in(self) -> None:
        """Take in what has come. Any thread. Raises OperationalError."""
        with self._claiming:
            while deliveries := self.consumer.claim(CLAIM, CLAIM_BYTES):
                for delivery in deliveries:
                    self._keep(task_key(delivery.message.id), delivery.message.body)
                done = [
                    Completion(receipt=delivery.receipt, settlement=Settlement.ACK)
                    for delivery in deliveries
                ]
                self.consumer.commit(done, None)

    def _keep(self, key: str, document: bytes) -> None:
        if key in self._documents and SUCCESS.encode() in self._documents[key][0][:64]:
            return  # What a second run says comes too late (RES-20).
        self._documents[key] = (document, monotonic() + self._expires)
        for watch in list(self._watches):
            watch.came(key)

    def found(self, keys: Collection[str]) -> dict[str, bytes]:
        """Return those of the documents that are there."""
        rows = {key: self._documents.get(key) for key in keys}
        return {key: row[0] for key, row in rows.items() if row is not None}

    def forget(self, keys: Collection[str]) -> None:
        """Keep these no longer."""
        for key in keys:
            self._documents.pop(key, None)

    def expire(self) -> int:
        """Forget what has waited too long; return how many documents."""
        now = monotonic()
        old = [key for key, (_, until) in list(self._documents.items()) if until <= now]
        self.forget(old)
        return len(old)

    def watched_by(self, watch: "RpcWatch", *, still: bool) -> None:
        """Tell a watch what comes, or no longer."""
        (self._watches.add if still else self._watches.discard)(watch)

    def close(self) -> None:
        """Give back what was not taken in, and let go of the queue."""
        self.consumer.close()


class RpcWatch(Watch):
    """Waits at the queue of its process."""

    def __init__(self, inbox: _Inbox) -> None:
        self._inbox = inbox
        self._keys: set[str] = set()
        self._fresh: set[str] = set()
        self._woken = False
        inbox.watched_by(self, still=True)

    def came(self, key: str) -> None:
        """Note that a document has come."""
        if key in self._keys:
            self._fresh.add(key)

    def add(self, keys: Collection[str]) -> None:
        self._keys.update(keys)
        self._fresh.update(keys)
        self._inbox.consumer.wake()

    def discard(self, keys: Collection[str]) -> None:
        self._keys.difference_update(keys)
        self._fresh.difference_update(keys)

    def wait(self, timeout: float | None) -> dict[str, bytes]:
        deadline = float("inf") if timeout is None else monotonic() + timeout
        while True:
            self._inbox.take_in()
            fresh = {self._fresh.pop() for _ in range(len(self._fresh))}
            if found := self._inbox.found(fresh):
                return found
            left = deadline - monotonic()
            if self._woken or left <= 0:
                self._woken = False
                return {}
            self._inbox.consumer.wait(min(left, 30.0))

    def wake(self) -> None:
        self._woken = True
        self._inbox.consumer.wake()

    def close(self) -> None:
        self._inbox.watched_by(self, still=False)
