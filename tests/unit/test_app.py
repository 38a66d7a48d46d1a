"""app.py: settings, the registry of tasks, and what is opened on first use."""

import asyncio
import inspect
import os
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from celeriac import Celery, Task
from celeriac.brokers.memory import MemoryBroker
from celeriac.exceptions import (
    DuplicateTaskNameWarning,
    ImproperlyConfigured,
    NotRegistered,
)
from celeriac.results.memory import MemoryStore
from tests.fixtures.packages import standing_in, write
from tests.fixtures.runs import claim, headers, memory_app


@pytest.fixture
def app() -> Celery:
    return memory_app()


@pytest.fixture
def folder(home: Path) -> Iterator[Path]:
    with standing_in(home):
        yield home


# -- names of tasks


@pytest.mark.follows("APP-15", "TASK-04")
def test_a_task_is_named_after_module_and_function(app: Celery) -> None:
    @app.task
    def add() -> None: ...

    assert add.name == f"{__name__}.add"
    assert app.tasks[add.name] is add
    assert repr(add) == f"<Task: {__name__}.add>"


@pytest.mark.follows("APP-15")
@pytest.mark.parametrize(("main", "name"), [("proj", "proj.add"), (None, "__main__.add")])
def test_in_a_script_the_app_stands_for_the_module(main: str | None, name: str) -> None:
    def add() -> None: ...

    add.__module__ = "__main__"
    assert Celery(main).task(add).name == name


@pytest.mark.follows("TASK-04")
def test_a_name_may_be_given(app: Celery) -> None:
    add = app.task(name="sums.add")(lambda: None)
    assert add.name == "sums.add"
    assert app.find_task("sums.add") is add


@pytest.mark.follows("APP-15")
def test_names_may_be_made_otherwise() -> None:
    class Named(Celery):
        def gen_task_name(self, name: str, module: str) -> str:
            return f"{module.upper()}/{name}"

    @Named(broker="memory://").task
    def add() -> None: ...

    assert add.name == f"{__name__.upper()}/add"


@pytest.mark.follows("TASK-50")
def test_a_task_shows_its_function(app: Celery) -> None:
    @app.task
    def add(x: int) -> int:
        """Add one."""
        return x + 1

    assert (add.__doc__, add.__module__) == ("Add one.", __name__)
    assert add.__wrapped__(1) == 2  # type: ignore[attr-defined]
    assert str(inspect.signature(add)) == "(x: int) -> int"


def test_a_bound_task_shows_what_is_to_be_passed(app: Celery) -> None:
    @app.task(bind=True)
    def add(self: Any, x: int) -> int:
        return x + 1

    assert str(inspect.signature(add)) == "(x: int) -> int"


@pytest.mark.follows("APP-16")
def test_a_second_function_of_one_name_is_warned_about_and_left_out(app: Celery) -> None:
    first = app.task(name="sums.add")(lambda: 1)
    with pytest.warns(
        DuplicateTaskNameWarning, match=r"'sums.add' is taken .* name of its own"
    ) as w:
        second = app.task(name="sums.add")(lambda: 2)
        assert first() == second() == 1
    assert w[0].filename == __file__
    assert app.tasks["sums.add"]() == 1


def test_one_function_may_be_registered_twice(app: Celery) -> None:
    def add() -> None: ...

    one, other = app.task(add), app.task(add)
    assert app.tasks == {one.name: one}
    assert type(other) is type(one)


def test_equal_functions_made_by_one_line_are_one(app: Celery) -> None:
    def make() -> Any:
        @app.task(name="sums.add")
        def add() -> None: ...

        return add

    one, other = make(), make()
    assert app.tasks == {"sums.add": one}
    assert type(other) is type(one)


@pytest.mark.follows("TASK-01")
def test_a_decorator_may_be_kept_and_used_again(app: Celery) -> None:
    bound = app.task(bind=True, queue="work")

    @bound
    def one(self: Any) -> Any:
        return self

    @bound
    def two(self: Any) -> Any:
        return self

    assert (one(), two()) == (one, two)
    assert (one.queue, two.queue) == ("work", "work")


# -- options of tasks


@pytest.mark.follows("TASK-07")
def test_options_are_attributes(app: Celery) -> None:
    @app.task(max_retries=None, time_limit=9, queue="work", acks_late=False, throws=(KeyError,))
    def add() -> None: ...

    assert (add.max_retries, add.time_limit, add.queue) == (None, 9, "work")
    assert (add.acks_late, add.throws) == (False, (KeyError,))
    assert (add.default_retry_delay, add.soft_time_limit, add.priority) == (180, None, None)


