"""log_streams.py: what is printed, as records; what must go past the log."""

import io
import logging
import subprocess
import sys
import threading
import traceback
from typing import Any

import pytest

from celeriac.context import Context, current
from celeriac.log_streams import LoggingProxy


class Records(logging.Handler):
    """Keeps what it is given, with the task that ran."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[tuple[str, str | None]] = []
        self.says = ""
        self.into: Any = None
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        request = current.get()
        self.kept.append((record.getMessage(), request.id if request else None))
        self.records.append(record)
        if self.says:
            print(self.says, file=self.into)

    @property
    def texts(self) -> list[str]:
        return [text for text, _ in self.kept]


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def original() -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)


@pytest.fixture
def proxy(records: Records, original: io.TextIOWrapper) -> LoggingProxy:
    logger = logging.Logger("celeriac.redirected", logging.INFO)
    logger.addHandler(records)
    records.into = LoggingProxy(logger, logging.WARNING, original)
    return records.into


def past(original: io.TextIOWrapper) -> bytes:
    """Return what went past the log."""
    assert isinstance(original.buffer, io.BytesIO)
    return original.buffer.getvalue()


@pytest.mark.follows("LOG-11")
def test_a_line_is_a_record(proxy: LoggingProxy, records: Records) -> None:
    print("one", 2, file=proxy)
    print(file=proxy)
    print("three", end="\n\n", file=proxy)
    assert records.texts == ["one 2", "three"]
    assert {(r.levelname, r.name) for r in records.records} == {("WARNING", "celeriac.redirected")}
    assert records.records[0].pathname == __file__


@pytest.mark.follows("LOG-11")
def test_what_is_written_at_once_stays_together(proxy: LoggingProxy, records: Records) -> None:
    print("a table\n of two lines", file=proxy)
    try:
        raise ValueError("no")
    except ValueError:
        proxy.write(traceback.format_exc())
    assert records.texts[0] == "a table\n of two lines"
    assert records.texts[1].startswith("Traceback")
    assert records.texts[1].endswith("ValueError: no")


def test_the_rest_of_a_line_waits_for_a_flush(proxy: LoggingProxy, records: Records) -> None:
    print("half", end="", file=proxy)
    assert records.texts == []
    print("", end="", flush=True, file=proxy)
    assert records.texts == ["half"]
    proxy.flush()
    assert records.texts == ["half"]


def test_the_rest_of_a_line_belongs_to_its_task(proxy: LoggingProxy, records: Records) -> None:
    for id in ("one", "two"):
        token = current.set(Context(id=id))
        print("of", id, end="", file=proxy)
        current.reset(token)
    print("nobody's", file=proxy)
    assert records.kept == [("of one", "one"), ("of two", "two"), ("nobody's", None)]


def test_threads_do_not_mix_their_lines(proxy: LoggingProxy, records: Records) -> None:
    print("half of ", end="", file=proxy)
    other = threading.Thread(target=proxy.write, args=("another\n",))
    other.start()
    other.join()
    print("one", file=proxy)
    assert records.texts == ["another", "half of one"]


@pytest.mark.follows("LOG-11")
def test_a_handler_that_prints_goes_past_the_log(
    proxy: LoggingProxy, records: Records, original: io.TextIOWrapper
) -> None:
    records.says = "from within"
    print("one", file=proxy)
    assert records.texts == ["one"]
    assert past(original) == b"from within\n"
    records.says = ""
    print("two", file=proxy)
    assert records.texts == ["one", "two"]


def test_what_lies_below_the_level_is_not_written(
    proxy: LoggingProxy, records: Records, original: io.TextIOWrapper
) -> None:
    proxy.logger.setLevel(logging.ERROR)
    print("chatter", file=proxy)
    assert records.texts == []
    assert past(original) == b""


def test_it_is_a_stream_for_whoever_asks(
    proxy: LoggingProxy, original: io.TextIOWrapper, records: Records
) -> None:
    assert (proxy.isatty(), proxy.writable(), proxy.encoding) == (False, True, "utf-8")
    assert proxy.errors == "strict"
    proxy.buffer.write(b"bytes\n")
    assert past(original) == b"bytes\n"
    proxy.close()
    assert not proxy.closed
    proxy.writelines(["one\n", "two\n"])
    assert records.texts == ["one", "two"]


def test_programs_write_to_the_original(records: Records) -> None:
    with open("/dev/null", "w", encoding="utf-8") as file:
        proxy = LoggingProxy(logging.getLogger("celeriac.redirected"), 30, file)
        done = subprocess.run([sys.executable, "-c", "print(1)"], stdout=proxy, check=False)  # type: ignore[call-overload]
        assert done.returncode == 0
        assert proxy.fileno() == file.fileno()


@pytest.mark.parametrize("missing", [None, io.StringIO()])
def test_without_an_original_there_is_no_descriptor(missing: Any) -> None:
    with pytest.raises(OSError, match="fileno"):
        LoggingProxy(logging.getLogger("x"), 30, missing).fileno()


def test_a_second_redirection_knows_the_first_original(
    proxy: LoggingProxy, original: io.TextIOWrapper
) -> None:
    assert LoggingProxy(proxy.logger, 30, proxy).original is original
