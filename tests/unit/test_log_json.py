"""log_json.py: one JSON object per record, whatever the record holds."""

import json
import logging
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from celeriac.context import Context, current
from celeriac.log_json import JsonFormatter

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def running() -> Iterator[Context]:
    request = Context(
        id="one", task="demo.add", root_id="zero", parent_id="half", retries=2, hostname="w@h"
    )
    token = current.set(request)
    yield request
    current.reset(token)


def line(msg: object = "adding", **more: Any) -> dict[str, Any]:
    """Return the object that a record becomes."""
    record = logging.makeLogRecord(
        {"msg": msg, "name": "demo", "levelname": "INFO", "created": 1_800_000_000.25, **more}
    )
    text = JsonFormatter().format(record)
    assert "\n" not in text
    found: dict[str, Any] = json.loads(text)
    return found


def test_what_every_line_has() -> None:
    found = line("%s and %d", args=("one", 2), processName="ForkPoolWorker-1", process=77)
    assert found == {
        "time": "2027-01-15T08:00:00.250+00:00",
        "level": "INFO",
        "logger": "demo",
        "message": "one and 2",
        "process": "ForkPoolWorker-1",
        "pid": 77,
    }
    assert datetime.fromisoformat(found["time"]) == datetime.fromtimestamp(1_800_000_000.25, UTC)


def test_in_a_task_it_is_named(running: Context) -> None:
    found = line()
    assert {name: found[name] for name in ("task", "id", "root_id", "parent_id")} == {
        **{"task": "demo.add", "id": "one", "root_id": "zero", "parent_id": "half"}
    }
    assert (found["attempt"], found["worker"]) == (2, "w@h")
    assert "trace_id" not in found


def test_what_the_worker_says_of_a_task_names_it_too() -> None:
    data = {"id": "one", "name": "demo.add", "eta": None}
    found = line(data=data)
    assert (found["task"], found["id"], found["data"]) == ("demo.add", "one", data)


@pytest.mark.parametrize(
    ("traceparent", "trace"),
    [
        (PARENT, ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7")),
        ("nonsense", (None, None)),
        (None, (None, None)),
        (7, (None, None)),
    ],
)
def test_the_callers_trace(
    running: Context, traceparent: object, trace: tuple[str | None, str | None]
) -> None:
    running.traceparent = traceparent  # type: ignore[attr-defined]
    found = line()
    assert (found.get("trace_id"), found.get("span_id")) == trace


def test_extras_are_fields() -> None:
    assert line(order=7, user={"id": 1})["order"] == 7
    # A field of ours is never lost to an extra.
    found = line(level="mine")
    assert (found["level"], found["level_"]) == ("INFO", "mine")


def test_an_exception_is_a_field_of_its_own() -> None:
    try:
        raise ValueError("bad\nluck")
    except ValueError:
        found = line(exc_info=sys.exc_info(), stack_info="Stack:\n  here")
    assert found["message"] == "adding"
    assert found["exception"].startswith("Traceback (most recent call last):\n")
    assert found["exception"].endswith("ValueError: bad\nluck")
    assert found["stack"] == "Stack:\n  here"


class Unwritable:
    def __repr__(self) -> str:
        return "<something>"


def recursive() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Unwritable(), "<something>"),
        ({"a": Unwritable()}, {"a": "<something>"}),
        ({Unwritable(): 1}, {"<something>": 1}),
        ("half \ud83d of it", "half \\ud83d of it"),
        (float("nan"), None),
        (10**30, "1" + "0" * 30),
        (recursive(), "[[[[...]]]]"),
        ("two\nlines", "two\nlines"),
    ],
    ids=repr,
)
def test_whatever_an_extra_is_there_is_a_line(value: object, written: object) -> None:
    found = line(extra=value)
    # Numbers of any length are numbers in JSON; who writes them as text is right as well.
    assert str(found["extra"]) == str(written)
    assert found["message"] == "adding"


def test_a_message_whose_arguments_do_not_fit_is_shown() -> None:
    assert line("%d of %d", args=("one",))["message"] == "'%d of %d' % ('one',)"
    assert line("half \ud83d of it")["message"] == "half \\ud83d of it"


def test_a_name_that_is_no_text_of_json() -> None:
    assert line(**{"odd \ud800": 1})["odd \\ud800"] == 1