def test_an_unknown_option_is_named_with_those_that_exist(app: Celery) -> None:
    with pytest.raises(
        TypeError, match=r"task sums.add has .* 'rate_limti' .* mean 'rate_limit'\?"
    ):
        app.task(name="sums.add", rate_limti=3)(lambda: None)  # type: ignore[call-overload]
    assert not app.tasks


class Counting(Task[Any, Any]):
    """A base class with an option of its own."""

    step = 1

    def on_success(self, retval: Any, task_id: str, args: Any, kwargs: Any) -> None: ...


@pytest.mark.follows("TASK-05")
def test_attributes_of_the_base_class_are_options(app: Celery) -> None:
    def shout(self: Any, *_: Any) -> None: ...

    options: Any = {"base": Counting, "step": 5, "on_success": shout}
    add = app.task(**options)(lambda: None)
    assert isinstance(add, Counting)
    assert add.step == 5
    assert add.on_success.__func__ is shout  # type: ignore[attr-defined]
    assert Counting.step == 1


@pytest.mark.follows("TASK-01", "TASK-02")
def test_the_task_is_passed_if_bound(app: Celery) -> None:
    @app.task(bind=True)
    def who(self: Any, x: int) -> tuple[Any, int]:
        return self, x

    assert who(3) == (who, 3)


def test_an_async_function_is_refused_with_what_to_do(app: Celery) -> None:
    async def fetch() -> None: ...

    with pytest.raises(TypeError, match=r"fetch is an async function.*asyncio\.run"):
        app.task(fetch)


@pytest.mark.follows("TASK-03")
def test_a_class_that_calls_in_its_own_way_may_await(app: Celery) -> None:
    class Awaiting(Task[Any, Any]):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            return asyncio.run(super().__call__(*args, **kwargs))

    async def double(x: int) -> Any:
        return 2 * x

    mine: Any = app.task(base=Awaiting)(double)
    assert mine.apply((2,)).get() == 4
    all_of_them: Any = Celery(task_cls=Awaiting, set_as_current=False).task(double)
    assert all_of_them(3) == 6


@pytest.mark.follows("TASK-32")
def test_retry_options_make_a_policy_on_every_road(app: Celery) -> None:
    class Stubborn(Task[Any, Any]):
        autoretry_for = (OSError,)
        dont_autoretry_for = [TimeoutError]
        retry_backoff = True
        retry_kwargs = {"max_retries": 9}

    class ByClass(Stubborn):
        def run(self) -> None: ...

    decorated = app.task(base=Stubborn, retry_jitter=False, retry_backoff_max=60)(lambda: None)
    registered = app.register_task(ByClass())
    for task in (decorated, registered):
        policy = task.retry_policy
        assert policy.covers(OSError())
        assert not policy.covers(TimeoutError())
        assert (policy.backoff, policy.retry_kwargs) == (1.0, {"max_retries": 9})
    assert (decorated.retry_policy.jitter, decorated.retry_policy.backoff_max) == (False, 60)
    assert not app.task(name="other")(lambda: None).retry_policy.covers(OSError())


# -- class-based tasks and the registry


class Doubling(Task[[int], int]):
    def run(self, x: int) -> int:
        return 2 * x


@pytest.mark.follows("APP-16", "APP-17")
def test_a_class_or_an_instance_is_registered(app: Celery) -> None:
    by_class = app.register_task(Doubling)
    assert by_class.name == f"{__name__}.Doubling"
    assert by_class(4) == 8
    by_instance = app.register_task(Doubling())
    assert app.tasks[by_class.name] is by_instance, "a later one takes the place"


@pytest.mark.follows("APP-17")
def test_a_class_may_have_a_name(app: Celery) -> None:
    class Named(Doubling):
        name = "sums.double"

    assert app.register_task(Named()).name == "sums.double"


def test_a_task_without_run_says_so(app: Celery) -> None:
    class Empty(Task[[], None]):
        name = "empty"

    with pytest.raises(TypeError, match=r"task empty has no run\(\); define it in .*Empty"):
        app.register_task(Empty())()


