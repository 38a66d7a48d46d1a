"""Every decoder, given what fuzzing has found worth keeping, the seeds, and made-up documents.

`make fuzz` looks for more; here each input is one that once reached something new.
"""

import logging
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeriac.exceptions import DecodeError
from celeriac.settings import sources
from celeriac.settings.table import NAMES
from celeriac.wire import compression, json
from celeriac.wire.task import Headers
from tests.fixtures.deliveries import NAME
from tests.fuzz import checks, corpus, seeds
from tests.fuzz.targets import METHODS, TARGETS, TYPES

LONGEST = 20
"""Seconds for one input: many times what the slowest one takes."""
MOST_KEPT = 1 << 20

quick = settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True, scope="module")
def _as_before() -> Iterator[None]:
    """Put back what targets change for the whole process."""
    logger, warned = logging.getLogger("celeriac"), set(sources._warned)
    level = logger.level
    yield
    logger.setLevel(level)
    sources._warned.clear()
    sources._warned.update(warned)


@pytest.fixture(autouse=True)
def _alarm() -> Iterator[None]:
    """Have an input that hangs end as a finding of its own, not with the whole run."""

    def over(*_: Any) -> None:
        raise AssertionError("a decoder hangs")

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(2 * LONGEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("name", TARGETS)
def test_nothing_is_found_in_what_is_kept(name: str) -> None:
    inputs = [*seeds.seeds(name), *corpus.kept(name)]
    checks.prepare(TARGETS[name], [data for data in inputs if len(data) < 4096])
    for data in inputs:
        signal.alarm(LONGEST)
        try:
            TARGETS[name](data)
        except Exception as error:
            error.add_note(f"{name} was given {data[:200]!r} ({len(data)} bytes)")
            raise


def test_a_corpus_is_kept_for_each_target_and_is_small() -> None:
    sizes = {path.stem: path.stat().st_size for path in corpus.FOLDER.iterdir()}
    assert sizes.keys() == TARGETS.keys()
    assert sum(sizes.values()) < MOST_KEPT


class TestTheChecks:
    """Each rule is able to fail."""

    def test_an_error_that_is_not_documented(self) -> None:
        with pytest.raises(KeyError), checks.judged(*checks.READING):
            raise KeyError

    def test_an_import(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with (
            pytest.raises(checks.Finding, match="imported"),
            checks.judged(),
        ):
            monkeypatch.setitem(sys.modules, "smuggled", checks)

    def test_an_error_without_end(self) -> None:
        with pytest.raises(checks.Finding, match="too long"), checks.judged(*checks.READING):
            raise DecodeError("x" * 1_000_000)

    def test_a_value_larger_than_its_text(self) -> None:
        assert checks.weight([["ab", b"c"], {"k": 1.0}]) == (7, 4)


# -- documents that are nearly right --

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["\ud800", "sNaN", "2026-01-01", "9999-12-31T23:59:59-23:59", "\x1b[2J\n"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=6), inner, max_size=4)
        | st.fixed_dictionaries(
            {
                "__type__": st.sampled_from(["datetime", "date", "decimal", "uuid", "bytes", "no"]),
                "__value__": inner,
            }
        )
    ),
    max_leaves=8,
)
links = st.fixed_dictionaries(
    {},
    optional={
        "task": st.sampled_from([NAME, "other"]) | values,
        "args": values,
        "kwargs": values,
        "options": values,
        "subtask_type": st.none() | values,
        "immutable": values,
    },
)
embeds = st.fixed_dictionaries(
    {},
    optional={
        "callbacks": st.lists(links, max_size=2) | values,
        "errbacks": st.lists(links, max_size=2) | values,
        "chain": st.lists(links, max_size=2) | values,
        "chord": links | values,
        "args": values,
        "id": values,
    },
)
fields: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {"task": st.just(NAME), "id": st.just("one")},
    optional={name: values for name in Headers.__struct_fields__ if name not in ("task", "id")}
    | {"timelimit": st.tuples(st.floats(), st.floats()) | values, "is_eager": values},
)
bodies = st.tuples(
    st.lists(values, max_size=3) | values,
    st.dictionaries(st.sampled_from(["raises", "x"]), values, max_size=2) | values,
    embeds | values,
) | st.fixed_dictionaries(
    {"task": st.just(NAME) | values, "id": st.text(max_size=4) | values},
    optional={"args": values, "kwargs": values, "eta": values, "timelimit": values}
    | {"retries": values, "taskset": values, "callbacks": values, "argsrepr": values},
)
documents = st.fixed_dictionaries(
    {"status": st.sampled_from(["SUCCESS", "FAILURE"]) | values},
    optional={
        "result": values
        | st.fixed_dictionaries(
            {
                "exc_type": st.sampled_from(["KeyError", "system", "ExceptionGroup"]) | values,
                "exc_message": values,
                "exc_module": st.sampled_from(["builtins", "os", "sys"]) | values,
            }
        ),
        "children": values,
        "stamped_headers": values,
        "stamps": values,
        "retries": values,
    },
)


