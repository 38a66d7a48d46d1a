"""One watch per process for all who wait for results: threads, coroutines and callbacks.

A thread that waits takes the lead if nobody has it: it waits at the watch for everybody, and hands
the lead on when its own documents are there. So a program that waits in one thread has no other,
and its result takes no detour. Subscribers have no thread that could lead; for them there is one,
which leads while there are any. What a document means is not known here.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

from celeriac.backoff import exponential, spread
from celeriac.exceptions import CeleriacError, OperationalError, StorageCorrupt, TimeoutError
from celeriac.results.base import ResultStore, Watch
from celeriac.service import Service

log = logging.getLogger("celeriac.result")

LONGEST_PAUSE = 5.0
"""Seconds between two attempts for the sake of patient subscribers."""

Answer = bytes | BaseException
"""A document of a final state, or why there is none."""
Delivery = Callable[[list[tuple[Any, Answer]]], None]
"""Takes tokens with their answers, in the listener's thread. May not raise, nor block for long."""


class Subscription:
    """Somebody who is to be told the first final document under a key, once."""

    __slots__ = ("__weakref__", "deliver", "key", "once", "patient", "token")

    def __init__(
        self, key: str, deliver: Delivery, token: Any, *, once: bool = False, patient: bool = False
    ) -> None:
        self.key = key
        self.deliver = deliver
        self.token = token
        """What ``deliver`` knows the subscriber by."""
        self.once = once
        """Wants to know what is there now, and nothing later."""
        self.patient = patient
        """Stays while the store is away, however long that is."""


class Wait:
    """One thread's wait for documents under some keys; to be used with ``with``."""

    __slots__ = ("_listener", "bell", "error", "keys", "news")

    def __init__(self, listener: "Listener", keys: Sequence[str]) -> None:
        self._listener = listener
        self.keys = keys
        self.news: deque[tuple[str, bytes]] = deque()
        self.error: BaseException | None = None
        self.bell = threading.Event()

    @property
    def answered(self) -> bool:
        """Whether there is something to hear."""
        return bool(self.news) or self.error is not None

    def next(self, timeout: float | None) -> list[tuple[str, bytes]]:
        """Block until there are documents; return them with their keys, none after ``timeout``.

        Of any state; of several under one key the last is the newest. Raises OperationalError.
        """
        deadline = float("inf") if timeout is None else monotonic() + timeout
        while True:
            # First the bell, then the look: whoever rings has brought something before.
            self.bell.clear()
            if self.answered or deadline <= monotonic():
                break
            self._listener.attend(self, deadline)
        if not self.answered:
            # Perhaps it was this one's turn to lead, and nobody knows when it comes back.
            self._listener.pass_on(self)
        if self.error is not None:
            raise self.error
        return [self.news.popleft() for _ in range(len(self.news))]

    def __enter__(self) -> "Wait":
        try:
            self._listener.enter(self)
        except BaseException:
            # A soft time limit, or Ctrl-C, may come between any two steps.
            self._listener.exit(self)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.exit(self)


