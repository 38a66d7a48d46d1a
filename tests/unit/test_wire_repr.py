"""wire/repr.py: the text of arguments, and its bounds."""

from collections import OrderedDict, namedtuple
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celeriac.wire.repr import saferepr

Point = namedtuple("Point", "x y")


class Broken:
    def __repr__(self) -> str:
        raise ValueError("no")


class Loud:
    def __repr__(self) -> str:
        return "x" * 10_000


class BrokenList(list[Any]):
    def __iter__(self) -> Any:
        raise ValueError("no")

    def __len__(self) -> int:
        raise ValueError("no")


class Counted(list[Any]):
    seen = 0

    def __iter__(self) -> Any:
        for item in super().__iter__():
            self.seen += 1
            yield item


values = st.recursive(
    st.none()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.builds(Broken)
    | st.builds(Loud),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers(), inner)
    ),
    max_leaves=30,
)


@pytest.mark.follows("SER-11")
@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((), "()"),
        ((2, 3), "(2, 3)"),
        ((2,), "(2,)"),
        ({}, "{}"),
        ({"y": 3}, "{'y': 3}"),
        ([2, 3], "[2, 3]"),
        (("a", None, True, 0.5, -0.0, float("inf")), "('a', None, True, 0.5, -0.0, inf)"),
        (([1, (2,)], {"a": [1]}), "([1, (2,)], {'a': [1]})"),
        (([[[1]]],), "([[[...]]],)"),
        ({"a": {"b": {"c": {}}}}, "{'a': {'b': {'c': {...}}}}"),
        (({1},), "({1},)"),
        ((set(), frozenset({1})), "(set(), frozenset({1}))"),
        ((Point(1, 2), OrderedDict(a=1)), "((1, 2), {'a': 1})"),
        ((Decimal("1.50"), b"ab"), "(Decimal('1.50'), b'ab')"),
        ((2**80,), f"({2**80},)"),
        (tuple(range(12)), "(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11)"),
        (("größer 漢字",), "('größer 漢字',)"),
        (("line\nbreak",), "('line\\nbreak',)"),
    ],
)
def test_ordinary_values(value: Any, text: str) -> None:
    assert saferepr(value) == text


@pytest.mark.follows("SER-11")
def test_depth_is_as_asked() -> None:
    assert saferepr(([[1]],), depth=1) == "([...],)"
    assert saferepr([[[[[1]]]]], depth=0) == "[[[[[1]]]]]"


@pytest.mark.follows("SER-11")
def test_long_strings_are_cut() -> None:
    text = saferepr(("x" * 5000, 1))
    assert text.startswith("('xxx") and text.endswith("xxx..., ...)")
    assert 900 < len(text) <= 1024


def test_long_containers_are_closed_properly() -> None:
    assert saferepr(list(range(100)), limit=20) == "[0, 1, 2, 3, 4, ...]"
    assert saferepr(([0] * 100,), limit=20) == "([0, 0, ...],)"


def test_only_what_can_be_shown_is_visited() -> None:
    items = Counted([1] * 1_000_000)
    assert len(saferepr((items,))) <= 1024
    assert 100 < items.seen < 1100


def test_a_number_of_millions_of_digits_is_not_printed() -> None:
    assert saferepr((1 << 10_000_000,)) == "(<int of 10000001 bits>,)"


def test_a_value_that_contains_itself_ends() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert saferepr(loop) == "[[[[...]]]]"
    assert len(saferepr(loop, depth=0)) < 100


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, Broken()), "(1, <Broken: its repr() raised ValueError>)"),
        ((BrokenList(), 2), "([<BrokenList: its repr() raised ValueError>, 2)"),
    ],
)
def test_a_broken_value_is_named(value: Any, text: str) -> None:
    assert saferepr(value) == text


@given(values, st.integers(3, 200), st.integers(-1, 5))
@settings(deadline=None)
def test_it_never_raises_and_never_exceeds_the_limit(value: Any, limit: int, depth: int) -> None:
    assert len(saferepr(value, limit, depth)) <= limit
    assert "\n" not in saferepr(value, limit, depth)
