"""registry.py, task_factory.py, annotations.py: how functions become the tasks of an app."""

import threading
import weakref
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celery, Task, current, registry, shared_task
from celeriac.exceptions import DuplicateTaskNameWarning, ImproperlyConfigured, NotRegistered
from celeriac.proxies import unwrapped
from celeriac.task_factory import PendingTask
from tests.fixtures.packages import standing_in, write
from tests.fixtures.runs import document, memory_app, run_sent


@pytest.fixture(autouse=True)
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_shared", [])
    monkeypatch.setattr(registry, "_registrars", weakref.WeakSet())


@pytest.fixture
def folder(home: Path) -> Iterator[Path]:
    with standing_in(home):
        yield home


# -- tasks that pend


def line_of(fun: Any) -> int:
    return int(fun.__code__.co_firstlineno)


def is_pending(task: Any) -> bool:
    return isinstance(task, PendingTask)


@pytest.mark.follows("APP-03")
def test_a_decorated_function_becomes_a_task_when_it_is_used() -> None:
    app = memory_app()

    @app.task(queue="work")
    def add(x: int, y: int) -> int:
        """Add two numbers."""
        return x + y

    assert is_pending(add)
    assert isinstance(add, Task)
    assert is_pending(add), "to ask for its kind is no use of it"
    assert (add.queue, add.__doc__) == ("work", "Add two numbers.")
    assert not is_pending(add)
    assert not app.finalized
    assert app.tasks[add.name] is add


@pytest.mark.follows("APP-03")
@pytest.mark.parametrize(
    "use",
    [
        repr,
        lambda task: task(1),
        lambda task: task.delay(1),
        lambda task: setattr(task, "queue", "x"),
        lambda task: task.name,
    ],
)
def test_every_use_of_it_counts(use: Any) -> None:
    task = memory_app().task(lambda x: x)
    assert is_pending(task)
    use(task)
    assert not is_pending(task)


@pytest.mark.follows("APP-03")
def test_asking_for_the_tasks_finalizes_the_app() -> None:
    app = memory_app()
    heard: list[Any] = []

    @app.on_after_finalize.connect
    def finalized(sender: Celery, **_: Any) -> None:
        heard.append(sorted(sender.tasks))

    one = app.task(name="one")(lambda: 1)
    assert app.tasks["one"] is one
    assert app.finalized
    assert app.tasks == {"one": one}
    assert heard == [["one"]]
    two = app.task(name="two")(lambda: 2)
    assert not is_pending(two), "a finalized app has nothing pending"


@pytest.mark.follows("APP-03")
@pytest.mark.parametrize(
    "use", [lambda app, task: app.tasks, lambda app, task: task.delay(), lambda app, task: task()]
)
def test_an_app_may_have_to_be_finalized_by_hand(use: Any) -> None:
    app = memory_app(autofinalize=False)
    task = app.task(name="one")(lambda: 1)
    with pytest.raises(RuntimeError, match=r"call app.finalize\(\) once all modules"):
        use(app, task)
    app.finalize()
    assert use(app, task)


@pytest.mark.follows("APP-20")
def test_sending_by_name_finalizes_nothing_that_does_not_want_it() -> None:
    app = memory_app(autofinalize=False)
    app.task(name="one", queue="work")(lambda: 1)
    assert app.send_task("one").id
    assert not app.finalized


@pytest.mark.follows("TASK-01")
def test_work_may_be_done_at_once() -> None:
    app = memory_app()
    assert not is_pending(app.task(lazy=False)(lambda: 1))


@pytest.mark.follows("TASK-01")
def test_a_filter_gets_the_task_and_says_what_to_use() -> None:
    app = memory_app()
    seen: list[Any] = []

    def keep(task: Any) -> str:
        seen.append(task)
        return "something else"

    assert app.task(name="one", filter=keep)(lambda: 1) == "something else"  # type: ignore[comparison-overlap]
    assert seen == [app.tasks["one"]]


def test_threads_that_come_together_get_one_task() -> None:
    app = memory_app()
    tasks: list[Any] = []
    gate = threading.Barrier(8)
    one = app.task(name="one")(lambda: 1)

    def use() -> None:
        gate.wait()
        tasks.append(one.run)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(map(id, tasks))) == 1
    assert app.tasks == {"one": one}


@pytest.mark.follows("APP-16")
def test_the_decorator_keeps_the_first_of_one_name() -> None:
    app = memory_app()
    first = app.task(name="one")(lambda: 1)

    def second_function() -> int:
        return 2

    second = app.task(name="one")(second_function)
    with pytest.warns(DuplicateTaskNameWarning, match="'one' is taken") as warned:
        assert app.tasks["one"]() == 1
    assert (warned[0].filename, warned[0].lineno) == (__file__, line_of(second_function))
    assert second() == 1
    assert type(second) is type(first)


