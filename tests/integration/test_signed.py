"""A worker whose messages and results are signed: what it runs, what it refuses, what it writes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac import Celery
from celeriac.exceptions import WorkerLostError
from celeriac.message import Message, Publish
from celeriac.results.base import task_key
from celeriac.wire import protocol1, result, serializers, signing, task
from tests.fixtures.certificates import certificate_file, key_file
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, WorkerProcess, connected

MODULE = f"{APPS}.signed"
ECHO = f"{MODULE}.echo"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("signed")
    key, cert = key_file(folder, "key.pem"), certificate_file(folder, "cert.pem")
    signing.setup_security(key=key, cert=cert, store=cert)
    yield folder
    serializers.unregister("auth")
    serializers.disable_insecure_serializers()


@pytest.fixture(scope="module")
def app(folder: Path) -> Iterator[Celery]:
    app = Celery("signed")
    with connected(app, folder):
        yield app


@pytest.fixture(scope="module", autouse=True)
def worker(app: Celery, folder: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess(MODULE, app.conf.broker_url, SIGNED_FILES=str(folder)) as worker:
        yield worker.ready()


def send(
    app: Celery, id_: str, packed: task.Packed, name: str = ECHO, headers: bytes | None = None
) -> None:
    call = task.Call(task=name, id=id_, origin="", argsrepr="", kwargsrepr="")
    held = Message(
        id=id_,
        task=name,
        headers=headers or task.encode_headers(call),
        body=packed.body,
        content_type=packed.content_type,
        content_encoding=packed.content_encoding,
    )
    app.broker.publish([Publish(queue="celery", message=held)])


def stored(app: Celery, id_: str) -> result.ResultDocument:
    assert app.store is not None
    store = app.store
    [data] = eventually(lambda: list(store.get([task_key(id_)]).values()))
    return result.decode(data, "auth", serializers.accepted(("auth",)))


@pytest.mark.follows("SEC-02")
def test_a_signed_message_runs_and_its_result_is_signed(app: Celery) -> None:
    send(app, "good", task.pack_body(([1],), {}, serializer="auth"))
    assert stored(app, "good").result == [1]


@pytest.mark.follows("SEC-02", "RES-16")
def test_what_the_parent_writes_is_signed(app: Celery) -> None:
    send(app, "dead", task.pack_body((), {}, serializer="auth"), f"{MODULE}.die")
    assert type(result.rebuild_exception(stored(app, "dead").result)) is WorkerLostError


@pytest.mark.follows("SEC-02", "OLD-05")
def test_a_signed_message_of_protocol_1_runs(app: Celery) -> None:
    call = task.Call(task=ECHO, id="old", origin="", argsrepr="", kwargsrepr="")
    headers, packed = protocol1.encode_v1(call, (3,), {}, serializer="auth")
    send(app, "old", packed, headers=headers)
    assert stored(app, "old").result == 3


@pytest.mark.follows("SEC-02", "SER-10")
@pytest.mark.parametrize(
    ("id_", "packed", "words"),
    [
        ("plain", task.Packed(b"[[1], {}, {}]"), "'application/json' is not in accept_content"),
        ("forged", task.Packed(b"[[1], {}, {}]", serializers.DATA), "that is not signed"),
    ],
)
def test_what_is_not_signed_is_dead_lettered(
    app: Celery, id_: str, packed: task.Packed, words: str
) -> None:
    send(app, id_, packed)
    dead = eventually(lambda: [dead for dead in app.broker.dead() if dead.message.id == id_])
    assert words in dead[0].reason
