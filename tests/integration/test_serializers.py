"""A real worker and messages in every form: what arrives in the task, and what is stored of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac.exceptions import WorkerLostError
from celeriac.message import Message, Publish
from celeriac.results.base import task_key
from celeriac.wire import protocol1, result, serializers, task
from tests.fixtures.apps.speaking import Told, app
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, WorkerProcess, connected

MODULE = f"{APPS}.speaking"
ACCEPTED = serializers.accepted(app.settings.accept_content)
SERIALIZERS = ("json", "yaml", "pickle", "msgpack", "hex")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with connected(app, tmp_path_factory.mktemp("serializers")) as url:
        yield url


@pytest.fixture(scope="module", autouse=True)
def worker(url: str) -> Iterator[WorkerProcess]:
    # These tests may run as the superuser, who must say that he knows what pickle means.
    with WorkerProcess(MODULE, url, C_FORCE_ROOT="1") as worker:
        yield worker.ready()


def call(name: str, id_: str, **fields: Any) -> task.Call:
    return task.Call(
        task=f"{MODULE}.{name}", id=id_, origin="", argsrepr="", kwargsrepr="", **fields
    )


def send(call: task.Call, packed: task.Packed, headers: bytes | None = None) -> None:
    held = Message(
        id=call.id,
        task=call.task,
        headers=task.encode_headers(call) if headers is None else headers,
        body=packed.body,
        content_type=packed.content_type,
        content_encoding=packed.content_encoding,
    )
    app.broker.publish([Publish(queue="celery", message=held)])


def stored(id_: str, serializer: str = "pickle") -> result.ResultDocument:
    """Wait for the document of a task, and read it."""
    assert app.store is not None
    store = app.store
    [data] = eventually(lambda: list(store.get([task_key(id_)]).values()))
    return result.decode(data, serializer, ACCEPTED)


@pytest.mark.follows("SER-01", "SER-02", "SER-05", "SER-10")
@pytest.mark.parametrize("serializer", SERIALIZERS)
@pytest.mark.parametrize("compression", [None, "gzip", "brotli"])
def test_a_message_in_any_form_runs(serializer: str, compression: str | None) -> None:
    packed = task.pack_body(("ä",), {"y": [1]}, serializer=serializer, compression=compression)
    sent = call("echo", f"{serializer}-{compression}", compression=packed.compression)
    send(sent, packed)
    document = stored(sent.id)
    assert (document.status, document.result) == ("SUCCESS", ["ä", {"y": [1]}])


@pytest.mark.follows("OLD-05")
@pytest.mark.parametrize("serializer", SERIALIZERS[:4])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_a_message_of_protocol_1_runs(serializer: str, compression: str | None) -> None:
    sent = call("about", f"old-{serializer}-{compression}", retries=2, group="g", time_limit=50,
                extra={"my": "own"})  # fmt: skip
    headers, packed = protocol1.encode_v1(
        sent, (1,), {"y": 2}, serializer=serializer, compression=compression
    )
    send(sent, packed, headers)
    document = stored(sent.id)
    assert document.result == {
        "id": sent.id,
        "root_id": sent.id,
        "group": "g",
        "retries": 2,
        "headers": {"my": "own"},
        "callbacks": None,
        "chain": None,
        "time_limit": 50,
        "args": (1,),
        "kwargs": {"y": 2},
    }


@pytest.mark.follows("RES-15", "RES-16")
def test_an_exception_comes_back_as_it_was() -> None:
    sent = call("fail", "failed")
    send(sent, task.pack_body(("boo",), {}))
    error = result.rebuild_exception(stored(sent.id).result)
    assert isinstance(error, Told)
    assert (error.args, error.note) == (("boo",), {"heard": "boo"})


@pytest.mark.follows("RES-16")
def test_what_the_parent_writes_is_in_the_same_form() -> None:
    sent = call("die", "died")
    send(sent, task.pack_body((), {}, serializer="pickle"))
    document = stored(sent.id)
    assert type(result.rebuild_exception(document.result)) is WorkerLostError
    assert (document.args, document.name) == (None, sent.task), "a parent unpickles nothing"


@pytest.mark.follows("OLD-05")
def test_protocol_1_in_a_form_that_only_the_program_knows_is_dead_lettered(
    worker: WorkerProcess,
) -> None:
    """The parent would have to open it, and imports nothing of the program."""
    sent = call("about", "old-hex")
    headers, packed = protocol1.encode_v1(sent, (), {}, serializer="hex")
    send(sent, packed, headers)
    worker.wait_for("message old-hex .* nothing is registered that reads .*application/x-hex")


@pytest.mark.follows("SER-10", "SEC-01")
def test_a_kind_that_is_not_accepted_is_dead_lettered(worker: WorkerProcess) -> None:
    packed = task.Packed(b"[[], {}, {}]", "application/x-other")
    send(call("echo", "foreign"), packed)
    worker.wait_for("message foreign .* 'application/x-other' is not in accept_content")


@pytest.mark.follows("SEC-01")
@pytest.mark.parametrize(
    ("serializer", "body"),
    [("pickle", b"\x80\x04\x95"), ("yaml", b"&a [*a]"), ("msgpack", b"\xdd\xff\xff\xff\xff")],
)
def test_damage_is_dead_lettered(serializer: str, body: bytes) -> None:
    send(
        call("echo", f"bad-{serializer}"),
        task.Packed(body, serializers.content_type_of(serializer)),
    )
    eventually(lambda: any(dead.message.id == f"bad-{serializer}" for dead in app.broker.dead()))


@pytest.mark.follows("SER-02")
def test_results_of_a_serializer_that_the_parent_does_not_know(tmp_path: Path, url: str) -> None:
    """The child writes in it; what the parent has to say is JSON, and is read all the same."""
    with WorkerProcess(
        MODULE, url, "-Q", "own", C_FORCE_ROOT="1", SPEAKING_RESULTS="hex"
    ) as worker:
        worker.ready()
        for name in ("echo", "die"):
            sent = call(name, f"hex-{name}")
            packed = task.pack_body((1,) if name == "echo" else (), {})
            held = Message(
                id=sent.id, task=sent.task, headers=task.encode_headers(sent), body=packed.body
            )
            app.broker.publish([Publish(queue="own", message=held)])
        assert stored("hex-echo", "hex").result == [1, {}]
        error = result.rebuild_exception(stored("hex-die", "hex").result)
        assert type(error) is WorkerLostError


@pytest.mark.follows("SEC-04")
@pytest.mark.skipif("os.geteuid() != 0")
def test_the_superuser_is_told_why_it_does_not_start(url: str) -> None:
    with WorkerProcess(MODULE, url, C_FORCE_ROOT="") as worker:
        worker.wait_for("the superuser must not run a worker that accepts pickle")
        worker.ends(2)