@pytest.mark.follows("TASK-05")
def test_the_base_class_of_an_app_belongs_to_it(app: Celery) -> None:
    base: Any = app.Task
    assert app.Task is base
    assert base.app is app
    assert memory_app().Task is not base

    class Own(base):
        def run(self) -> int:
            return 1

    assert app.register_task(Own())() == 1


@pytest.mark.follows("TASK-43")
def test_a_missing_task_is_named_with_the_known_ones(app: Celery) -> None:
    app.task(name="b.two")(lambda: None)
    app.task(name="a.one")(lambda: None)
    for look in (app.find_task, app.tasks.__getitem__):
        with pytest.raises(NotRegistered, match=r"no task 'c' .*; known tasks: a\.one, b\.two"):
            look("c")
    assert app.tasks.get("c") is None
    assert "c" not in app.tasks


# -- settings


@pytest.mark.follows("APP-01")
def test_keywords_are_settings() -> None:
    app = Celery("x", broker="memory://", task_acks_late=False, include=["a", "b"])
    assert app.settings.broker_url == "memory://"
    assert app.conf.task_acks_late is False
    assert app.conf.include == ("a", "b")


def test_an_unknown_keyword_is_refused_with_the_nearest_setting() -> None:
    with pytest.raises(ImproperlyConfigured, match=r"'task_ack_late'.*'task_acks_late'"):
        Celery("x", task_ack_late=False)


def test_a_change_counts_from_the_next_call_on(app: Celery) -> None:
    add = app.task(name="sums.add")(lambda: None)
    add.delay()
    app.conf.update(task_default_queue="work", task_ignore_result=True, timezone="Asia/Kolkata")
    assert add.apply_async(countdown=-1).get() is None
    (delivery,) = claim(app, "work")
    assert headers(delivery)["ignore_result"] is True
    assert headers(delivery)["eta"].endswith("+05:30")
    assert len(claim(app)) == 1


@pytest.mark.follows("APP-05")
def test_settings_come_from_an_object(app: Celery) -> None:
    app.config_from_object(SimpleNamespace(task_default_queue="work"))
    assert app.conf.task_default_queue == "work"


@pytest.mark.follows("APP-04")
def test_what_was_assigned_before_stays(app: Celery) -> None:
    app.conf.task_default_queue = "mine"
    app.config_from_object(SimpleNamespace(task_default_queue="work", task_acks_late=False))
    assert app.conf.task_default_queue == "mine"
    assert app.conf.task_acks_late is False


@pytest.mark.follows("APP-05")
@pytest.mark.parametrize(
    "name",
    [
        "celeryconfig", "proj.config", "proj.config:Config", "proj.config.Config",
        "proj.config:Outer.Config", "proj.config.Outer.Config", "proj.config:mapping",
    ],
)  # fmt: skip
def test_settings_come_from_what_a_name_leads_to(name: str, app: Celery, folder: Path) -> None:
    inner = """
        task_default_queue = "work"
        class Config: task_default_queue = "work"
        class Outer:
            class Config: task_default_queue = "work"
        mapping = {"task_default_queue": "work"}
    """
    write(folder, {"celeryconfig.py": 'task_default_queue = "work"', "proj/config.py": inner})
    app.config_from_object(name)
    assert app.conf.task_default_queue == "work"


@pytest.mark.follows("APP-01")
def test_a_constructor_takes_a_source() -> None:
    source = SimpleNamespace(CELERY_TASK_ACKS_LATE=False, SECRET="no setting")
    app = Celery("x", config_source=source, namespace="CELERY", task_track_started=True)
    assert app.conf.task_acks_late is False
    assert app.conf.task_track_started is True


@pytest.mark.follows("APP-05")
@pytest.mark.parametrize(
    "name", ["nowhere", "proj.nowhere", "proj.config:Nothing", "proj.config.Nothing", "x:y"]
)
def test_a_name_that_leads_nowhere_is_told(name: str, app: Celery, folder: Path) -> None:
    write(folder, {"proj/config.py": ""})
    with pytest.raises(
        ImproperlyConfigured, match=rf"no '{name}' to read settings from; write mod"
    ):
        app.config_from_object(name, force=True)
    app.config_from_object(name, silent=True, force=True)


@pytest.mark.parametrize("silent", [True, False])
def test_a_source_that_misses_a_module_is_another_mistake(
    silent: bool, app: Celery, folder: Path
) -> None:
    write(folder, {"celeryconfig.py": "import no_such_driver"})
    with pytest.raises(ModuleNotFoundError, match="no_such_driver"):
        app.config_from_object("celeryconfig", silent=silent, force=True)


