"""The current app: which one is meant where none is named, and what becomes of it."""

import os
import pickle
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import celeriac
from celeriac import Celery, current, current_app, current_task, current_worker_task
from celeriac.proxies import Proxy, unwrapped
from tests.fixtures.packages import standing_in, write
from tests.fixtures.runs import memory_app, run_sent


@pytest.fixture(autouse=True)
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin without any app."""
    monkeypatch.setattr(current, "_here", current._Here())
    process = current._Process()
    process.make_default = current._process.make_default
    monkeypatch.setattr(current, "_process", process)


@pytest.fixture
def folder(home: Path) -> Iterator[Path]:
    with standing_in(home):
        yield home


def in_a_thread(ask: Any) -> Any:
    answers: list[Any] = []
    thread = threading.Thread(target=lambda: answers.append(ask()))
    thread.start()
    thread.join()
    return answers[0]


# -- which one it is


@pytest.mark.follows("APP-02")
def test_the_app_that_was_made_last_is_current() -> None:
    first, second = Celery("first"), Celery("second")
    assert current_app == second
    first.set_current()
    assert current_app == first
    assert isinstance(current_app, Celery)
    assert unwrapped(current_app) is first


@pytest.mark.follows("APP-01", "APP-02")
def test_an_app_may_be_made_without_becoming_current() -> None:
    first = Celery("first")
    Celery("second", set_as_current=False)
    assert unwrapped(current_app) is first


@pytest.mark.follows("APP-02")
def test_other_threads_use_the_apps_of_the_process() -> None:
    first = Celery("first")
    assert in_a_thread(lambda: unwrapped(current_app)) is first
    second = Celery("second")
    first.set_default()
    assert unwrapped(current_app) is second
    assert in_a_thread(lambda: unwrapped(current_app)) is first
    assert in_a_thread(lambda: unwrapped(Celery("third").conf) and current_app.main) == "third"
    assert unwrapped(current_app) is second


@pytest.mark.follows("APP-02", "APP-34")
@pytest.mark.parametrize("module", ["celeriacconfig", "celeryconfig", "elsewhere"])
def test_without_any_there_is_a_default_app_that_reads_a_module(
    module: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, {f"{module}.py": "task_default_queue = 'from_file'"})
    if module == "elsewhere":
        monkeypatch.setenv("CELERY_CONFIG_MODULE", module)
    app = current.get_current_app()
    assert app.conf.task_default_queue == "from_file"
    assert current.get_current_app() is app is current.get_default_app()


@pytest.mark.follows("APP-02")
def test_a_default_app_needs_no_module(folder: Path) -> None:
    assert current_app.conf.task_default_queue == "celery"


@pytest.mark.follows("APP-28")
def test_a_closed_app_is_current_no_more() -> None:
    with Celery("first") as app:
        app.set_default()
        assert unwrapped(current_app) is app
    assert current.get_current_app() is not app


def test_an_app_may_be_current_for_a_while() -> None:
    first, second = Celery("first"), Celery("second")
    with current.as_current(first) as app:
        assert app is first is unwrapped(current_app)
    assert unwrapped(current_app) is second


@pytest.mark.follows("APP-27")
def test_an_app_is_pickled_by_its_configuration() -> None:
    app = Celery("proj", broker="memory://", task_default_queue="work", strict_typing=False)
    again = pickle.loads(pickle.dumps(app))
    assert (again.main, again.conf.task_default_queue) == ("proj", "work")
    assert (again.conf.broker_url, again.strict_typing) == ("memory://", False)
    assert unwrapped(current_app) is app


@pytest.mark.follows("APP-27")
def test_a_task_is_pickled_by_its_name() -> None:
    app = memory_app()
    add = app.task(name="sums.add")(lambda: None)
    assert pickle.loads(pickle.dumps(add)) is add


@pytest.mark.follows("APP-29")
def test_a_forked_child_is_told() -> None:
    app = Celery("proj")
    reading, writing = os.pipe()

    @app.on_after_fork.connect
    def forked(sender: Celery, **_: Any) -> None:
        os.write(writing, sender.main.encode())

    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.close(writing)
    assert os.read(reading, 100) == b"proj"
    os.waitpid(pid, 0)
    os.close(reading)


# -- the running task


@pytest.mark.follows("TASK-46")
def test_the_running_task_is_known_inside_of_it() -> None:
    app = memory_app()
    seen: list[Any] = []

    @app.task
    def inner() -> None:
        seen.append((unwrapped(current_task), unwrapped(current_worker_task)))

    @app.task
    def outer() -> None:
        seen.append((unwrapped(current_task), unwrapped(current_worker_task)))
        inner()

    inner()
    run_sent(app, outer.delay)
    assert seen == [(inner, None), (outer, outer), (inner, outer)]
    assert not current_task
    assert repr(current_task) == "None"
    assert app.current_task is None
    assert app.current_worker_task is None


# -- proxies


def test_a_proxy_passes_for_its_object() -> None:
    held: dict[str, Any] = {"a": 1}
    proxy = Proxy(lambda: held, "held")
    assert isinstance(proxy, dict)
    assert (proxy["a"], len(proxy), list(proxy), "a" in proxy, bool(proxy)) == (
        1,
        1,
        ["a"],
        True,
        True,
    )
    proxy["b"] = 2
    del proxy["a"]
    assert held == proxy == {"b": 2}
    assert (str(proxy), repr(proxy), dir(proxy)) == (str(held), repr(held), dir(held))
    assert proxy._get_current_object() is unwrapped(proxy) is held


def test_a_proxy_of_nothing_says_so() -> None:
    def fail() -> Any:
        raise LookupError("nothing here")

    proxy = Proxy(fail, "held")
    assert repr(proxy) == "<Proxy held: nothing to stand for>"
    with pytest.raises(LookupError):
        proxy.anything  # noqa: B018


def test_attributes_go_through_a_proxy() -> None:
    class Thing:
        """A thing."""

        size = 1

        def __call__(self, x: int) -> int:
            return x + self.size

        def __enter__(self) -> str:
            return "in"

        def __exit__(self, *_: object) -> None: ...

    thing = Thing()
    proxy = Proxy(lambda: thing)
    proxy.size = 5
    assert (thing.size, proxy(1), hash(proxy), proxy.__doc__) == (5, 6, hash(thing), "A thing.")
    with proxy as value:
        assert value == "in"
    del proxy.size
    assert thing.size == 1


# -- time, and the command line


@pytest.mark.follows("APP-30")
@pytest.mark.parametrize(
    ("settings", "name"),
    [({}, "UTC"), ({"timezone": "Europe/Vienna"}, "Europe/Vienna"), ({"timezone": "utc"}, "UTC")],
)
def test_an_app_tells_the_time_in_its_zone(settings: dict[str, Any], name: str) -> None:
    app = Celery("proj", **settings)
    assert str(app.timezone) == name
    assert app.now().tzinfo == app.timezone
    assert app.uses_utc_timezone() is (name == "UTC")


@pytest.mark.follows("APP-30")
def test_without_utc_an_app_lives_in_the_zone_of_the_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import time

    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        now = Celery("proj", enable_utc=False).now()
        assert now.utcoffset() is not None and now.utcoffset().total_seconds() == 9 * 3600  # type: ignore[union-attr]
        assert now.tzname() == "JST"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.follows("APP-32")
def test_a_worker_is_asked_for_by_name() -> None:
    with pytest.raises(ValueError, match=r"command worker, which \['report'\] does not name"):
        Celery("proj").worker_main(["report"])


@pytest.mark.follows("APP-32")
def test_an_app_runs_the_program_for_itself(capsys: pytest.CaptureFixture[str]) -> None:
    app = Celery("proj", broker="memory://")
    with pytest.raises(SystemExit) as end:
        app.start(["worker", "--help"])
    assert end.value.code == 0
    assert "Start a worker" in capsys.readouterr().out


def test_the_package_offers_them() -> None:
    assert celeriac.current_app is current_app
    assert sys.modules["celeriac.current"] is current