@pytest.mark.follows("APP-16", "APP-17")
def test_registering_a_class_replaces_one_of_its_name() -> None:
    app = memory_app()

    class One(Task[Any, int]):
        name = "one"

        def run(self) -> int:
            return 1

    class Other(One):
        def run(self) -> int:
            return 2

    app.register_task(One())
    with pytest.warns(DuplicateTaskNameWarning, match="'one' is taken .* which is replaced by"):
        app.register_task(Other())
    assert app.tasks["one"]() == 2
    app.register_task(Other, queue="work")
    assert app.tasks["one"].queue == "work"


@pytest.mark.follows("TASK-05", "APP-01")
def test_the_base_class_of_all_tasks_may_be_named(folder: Path) -> None:
    write(
        folder,
        {
            "proj.py": """
                from celeriac import Celery, Task
                app = Celery("proj", broker="memory://", task_cls="proj:Own")
                @app.task
                def one(): pass
                class Own(Task):
                    mark = "own"
            """
        },
    )
    from celeriac import imports

    proj = imports.module("proj")
    assert proj.one.mark == "own"
    assert isinstance(proj.one, proj.Own)


@pytest.mark.follows("TASK-05")
def test_the_base_class_may_be_assigned() -> None:
    class Own(Task[Any, Any]):
        mark = "own"

    app = memory_app()
    app.Task = Own
    assert app.task(lambda: None).mark == "own"  # type: ignore[attr-defined]

    class OwnApp(Celery):
        task_cls = Own

    assert isinstance(OwnApp("x").task(lambda: None), Own)


def test_a_class_hears_that_it_is_bound() -> None:
    heard: list[Any] = []

    class Own(Task[Any, Any]):
        @classmethod
        def on_bound(cls, app: Any) -> None:
            heard.append((cls.name, app))

    app = memory_app()
    app.task(base=Own, name="one")(lambda: None)
    app.finalize()
    app.task(base=Own, name="two")(lambda: None)
    assert heard == [("one", app), ("two", app)]


@pytest.mark.follows("TASK-50")
def test_a_task_has_the_metadata_of_its_function() -> None:
    def add(x: int) -> int:
        """Add."""
        return x

    task = memory_app().task(add)
    assert task.__doc__ == "Add."
    assert task.__annotations__ == {"x": int, "return": int}
    assert task.__qualname__ == add.__qualname__  # type: ignore[attr-defined]
    assert task.__wrapped__ is add  # type: ignore[attr-defined]
    assert task.__module__ == __name__
    task.__header__(1)  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="missing 1 required"):
        task.__header__()  # type: ignore[attr-defined]
    assert type(task).__name__ == "add"
    assert task.__name__ == "add"  # type: ignore[attr-defined]
    assert wraps(task)(lambda: None).__name__ == "add"


@pytest.mark.follows("TASK-43")
def test_the_registry_is_a_mapping_by_name() -> None:
    app = memory_app()
    one = app.task(name="one")(lambda: 1)
    with pytest.raises(NotRegistered, match="no task 'two' is registered here; known tasks: one"):
        app.tasks["two"]
    assert (app.tasks.regular(), app.tasks.periodic()) == ({"one": one}, {})
    app.tasks.unregister("one")
    with pytest.raises(NotRegistered):
        app.tasks.unregister(one)
    app.tasks.register(one)
    assert list(app.tasks) == ["one"]
    with pytest.raises(ValueError, match="has no name"):
        app.tasks.register(Task)


@pytest.mark.follows("TASK-13")
def test_a_task_reaches_the_results_of_its_app() -> None:
    app = memory_app()
    task = app.task(name="one")(lambda: 1)
    assert task.backend is app.backend
    task.backend.store_result("mine", 5, "SUCCESS")
    assert task.AsyncResult("mine").get() == 5


@pytest.mark.follows("TASK-19", "CALL-12")
def test_a_task_may_leave_no_trail() -> None:
    app = memory_app()
    inner: Any = app.task(name="inner", queue="work")(lambda: 1)
    loud: Any = app.task(name="loud")(lambda: inner.delay() and None)
    still: Any = app.task(name="still", trail=False)(lambda: inner.delay() and None)
    quiet: Any = app.task(name="quiet")(lambda: inner.apply_async(add_to_parent=False) and None)
    children = [
        len(document(run_sent(app, task.delay)).children or ()) for task in (loud, still, quiet)
    ]
    assert children == [1, 0, 0]


@pytest.mark.follows("APP-01")
def test_an_app_may_begin_with_tasks() -> None:
    one = memory_app().task(name="one")(lambda: 1)
    assert Celery("other", tasks={"one": one}).tasks["one"] is one


def test_a_misspelt_option_is_told_and_others_are_attributes() -> None:
    app = memory_app()
    with pytest.raises(TypeError, match=r"option .max_retry. .* did you mean 'max_retries'"):
        app.task(max_retry=3)(lambda: None)  # type: ignore[call-overload]
    assert app.task(owner="me")(lambda: None).owner == "me"  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="takes a function"):
        app.task("name")  # type: ignore[call-overload]


