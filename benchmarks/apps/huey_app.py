"""The application on Huey, with its defaults; where callers wait for results, it notifies them."""

import os

from huey import RedisHuey, SqliteHuey

from benchmarks.marks import mark

_url = os.environ["BENCH_BROKER"]
_options = {"results": bool(os.environ["BENCH_BACKEND"])}
if _url.startswith("sqlite"):
    huey = SqliteHuey("bench", filename=_url.removeprefix("sqlite:///"), **_options)
else:
    _notify = {"notify_result": True} if os.environ.get("BENCH_WAITS") else {}
    huey = RedisHuey("bench", url=_url, **_options, **_notify)


@huey.task()
def add(x: int, y: int) -> int:
    """The no-op."""
    mark(x)
    return x + y


@huey.task()
def echo(number: int, text: str) -> str:
    """Give a payload back."""
    mark(number)
    return text


@huey.task()
def ring(number: int) -> int:
    """Say when send number `number` arrived."""
    mark(number)
    return number


def send(x: int, y: int) -> str:
    return _id(add(x, y))


def send_many(count: int, batch: int) -> list[str]:
    """There is no call for many tasks, so `batch` changes nothing."""
    del batch
    return [send(1, 2) for _ in range(count)]


def send_echo(number: int, text: str) -> str:
    return _id(echo(number, text))


def send_ring(number: int) -> None:
    ring(number)


def send_later(seconds: int) -> None:
    add.schedule((1, 2), delay=seconds)


def result(handle: str, timeout: float) -> object:
    return huey.result(handle, blocking=True, timeout=timeout, preserve=True)


def _id(sent) -> str:
    return sent.id if sent is not None else ""
