"""graph.py: what depends on what."""

import io

import pytest

from celeriac.graph import DependencyGraph, GraphFormatter

pytestmark = pytest.mark.follows("RES-24")


@pytest.fixture
def graph() -> DependencyGraph[str]:
    return DependencyGraph([("c", ["b", "a"]), ("b", ["a"]), ("a", []), ("d", [])])


def test_it_is_what_was_added(graph: DependencyGraph[str]) -> None:
    assert dict(graph.items()) == {"c": ["b", "a"], "b": ["a"], "a": [], "d": []}
    assert dict(graph.iteritems()) == graph.adjacent
    assert (list(graph), len(graph), "a" in graph, "x" in graph) == (
        ["c", "b", "a", "d"],
        4,
        True,
        False,
    )
    assert (graph["c"], graph.edges_of("c"), graph.edges_of("x")) == (["b", "a"], ["b", "a"], [])
    assert list(graph.edges()) == ["c", "b"]
    graph.add_arc("c")
    assert graph["c"] == ["b", "a"], "it was there"
    graph.connect(DependencyGraph([("e", [])]))
    assert "e" in graph
    with pytest.raises(KeyError):
        graph.add_edge("nobody", "a")


def test_what_is_needed_comes_first(graph: DependencyGraph[str]) -> None:
    assert graph.topsort() == ["a", "b", "c", "d"]
    order = DependencyGraph([(n, [n + 1]) for n in range(5000)] + [(5000, [])]).topsort()
    assert order == list(range(5000, -1, -1))


def test_a_cycle_is_no_error() -> None:
    graph = DependencyGraph([("a", ["b"]), ("b", ["a"])])
    assert sorted(graph.topsort()) == ["a", "b"]
    assert graph.valency_of("a") == 2


def test_a_valency_counts_the_edges_below(graph: DependencyGraph[str]) -> None:
    assert [graph.valency_of(node) for node in ("a", "b", "c", "x")] == [0, 1, 3, 0]


def test_it_can_be_drawn(graph: DependencyGraph[str]) -> None:
    out = io.StringIO()
    graph.to_dot(out)
    lines = out.getvalue().splitlines()
    assert lines[0] == "digraph dependencies {"
    assert lines[-1] == "}"
    assert sum(" -> " in line for line in lines) == 3
    assert sum('fillcolor="palegreen1"' in line for line in lines) == 2, "ends have a colour"
    assert repr(graph).splitlines() == ["c: b, a", "b: a", "a", "d"]


def test_the_drawing_may_be_changed(graph: DependencyGraph[str]) -> None:
    class Shouting(GraphFormatter):
        def label(self, obj: object) -> str:
            return str(obj).upper() + '"'

    out = io.StringIO()
    graph.to_dot(out, formatter=Shouting(id="loud", shape="oval"))
    assert "digraph loud {" in out.getvalue()
    assert '"C\\"" -> "B\\""' in out.getvalue()
    assert 'shape="oval"' in out.getvalue()
