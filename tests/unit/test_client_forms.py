"""client.py: the forms that a message may be written in: serializers, compression, protocols."""

import json
import pickle
import zlib
from typing import Any

import pytest

from celeriac import Celery
from celeriac.exceptions import EncodeError
from tests.fixtures.runs import claim, document, headers, memory_app, run

ACCEPT = ["json", "yaml", "pickle", "msgpack"]


@pytest.fixture
def app() -> Celery:
    return memory_app(accept_content=ACCEPT)


def echo(app: Celery, **options: Any) -> Any:
    return app.task(name="echo", **options)(lambda x, y=None: [x, y])


@pytest.mark.follows("CALL-02", "TASK-12", "SER-01", "SER-10")
@pytest.mark.parametrize("serializer", ACCEPT)
def test_a_task_a_call_or_the_settings_choose_the_serializer(serializer: str, app: Celery) -> None:
    kinds = []
    for task in (echo(app, serializer=serializer), echo(memory_app(accept_content=ACCEPT))):
        task.apply_async((1,), {"y": "z"}, serializer=serializer)
        (delivery,) = claim(task.app)
        kinds.append(delivery.message.content_type)
        assert document(run(task.app, delivery)).result == [1, "z"]
    app.conf.task_serializer = serializer
    app.send_task("far.away")
    kinds.append(claim(app)[0].message.content_type)
    assert len(set(kinds)) == 1
    assert serializer.removesuffix("pickle") in kinds[0]


@pytest.mark.follows("CALL-02", "TASK-12", "SER-05")
def test_the_body_may_be_compressed(app: Celery) -> None:
    task = echo(app, compression="gzip")
    task.delay("x" * 1000)
    (delivery,) = claim(app)
    assert headers(delivery)["compression"] == "application/x-gzip"
    assert json.loads(zlib.decompress(delivery.message.body))[0] == ["x" * 1000]
    assert document(run(app, delivery)).result == ["x" * 1000, None]
    app.conf.task_compression = "bzip2"
    app.send_task("far.away")
    assert headers(claim(app)[0])["compression"] == "application/x-bz2"
    with pytest.raises(EncodeError, match="no compression is called 'zip'"):
        app.send_task("far.away", compression="zip")


@pytest.mark.follows("SER-08")
@pytest.mark.parametrize("serializer", ACCEPT)
def test_what_cannot_be_written_is_named_by_every_serializer(serializer: str, app: Celery) -> None:
    with pytest.raises(EncodeError, match=r'args\[1\]\["when"\]'):
        echo(app).apply_async((1, {"when": lambda: 1}), serializer=serializer)
    assert claim(app) == []


@pytest.mark.follows("CALL-23", "OLD-05")
def test_protocol_1_may_be_written(app: Celery) -> None:
    app.conf.task_protocol = 1
    task = echo(app)
    link = app.signature("next")
    task.apply_async((1,), {"y": 2}, task_id="mine", headers={"a": 1}, link=link, group_id="g")
    (delivery,) = claim(app)
    assert headers(delivery) == {"a": 1}
    body = json.loads(delivery.message.body)
    assert (body["task"], body["id"], body["args"], body["kwargs"]) == (
        "echo",
        "mine",
        [1],
        {"y": 2},
    )
    assert (body["taskset"], body["callbacks"][0]["task"]) == ("g", "next")


@pytest.mark.follows("SER-11", "CALL-02")
def test_what_others_are_shown_of_arguments_may_be_said(app: Celery) -> None:
    echo(app).apply_async(("secret",), argsrepr="('***',)", kwargsrepr="{}")
    (delivery,) = claim(app)
    assert headers(delivery)["argsrepr"] == "('***',)"
    app.conf.task_repr_maxlevels = 1
    app.send_task("far.away", ([[1]],))
    assert headers(claim(app)[0])["argsrepr"] == "([...],)"


@pytest.mark.follows("CALL-09", "SER-01")
def test_links_travel_in_every_form(app: Celery) -> None:
    task = echo(app)
    for serializer in ACCEPT:
        task.apply_async((1,), link=task.s(2), serializer=serializer)
        (delivery,) = claim(app)
        outcome = run(app, delivery)
        assert json.loads(outcome.publishes[0].message.body)[0] == [[1, None], 2]


@pytest.mark.follows("SER-01")
def test_a_pickled_link_needs_nothing_of_ours(app: Celery) -> None:
    """Celery, which knows no class of ours, reads it too."""
    task = echo(app)
    task.apply_async((1,), link=task.s(2), serializer="pickle")
    (delivery,) = claim(app)
    (callback,) = pickle.loads(delivery.message.body)[2]["callbacks"]
    assert type(callback) is dict


@pytest.mark.follows("SER-09", "TASK-36")
@pytest.mark.parametrize("serializer", ["yaml", "msgpack"])
def test_states_of_ones_own_are_written_like_results(serializer: str) -> None:
    app = memory_app(
        result_serializer=serializer, result_compression="gzip", result_accept_content=[serializer]
    )
    echo(app).update_state("mine", "HALF", {"done": 1})
    assert app.AsyncResult("mine").info == {"done": 1}
