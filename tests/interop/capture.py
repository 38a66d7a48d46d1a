"""Captures the bytes of golden/ from a real Celery and a real Redis.

Run it by hand when the reference version changes; the tests only read what it wrote. It needs
``celery[redis]==5.7.0`` in the running Python and ``redis-server`` on the path::

    python tests/interop/capture.py

The module is the Celery app as well: the worker it starts imports it as ``capture``.
"""

# ruff: noqa: F601, PLW0108, T201 - tables of calls in one form; keys that collide are a case
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

import json
import os
import platform
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import redis
from celery import Celery, __version__, chain, chord, group
from celery.canvas import StampingVisitor
from celery.exceptions import Ignore, Reject

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden"
READY = {"SUCCESS", "FAILURE", "REVOKED"}
STEPS = ("", "\x06\x163", "\x06\x166", "\x06\x169")

app = Celery("capture")
app.conf.update(
    broker_url=os.environ.get("CAPTURE_REDIS", "redis://127.0.0.1:1/0"),
    result_backend=os.environ.get("CAPTURE_REDIS", "redis://127.0.0.1:1/0"),
    result_extended=os.environ.get("CAPTURE_EXTENDED") == "1",
    task_track_started=True,
    worker_send_task_events=False,
    broker_connection_retry_on_startup=True,
)


# -- the tasks --


class Refused(Exception):
    """Takes what it gives to its base class."""

    def __init__(self, code, reason):
        super().__init__(code, reason)


class Awkward(Exception):
    """Takes other arguments than it gives to its base class."""

    def __init__(self, *, code):
        super().__init__(f"code {code}")
        self.code = code


class Outer:
    class Inner(Exception):
        """A class inside a class."""


class Shown:
    def __json__(self):
        return {"shown": [1, 2]}


def _local():
    class Local(Exception):
        pass

    return Local("local")


def _cause():
    error = RuntimeError("after")
    error.__cause__ = KeyError("before")
    return error


ERRORS = {
    "builtin": lambda: ValueError("boom"),
    "no_args": lambda: RuntimeError(),
    "key": lambda: KeyError("missing"),
    "two_args": lambda: Refused(7, "not today"),
    "awkward": lambda: Awkward(code=3),
    "nested": lambda: Outer.Inner("inside"),
    "local": _local,
    "cause": _cause,
    "non_ascii": lambda: ValueError("größer als 漢字 😀"),
    "unwritable_arg": lambda: ValueError("bad", {1}, [2]),
    "typed_arg": lambda: ValueError(
        datetime(2026, 1, 2, 3, 4, 5, 6, UTC), b"\xff\x00", Decimal("1.50")
    ),
    "oserror": lambda: FileNotFoundError(2, "No such file or directory", "here.txt"),
    "unicode": lambda: UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
    "process": lambda: subprocess.CalledProcessError(3, ["ls", "-l"]),
    "group": lambda: ExceptionGroup("several", [ValueError(1), TypeError(2)]),
    "json": lambda: json.JSONDecodeError("Expecting value", "{", 1),
    "assertion": lambda: AssertionError(),
}

VALUES = {
    "int": lambda: 4,
    "none": lambda: None,
    "true": lambda: True,
    "big_int": lambda: 2**80,
    "float": lambda: 0.1 + 0.2,
    "float_whole": lambda: 1e22,
    "nan": lambda: [float("nan"), float("inf"), float("-inf")],
    "text": lambda: 'größer als 漢字 😀 \u2028 \x00 \x7f "quoted" \\ / \n',
    "lone_surrogate": lambda: "\ud800 alone",
    "bytes": lambda: b"plain",
    "bytes_binary": lambda: b"\x00\xff",
    "datetime": lambda: datetime(2026, 11, 20, 20, 56, 22, 133632, UTC),
    "datetime_naive": lambda: datetime(2026, 11, 20, 20, 56),
    "datetime_offset": lambda: datetime(
        2026, 11, 20, 20, 56, tzinfo=timezone(timedelta(hours=5.5))
    ),
    "date": lambda: date(2026, 11, 20),
    "time": lambda: datetime(2026, 11, 20, 20, 56, 1, 5).time(),
    "decimal": lambda: Decimal("1.10"),
    "uuid": lambda: UUID("12345678123456781234567812345678"),
    "hook": lambda: Shown(),
    "tuple": lambda: (1, (2, 3)),
    "empty": lambda: [{}, [], ""],
    "nested": lambda: {"a": [{"b": {"c": [1, 2, {"d": None}]}}], "1": 1},
    "int_keys": lambda: {1: "one", None: "none", True: "yes", 1.5: "float"},
    "typed_inside": lambda: {
        "when": [date(2026, 1, 1), {"id": UUID(int=5)}],
        "price": Decimal("0"),
    },
}


