"""canvas/signatures.py: calls as values."""

import copy
import json
import pickle
from typing import Any

import pytest

from celeriac import Celery, Signature, Task, current, maybe_signature, signature
from celeriac.exceptions import ImproperlyConfigured, NotRegistered
from tests.fixtures.runs import body, claim, memory_app


@pytest.fixture
def app() -> Celery:
    return memory_app()


@pytest.fixture
def add(app: Celery) -> Task[..., int]:
    return app.task(name="sums.add")(lambda x, y=0: x + y)


@pytest.mark.follows("APP-22")
def test_a_signature_is_the_dictionary_that_travels(app: Celery, add: Task[..., int]) -> None:
    made = add.s(1, y=2)
    assert made == {
        "task": "sums.add",
        "args": (1,),
        "kwargs": {"y": 2},
        "options": {},
        "subtask_type": None,
        "immutable": False,
    }
    assert (made.task, made.name, made.args, made.kwargs) == (
        "sums.add",
        "sums.add",
        (1,),
        {"y": 2},
    )
    assert repr(made) == "sums.add(1, y=2)"
    assert made.type is add
    assert made.app is app
    assert add.si(1).immutable
    assert add.signature((1,), {"y": 2}, queue="work").options == {"queue": "work"}
    assert add.subtask((1,)) == add.s(1)
    assert app.signature("sums.add", (1,)).type is add
    with current.as_current(app):
        assert signature("sums.add", args=(1,), countdown=5).options == {"countdown": 5}
        assert signature("sums.add").type is add
    with pytest.raises(NotRegistered):
        app.signature("nowhere").type  # noqa: B018


def test_what_comes_from_elsewhere_is_completed(app: Celery) -> None:
    received = json.loads('{"task": "sums.add", "args": [1], "kwargs": null}')
    made = Signature(received, app=app)
    assert (made.args, made.kwargs, made.options, made.immutable) == ([1], {}, {}, False)
    with pytest.raises(ImproperlyConfigured, match="is no signature: it names no task"):
        Signature({"args": []})
    assert maybe_signature(None) is None
    assert maybe_signature(made, app) is made
    assert maybe_signature(made, app, clone=True).args == (1,)
    assert maybe_signature(received, app).app is app


def test_it_is_sent_with_what_is_added(app: Celery, add: Task[..., int]) -> None:
    add.s(2).delay(1)
    add.s(2, y=3).apply_async(kwargs={"y": 4}, queue="work")
    add.si(2).set(queue="work", task_id="mine").delay(9, y=9)
    app.signature("far.away", (5,)).apply_async((4,), queue="work")
    bodies = [body(delivery)[:2] for delivery in claim(app) + claim(app, "work")]
    assert bodies == [[[1, 2], {}], [[2], {"y": 4}], [[2], {}], [[4, 5], {}]]
    assert add.s(1)(2) == 3
    assert add.s(1).set(task_id="mine").id == "mine"


def test_it_is_copied_and_changed(add: Task[..., int]) -> None:
    first = add.s(1, y=1).set(headers={"a": 1})
    second = first.clone(args=(0,), kwargs={"z": 1}, queue="work")
    assert (second.args, second.kwargs) == ((0, 1), {"y": 1, "z": 1})
    assert second.options == {"headers": {"a": 1}, "queue": "work"}
    second.options["headers"]["a"] = 2
    assert first.options == {"headers": {"a": 1}}
    assert first.replace(args=(7,)) == add.s(7, y=1).set(headers={"a": 1})
    assert first.set(immutable=True).immutable
    assert pickle.loads(pickle.dumps(first)) == first
    for again in (copy.copy(first), copy.deepcopy(first), copy.deepcopy([first])[0]):
        assert again == first
        assert isinstance(again, Signature)
        assert again is not first
    assert copy.deepcopy(first).type is add


@pytest.mark.follows("CALL-09", "CALL-10")
def test_others_are_linked_to_it(add: Task[..., int]) -> None:
    callback, errback = add.s(10), add.si(11)
    made = add.s(1)
    assert made.link(callback) is callback
    made.link(callback)
    assert made.on_error(errback) is made
    assert made.options == {"link": [callback], "link_error": [errback]}
    single: Any = add.s(1).set(link=callback)
    single.link(errback)
    assert single.options["link"] == [callback, errback]
