"""The task of the census: what there is to count in one Python file."""

import ast
import os
from pathlib import Path
from typing import Any, TypedDict

from celeriac import Celery

app = Celery("tasks", task_default_queue=os.environ.get("CENSUS_QUEUE", "celery"))

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Count(TypedDict):
    """What was counted in one file. It travels as JSON, so it is made of plain values."""

    lines: int
    functions: int
    classes: int
    longest: str
    """The name of the longest function."""
    longest_lines: int
    imports: list[str]


@app.task
def measure(path: str) -> Count:
    """Read one file and count. A file that is no Python raises, and its task fails."""
    source = Path(path).read_bytes()
    nodes = list(ast.walk(ast.parse(source, path)))
    functions = [node for node in nodes if isinstance(node, Function)]
    longest = max(functions, key=_length, default=None)
    return Count(
        lines=source.count(b"\n"),
        functions=len(functions),
        classes=sum(isinstance(node, ast.ClassDef) for node in nodes),
        longest="" if longest is None else longest.name,
        longest_lines=0 if longest is None else _length(longest),
        imports=sorted({name for node in nodes for name in _imports(node)}),
    )


def _length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _imports(node: Any) -> list[str]:
    """Return the modules that a node imports, by the first part of their names."""
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module.partition(".")[0]]
    return []