@app.task(name="demo.add")
def add(x=0, y=0, *args, **kwargs):
    return x + y


@app.task(name="demo.value")
def value(name):
    return VALUES[name]()


@app.task(name="demo.fail")
def fail(name):
    raise ERRORS[name]()


@app.task(name="demo.unwritable")
def unwritable():
    return {1, 2}


@app.task(name="demo.retry", bind=True, max_retries=1, default_retry_delay=0)
def retry(self, with_exc):
    if self.request.retries:
        return "second run"
    raise self.retry(exc=ValueError("first run") if with_exc else None)


@app.task(name="demo.give_up", bind=True, max_retries=0)
def give_up(self):
    raise self.retry()


@app.task(name="demo.progress", bind=True)
def progress(self):
    self.update_state(state="PROGRESS", meta={"done": 1, "of": 3, "when": date(2026, 1, 1)})
    return "done"


@app.task(name="demo.soft", soft_time_limit=1)
def soft():
    time.sleep(30)


@app.task(name="demo.hard", time_limit=1)
def hard():
    time.sleep(30)


@app.task(name="demo.lost")
def lost():
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(name="demo.sleep")
def sleep(seconds):
    time.sleep(seconds)


@app.task(name="demo.ignore")
def ignore():
    raise Ignore()


@app.task(name="demo.reject")
def reject():
    raise Reject("no", requeue=False)


@app.task(name="demo.spawn", bind=True)
def spawn(self):
    return add.delay(1, 1)


@app.task(name="demo.total")
def total(numbers):
    return sum(numbers)


class Stamp(StampingVisitor):
    def on_signature(self, sig, **headers):
        return {"stamp_id": "abc", "stamped_headers": ["stamp_id"]}


# -- messages, sent with no worker about --

IDS = {"root_id": "root-1", "parent_id": "parent-1"}

MESSAGES = {
    "plain": lambda: add.delay(2, 3),
    "kwargs": lambda: add.delay(2, y=3),
    "empty": lambda: add.delay(),
    "list_args": lambda: add.apply_async([2, 3]),
    "countdown": lambda: add.apply_async((2,), {"y": 3}, countdown=10),
    "eta": lambda: add.apply_async((2,), eta=datetime(2026, 11, 20, 20, 56, 22, 133632, UTC)),
    "eta_whole_second": lambda: add.apply_async(
        (2,), eta=datetime(2026, 11, 20, 20, 56, tzinfo=UTC)
    ),
    "eta_offset": lambda: add.apply_async(
        (2,), eta=datetime(2026, 11, 20, 20, 56, tzinfo=timezone(timedelta(hours=-3)))
    ),
    "eta_naive": lambda: add.apply_async((2,), eta=datetime(2026, 11, 20, 20, 56)),
    "expires": lambda: add.apply_async((2, 3), expires=120),
    "expires_time": lambda: add.apply_async((2, 3), expires=datetime(2099, 1, 1, tzinfo=UTC)),
    "headers": lambda: add.apply_async(
        (2, 3), headers={"my": "hdr", "n": [1, {"d": date(2026, 1, 1)}]}
    ),
    "headers_replace": lambda: add.apply_async(
        (2, 3), headers={"origin": "elsewhere", "x-y": None}
    ),
    "priority": lambda: add.apply_async((2, 3), priority=5),
    "queue": lambda: add.apply_async((2, 3), queue="other"),
    "limits": lambda: add.apply_async((2, 3), time_limit=300, soft_time_limit=2.5),
    "ignore_result": lambda: add.apply_async((2, 3), ignore_result=True),
    "shadow": lambda: add.apply_async((2, 3), shadow="demo.shadow"),
    "task_id": lambda: add.apply_async((2, 3), task_id="my-own-id"),
    "retried": lambda: add.apply_async((2, 3), retries=2, **IDS),
    "send_task": lambda: app.send_task("demo.nowhere", (1, "two"), {"three": 3}),
    "link": lambda: add.apply_async((2, 3), link=add.s(1), link_error=fail.si("builtin")),
    "link_many": lambda: add.apply_async((2, 3), link=[add.s(1), add.s(2).set(countdown=3)]),
    "chain": lambda: chain(add.s(1, 1), add.s(2), add.s(3))(),
    "group": lambda: group(add.s(1, 1), add.s(2, 2))(),
    "chord": lambda: chord([add.s(1, 1), add.s(2, 2)])(total.s()),
    "chain_of_group": lambda: chain(add.s(1, 1), group(add.s(2), add.s(3)), total.s())(),
    "map": lambda: add.starmap([(1, 2), (3, 4)]).delay(),
    "chunks": lambda: add.chunks([(1, 2), (3, 4), (5, 6)], 2).apply_async(),
    "stamped": lambda: _stamped().apply_async(),
    "text": lambda: add.delay("größer als 漢字 😀", 'it\'s\n"so" \\ \x00 \x7f \u2028'),
    "lone_surrogate": lambda: add.delay("\ud800"),
    "typed": lambda: add.delay(
        *(VALUES[name]() for name in ("datetime", "date", "time", "decimal"))
    ),
    "typed_more": lambda: add.delay(
        *(VALUES[name]() for name in ("uuid", "bytes", "bytes_binary"))
    ),
    "hook": lambda: add.delay(Shown(), y=Shown()),
    "nested": lambda: add.delay({"a": [{"b": {"c": [1, 2, {"d": None}]}}]}, y=[[[[[[]]]]]]),
    "int_keys": lambda: add.delay({1: "one", None: "none", True: "yes", 1.5: "float"}),
    "big_int": lambda: add.delay(2**80, -(2**63) - 1),
    "floats": lambda: add.delay(0.1, 1e22, z=-0.0),
    "nan": lambda: add.delay(float("nan"), float("inf"), z=float("-inf")),
    "long": lambda: add.delay(list(range(1000)), y="x" * 3000),
    "many_args": lambda: add.delay(*range(60)),
}


