"""A graph of what depends on what, in the order of addition, and how to draw it.

Made for the results that tasks leave behind (RES-24), but it knows nothing of them: nodes are any
hashable objects. Cycles are no error. Pure; not thread-safe.
"""

from collections.abc import ItemsView, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

N = TypeVar("N")


class Writable(Protocol):
    """What a graph can be drawn to: a file, for one."""

    def write(self, text: str, /) -> Any:
        """Take some text."""
        ...


class DependencyGraph(Generic[N]):
    """A directed graph; an edge leads from a node to one that it depends on."""

    def __init__(
        self,
        it: Iterable[tuple[N, Iterable[N]]] | None = None,
        formatter: "GraphFormatter | None" = None,
    ) -> None:
        self.formatter = formatter or GraphFormatter()
        self.adjacent: dict[N, list[N]] = {}
        if it is not None:
            self.update(it)

    def add_arc(self, obj: N) -> None:
        """Add a node, unless it is there."""
        self.adjacent.setdefault(obj, [])

    def add_edge(self, A: N, B: N) -> None:
        """Say that ``A`` depends on ``B``. Raises KeyError if ``A`` is no node."""
        self.adjacent[A].append(B)

    def connect(self, graph: "DependencyGraph[N]") -> None:
        """Take over the nodes of another graph, with their edges."""
        self.adjacent.update(graph.adjacent)

    def update(self, it: Iterable[tuple[N, Iterable[N]]]) -> None:
        """Add nodes with what they depend on."""
        pairs = [(obj, list(needs)) for obj, needs in it]
        for obj, _ in pairs:
            self.add_arc(obj)
        for obj, needs in pairs:
            for need in needs:
                self.add_edge(obj, need)

    def topsort(self) -> list[N]:
        """Return the nodes so that each comes after all it depends on.

        Nodes of a cycle stand together, in the order in which they are reached.
        """
        done: dict[N, None] = {}
        seen: set[N] = set()
        for root in self.adjacent:
            # By hand, not by recursion: chains may be longer than Python's stack.
            path = [] if root in seen else [(root, iter(self.edges_of(root)))]
            seen.add(root)
            while path:
                node, needs = path[-1]
                need = next((need for need in needs if need not in seen), None)
                if need is None:
                    done[node] = None
                    path.pop()
                else:
                    seen.add(need)
                    path.append((need, iter(self.edges_of(need))))
        return list(done)

    def valency_of(self, obj: N) -> int:
        """Return the number of edges that leave a node and, in turn, the nodes it leads to."""
        total, left, seen = 0, [obj], {obj}
        while left:
            needs = self.edges_of(left.pop())
            total += len(needs)
            fresh = [need for need in dict.fromkeys(needs) if need not in seen]
            seen.update(fresh)
            left += fresh
        return total

    def edges_of(self, obj: N) -> list[N]:
        """Return what a node depends on; nothing for one that is not here."""
        return self.adjacent.get(obj, [])

    def edges(self) -> Iterator[N]:
        """Return the nodes that depend on anything."""
        return (obj for obj, needs in self.adjacent.items() if needs)

    def items(self) -> ItemsView[N, list[N]]:
        """Return the nodes with what they depend on."""
        return self.adjacent.items()

    iteritems = items

    def to_dot(self, fh: Writable, formatter: "GraphFormatter | None" = None) -> None:
        """Write the graph to a file in the language of Graphviz."""
        draw = formatter or self.formatter
        fh.write(draw.head() + "\n")
        drawn: set[str] = set()
        for obj, needs in self.adjacent.items():
            if (name := draw.label(obj)) not in drawn:
                drawn.add(name)
                fh.write((draw.node(obj) if needs else draw.terminal_node(obj)) + "\n")
            for need in needs:
                fh.write(draw.edge(obj, need) + "\n")
        fh.write(draw.tail() + "\n")

    def __iter__(self) -> Iterator[N]:
        return iter(self.adjacent)

    def __getitem__(self, node: N) -> list[N]:
        return self.adjacent[node]

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, obj: object) -> bool:
        return obj in self.adjacent

    def __repr__(self) -> str:
        lines = (f"{node}: {', '.join(map(str, needs))}" for node, needs in self.adjacent.items())
        return "\n".join(line.rstrip(": ") for line in lines)


class GraphFormatter:
    """How a graph is drawn. Subclasses may change ``label`` and the schemes."""

    scheme: Mapping[str, Any] = {"shape": "box", "arrowhead": "vee", "style": "filled"}
    edge_scheme: Mapping[str, Any] = {"color": "darkseagreen4"}
    node_scheme: Mapping[str, Any] = {"fillcolor": "palegreen3", "color": "palegreen4"}
    term_scheme: Mapping[str, Any] = {"fillcolor": "palegreen1", "color": "palegreen2"}
    graph_scheme: Mapping[str, Any] = {"bgcolor": "mintcream"}

    def __init__(self, root: object = None, id: str = "dependencies", **scheme: Any) -> None:
        self.root = root
        self.id = id
        self.scheme = {**self.scheme, **scheme}

    def label(self, obj: object) -> str:
        """Return the name of a node."""
        return str(obj)

    def head(self) -> str:
        """Return how the drawing begins."""
        own = {} if self.root is None else {"root": self.label(self.root)}
        return (
            f"digraph {self.id} {{\n    graph [{_attributes(self.scheme, self.graph_scheme, own)}]"
        )

    def tail(self) -> str:
        """Return how the drawing ends."""
        return "}"

    def node(self, obj: object) -> str:
        """Draw a node that depends on others."""
        return f"    {_quoted(self.label(obj))} [{_attributes(self.scheme, self.node_scheme)}]"

    def terminal_node(self, obj: object) -> str:
        """Draw a node that depends on nothing."""
        return f"    {_quoted(self.label(obj))} [{_attributes(self.scheme, self.term_scheme)}]"

    def edge(self, a: object, b: object) -> str:
        """Draw that ``a`` depends on ``b``."""
        ends = f"{_quoted(self.label(a))} -> {_quoted(self.label(b))}"
        return f"    {ends} [{_attributes(self.scheme, self.edge_scheme)}]"


def _attributes(*schemes: Mapping[str, Any]) -> str:
    merged = {name: value for scheme in schemes for name, value in scheme.items()}
    return ", ".join(f"{name}={_quoted(value)}" for name, value in merged.items())


def _quoted(value: object) -> str:
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