def written(value: Any, kind: str) -> bytes | None:
    """Return a value in this form, None if it has none in it."""
    forms: dict[str, Callable[[Any], bytes]] = {
        TYPES[0]: json.encode,
        TYPES[1]: lambda value: yaml.safe_dump(value).encode("utf-8", "replace"),
        TYPES[2]: msgpack.packb,
    }
    try:
        return forms[kind](value)
    except Exception:  # noqa: BLE001 - a surrogate, a number of more than 64 bits
        return None


def choice(kind: str, method: str | None) -> bytes:
    return bytes((48 + TYPES.index(kind), 48 + METHODS.index(method)))


kinds = st.sampled_from(TYPES[:3])
methods = st.sampled_from(METHODS[:-1])


@pytest.mark.parametrize("name", ["admission", "run", "protocol1", "letters"])
@given(st.just({}) | fields, bodies, kinds, methods)
@quick
def test_messages(name: str, head: Any, content: Any, kind: str, method: str | None) -> None:
    data = written(content, kind)
    if data is not None:
        data = data if method is None else compression.compress(data, method)[0]
        TARGETS[name](choice(kind, method) + json.encode(head) + b"\n" + data)


@given(fields | values)
@quick
def test_headers(head: Any) -> None:
    TARGETS["headers"](json.encode(head))


@given(bodies | values, kinds, methods)
@quick
def test_bodies(content: Any, kind: str, method: str | None) -> None:
    data = written(content, kind)
    if data is not None:
        data = data if method is None else compression.compress(data, method)[0]
        TARGETS["body"](choice(kind, method) + data)


@given(documents | values, kinds)
@quick
def test_result_documents(document: Any, kind: str) -> None:
    data = written(document, kind)
    if data is not None:
        TARGETS["result"](bytes((48 + TYPES.index(kind),)) + data)


@given(
    st.lists(st.tuples(st.sampled_from(sorted(NAMES)) | st.text(max_size=9), values), max_size=6)
)
@quick
def test_settings(given_: list[tuple[str, Any]]) -> None:
    lines = (name.encode("utf-8", "replace") + b" " + json.encode(value) for name, value in given_)
    TARGETS["settings"](b"\n".join(lines))


@pytest.mark.parametrize(
    "name", ["json", "yaml", "msgpack", "pickle", "signed", "compression", "words"]
)
@given(st.binary(max_size=60))
@quick
def test_any_bytes(name: str, data: bytes) -> None:
    TARGETS[name](data)


@given(values)
@quick
def test_serializers(value: Any) -> None:
    for kind, name in zip(TYPES[:3], ("json", "yaml", "msgpack"), strict=True):
        data = written(value, kind)
        if data is not None:
            TARGETS[name](data)