def _stamped():
    signature = add.si(2, 3)
    signature.stamp(Stamp())
    return signature


def capture_messages(server):
    """Send each message and take what lies in the queues."""
    captured = []
    for case, send in MESSAGES.items():
        server.flushdb()
        send()
        for envelope in _queued(server):
            captured.append({"case": case, "envelope": envelope})
    server.flushdb()
    _send_protocol_1()
    captured += [{"case": "protocol_1", "envelope": envelope} for envelope in _queued(server)]
    server.flushdb()
    return captured


def _send_protocol_1():
    """Send from an app of its own: the protocol is chosen once per app."""
    old = Celery("old", broker=app.conf.broker_url, set_as_current=False)
    old.conf.task_protocol = 1
    old.send_task("demo.add", (2,), {"y": 3}, countdown=10)


def _queued(server):
    found = []
    for queue in ("celery", "other"):
        for step in STEPS:
            found += [raw.decode() for raw in reversed(server.lrange(queue + step, 0, -1))]
    return found


# -- result documents, written by a real worker --


def _revoked():
    app.control.revoke("revoked-before", reply=True, timeout=2)
    return add.apply_async((1, 1), task_id="revoked-before")


def _terminated():
    result = sleep.delay(60)
    while result.state != "STARTED":
        time.sleep(0.05)
    app.control.revoke(result.id, terminate=True, reply=True, timeout=2)
    return result


RUNS = {
    **{f"value_{name}": (lambda name=name: value.delay(name)) for name in VALUES},
    **{f"error_{name}": (lambda name=name: fail.delay(name)) for name in ERRORS},
    "unwritable": lambda: unwritable.delay(),
    "retry": lambda: retry.delay(False),
    "retry_with_exception": lambda: retry.delay(True),
    "give_up": lambda: give_up.delay(),
    "progress": lambda: progress.delay(),
    "spawn": lambda: spawn.delay(),
    "chain": lambda: chain(add.s(1, 1), add.s(2))(),
    "group_member": lambda: group(add.s(1, 1))()[0],
    "chord": lambda: chord([add.s(1, 1), add.s(2, 2)])(total.s()),
    "chord_broken": lambda: chord([add.s(1, 1), fail.si("builtin")])(total.s()),
    "stamped": lambda: _stamped().apply_async(),
    "kwargs": lambda: add.apply_async((1,), {"y": 2}, headers={"my": "hdr"}),
    "typed_args": lambda: add.delay(Decimal("1.5"), y=Decimal("2")),
    "type_error": lambda: add.delay(1, "two"),
    "ignored": lambda: ignore.delay(),
    "rejected": lambda: reject.delay(),
    "unknown": lambda: app.send_task("demo.nowhere"),
    "expired": lambda: add.apply_async((1, 1), expires=datetime(2020, 1, 1, tzinfo=UTC)),
    "revoked": _revoked,
    "terminated": _terminated,
    "soft_limit": lambda: soft.delay(),
    "hard_limit": lambda: hard.delay(),
    "lost": lambda: lost.delay(),
}

