"""Starts a worker that kills or stops its own processes at named points of the road.

``python -m tests.faults.launch [--at POINT:N[:stop]]... [--no-sweep]
[--fresh SECONDS] WORKER ARGUMENTS``

The code under test has no hooks: its methods are wrapped from outside, in the parent before the
command line runs, in template and children when the template imports the app. At its N-th pass
through a point a process kills itself (or stops itself), the first process that comes so far and no
other after it: a file remembers what has fired, over all restarts of the worker.
"""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from functools import wraps
from itertools import count
from time import monotonic
from typing import Any

from msgspec import Struct

from celeriac import imports
from celeriac.cli import main as command_line
from celeriac.embedded import database
from celeriac.pools import child, template
from celeriac.worker.leases import Leases
from tests.fixtures.ledger import HOME, PARENT, Book, Copied, Fault, Process
from tests.fixtures.ledger_tasks import BROKER

POINTS_VARIABLE = "CELERIAC_LEDGER_POINTS"

POINTS = {
    # in the worker's parent
    "parent.claim.before": "celeriac.brokers.sqlite.consumer:SqliteConsumer.claim",
    "parent.claim.inside": "celeriac.brokers.sqlite.consumer:SqliteConsumer._pick",
    "parent.claim.after": "celeriac.brokers.sqlite.consumer:SqliteConsumer.claim",
    "parent.submit.after": "celeriac.pools.processes:ProcessPool.submit",
    "parent.start.after": "celeriac.brokers.sqlite.consumer:SqliteConsumer.start",
    "parent.permit.before": "celeriac.pools.processes:ProcessPool.permit",
    "parent.commit.before": "celeriac.worker.completer:Completer._make_true",
    "parent.commit.inside": "celeriac.brokers.sqlite.consumer:SqliteConsumer._watches",
    "parent.commit.after": "celeriac.worker.completer:Completer._make_true",
    "parent.ring.before": "celeriac.brokers.sqlite.broker:SqliteBroker.ring",
    "parent.renew.before": "celeriac.worker.leases:Leases.renew",
    "parent.renew.after": "celeriac.worker.leases:Leases.renew",
    "parent.sweep.after": "celeriac.worker.leases:Leases.sweep",
    "parent.fork.after": "celeriac.pools.nursery:Nursery.fork",
    "parent.bury.before": "celeriac.pools.processes:ProcessPool._bury",
    # in the template
    "template.fork.before": "celeriac.pools.template:Template._fork",
    "template.fork.inside": "os:pidfd_open",
    "template.fork.after": "celeriac.pools.template:Template._fork",
    "template.reap.before": "celeriac.pools.template:Template._reap",
    "template.reap.inside": "os:waitpid",
    "template.reap.after": "celeriac.pools.template:Template._reap",
    # in a child
    "child.take.after": "celeriac.pools.child:Child._take",
    "child.begin.after": "celeriac.pools.slots:Slots.begin",
    "child.run.before": "celeriac.execution:run",
    "child.call.after": "celeriac.execution:call",
    "child.run.after": "celeriac.execution:run",
    "child.send.inside": "celeriac.pools.packets:frame",
    "child.end.before": "celeriac.pools.slots:Slots.end",
    "child.end.after": "celeriac.pools.slots:Slots.end",
}
"""Where the points lie: before or after the method named, or (``inside``) in the middle of it, when
what it says here is reached. ``child.send.inside`` lies between the halves of an outcome.
"""

ON_REDIS = {
    "parent.claim.before": "celeriac.brokers.redis.consumer:RedisConsumer.claim",
    "parent.claim.after": "celeriac.brokers.redis.consumer:RedisConsumer.claim",
    "parent.start.after": "celeriac.brokers.redis.consumer:RedisConsumer.start",
    # Only where results are on another server; before this they are stored.
    "parent.settle.before": "celeriac.brokers.redis.consumer:RedisConsumer._settle",
}
"""Points that lie elsewhere, or only there, with messages on Redis."""

ON_RABBIT = {
    "parent.claim.before": "celeriac.brokers.amqp.consumer:AmqpConsumer.claim",
    "parent.claim.after": "celeriac.brokers.amqp.consumer:AmqpConsumer.claim",
    "parent.start.after": "celeriac.brokers.amqp.consumer:AmqpConsumer.start",
    "parent.settle.before": "celeriac.brokers.amqp.consumer:AmqpConsumer._settle",
}
"""The same with messages on RabbitMQ."""

ELSEWHERE = {"redis": ON_REDIS, "amqp": ON_RABBIT}
"""By the scheme of the broker's URL."""

_LATE = ("template.reap.inside",)
"""Points named ``inside`` that are passed when what is wrapped has returned."""


class Point(Struct, frozen=True):
    """One fault to come."""

    name: str
    nth: int
    """At which pass of a process."""
    signal: int = signal.SIGKILL

    @property
    def role(self) -> str:
        """The process it strikes: parent, template or child."""
        return self.name.partition(".")[0]

    def marker(self, home: str) -> str:
        """The file that says that it has struck."""
        return os.path.join(home, f"fired-{self.name}-{self.nth}")


def parse(text: str) -> Point:
    """Read ``POINT:N`` or ``POINT:N:stop``."""
    name, nth, *stop = text.split(":")
    if name not in POINTS.keys() | ON_REDIS.keys() or stop not in ([], ["stop"]):
        raise ValueError(f"{text!r} names no fault; points are: {', '.join(POINTS)}")
    return Point(name, int(nth), signal.SIGSTOP if stop else signal.SIGKILL)


