"""The link: one I/O thread per process that serves a connection, and how other threads ask for work.

It connects when something is asked of it, and again after a loss, to the next address of its list,
more patiently each time. Heartbeats are answered by the thread, whatever callers do. A connection in
error is thrown away whole. A child that was forked begins anew and leaves the parent's connection
alone. What the work is, is no business of this module.
"""

import atexit
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from pika.adapters.select_connection import IOLoop
from pika.exceptions import (
    AuthenticationError,
    ConnectionClosedByBroker,
    ProbableAccessDeniedError,
    ProbableAuthenticationError,
    StreamLostError,
)

from celeriac.backoff import exponential, spread
from celeriac.brokers.amqp.addresses import Address
from celeriac.brokers.amqp.connection import AMQPError, Connection
from celeriac.brokers.amqp.replies import Reply, Run
from celeriac.brokers.amqp.session import Session
from celeriac.exceptions import OperationalError

T = TypeVar("T")
Work = Callable[[Session], Coroutine[Reply[Any], None, T]]

log = logging.getLogger("celeriac.broker")

LONGEST_PAUSE = 2.0
"""Seconds between attempts to connect."""
FAREWELL = 1.0
"""Seconds that an orderly close may take."""
REFUSED = (ProbableAuthenticationError, ProbableAccessDeniedError, AuthenticationError)
"""Errors that trying again does not help against."""
REFUSALS = (403, 530)

# What goes wrong is told by our own errors; pika says each thing several times, at full length.
if logging.getLogger("pika").level == logging.NOTSET:
    logging.getLogger("pika").setLevel(logging.CRITICAL)


class Link:
    """The connection of one process. Thread-safe; usable after a fork."""

    def __init__(
        self, addresses: Sequence[Address], timeout: float, begin: Callable[[Connection], Session]
    ) -> None:
        self.addresses = addresses
        self.timeout = timeout
        self._begin = begin
        self.exclusive = threading.RLock()
        """For what two threads of a process may not do at once."""
        self._lock = threading.Lock()
        self._thread: _IoThread | None = None
        _links.add(self)

    def call(self, work: Work[T], timeout: float | None = None) -> T:
        """Do work on an open connection, and return what it returns.

        Raises OperationalError when there is none in time, when it breaks off, or when the work
        takes longer than ``timeout`` seconds (by default those that the broker was opened with).
        """
        timeout = self.timeout if timeout is None else timeout
        call: _Call[T] = _Call(work)
        thread = self._ask(lambda thread: thread.begin(call))
        if not call.wait(timeout):
            # Before it is given up, and the connection perhaps with it.
            late = thread.late(timeout)
            thread.loop.add_callback_threadsafe(partial(thread.give_up, call))
            raise OperationalError(late)
        return call.result(self._shown)

    def start(self, work: Work[Any]) -> None:
        """Have work done as soon as there is a connection. Nobody waits for its end. Never blocks."""
        with self._lock:
            if self._thread is not None and self._thread.alive:
                begin = partial(self._thread.begin, _Call(work))
                self._thread.loop.add_callback_threadsafe(begin)

    def post(self, action: Callable[[], None]) -> None:
        """Have something done in the I/O thread, if there is one. Never blocks."""
        with self._lock:
            if self._thread is not None:
                self._thread.loop.add_callback_threadsafe(partial(_quietly, action))

    def close(self) -> None:
        """Close the connection in order, and end the thread. It is opened again if it is used."""
        with self._lock:
            thread, self._thread = self._thread, None
            if thread is not None:
                thread.loop.add_callback_threadsafe(thread.close)
        if thread is not None:
            thread.join(FAREWELL)

    def forget(self) -> None:
        """Begin anew, in a child that was forked."""
        inherited, self._thread = self._thread, None
        self._lock, self.exclusive = threading.Lock(), threading.RLock()
        if inherited is not None and inherited.connection is not None:
            inherited.connection.let_go()

    def _ask(self, action: Callable[["_IoThread"], None]) -> "_IoThread":
        with self._lock:
            if self._thread is None or not self._thread.alive:
                self._thread = _IoThread(self.addresses, self.timeout, self._begin)
            thread = self._thread
            # Under the lock: a thread that is told to end has heard of everything before that.
            thread.loop.add_callback_threadsafe(partial(action, thread))
        return thread

    @property
    def _shown(self) -> str:
        return _shown(self.addresses)


