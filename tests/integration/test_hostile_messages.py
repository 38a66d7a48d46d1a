"""A real worker, given messages that nobody who means well would send.

Each is refused with one line in the log, and kept with its bytes as they were, for people to look
at. Good messages between them run as ever, and neither the worker nor a child of it dies.
"""

import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac.message import DeadLetter, Message, Publish, QueueSize
from celeriac.result import AsyncResult
from celeriac.wire import serializers
from tests.fixtures.apps.hostile import app
from tests.fixtures.commands import celeriac
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, WorkerProcess, connected

APP = f"{APPS}.hostile"
WAIT = 20.0
DEEP = 100_000
YAML, MSGPACK = "application/x-yaml", "application/x-msgpack"
GOOD = b"[[1], {}, {}]"


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with connected(app, tmp_path_factory.mktemp("hostile")) as url:
        yield url


@pytest.fixture(scope="module")
def worker(url: str) -> Iterator[WorkerProcess]:
    with WorkerProcess(APP, url) as worker:
        yield worker.ready()


def headers(id_: str, **more: Any) -> bytes:
    return json.dumps({"task": "echo", "id": id_, **more}).encode()


def raw(id_: str, field: bytes) -> bytes:
    """Return headers with a field that ``json`` would not write."""
    return headers(id_)[:-1] + b", " + field + b"}"


def v1(**fields: Any) -> bytes:
    return json.dumps({"task": "echo", "id": "v1", "args": [], "kwargs": {}, **fields}).encode()


LAUGHS = b"a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 12)
)

HOSTILE: dict[str, dict[str, Any]] = {
    # headers
    "headers-empty": {"headers": b""},
    "headers-bytes": {"headers": b"\xff\x00\xfe"},
    "headers-list": {"headers": b'["task"]'},
    "headers-cut": {"headers": b'{"task": "echo", "id": "headers-c'},
    "headers-deep": {"headers": b'{"task": ' + b"[" * DEEP},
    "headers-of-nothing": {"headers": b"{}"},
    "task-a-number": {"headers": raw("task-a-number", b'"task": 1')},
    "task-empty": {"headers": raw("task-empty", b'"task": ""')},
    "task-a-surrogate": {"headers": raw("task-a-surrogate", b'"task": "\\ud800"')},
    "id-a-surrogate": {"headers": raw("id-a-surrogate", b'"id": "\\ud800"')},
    "id-a-list": {"headers": raw("id-a-list", b'"id": []')},
    "retries-text": {"headers": raw("retries-text", b'"retries": "1"')},
    "retries-a-surrogate": {"headers": raw("retries-a-surrogate", b'"retries": "\\ud800"')},
    "retries-huge": {"headers": raw("retries-huge", b'"retries": ' + b"9" * 5000)},
    "limit-text": {"headers": headers("limit-text", timelimit="soon")},
    "limit-one": {"headers": headers("limit-one", timelimit=[1])},
    "limit-nan": {"headers": raw("limit-nan", b'"timelimit": [NaN, NaN]')},
    "eta-a-number": {"headers": headers("eta-a-number", eta=5)},
    "eta-a-word": {"headers": headers("eta-a-word", eta="tomorrow")},
    "eta-long": {"headers": headers("eta-long", eta="x" * 100_000)},
    "expires-a-list": {"headers": headers("expires-a-list", expires=[])},
    "expires-a-surrogate": {"headers": raw("expires-a-surrogate", b'"expires": "\\ud800"')},
    "compression-unknown": {"headers": headers("compression-unknown", compression="rot13")},
    "compression-a-list": {"headers": headers("compression-a-list", compression=["gzip"])},
    # bodies
    "body-empty": {"body": b""},
    "body-bytes": {"body": b"\xff\xfe\x00"},
    "body-a-number": {"body": b"7"},
    "body-short": {"body": b"[[], {}]"},
    "body-swapped": {"body": b"[{}, [], {}]"},
    "body-deep": {"body": b"[" * DEEP},
    "body-huge-number": {"body": b"[[" + b"9" * 5000 + b"], {}, {}]"},
    "body-of-no-type": {"body": b'[[{"__type__": "os.system", "__value__": "id"}], {}, {}]'},
    "links-a-number": {"body": b'[[], {}, {"errbacks": 1}]'},
    "links-of-numbers": {"body": b'[[], {}, {"callbacks": [1]}]'},
    "chord-a-list": {"body": b'[[], {}, {"chord": [1]}]'},
    "yaml-cut": {"body": b"[[1", "content_type": YAML},
    "yaml-code": {"body": b"!!python/object/apply:os.abort []", "content_type": YAML},
    "yaml-laughs": {"body": LAUGHS, "content_type": YAML},
    "yaml-deep": {"body": b"[" * DEEP, "content_type": YAML},
    "msgpack-cut": {"body": b"\x93\x91\x01", "content_type": MSGPACK},
    "msgpack-bomb": {"body": b"\xdd\xff\xff\xff\xff", "content_type": MSGPACK},
    "msgpack-deep": {"body": b"\x91" * DEEP, "content_type": MSGPACK},
    "gzip-cut": {
        "headers": headers("gzip-cut", compression="gzip"),
        "body": zlib.compress(GOOD)[:-3],
    },
    "gzip-bomb": {
        "headers": headers("gzip-bomb", compression="application/x-gzip"),
        "body": zlib.compress(bytes(300 << 20), 9),
    },
    # types
    "pickle": {"body": b"cos\nabort\n(tR.", "content_type": serializers.PICKLE},
    "pickle-of-v1": {
        "headers": b"{}",
        "body": b"cos\nabort\n(tR.",
        "content_type": serializers.PICKLE,
    },
    "type-unheard-of": {"content_type": "text/\x1b[2Junheard-of"},
    "type-empty": {"content_type": ""},
    "not-signed": {"body": b"c2lnbmVk", "content_type": serializers.DATA},
    # protocol 1
    "v1-no-mapping": {"headers": b"{}", "body": b"[[], {}, {}]"},
    "v1-without-task": {"headers": b"{}", "body": b'{"id": "x"}'},
    "v1-task-a-number": {"headers": b"{}", "body": v1(task=5)},
    "v1-id-a-surrogate": {"headers": b"{}", "body": v1(id="\ud800")},
    "v1-eta-a-list": {"headers": b"{}", "body": v1(eta=[[[]]])},
    "v1-limits-text": {"headers": b"{}", "body": v1(timelimit="xy")},
    "v1-deep": {"headers": b"{}", "body": b'{"task": ' * DEEP},
}


