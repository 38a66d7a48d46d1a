"""Results as a family: parents, children, tuples, graphs; and single results as values."""

import copy
import io
import pickle
from collections.abc import Iterator
from typing import Any

import pytest

from celeriac import AsyncResult, Celery
from celeriac.completion import Put
from celeriac.current import as_current
from celeriac.exceptions import ImproperlyConfigured, IncompleteStream
from celeriac.result import ResultBase, result_from_tuple
from celeriac.results.base import task_key
from celeriac.wire.result import ResultDocument, encode
from tests.fixtures.runs import document, memory_app, run_sent, work


@pytest.fixture
def app() -> Iterator[Celery]:
    app = memory_app()
    yield app
    app.close()


def put(app: Celery, id_: str, result: Any, *children: str, status: str = "SUCCESS") -> None:
    """Store a result with children."""
    assert app.store is not None
    tuples = [[[child, None], None] for child in children]
    data = encode(ResultDocument(status=status, task_id=id_, result=result, children=tuples))
    app.store.put([Put(task_key(id_), data, None, status)])


@pytest.fixture
def tree(app: Celery) -> AsyncResult[Any]:
    """Return a result with two children, one of which has a child of its own."""
    put(app, "root", 0, "left", "right")
    put(app, "left", 1, "leaf")
    put(app, "right", 2)
    put(app, "leaf", 3)
    return app.AsyncResult("root")


# -- children (CALL-12, RES-09)


@pytest.mark.follows("CALL-12", "RES-04")
def test_children_are_results(app: Celery) -> None:
    add = app.task(name="sums.add")(lambda x, y: x + y)
    sent: list[str] = []

    @app.task(name="outer")
    def outer() -> None:
        sent.extend(result.id for result in (add.delay(1, 2), add.apply_async((3, 4))))
        sent.append(app.send_task("sums.add", (5, 6)).id)

    result = outer.delay()
    assert result.children is None, "nobody knows yet"
    work(app)
    work(app)
    children = result.children
    assert children is not None
    assert [child.id for child in children] == sent
    assert [type(child) for child in children] == [AsyncResult] * 3
    assert [child.get(20) for child in children] == [3, 7, 11]
    assert children[0].children == []


@pytest.mark.follows("RES-09")
def test_a_family_is_walked_level_by_level(tree: AsyncResult[Any]) -> None:
    steps = [(parent and parent.id, node.id) for parent, node in tree.iterdeps()]
    assert steps == [(None, "root"), ("root", "left"), ("root", "right"), ("left", "leaf")]
    assert [(node.id, value) for node, value in tree.collect()] == [
        ("root", 0), ("left", 1), ("right", 2), ("leaf", 3)
    ]  # fmt: skip
    assert [value for node, value in tree.collect(timeout=5) if not node.children] == [2, 3]
    assert tree.get_leaf() == 3


@pytest.mark.follows("RES-09")
def test_one_that_is_not_ready_ends_the_walk(app: Celery, tree: AsyncResult[Any]) -> None:
    put(app, "top", 0, "root", "later")
    walk = app.AsyncResult("top").iterdeps()
    assert [next(walk)[1].id for _ in range(3)] == ["top", "root", "later"]
    with pytest.raises(IncompleteStream, match="task later is not ready"):
        next(walk)
    steps = app.AsyncResult("top").iterdeps(intermediate=True)
    assert [node.id for _, node in steps] == ["top", "root", "later", "left", "right", "leaf"]
    with pytest.raises(IncompleteStream):
        app.AsyncResult("top").build_graph()


@pytest.mark.follows("RES-09")
def test_members_of_a_group_are_children_of_their_own(app: Celery) -> None:
    group = [["group", None], [[["left", None], None], [["right", None], None]]]
    assert app.store is not None
    data = encode(ResultDocument(status="SUCCESS", task_id="root", children=[group]))
    app.store.put([Put(task_key("root"), data, None, "SUCCESS")])
    put(app, "left", 1)
    put(app, "right", 2)
    assert [value for _, value in app.AsyncResult("root").collect()] == [None, 1, 2]


@pytest.mark.follows("RES-24")
def test_a_family_is_a_graph(tree: AsyncResult[Any]) -> None:
    graph = tree.graph
    assert graph is tree.graph, "made once"
    assert {str(node): [str(n) for n in needs] for node, needs in graph.items()} == {
        "root": ["left", "right"], "left": ["leaf"], "right": [], "leaf": []
    }  # fmt: skip
    assert [node.id for node in graph.topsort()] == ["leaf", "left", "right", "root"]
    assert [node.id for node in graph.edges()] == ["root", "left"]
    out = io.StringIO()
    graph.to_dot(out)
    assert '"root" -> "left"' in out.getvalue()
    assert 'root="root"' in out.getvalue()