# Tasks that never reach a final state.
SILENT = {"ignored": "STARTED"}


def capture_results(server, extended):
    """Run each task on a worker of its own and record every document it publishes."""
    captured = []
    worker = _start_worker(extended)
    try:
        for case, send in RUNS.items():
            with server.pubsub() as channel:
                channel.psubscribe("celery-task-meta-*")
                result = send()
                until = {SILENT[case]} if case in SILENT else READY
                for document in _documents(channel, result.id, until):
                    captured.append({"case": case, "extended": extended, "document": document})
    finally:
        worker.terminate()
        worker.wait(30)
    return captured


def _documents(channel, task_id, until):
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        message = channel.get_message(timeout=1)
        if message is None or message["type"] != "pmessage":
            continue
        document = message["data"].decode()
        yield document
        content = json.loads(document)
        if content["task_id"] == task_id and content["status"] in until:
            yield from _stragglers(channel)
            return
    raise SystemExit(f"no document for {task_id}")


def _stragglers(channel):
    """Yield what still comes: a killed run is reported twice, by the pool and by its timer."""
    while (message := channel.get_message(timeout=0.3)) is not None:
        if message["type"] == "pmessage":
            yield message["data"].decode()


def _start_worker(extended):
    options = ["-A", "capture", "worker", "-c", "1", "-n", "w1@host", "-l", "ERROR"]
    environment = dict(os.environ, CAPTURE_EXTENDED="1" if extended else "0")
    worker = subprocess.Popen([sys.executable, "-m", "celery", *options], cwd=HERE, env=environment)
    while not app.control.ping(timeout=0.5):
        if worker.poll() is not None:
            raise SystemExit("the worker ended at once")
    return worker


# -- the classes that a Celery client has loaded --


def capture_classes():
    """Return the names of the exceptions that each of Celery's modules defines."""
    return {
        module: sorted(
            name
            for name, value in vars(sys.modules[module]).items()
            if isinstance(value, type)
            and issubclass(value, BaseException)
            and value.__module__ == module
            and value.__qualname__ == name
        )
        for module in ("celery.exceptions", "billiard.exceptions", "kombu.exceptions")
    }


# -- the run --


def _start_redis(folder):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", folder, "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    return process, f"redis://127.0.0.1:{port}/0"


def _neutral(text):
    """Replace what names this machine: folders and the host. Nothing else is touched."""
    library = str(Path(json.__file__).parent.parent)
    for folder, name in ((sys.prefix, "/venv"), (library, "/usr/lib/python"), (str(HERE), "/app")):
        text = text.replace(folder, name)
    return re.sub(rf"@{re.escape(socket.gethostname())}\b", "@host", text)


def _write(name, captured):
    header = {"celery": __version__, "python": platform.python_version()}
    text = _neutral(json.dumps({**header, "captured": captured}, indent=1))
    (GOLDEN / name).write_text(text + "\n")
    print(f"{name}: {len(captured)}")


def main():
    """Capture everything anew."""
    with tempfile.TemporaryDirectory() as folder:
        process, url = _start_redis(folder)
        try:
            os.environ["CAPTURE_REDIS"] = app.conf.broker_url = app.conf.result_backend = url
            server = redis.Redis.from_url(url)
            while True:
                try:
                    server.ping()
                    break
                except redis.ConnectionError:
                    time.sleep(0.05)
            _write("messages.json", capture_messages(server))
            _write("classes.json", capture_classes())
            _write("results.json", capture_results(server, False) + capture_results(server, True))
        finally:
            process.terminate()
            process.wait(30)


if __name__ == "__main__":
    # Imported under its own name, so that task names and classes are those the worker sees.
    command = [sys.executable, "-c", "import capture; capture.main()"]
    raise SystemExit(subprocess.call(command, cwd=HERE))