def arm(point: Point, home: str) -> None:
    """Wrap the method at which a point lies."""
    scheme = os.environ.get(BROKER, "").partition(":")[0]
    places = POINTS | ELSEWHERE.get(scheme, {})
    module, _, attribute = places[point.name].partition(":")
    owner, _, name = attribute.rpartition(".")
    holder = imports.load(f"{module}:{owner}")
    passes, strike = count(1), _striker(point, home)
    if point.name == "child.send.inside":
        _replace(child.Child, "serve", _cutting(child.Child.serve, passes, point.nth, strike))
        return
    late = point.name.endswith(".after") or point.name in _LATE
    _replace(holder, name, _wrapped(getattr(holder, name), passes, point.nth, strike, late=late))


def _replace(owner: object, name: str, function: Callable[..., Any]) -> None:
    static = isinstance(vars(owner)[name], staticmethod)
    setattr(owner, name, staticmethod(function) if static else function)


def _wrapped(
    method: Callable[..., Any],
    passes: "count[int]",
    nth: int,
    strike: Callable[[], None],
    *,
    late: bool,
) -> Callable[..., Any]:
    @wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        now = next(passes) == nth
        if now and not late:
            strike()
        result = method(*args, **kwargs)
        if now and late:
            strike()
        return result

    return wrapped


def _cutting(
    serve: Callable[..., None], passes: "count[int]", nth: int, strike: Callable[[], None]
) -> Callable[..., None]:
    class Halver:
        """A stream that is cut in the middle of its n-th frame."""

        def __init__(self, stream: socket.socket) -> None:
            self._stream = stream

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

        def sendall(self, data: bytes) -> None:
            if next(passes) == nth:
                self._stream.sendall(data[: len(data) // 2])
                strike()
                data = data[len(data) // 2 :]
            self._stream.sendall(data)

    @wraps(serve)
    def wrapped(self: Any, jobs: socket.socket) -> None:
        self._stream = Halver(self._stream)
        serve(self, jobs)

    return wrapped


def _striker(point: Point, home: str) -> Callable[[], None]:
    """Return a function that strikes the process it is called in, if no other was struck before."""
    marker = point.marker(home)

    def strike() -> None:
        try:
            os.close(os.open(marker, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        stopped = point.signal == signal.SIGSTOP
        Book(home).write(Fault(point.role, point.name, os.getpid(), monotonic(), stopped))
        if stopped and not point.name.endswith(".inside"):
            _stop_between_transactions()
        else:
            _signal_to_self(point.signal)

    return strike


def _signal_to_self(number: int) -> None:
    # To this thread: a process that stops itself would let this very thread run on for a moment.
    signal.pthread_kill(threading.get_ident(), number)


def _stop_between_transactions() -> None:
    """Stop this process while none of its threads holds the embedded file, as before a fork."""
    databases = list(database._databases)
    for one in databases:
        one.before_fork()
    _signal_to_self(signal.SIGSTOP)
    for one in databases:
        one.after_fork(child=False)


def record_copies(home: str) -> None:
    """Write down when copies take the place of messages: on RabbitMQ, runs begin so."""
    trials = imports.load("celeriac.brokers.amqp.trials:")
    book, here, put_on_trial = Book(home), os.getpid(), trials.put_on_trial

    async def recorded(session: Any, channel: Any, entries: Sequence[Any]) -> Any:
        ids = [entry.delivery.message.id for entry in entries]
        book.write(*(Copied(here, task_id, monotonic()) for task_id in ids))
        copies = await put_on_trial(session, channel, entries)
        book.write(*(Copied(here, task_id, monotonic(), done=True) for task_id in ids))
        return copies

    trials.put_on_trial = recorded


def arm_template() -> None:
    """Arm the template, in which this is called, and the children that it will fork."""
    home, parent = os.environ[HOME], int(os.environ[PARENT])
    book, here = Book(home), os.getpid()
    book.write(Process("template", here, parent))
    for point in map(parse, os.environ.get(POINTS_VARIABLE, "").split()):
        if point.role != "parent":
            arm(point, home)
    become = child.main

    @wraps(become)
    def become_child(*args: Any, chores: bool, **kwargs: Any) -> None:
        role = "spare" if chores else "child"
        book.write(Process(role, os.getpid(), parent, here, monotonic()))
        become(*args, chores=chores, **kwargs)

    _replace(template, "main", become_child)


def main(arguments: list[str]) -> None:
    """Be a worker with faults to come."""
    home, points = os.environ[HOME], []
    while arguments and arguments[0] in ("--at", "--no-sweep", "--fresh"):
        option = arguments.pop(0)
        if option == "--at":
            points.append(arguments.pop(0))
        elif option == "--fresh":
            imports.load("celeriac.brokers.amqp.consumer:").FRESH = float(arguments.pop(0))
        else:
            _replace(Leases, "sweep", lambda self: None)
    os.environ[PARENT] = str(os.getpid())
    os.environ[POINTS_VARIABLE] = " ".join(points)
    Book(home).write(Process("parent", os.getpid(), os.getpid()))
    for point in map(parse, points):
        if point.role == "parent":
            arm(point, home)
    if os.environ.get(BROKER, "").startswith("amqp:"):
        record_copies(home)
    command_line.main(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