class Listener(Service):
    """Waits for all results of an app in this process, with one watch."""

    name = "celeriac-listener"

    def __init__(
        self,
        store: ResultStore,
        is_final: Callable[[bytes], bool],
        pause: Callable[[int], float | None],
    ) -> None:
        """``is_final`` looks into a document, and may raise DecodeError. ``pause`` says how long to
        wait before the n-th new attempt at a store that is away, None to give up.
        """
        super().__init__()
        self._store = store
        self._is_final = is_final
        self._pause = pause
        self._lock = threading.Lock()
        self._waits: dict[str, list[Wait]] = {}
        self._subscribers: dict[str, list[Subscription]] = {}
        # Everybody in ``_waits``, the longest waiting first.
        self._sleepers: dict[Wait, None] = {}
        # The thread that leads, by its number. Known by name, so that whoever was interrupted between
        # any two steps (soft time limit, Ctrl-C) can tell that the lead is still his to hand over.
        self._leader: int | None = None
        self._called = False
        self._bell = threading.Event()
        self._ended = threading.Event()
        # Keys to be looked up, and keys that nobody waits for any more.
        self._fresh: set[str] = set()
        self._left: set[str] = set()
        # Subscriptions whose owners were collected; the collector may not take locks.
        self._orphans: deque[Subscription] = deque()
        # Only whoever leads touches these.
        self._watch: Watch | None = None
        self._watched: set[str] = set()
        self._failures = 0

    # -- threads

    def wait(self, keys: Sequence[str]) -> Wait:
        """Return a wait for documents under these keys, those that are there already included."""
        return Wait(self, keys)

    def enter(self, wait: Wait) -> None:
        """Take in a thread's wait."""
        with self._lock:
            refuse_if_closed(self)
            self._sleepers[wait] = None
            for key in wait.keys:
                self._waits.setdefault(key, []).append(wait)
            self._fresh.update(wait.keys)
            led = self._leader is not None
        if led:
            self._wake_watch()

    def exit(self, wait: Wait) -> None:
        """Let a thread's wait go, whether it was answered or not."""
        with self._lock:
            self._sleepers.pop(wait, None)
            for key in wait.keys:
                _remove(self._waits, key, wait)
                self._note_left(key)
            # Whoever leads now will see to the keys in time; nobody is woken for that alone.
            lead = self._leads() or self._take_lead()
        if lead:
            self._hand_over()

    def attend(self, wait: Wait, deadline: float) -> None:
        """Wait on behalf of a wait: at the watch for everybody, or until somebody rings."""
        try:
            with self._lock:
                lead = not self._subscribers and not self.stopping and self._take_lead()
            if not lead:
                wait.bell.wait(_left(deadline))
            while lead and not (wait.answered or self._subscribers or self.stopping):
                left = _left(deadline)
                if left == 0:
                    break
                self._round_or_pause(left)
        finally:
            if self._leads():
                self._hand_over(wait)

    def pass_on(self, wait: Wait) -> None:
        """Let another thread lead, if nobody does."""
        with self._lock:
            bell = self._next_bell(wait) if self._leader is None else None
        if bell is not None:
            bell.set()

    # -- subscribers

    def subscribe(self, subscription: Subscription) -> None:
        """Tell somebody when there is a final document. Never blocks."""
        with self._lock:
            refuse_if_closed(self)
            self.start()
            self._subscribers.setdefault(subscription.key, []).append(subscription)
            self._fresh.add(subscription.key)
            # Whoever called first has woken the thread, which has not been here since.
            first, self._called = not self._called, True
        if first:
            self.wake()

    def unsubscribe(self, subscription: Subscription) -> None:
        """Tell it no longer, whether it was told or not. Never blocks."""
        with self._lock:
            gone = _remove(self._subscribers, subscription.key, subscription)
            if gone:
                self._note_left(subscription.key)
        if gone:
            self.wake()

    def orphan(self, subscription: Subscription) -> None:
        """Unsubscribe in time. Takes no lock, so that a garbage collector may call it."""
        self._orphans.append(subscription)

    def wake(self) -> None:
        if self.stopping:
            self._ended.set()
        self._bell.set()
        self._wake_watch()

    def run(self) -> None:
        """Lead while there are subscribers. They go before threads, which can lead themselves."""
        while not self.stopping:
            self._bell.clear()
            with self._lock:
                lead = bool(self._subscribers or self._left) and self._take_lead()
            if not lead:
                self._bell.wait()
                continue
            try:
                while self._subscribers and not self.stopping:
                    self._round_or_pause(None)
            finally:
                self._hand_over()

    def stop(self) -> None:
        # Under the lock: whoever lets go of the lead has seen it, or leaves the rest to ``close``.
        with self._lock:
            self.stopping = True
        super().stop()

    def close(self) -> None:
        """End the thread and the watch; whoever still waits fails with OperationalError."""
        self.stop()
        self.join()
        with self._lock:
            lead = self._take_lead()
        if lead:
            self._hand_over()

    # -- the lead

    def _take_lead(self) -> bool:
        """Lead, if nobody does; the lock is held."""
        if self._leader is not None:
            return False
        self._leader = threading.get_ident()
        return True

    def _leads(self) -> bool:
        """Whether the calling thread leads."""
        return self._leader == threading.get_ident()

    def _hand_over(self, but: Wait | None = None) -> None:
        """Lead no longer, and ring for the next one who could."""
        failed = False
        while True:
            if self.stopping:
                failed = True
                self._fail(closed("came"), everybody=True)
            self._tidy()
            with self._lock:
                if self._left or self.stopping is not failed:
                    continue
                self._leader = None
                bell = self._next_bell(but)
                break
        if bell is not None:
            bell.set()

    def _next_bell(self, but: Wait | None) -> threading.Event | None:
        """Return the bell of the thread that is to lead next; the lock is held."""
        if self._subscribers:
            return self._bell
        sleepers = (wait for wait in self._sleepers if wait is not but and not wait.answered)
        heir = next(sleepers, None)
        return None if heir is None else heir.bell

    def _wake_watch(self) -> None:
        watch = self._watch
        if watch is not None:
            watch.wake()

    def _round_or_pause(self, timeout: float | None) -> None:
        """Wait at the watch once, or for a while if the store is away. For whoever leads."""
        try:
            self._round(timeout)
            self._failures = 0
        except Exception as error:  # noqa: BLE001 - it belongs to those who wait
            pause = self._patience(error)
            if pause is not None:
                log.warning("cannot wait for results, trying again in %.2g s: %s", pause, error)
                self._begin_anew()
                self._failures += 1
                self._ended.wait(pause if timeout is None else min(pause, timeout))

    def _patience(self, error: Exception) -> float | None:
        """Return the seconds until the next attempt; fail those who will not wait for it."""
        away = isinstance(error, OperationalError) and not isinstance(error, StorageCorrupt)
        pause = self._pause(self._failures) if away else None
        if pause is not None:
            return pause
        self._fail(error, everybody=not away)
        if not self._subscribers:
            self._failures = 0
            return None
        return spread(exponential(self._failures, factor=0.1, maximum=LONGEST_PAUSE))

    def _round(self, timeout: float | None) -> None:
        """Take in who came and who left, then wait for documents once.

        Subscribers are served by the listener's own thread only: what they do there may take time.
        """
        serves = threading.current_thread() is self._thread
        if serves:
            self._called = False
        watch = self._watch = self._watch or self._store.watch()
        while self._orphans:
            self._drop(self._orphans.popleft())
        with self._lock:
            # Whoever comes after this finds the watch, and wakes it.
            fresh, subscribed = self._fresh, self._fresh & self._subscribers.keys()
            self._fresh = set() if serves else subscribed
        self._tidy()
        if serves and subscribed:
            self._look(sorted(subscribed))
        wanted = [key for key in fresh - self._watched if self._is_wanted(key)]
        if wanted:
            watch.add(wanted)
            self._watched.update(wanted)
        if (self._waits or self._subscribers) and not self.stopping:
            self._arrived(watch.wait(timeout), serves)

    def _is_wanted(self, key: str) -> bool:
        return key in self._waits or key in self._subscribers

    def _note_left(self, key: str) -> None:
        """Note a key that perhaps nobody waits for any more; the lock is held."""
        if not self._is_wanted(key):
            self._left.add(key)

    def _drop(self, subscription: Subscription) -> None:
        with self._lock:
            if _remove(self._subscribers, subscription.key, subscription):
                self._note_left(subscription.key)

    def _tidy(self) -> None:
        """Watch no longer what nobody waits for."""
        with self._lock:
            left, self._left = self._left, set()
            unwanted = [key for key in left & self._watched if not self._is_wanted(key)]
        if unwanted and self._watch is not None:
            self._watched.difference_update(unwanted)
            with suppress(OperationalError):  # A key too many costs a wake-up, nothing more.
                self._watch.discard(unwanted)

    def _look(self, keys: Sequence[str]) -> None:
        """Look for subscribers what is there already; some want to know no more than that."""
        self._arrived(self._store.get(keys), serves=True)
        with self._lock:
            found = [s for key in keys for s in self._subscribers.get(key, ()) if s.once]
            for subscription in found:
                _remove(self._subscribers, subscription.key, subscription)
                self._note_left(subscription.key)
        _deliver((subscription, TimeoutError("it is not there")) for subscription in found)

    def _arrived(self, documents: dict[str, bytes], serves: bool) -> None:
        told: list[tuple[Subscription, Answer]] = []
        for key, data in documents.items():
            with self._lock:
                waits = list(self._waits.get(key, ()))
            for wait in waits:
                wait.news.append((key, data))
                wait.bell.set()
            if not serves:
                with self._lock:
                    self._fresh.update({key} & self._subscribers.keys())
            elif key in self._subscribers and (answer := self._answer(data)) is not None:
                with self._lock:
                    told += [(each, answer) for each in self._subscribers.pop(key, ())]
                    self._note_left(key)
        _deliver(told)

    def _answer(self, data: bytes) -> Answer | None:
        """Return the document if its state is final, the error if it cannot be read, else None."""
        try:
            return data if self._is_final(data) else None
        except CeleriacError as error:
            return error

    def _fail(self, error: Exception, everybody: bool) -> None:
        """Tell those who wait, but for the patient if not ``everybody``, and begin anew."""
        with self._lock:
            waits = list(self._sleepers)
            failed = [s for each in self._subscribers.values() for s in each]
            failed = [s for s in failed if everybody or not s.patient]
            for subscription in failed:
                _remove(self._subscribers, subscription.key, subscription)
        self._begin_anew()
        for wait in waits:
            wait.error = error
            wait.bell.set()
        _deliver((subscription, error) for subscription in failed)

    def _begin_anew(self) -> None:
        """Close the watch; everything is looked up again when the next one is open."""
        with self._lock:
            watch, self._watch = self._watch, None
            self._fresh = {*self._waits, *self._subscribers}
            self._left.clear()
        self._watched.clear()
        if watch is not None:
            with suppress(OperationalError):
                watch.close()


def _remove(parties: dict[str, list[Any]], key: str, party: object) -> bool:
    """Take somebody off a list; return whether he was the last one under this key."""
    found = parties.get(key)
    if found is None:
        return False
    kept = [each for each in found if each is not party]
    if kept:
        parties[key] = kept
    else:
        del parties[key]
    return not kept


def _deliver(told: Iterable[tuple[Subscription, Answer]]) -> None:
    """Tell subscribers, those of one kind together."""
    kinds: dict[Delivery, list[tuple[Any, Answer]]] = {}
    for subscription, answer in told:
        kinds.setdefault(subscription.deliver, []).append((subscription.token, answer))
    for deliver, answers in kinds.items():
        deliver(answers)


def _left(deadline: float) -> float | None:
    """Return the seconds until then, None if that is never."""
    return None if deadline == float("inf") else max(0.0, deadline - monotonic())


def refuse_if_closed(service: Service) -> None:
    """Raise OperationalError if a service has ended, or cannot go on."""
    if service.stopping or service.failure is not None:
        raise closed("was called")


def closed(what: str) -> OperationalError:
    """Return the error of those who come after, or wait at, the end."""
    return OperationalError(f"the app was closed before this {what}; call it again")