def message(id_: str, changes: dict[str, Any]) -> Message:
    """Return a message that says about itself what an adapter could read: at least its id."""
    fields: dict[str, Any] = {"headers": headers(id_), "body": GOOD} | changes
    return Message(id=id_, task="echo", **fields)


def good(number: int) -> AsyncResult[Any]:
    result = app.send_task("echo", (number,))
    assert isinstance(result, AsyncResult)
    return result


def letters() -> dict[str, DeadLetter]:
    """Return the dead letters by the name of their case: what a message says of itself may change."""
    by_bytes = {(m.headers, m.body, m.content_type): id_ for id_, m in MESSAGES.items()}
    found = {}
    for letter in app.broker.dead():
        held = letter.message
        found[by_bytes[held.headers, held.body, held.content_type]] = letter
    return found


MESSAGES = {id_: message(id_, changes) for id_, changes in HOSTILE.items()}


@pytest.fixture(scope="module")
def dead(worker: WorkerProcess) -> dict[str, DeadLetter]:
    """Send everything, a good message after each; return what died when all is done."""
    results = []
    for number, held in enumerate(MESSAGES.values()):
        app.broker.publish([Publish(queue="celery", message=held)])
        results.append(good(number))
    assert [result.get(WAIT) for result in results] == [[n] for n in range(len(results))]
    assert eventually(lambda: app.broker.sizes().get("celery", QueueSize()) == QueueSize())
    return letters()


@pytest.mark.follows("TASK-25")
@pytest.mark.parametrize("case", HOSTILE)
def test_it_is_kept_as_it_was(case: str, dead: dict[str, DeadLetter]) -> None:
    assert case in dead, f"{case} was not dead-lettered"
    reason = dead[case].reason
    assert reason
    assert len(reason) < 2000
    assert reason.isprintable()


def test_each_is_logged_once(worker: WorkerProcess, dead: dict[str, DeadLetter]) -> None:
    lines = [line for line in worker.text.splitlines() if "dead-lettered" in line]
    assert len(lines) == len(HOSTILE), "\n".join(lines)
    assert max(map(len, lines)) < 2000
    assert not re.search(r"Traceback|\x1b\[2J", worker.text)


def test_nobody_died(url: str, worker: WorkerProcess, dead: dict[str, DeadLetter]) -> None:
    complaints = re.findall(r".*: (?:WARNING|ERROR|CRITICAL)/.*", worker.text)
    assert all("dead-lettered" in line for line in complaints)
    assert good(7).get(WAIT) == [7]


@pytest.mark.parametrize(
    "case", ["headers-bytes", "body-bytes", "pickle", "yaml-code", "task-a-surrogate"]
)
def test_it_can_be_shown(url: str, case: str, dead: dict[str, DeadLetter]) -> None:
    answer = celeriac("-A", APP, "dead", "show", dead[case].id, url=url)
    assert answer.status == 0, answer.err
    assert dead[case].reason[:40] in answer.out
    assert all(c.isprintable() or c == "\n" for c in answer.out)
