"""The application on procrastinate, with its defaults; it keeps no results."""

import contextlib
import os

import procrastinate

from benchmarks.marks import mark

_url = os.environ["BENCH_BROKER"]
app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=_url))
_open: list[object] = []


@app.task(name="add")
def add(x: int, y: int) -> int:
    """The no-op."""
    mark(x)
    return x + y


@app.task(name="echo")
def echo(number: int, text: str) -> str:
    """Give a payload back."""
    mark(number)
    return text


@app.task(name="ring")
def ring(number: int) -> int:
    """Say when send number `number` arrived."""
    mark(number)
    return number


def _ready() -> None:
    """Connect the caller's side, and make the tables if they are not there."""
    if not _open:
        _open.append(app.open())
        with contextlib.suppress(procrastinate.exceptions.ConnectorException):
            app.schema_manager.apply_schema()


def send(x: int, y: int) -> str:
    _ready()
    return str(add.defer(x=x, y=y))


def send_many(count: int, batch: int) -> list[str]:
    _ready()
    handles: list[str] = []
    while len(handles) < count:
        size = min(batch, count - len(handles))
        handles += map(str, add.batch_defer(*({"x": 1, "y": 2} for _ in range(size))))
    return handles


def send_echo(number: int, text: str) -> str:
    _ready()
    return str(echo.defer(number=number, text=text))


def send_ring(number: int) -> None:
    _ready()
    ring.defer(number=number)


def send_later(seconds: int) -> None:
    _ready()
    add.configure(schedule_in={"seconds": seconds}).defer(x=1, y=2)
