"""YAML as kombu writes it: PyYAML's safe subset, which knows text, numbers, dates and containers.

Loaded when the serializer ``yaml`` is first used; needs PyYAML (``celeriac[yaml]``). Reading builds
those types only and imports nothing. It is bounded: aliases that would multiply a document, values
that contain themselves, and numbers of absurd length are refused. It is done by PyYAML's own parser
in Python; the one in C overflows the stack of the process when a document is nested deeply.
"""

from typing import Any

import yaml

from celeriac.exceptions import DecodeError

__all__ = ["decode", "encode"]

_MOST_REPEATED = 1_000_000
"""Nodes that aliases may add to a document, when each stands for all of what it repeats."""

_LONGEST_NUMBER = 1_000
"""Characters. Numbers in base 60 take time with the square of their length."""


def encode(value: Any) -> bytes:
    """Return the value as a YAML document. Raises YAMLError for types that YAML does not know."""
    text: str = yaml.dump(value, Dumper=_Dumper)
    return text.encode()


def decode(data: bytes) -> Any:
    """Return the value of a YAML document. Raises DecodeError, or what PyYAML raises."""
    loader = _Loader(data)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        _check(node)
        return loader.construct_document(node)
    finally:
        loader.dispose()


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which takes a mapping or a list of any class for what it is."""


_Dumper.add_multi_representer(dict, yaml.SafeDumper.represent_dict)
_Dumper.add_multi_representer(list, yaml.SafeDumper.represent_list)
_Dumper.add_multi_representer(tuple, yaml.SafeDumper.represent_list)


class _Loader(yaml.SafeLoader):
    """The safe loader, with bounds."""

    def construct_number(self, node: yaml.ScalarNode) -> Any:
        """Return a number, unless it is long enough to take minutes."""
        if len(node.value) > _LONGEST_NUMBER:
            raise DecodeError(f"cannot read YAML: a number of {len(node.value)} characters")
        if node.tag.endswith(":int"):
            return self.construct_yaml_int(node)
        return self.construct_yaml_float(node)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_number)
_Loader.add_constructor("tag:yaml.org,2002:float", _Loader.construct_number)


def _check(root: yaml.Node) -> None:
    """Refuse a document whose aliases multiply it, or that contains itself."""
    sizes: dict[int, int] = {}
    _size(root, sizes, set())
    if sizes[id(root)] - len(sizes) > _MOST_REPEATED:
        raise DecodeError(
            f"cannot read YAML: its aliases repeat more than {_MOST_REPEATED} nodes of it"
        )


def _size(node: yaml.Node, sizes: dict[int, int], above: set[int]) -> int:
    """Return how many nodes a node stands for, all that its aliases repeat included."""
    key = id(node)
    if key in above:
        raise DecodeError("cannot read YAML: a value contains itself")
    if key not in sizes:
        above.add(key)
        sizes[key] = 1 + sum(_size(inner, sizes, above) for inner in _inner(node))
        above.discard(key)
    return sizes[key]


def _inner(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