class _Call(Generic[T]):
    """Work that another thread waits for."""

    def __init__(self, work: Work[T]) -> None:
        self.work = work
        self.run: Run | None = None
        self.received = 0
        """Bytes that the connection had received when it began."""
        self._value: Any = None
        self._error: BaseException | None = None
        self._ended = threading.Lock()
        self._ended.acquire()

    def start(self, session: Session) -> None:
        """Begin, on an open connection. In the I/O thread, as what follows."""
        self.received = session.connection.received
        self.run = Run(self.work(session), self.end)

    def end(self, value: Any, error: BaseException | None) -> None:
        self._value, self._error = value, error
        self._ended.release()

    def wait(self, timeout: float) -> bool:
        """Wait for the end; return whether it has come. In the thread that asked, as what follows."""
        return self._ended.acquire(timeout=timeout)

    def result(self, shown: str) -> T:
        """Return or raise what came of it."""
        error = self._error
        if isinstance(error, AMQPError):
            raise OperationalError(
                f"the broker at {shown} broke off: {_said(error)}. What was under way may have been "
                "done or not; the same call may succeed now"
            ) from error
        if error is not None:
            raise error
        value: T = self._value
        return value


class _IoThread:
    """The thread, its loop, and the one connection that it has or makes."""

    def __init__(
        self, addresses: Sequence[Address], timeout: float, begin: Callable[[Connection], Session]
    ) -> None:
        self.loop = IOLoop()
        self.connection: Connection | None = None
        self._addresses = addresses
        self._timeout = timeout
        self._begin = begin
        self._session: Session | None = None
        self._waiting: list[_Call[Any]] = []
        self._connecting = False
        self._closing = False
        self._attempts = 0
        self._cause = ""
        self._blocked = ""
        self._thread = threading.Thread(target=self._run, name="amqp", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def join(self, timeout: float) -> None:
        if self._thread is not threading.current_thread():
            self._thread.join(timeout)

    def late(self, timeout: float) -> str:
        """Return what to say to a caller who has waited in vain."""
        shown = _shown(self._addresses)
        if self._session is None:
            return (
                f"the broker at {shown} cannot be reached within {timeout:g} s"
                f"{': ' if self._cause else ''}{self._cause}; check that RabbitMQ runs there, and that "
                "broker_url is right"
            )
        if self._blocked:
            return (
                f"the broker at {shown} takes no messages now: it blocks publishers ({self._blocked}); "
                "free memory or disk there"
            )
        return (
            f"the broker at {shown} did not answer within {timeout:g} s; look at its log and load"
        )

    # -- calls, in the thread

    def begin(self, call: _Call[Any]) -> None:
        """Do what a call asks for, now or once there is a connection."""
        if self._closing:
            call.end(
                None, OperationalError(f"the link to {_shown(self._addresses)} is being closed")
            )
        elif self._session is not None:
            call.start(self._session)
        else:
            self._waiting.append(call)
            self._connect()

    def give_up(self, call: _Call[Any]) -> None:
        """Forget a call that nobody waits for any more; so with a connection that has gone silent."""
        if call in self._waiting:
            self._waiting.remove(call)
        if call.run is not None:
            # An error of ours: others may wait for a part of the work, and go on with it.
            call.run.stop(OperationalError("it took longer than whoever asked for it would wait"))
            connection = self.connection
            if connection is None or self._session is None or self._blocked:
                return
            if connection.received == call.received:
                self._session = None
                connection.abort("the server has gone silent")

    def close(self) -> None:
        """End in order."""
        self._closing = True
        self._fail_waiting(OperationalError("the link was closed"))
        if self.connection is not None and self.connection.is_open:
            self.connection.close()
            self.loop.call_later(FAREWELL, self.loop.stop)
        elif self.connection is not None and self._connecting:
            # Given up together with its socket; that is over when it is told as a refusal.
            self.connection.abort("the link is being closed")
            self.loop.call_later(FAREWELL, self.loop.stop)
        else:
            self.loop.stop()

    # -- the connection, in the thread

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            self.loop.start()
        except BaseException as error:
            failure = error
            log.exception("the thread of the link to %s has failed", _shown(self._addresses))
        self._closing = True
        self._fail_waiting(OperationalError(f"the link to the broker has ended: {failure!r}"))
        if self.connection is not None:
            # Ended without a word, so that whoever waits on its channels must be told.
            self.connection.perish(StreamLostError(f"the link has ended: {failure!r}"))
            self.connection.let_go()
        self.loop.close()

    def _connect(self) -> None:
        if self._connecting or self._closing:
            return
        self._connecting = True
        address = self._addresses[self._attempts % len(self._addresses)]
        name = f"celeriac {os.getpid()}@{socket.gethostname()}"
        self.connection = Connection(
            address.parameters(self._timeout, name),
            on_open_callback=self._opened,
            on_open_error_callback=self._refused,
            on_close_callback=self._lost,
            custom_ioloop=self.loop,
        )
        self.connection.add_on_connection_blocked_callback(self._was_blocked)
        self.connection.add_on_connection_unblocked_callback(self._was_unblocked)

    def _opened(self, connection: Any) -> None:
        self._connecting, self._blocked, self._cause = False, "", ""
        connection.widen()
        self._session = session = self._begin(connection)
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.start(session)
        # The next loss begins with the address that is good now.
        self._attempts %= len(self._addresses)

    def _refused(self, _: Any, error: BaseException) -> None:
        self.connection = None
        if self._closing:
            self.loop.stop()
            return
        cause = _root(error)
        self._cause = _said(cause)
        self._attempts += 1
        round_, place = divmod(self._attempts, len(self._addresses))
        if _is_final(cause) and place == 0:
            text = f"the broker at {_shown(self._addresses)} refuses us: {self._cause}"
            self._fail_waiting(OperationalError(f"{text}; check user, password and virtual host"))
        pause = spread(exponential(round_ - 1, factor=0.05, maximum=LONGEST_PAUSE))
        self.loop.call_later(0.0 if place else pause, self._try_again)

    def _try_again(self) -> None:
        self._connecting = False
        if self._waiting:
            self._connect()

    def _lost(self, connection: Any, error: BaseException) -> None:
        if connection is not self.connection:
            return  # One that was given up before.
        self._session = self.connection = None
        self._connecting = False
        self._cause = _said(error)
        if self._closing:
            self.loop.stop()
        elif self._waiting:
            self._connect()

    def _was_blocked(self, _: Any, frame: Any) -> None:
        self._blocked = str(frame.method.reason)

    def _was_unblocked(self, *_: Any) -> None:
        self._blocked = ""

    def _fail_waiting(self, error: OperationalError) -> None:
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call.end(None, error)


def _shown(addresses: Sequence[Address]) -> str:
    return " and ".join(address.shown for address in addresses)


def _quietly(action: Callable[[], None]) -> None:
    try:
        action()
    except AMQPError:
        pass  # The connection is gone, and with it what was to be done on it.


def _root(error: BaseException) -> BaseException:
    """Return what pika wraps up in errors that only say that it did not work."""
    while True:
        wrapped = getattr(error, "exceptions", ()) or (getattr(error, "exception", None),)
        inner = [one for one in (*wrapped, *error.args) if isinstance(one, BaseException)]
        if not inner:
            return error
        error = inner[-1]


def _said(error: BaseException) -> str:
    """Return an error as people read it."""
    if isinstance(error, ConnectionClosedByBroker):
        return str(error.reply_text)
    if isinstance(error, OSError):
        return str(error.strerror or error)
    return str(error) or type(error).__name__


def _is_final(error: BaseException) -> bool:
    if isinstance(error, ConnectionClosedByBroker):
        return error.reply_code in REFUSALS
    return isinstance(error, REFUSED)


_links: "WeakSet[Link]" = WeakSet()


def _after_fork() -> None:
    for link in list(_links):
        link.forget()


def _at_exit() -> None:
    """Say goodbye: the server takes a connection that just ends for a fault, and logs it."""
    for link in list(_links):
        link.close()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