# -- calling by name


@pytest.mark.follows("APP-20", "QUIRK-35")
def test_a_name_is_enough_to_send(app: Celery) -> None:
    result = app.send_task("far.away", (1,), {"y": 2}, queue="work", task_id="mine")
    (delivery,) = claim(app, "work")
    assert (result.id, delivery.message.id, delivery.message.task) == ("mine", "mine", "far.away")
    assert delivery.message.body.startswith(b'[[1], {"y": 2}, ')
    assert headers(delivery)["ignore_result"] is None, "the worker decides"


@pytest.mark.follows("APP-20")
def test_the_options_of_a_known_task_count(app: Celery) -> None:
    app.task(name="sums.add", queue="work", priority=4, ignore_result=True)(lambda: None)
    assert app.send_task("sums.add").ignored
    (delivery,) = claim(app, "work")
    assert delivery.message.priority == 4
    app.send_task("sums.add", queue="other", priority=5)
    (delivery,) = claim(app, "other")
    assert delivery.message.priority == 5


@pytest.mark.follows("APP-21")
def test_a_result_is_found_by_its_id(app: Celery) -> None:
    assert app.AsyncResult("one") == app.AsyncResult("one")
    assert app.AsyncResult("one").state == "PENDING"


# -- what is opened


def test_nothing_is_opened_before_it_is_used(home: Path) -> None:
    app = Celery("proj")
    app.task(name="sums.add")(lambda: None)
    assert app.broker is app.broker
    assert list(home.iterdir()) == []


def test_without_urls_a_file_of_the_app_serves_as_both(home: Path) -> None:
    app = Celery("proj")
    assert app.broker_url == app.store_url
    assert app.broker_url.startswith(f"sqlite:///{home}/proj-")
    assert app.broker_url.endswith(".db")
    assert app.folder == str(Path(__file__).parent)
    assert Celery("proj").broker_url == app.broker_url
    assert Celery("other").broker_url != app.broker_url


def test_apps_of_one_name_in_other_folders_have_other_files(folder: Path) -> None:
    text = "from celeriac import Celery\napp = Celery('proj')\n"
    write(folder, {"a/one.py": text, "b/two.py": text})
    sys.path.insert(0, str(folder))
    urls = {__import__(name, fromlist=["app"]).app.broker_url for name in ("a.one", "b.two")}
    assert len(urls) == 2


def test_urls_choose(app: Celery) -> None:
    assert isinstance(app.broker, MemoryBroker)
    assert isinstance(app.store, MemoryStore)
    assert Celery("x", broker="memory://", backend="disabled://").store is None
    assert isinstance(Celery("x", backend="cache+memory://").store, MemoryStore)


@pytest.mark.parametrize("part", ["broker", "backend"])
def test_an_unknown_url_is_told_without_its_password(part: str) -> None:
    url = "carrier-pigeon://bird:secret@roof"
    app = Celery("x", **{part: url})
    with pytest.raises(ImproperlyConfigured, match=r"carrier-pigeon://bird:\*\*@roof") as caught:
        getattr(app, {"broker": "broker", "backend": "store"}[part])
    assert "secret" not in str(caught.value)


@pytest.mark.follows("APP-24")
def test_threads_that_come_together_get_the_same(app: Celery) -> None:
    gate = threading.Barrier(8)
    found: list[Any] = []

    def look() -> None:
        gate.wait()
        found.append((app.broker, app.store, app.client.broker))

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len({id(part) for parts in found for part in parts}) == 2


@pytest.mark.follows("APP-28")
def test_after_close_everything_is_opened_again(home: Path) -> None:
    app = Celery("proj", broker=f"sqlite:///{home}/tasks.db")
    consumer = app.broker.consumer(["celery"])
    first = app.broker
    app.send_task("sums.add")
    consumer.close()
    app.close()
    app.close()
    assert app.broker is not first
    assert app.broker.sizes()["celery"].ready == 1
    app.close()


def test_an_app_says_its_name(app: Celery) -> None:
    assert repr(app) == "<Celery proj>"
    assert Celery("proj").spec == __name__, "the module, which -A names"


def test_making_an_app_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Celery("proj")
    assert os.environ["CELERIAC_HOME"]