# -- tuples (RES-10, RES-21)


@pytest.mark.follows("RES-10")
def test_a_result_is_written_down_and_read_again(app: Celery) -> None:
    parent = AsyncResult[int]("a", app=app)
    result = AsyncResult[int]("b", app=app, parent=parent)
    assert parent.as_tuple() == (("a", None), None)
    assert result.as_tuple() == (("b", (("a", None), None)), None)
    assert result.as_list() == ["b", "a"]
    put(app, "b", 5)
    for written in (result.as_tuple(), [["b", [["a", None], None]], None], result):
        again = result_from_tuple(written, app)
        assert again == result
        assert again.parent == parent
        assert again.get(follow_parents=False) == 5
    assert result_from_tuple(("b", None), app) == result


@pytest.mark.follows("RES-10")
def test_the_tuple_of_a_group_needs_what_is_not_here(app: Celery) -> None:
    with pytest.raises(ImproperlyConfigured, match="no canvas"):
        result_from_tuple((("g", None), [(("a", None), None)]), app)


@pytest.mark.follows("RES-10")
@pytest.mark.parametrize("wrong", [5, None, (1,), ((1, 2, 3), None), "ab c"])
def test_what_is_no_tuple_is_told(app: Celery, wrong: Any) -> None:
    with pytest.raises(ValueError, match="no result tuple"):
        result_from_tuple(wrong, app)


@pytest.mark.follows("RES-21")
def test_a_task_may_return_a_result(app: Celery) -> None:
    add = app.task(name="sums.add")(lambda x, y: x + y)
    outer = app.task(name="outer")(lambda: add.delay(1, 2))
    outcome = run_sent(app, outer.delay)
    (inner,) = document(outcome).children or ()
    assert document(outcome).result == inner
    work(app)
    assert result_from_tuple(document(outcome).result, app).get(20) == 3


# -- as values


def test_it_is_made_as_celery_makes_it(app: Celery) -> None:
    result = AsyncResult[int]("one", app.backend, "sums.add", app, app.AsyncResult("parent"))
    assert (result.backend, result.app) == (app.backend, app)
    assert str(result.parent) == "parent"
    assert isinstance(result, ResultBase)
    assert (result.task_id, result.supports_native_join) == ("one", False)
    with pytest.raises(ValueError, match="needs the id"):
        AsyncResult(None, app=app)  # type: ignore[arg-type]


@pytest.mark.follows("APP-02")
def test_without_an_app_the_current_one_is_meant(app: Celery) -> None:
    put(app, "one", 5)
    with as_current(app):
        assert AsyncResult[int]("one").get() == 5


def test_a_copy_is_equal_and_works(app: Celery) -> None:
    put(app, "one", 5)
    result = AsyncResult[int]("one", app=app, parent=app.AsyncResult("a"))
    result.ignored = True
    twin = copy.copy(result)
    assert twin == result
    assert twin is not result
    assert (str(twin.parent), twin.ignored, twin.result) == ("a", True, 5)


def test_it_may_be_pickled_and_given_an_app(app: Celery) -> None:
    put(app, "one", 5)
    result = AsyncResult[int]("one", app=app, parent=app.AsyncResult("a"))
    again = pickle.loads(pickle.dumps(result))
    assert (again, again.parent) == (result, "a")
    again.app = app
    assert again.result == 5


@pytest.mark.follows("TASK-49")
def test_results_may_be_subscripted() -> None:
    assert AsyncResult[int].__origin__ is AsyncResult  # type: ignore[attr-defined]


@pytest.mark.follows("RES-06")
def test_parents_are_forgotten_too(app: Celery) -> None:
    put(app, "a", 1)
    put(app, "b", 2)
    AsyncResult[int]("b", app=app, parent=app.AsyncResult("a")).forget()
    assert [app.AsyncResult(id_).state for id_ in "ab"] == ["PENDING"] * 2


@pytest.mark.follows("RES-11")
def test_what_exists_is_what_the_store_knows(app: Celery) -> None:
    result = app.AsyncResult("one")
    assert not result.exists()
    put(app, "one", None, status="PROGRESS")
    assert result.exists()
    result.forget()
    assert not result.exists()
