"""What fuzzing has found, each with a test of its own; `tests/fuzz` looks for more."""

import logging
import pickle
import time
import tracemalloc
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest

from celeriac import execution
from celeriac.exceptions import DecodeError, ImproperlyConfigured
from celeriac.message import Message
from celeriac.outcome import Ending
from celeriac.pools.base import Job
from celeriac.settings import Configuration
from celeriac.settings.validation import coerce
from celeriac.wire import pickled, result, serializers
from celeriac.wire.protocol1 import upgraded
from celeriac.wire.task import decode_body, decode_headers, parse_time
from tests.fixtures.runs import HandPort, memory_app


def headers(field: bytes) -> bytes:
    return b'{"task": "shop.pay", "id": "one", ' + field + b"}"


@pytest.mark.parametrize("name", ["retries", "timelimit", "ignore_result", "group_index"])
def test_a_surrogate_where_a_number_should_be(name: str) -> None:
    with pytest.raises(DecodeError, match="cannot read task headers"):
        decode_headers(headers(b'"%s": "\\ud800"' % name.encode()))


@pytest.mark.parametrize("name", ["task", "id"])
def test_a_surrogate_in_what_is_a_key(name: str) -> None:
    with pytest.raises(DecodeError, match="surrogates not allowed"):
        decode_headers(headers(b'"%s": "\\ud800"' % name.encode()))


def test_limits_that_are_no_numbers() -> None:
    with pytest.raises(DecodeError, match="timelimit is no number"):
        decode_headers(headers(b'"timelimit": [1, NaN]'))
    assert decode_headers(headers(b'"timelimit": [Infinity, null]')).timelimit == (
        float("inf"),
        None,
    )


def test_a_time_without_end_is_not_repeated_in_the_error() -> None:
    with pytest.raises(DecodeError) as caught:
        parse_time("x" * 100_000)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("embed", "words"),
    [
        (b'{"callbacks": 1}', "callbacks is int 1 instead of signatures"),
        (b'{"errbacks": "x"}', "errbacks is str 'x' instead of signatures"),
        (b'{"chain": [1]}', "int 1 among chain is no signature"),
        (b'{"chord": [{}]}', "chord is a list of 1 instead of signatures"),
    ],
)
def test_links_that_nobody_can_follow(embed: bytes, words: str) -> None:
    with pytest.raises(DecodeError, match=words):
        decode_body(b"[[], {}, " + embed + b"]")


def test_an_embed_that_names_arguments_of_ours(caplog: pytest.LogCaptureFixture) -> None:
    """It raised a TypeError in the child, outside of the run."""
    app = memory_app()
    task = app.task(name="shop.pay")(lambda: 1)
    held = Message(
        id="one",
        task=task.name,
        headers=headers(b'"retries": 0'),
        body=b'[[], {}, {"args": [1], "id": [], "headers": 2, "port": 3}]',
    )
    outcome = execution.run(app, Job(1, held, "celery"), HandPort())
    assert outcome is not None
    assert outcome.ending is Ending.SUCCEEDED


def test_a_body_that_a_child_refuses_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app = memory_app()
    task = app.task(name="shop.pay")(lambda: 1)
    held = Message(id="one", task=task.name, headers=headers(b'"retries": 0'), body=b"[")
    with caplog.at_level(logging.ERROR, "celeriac.execution"):
        outcome = execution.run(app, Job(1, held, "mail"), HandPort())
    assert outcome is not None
    assert outcome.ending is Ending.UNDECODABLE
    [record] = caplog.records
    assert record.getMessage() == (
        f"Task shop.pay[one] of queue mail cannot be run and is dead-lettered: {outcome.reason}"
    )


class TestPicklesThatAreOnlyLookedAt:
    @pytest.mark.parametrize(
        "data",
        [
            b"\x80\x02]r\xff\xff\xff\x0f.",
            b"]p268435455\n.",
            b"\x80\x05\x96\0\0\0\x80\0\0\0\0.",
            # The reader in C skips the rest of a frame when another begins in it.
            b"\x80\x04\x95\x0c\0\0\0\0\0\0\0]\x95\x06\0\0\0\0\0\0\0C\x06r\xff\xff\xff\x0f..",
        ],
        ids=["place", "place in digits", "length", "frames"],
    )
    def test_numbers_in_it_reserve_no_memory(self, data: bytes) -> None:
        tracemalloc.start()
        try:
            with suppress(pickle.UnpicklingError, ValueError):
                pickled.outline(data)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()

    def test_a_field_that_stands_for_more_than_can_be_written(self) -> None:
        node: Any = "x"
        for _ in range(60):
            node = [node, node]
        body = pickle.dumps({"task": "shop.pay", "id": "one", "args": (), "timelimit": node})
        held = Message(id="", task="", headers=b"{}", body=body, content_type=serializers.PICKLE)
        with pytest.raises(DecodeError, match="its timelimit is"):
            upgraded(held, frozenset({serializers.PICKLE}))


def test_a_result_document_with_a_surrogate_for_a_key() -> None:
    with pytest.raises(DecodeError, match="cannot read result document"):
        result.decode(b'{"status": "FAILURE", "\\ud800": 0}')


def test_a_signalling_nan_for_a_setting() -> None:
    with pytest.raises(ImproperlyConfigured, match="give True or False"):
        coerce("task_always_eager", Decimal("sNaN"))


def test_the_name_of_a_setting_that_is_far_too_long() -> None:
    began = time.monotonic()
    with pytest.raises(ImproperlyConfigured, match=r"settings\.md lists all names"):
        Configuration().load({"x" * 50_000: 1})
    assert time.monotonic() - began < 5.0  # a minute, when it was compared with all names
