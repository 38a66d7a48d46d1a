"""parameters.py: whether arguments fit a task, and how a retry may change them."""

from typing import Any

import pytest

from celeriac import Celery, Task
from celeriac.context import Context
from celeriac.parameters import merged_arguments, parameter_check
from tests.fixtures.runs import claim, memory_app


@pytest.fixture
def app() -> Celery:
    return memory_app()


def plain(
    a: int, b: int = 2, /, c: int = 3, *rest: int, d: int, e: int = 5, **more: int
) -> None: ...
def keywords(a: int, *, d: int) -> None: ...
def nothing() -> None: ...


@pytest.mark.follows("TASK-22")
@pytest.mark.parametrize(
    ("fun", "args", "kwargs"),
    [
        (plain, (1,), {"d": 1}),
        (plain, (1, 2, 3, 4, 5), {"d": 1, "e": 2, "f": 3}),
        (plain, (1,), {"c": 3, "d": 1}),
        (plain, (), {"d": 1}),
        (plain, (1,), {}),
        (keywords, (1,), {"d": 1}),
        (keywords, (1, 2), {"d": 1}),
        (keywords, (), {"a": 1, "d": 1}),
        (keywords, (1,), {"a": 1, "d": 1}),
        (keywords, (1,), {"d": 1, "x": 1}),
        (nothing, (), {}),
        (nothing, (1,), {}),
    ],
)
def test_what_the_function_refuses_is_refused_in_the_same_words(
    fun: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    check = parameter_check(fun, bound=False)
    assert check is not None
    try:
        fun(*args, **kwargs)
    except TypeError as error:
        with pytest.raises(TypeError) as caught:
            check(*args, **kwargs)
        assert str(caught.value) == str(error)
    else:
        assert check(*args, **kwargs) is None


@pytest.mark.follows("TASK-22", "CALL-01")
def test_a_call_that_does_not_fit_is_refused_in_the_caller(app: Celery) -> None:
    @app.task
    def add(x: int, y: int, z: int = 0) -> int:
        return x + y + z

    for call in (
        lambda: add.delay(1),  # type: ignore[call-arg]
        lambda: add.apply_async((1,)),
        lambda: add.apply_async((1, 2), {"w": 3}),
        lambda: add.delay_many([(1, 2), (1,)]),
        lambda: add.apply_async(kwargs={"x": 1}),
    ):
        with pytest.raises(TypeError, match=r"add\(\) (missing|got an unexpected)"):
            call()
    assert claim(app) == []
    add.delay(1, y=2)
    assert len(claim(app)) == 1


@pytest.mark.follows("TASK-02", "TASK-22")
def test_the_task_itself_is_no_argument(app: Celery) -> None:
    @app.task(bind=True)
    def who(self: Any, x: int = 1) -> None: ...

    class Add(Task[[int], int]):
        def run(self, x: int) -> int:
            return x

    add = app.register_task(Add())
    who.delay()
    who.delay(1)
    add.delay(1)
    with pytest.raises(TypeError, match=r"who\(\) takes from 0 to 1 positional arguments but 2"):
        who.delay(1, 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"run\(\) missing 1 required positional argument: 'x'"):
        add.delay()  # type: ignore[call-arg]


@pytest.mark.follows("TASK-22", "APP-01")
def test_checking_may_be_left_out(app: Celery) -> None:
    lax = memory_app(strict_typing=False)
    strict: Any = lax.task(typing=True)(lambda x: x)
    with pytest.raises(TypeError):
        strict.delay()
    for unchecked in (
        lax.task(name="lax")(lambda x: x),
        app.task(typing=False)(lambda x: x),
    ):
        task: Any = unchecked
        assert task.delay().id


def test_functions_in_c_are_not_looked_into(app: Celery) -> None:
    assert parameter_check(len, bound=False) is None
    task: Any = app.task(name="len")(len)
    assert task.delay(1, 2, 3).id


@pytest.mark.follows("TASK-27")
@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        (None, None, ([1], {"y": 2})),
        ([5], None, ([5], {"y": 2})),
        ([5, 6], None, ([5, 6], {})),
        (None, {"y": 7}, ([1], {"y": 7})),
        (None, {"x": 8}, ([8], {})),
        (None, {"x": 8, "y": 9}, ([8], {"y": 9})),
        ([3], {"y": 4}, ([3], {"y": 4})),
    ],
)
def test_a_retry_may_give_either_half_of_the_arguments(
    args: Any, kwargs: Any, expected: Any
) -> None:
    def add(x: int, y: int) -> None: ...

    request = Context(args=[1], kwargs={"y": 2})
    assert merged_arguments(add, request, args, kwargs) == expected


def test_parameters_without_a_keyword_stay_where_they_are() -> None:
    def add(x: int, /, **more: int) -> None: ...

    class Add(Task[Any, Any]):
        def run(self, x: int, y: int, *rest: int) -> None: ...

    assert merged_arguments(add, Context(args=[1]), None, {"x": 2}) == ([1], {"x": 2})
    request = Context(args=[1, 2, 3])
    assert merged_arguments(Add().run, request, None, {"y": 5}) == ([1, 5, 3], {})
    assert merged_arguments(len, request, None, {"y": 5}) == ([1, 2, 3], {"y": 5})
