"""Results as a family: which result came before one, and which tasks it sent.

What single results, and groups of them, have in common: an id, a parent, children, and ways to walk
along them or to write them down as tuples. How a result is read and waited for is not known here.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from celeriac import imports
from celeriac.exceptions import IncompleteStream

if TYPE_CHECKING:
    from celeriac.graph import DependencyGraph, GraphFormatter

R = TypeVar("R")

ResultTuple = tuple[tuple[str, Any], Any]
"""``((id, parent), members)``; members are None for a single task (RES-10)."""


class ResultBase(Generic[R]):
    """What is true of every result."""

    id: str
    parent: "ResultBase[Any] | None" = None
    """The result of the step before this one, if it is part of a chain."""

    def ready(self) -> bool:
        """Whether it is final."""
        raise TypeError(f"{type(self).__name__} does not say when it is ready; define ready()")

    def get(self, *args: Any, **kwargs: Any) -> Any:
        """Wait for the value."""
        raise TypeError(f"{type(self).__name__} cannot be waited for; define get()")

    @property
    def children(self) -> "Sequence[ResultBase[Any]] | None":
        """The results of the tasks that it sent; None if nobody knows."""
        return None

    # -- along the family (RES-09)

    def iterdeps(
        self, intermediate: bool = False
    ) -> "Iterator[tuple[ResultBase[Any] | None, ResultBase[Any]]]":
        """Yield ``(parent, result)`` for this result and all below it, level by level (RES-09).

        Raises IncompleteStream at one that is not ready, whose children nobody knows yet; with
        ``intermediate`` it is yielded like the others.
        """
        line: deque[tuple[ResultBase[Any] | None, ResultBase[Any]]] = deque([(None, self)])
        while line:
            parent, node = line.popleft()
            yield parent, node
            if node.ready():
                line.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise IncompleteStream(
                    f"task {node.id} is not ready, so what it will have sent is not known; wait for it "
                    "with get(), or pass intermediate=True"
                )

    def collect(
        self, intermediate: bool = False, **kwargs: Any
    ) -> "Iterator[tuple[ResultBase[Any], Any]]":
        """Yield ``(result, value)`` for this result and all below it, waiting for each (RES-09).

        ``kwargs`` are passed to each ``get()``, whose errors come through.
        """
        for _, node in self.iterdeps(intermediate=intermediate):
            yield node, node.get(**kwargs)

    def get_leaf(self) -> Any:
        """Return the value of the last result below this one, or of this one (RES-09)."""
        value = None
        for _, node in self.iterdeps():
            value = node.get()
        return value

    def build_graph(
        self, intermediate: bool = False, formatter: "GraphFormatter | None" = None
    ) -> "DependencyGraph[ResultBase[Any]]":
        """Return the graph of this result and all below it (RES-24).

        Raises as ``iterdeps`` does.
        """
        make: type[DependencyGraph[ResultBase[Any]]]
        make = imports.load("celeriac.graph:DependencyGraph")
        if formatter is None:
            formatter = imports.load("celeriac.graph:GraphFormatter")(root=self.id, shape="oval")
        graph = make(formatter=formatter)
        for parent, node in self.iterdeps(intermediate=intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> "DependencyGraph[ResultBase[Any]]":
        """The graph of this result and all below it, made once (RES-24)."""
        graph: DependencyGraph[ResultBase[Any]] | None = self.__dict__.get("_graph")
        if graph is None:
            graph = self.__dict__["_graph"] = self.build_graph()
        return graph

    def ancestors(self) -> "Iterator[ResultBase[Any]]":
        """Yield the results before this one, the nearest first."""
        node = self.parent
        while node is not None:
            yield node
            node = node.parent

    # -- written down (RES-10)

    def as_tuple(self) -> ResultTuple:
        """Return id and parents as a tuple, for ``result_from_tuple`` (RES-10)."""
        return (self.id, self.parent and self.parent.as_tuple()), None

    def as_list(self) -> list[str]:
        """Return the id, and those of the parents behind it."""
        return [self.id, *(node.id for node in self.ancestors())]

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id}>"