# -- shared tasks


@pytest.mark.follows("APP-35")
def test_a_shared_task_belongs_to_every_app() -> None:
    earlier = memory_app("earlier")
    assert earlier.tasks == {}

    @shared_task(name="sums.add", queue="work")
    def add(x: int) -> int:
        return x + 1

    later = memory_app("later")
    assert list(earlier.tasks) == list(later.tasks) == ["sums.add"]
    assert earlier.tasks["sums.add"] is not later.tasks["sums.add"]
    with current.as_current(earlier):
        assert unwrapped(add) is earlier.tasks["sums.add"]
        assert (add.app, add.queue, add(1)) == (earlier, "work", 2)
    with current.as_current(later):
        assert add.app is later
        outcome = run_sent_from(later, lambda: add.delay(5))
    assert outcome == 6
    assert isinstance(add, Task)


def run_sent_from(app: Celery, send: Any) -> Any:
    send()
    (delivery,) = app.broker.consumer(["work"]).claim(10, 10_000)
    from tests.fixtures.runs import run

    return document(run(app, delivery)).result


@pytest.mark.follows("APP-35", "TASK-01")
def test_a_shared_task_needs_no_options() -> None:
    @shared_task
    def add(x: int) -> int:
        return x + 1

    with current.as_current(memory_app()):
        assert add.name == f"{__name__}.add"


@pytest.mark.follows("APP-35")
def test_a_task_is_shared_once() -> None:
    add = shared_task(name="add")(lambda: 1)
    with pytest.raises(TypeError, match="apply shared_task once, to the function"):
        shared_task(add)
    with pytest.raises(TypeError, match="shared_task takes a function, not 'add'"):
        shared_task("add")
    with pytest.raises(TypeError, match="did you mean 'max_retries'"):
        shared_task(max_retry=1)(lambda: 1)


@pytest.mark.follows("TASK-01")
def test_a_task_of_an_app_may_be_shared_with_others() -> None:
    app = memory_app("one")
    app.task(name="mine")(lambda: 1)
    app.task(name="ours", shared=True)(lambda: 1)
    assert sorted(app.tasks) == ["mine", "ours"]
    assert sorted(memory_app("other").tasks) == ["ours"]


# -- annotations


class Slow:
    """An annotation as an object."""

    def annotate(self, task: Any) -> dict[str, Any] | None:
        return {"time_limit": 7.0} if task.name == "one" else None

    def annotate_any(self) -> dict[str, Any]:
        return {"soft_time_limit": 3.0}


@pytest.mark.follows("APP-36")
def test_options_come_from_the_settings() -> None:
    app = memory_app(
        task_annotations={
            "one": {"rate_limit": "10/m"},
            "*": {"rate_limit": "1/s", "max_retries": 9},
        }
    )
    one, two = (app.task(name=name)(lambda: 1) for name in ("one", "two"))
    app.finalize()
    assert (one.rate_limit, one.max_retries) == ("10/m", 9)
    assert (two.rate_limit, two.max_retries) == ("1/s", 9)
    late = app.task(name="late")(lambda: 1)
    assert late.max_retries == 9


@pytest.mark.follows("APP-36")
@pytest.mark.parametrize("given", [Slow(), f"{__name__}:Slow", [{"x": {}}, Slow()]])
def test_they_may_come_from_an_object(given: Any) -> None:
    app = memory_app(task_annotations=given)
    one, two = (app.task(name=name)(lambda: 1) for name in ("one", "two"))
    app.finalize()
    assert (one.time_limit, one.soft_time_limit) == (7, 3)
    assert (two.time_limit, two.soft_time_limit) == (None, 3)


@pytest.mark.follows("APP-36")
def test_methods_may_be_wrapped() -> None:
    heard: list[str] = []

    def loud(method: Any) -> Any:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            heard.append(method.__name__)
            return method(*args, **kwargs)

        return wrapper

    app = memory_app(task_annotations={"*": {"@run": loud, "@on_success": loud}})

    @app.task(bind=True)
    def bound(self: Any, x: int) -> int:
        return x + 1

    @app.task
    def plain(x: int) -> int:
        return x + 2

    app.finalize()
    assert document(run_sent(app, lambda: bound.delay(1))).result == 2
    assert document(run_sent(app, lambda: plain.delay(1))).result == 3
    assert heard == ["bound", "on_success", "plain", "on_success"]


@pytest.mark.follows("APP-36")
def test_retry_options_count_there_too() -> None:
    app = memory_app(task_annotations={"*": {"autoretry_for": (KeyError,)}})
    one = app.task(name="one")(lambda: 1)
    app.finalize()
    assert one.retry_policy.covers(KeyError())


@pytest.mark.follows("APP-36")
def test_what_is_no_annotation_is_told() -> None:
    app = memory_app(task_annotations=5)
    app.task(name="one")(lambda: 1)
    with pytest.raises(ImproperlyConfigured, match="task_annotations holds 5; write a mapping"):
        app.finalize()
