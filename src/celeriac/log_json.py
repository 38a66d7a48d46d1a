"""Log lines for machines: one JSON object per record, whatever the record holds.

Fields: ``time`` (ISO 8601 in UTC), ``level``, ``logger``, ``message``, ``process``, ``pid``; in tasks,
and in what the worker says of one, ``task``, ``id``, ``root_id``, ``parent_id``, ``attempt`` (retries
so far), ``worker``; ``trace_id`` and ``span_id`` where the message came with a W3C ``traceparent``;
``exception`` and ``stack`` as text; and what the record was given by ``extra=``. An extra that has the
name of one of these fields gets an underscore behind it.
"""

import logging
import re
from datetime import UTC, datetime
from typing import Any

import msgspec

from celeriac.context import Context, current
from celeriac.wire.repr import saferepr

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; all else is extra."""
_TASK = frozenset(("task_name", "task_id"))
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")

_encode = msgspec.json.Encoder(enc_hook=saferepr).encode


class JsonFormatter(logging.Formatter):
    """Formats each record as one line of JSON. Never raises."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        fields = _fields(record)
        fields.update(_about_task(record))
        if record.exc_info and record.exc_info[0] is not None and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            fields["exception"] = record.exc_text
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        for name, value in record.__dict__.items():
            if name not in _OWN and name not in _TASK:
                fields[f"{name}_" if name in fields else name] = value
        return _line(fields)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname,
        "logger": record.name,
        "message": _message(record),
        "process": record.processName,
        "pid": record.process,
    }


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # noqa: BLE001 - the caller's arguments do not fit; what there is, is shown
        return f"{saferepr(record.msg)} % {saferepr(record.args)}"


def _about_task(record: logging.LogRecord) -> dict[str, Any]:
    request = current.get()
    if request is not None:
        return _about_request(request)
    data = record.__dict__.get("data")
    if isinstance(data, dict) and {"id", "name"} <= data.keys():
        return {"task": data["name"], "id": data["id"]}
    return {}


def _about_request(request: Context) -> dict[str, Any]:
    fields = {
        "task": request.task,
        "id": request.id,
        "root_id": request.root_id,
        "parent_id": request.parent_id,
        "attempt": request.retries,
        "worker": request.hostname,
    }
    trace = _TRACEPARENT.fullmatch(str(request.get("traceparent")))
    if trace is not None:
        fields["trace_id"], fields["span_id"] = trace.groups()
    return fields


def _line(fields: dict[str, Any]) -> str:
    try:
        return _encode(fields).decode()
    except Exception:  # noqa: BLE001 - keys, depths, numbers and texts that JSON does not have
        return _encode({_text(name): _safe(value) for name, value in fields.items()}).decode()


def _safe(value: Any) -> Any:
    """Return the value if it can be written, else its text."""
    try:
        _encode(value)
    except Exception:  # noqa: BLE001 - as above
        return _text(value if isinstance(value, str) else saferepr(value))
    return value


def _text(value: str) -> str:
    """Return a text without surrogates, which no encoding has."""
    return value.encode("utf-8", "backslashreplace").decode()
