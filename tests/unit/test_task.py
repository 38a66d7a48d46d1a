"""task.py: the ways to call a task, and how a task steers its run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import time
from typing import Any
from uuid import UUID

import pytest

from celeriac import AsyncResult, Celery, Task
from celeriac.brokers.memory import MemoryBroker
from celeriac.context import Context, current
from celeriac.exceptions import (
    EncodeError,
    MaxRetriesExceededError,
    OperationalError,
    Reject,
    Retry,
)
from celeriac.message import Publish
from celeriac.wire import result as wire
from tests.fixtures.runs import HandPort, body, claim, headers, memory_app, work


@pytest.fixture
def app() -> Celery:
    return memory_app()


@pytest.fixture
def add(app: Celery) -> Task[..., int]:
    @app.task(name="sums.add", queue="work", priority=3, expires=60)
    def add(x: int, y: int) -> int:
        return x + y

    return add


@contextmanager
def inside(task: Task[Any, Any], **fields: Any) -> Iterator[Context]:
    """Be in a run of this task that a worker began."""
    given = {"id": "run", "root_id": "root", "args": [1, 2], "kwargs": {"z": 3}, **fields}
    request = Context(task=task.name, called_directly=False, **given)
    token = current.set(request)
    try:
        yield request
    finally:
        current.reset(token)


# -- sending


@pytest.mark.follows("TASK-25")
def test_a_run_that_calls_another_task_keeps_its_request() -> None:
    app = memory_app()

    @app.task(name="inner")
    def inner() -> list[Any]:
        return [outer.request.id, inner.request.called_directly]

    @app.task(name="outer")
    def outer() -> list[Any]:
        return inner()

    assert outer.apply(task_id="mine").get() == ["mine", True]
    assert inner() == [None, True]


@pytest.mark.follows("CALL-01")
def test_delay_is_an_apply_async_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    class Watched(Task[Any, Any]):
        def apply_async(self, *args: Any, **options: Any) -> Any:
            calls.append(args)
            return super().apply_async(*args, **options)

    app = memory_app()
    add = app.task(base=Watched)(lambda x, y=0: x + y)
    add.delay(1, y=2)
    add.s(3).delay()
    assert calls == [((1,), {"y": 2}), ((3,), {})]
    other = app.task(name="other")(lambda: None)
    for owner in (Task, other):
        with monkeypatch.context() as patch:
            patch.setattr(owner, "apply_async", lambda *_: "watched")
            assert other.delay() == "watched"
    assert isinstance(other.delay(), AsyncResult)


@pytest.mark.follows("CALL-21")
def test_a_uuid_is_an_id_as_it_is() -> None:
    app = memory_app()
    add = app.task(name="sums.add")(lambda: None)
    given = UUID(int=5)
    for result in (add.apply_async(task_id=given), app.send_task("sums.add", task_id=given)):
        assert result.id == str(given)
    assert add.apply(task_id=given).id == str(given)


@pytest.mark.follows("CALL-01")
def test_delay_sends_and_returns_the_result_to_come(app: Celery, add: Task[..., int]) -> None:
    result = add.delay(1, y=2)
    (delivery,) = claim(app, "work")
    assert isinstance(result, AsyncResult)
    assert result == app.AsyncResult(delivery.message.id)
    assert body(delivery)[:2] == [[1], {"y": 2}]
    assert delivery.message.priority == 3
    assert result.state == "PENDING"


@pytest.mark.follows("TASK-23", "CALL-02", "ROUTE-03")
def test_what_the_call_says_counts_more_than_what_the_task_says(
    app: Celery, add: Task[..., int]
) -> None:
    add.apply_async((1, 2), queue="other", priority=0, expires=5, task_id="mine")
    (delivery,) = claim(app, "other")
    assert (delivery.message.id, delivery.message.priority) == ("mine", 0)


@pytest.mark.follows("ROUTE-10")
def test_what_neither_says_the_settings_say() -> None:
    app = memory_app(task_default_queue="work", task_default_priority=6, task_ignore_result=True)
    add = app.task(name="sums.add")(lambda: None)
    assert add.delay().ignored
    (delivery,) = claim(app, "work")
    assert delivery.message.priority == 6
    assert headers(delivery)["ignore_result"] is True


@pytest.mark.follows("TASK-09", "TASK-23")
def test_limits_and_expiry_of_a_task_are_in_its_messages(app: Celery) -> None:
    slow = app.task(name="slow", time_limit=30, soft_time_limit=10, expires=60)(lambda: None)
    slow.delay()
    slow.apply_async(time_limit=20)
    first, second = map(headers, claim(app))
    assert first["timelimit"] == [30, 10], "hard, then soft"
    assert second["timelimit"] == [20, 10]
    assert first["expires"] is not None
    with pytest.raises(ValueError, match="soft_time_limit 40 s is longer than time_limit 30 s"):
        slow.apply_async(soft_time_limit=40)


@pytest.mark.follows("TASK-10")
def test_a_result_may_be_ignored_by_task_or_by_call(app: Celery) -> None:
    loud = app.task(name="loud")(lambda: None)
    quiet = app.task(name="quiet", ignore_result=True)(lambda: None)
    assert not loud.delay().ignored
    assert loud.apply_async(ignore_result=True).ignored
    assert quiet.delay().ignored
    assert not quiet.apply_async(ignore_result=False).ignored
    said = [headers(delivery)["ignore_result"] for delivery in claim(app)]
    assert said == [False, True, True, False]


@pytest.mark.follows("CALL-21")
def test_calls_with_one_id_share_their_result(app: Celery, add: Task[..., int]) -> None:
    results = [add.apply_async((n, 0), task_id="any text / at all", queue="celery") for n in (1, 2)]
    assert results[0] == results[1]
    work(app)
    assert [result.get(timeout=0) for result in results] == [1, 1], "the first success stays"


@pytest.mark.follows("TASK-06", "TASK-07", "TASK-11", "TASK-32")
def test_what_nobody_says_is_as_in_celery(app: Celery) -> None:
    task = app.task(name="plain")(lambda: None)
    assert (task.max_retries, task.default_retry_delay) == (3, 180)
    assert (task.autoretry_for, task.dont_autoretry_for, task.retry_kwargs) == ((), (), {})
    assert (task.retry_backoff, task.retry_backoff_max, task.retry_jitter) == (False, 600, True)
    assert (task.time_limit, task.soft_time_limit, task.expires, task.priority) == (None,) * 4
    assert (task.throws, task.stores_errors) == ((), False)


@pytest.mark.follows("TASK-49")
def test_tasks_and_results_are_generic() -> None:
    class Doubling(Task[[int], int]):
        def run(self, x: int) -> int:
            return 2 * x

    assert issubclass(Doubling, Task)
    assert AsyncResult[int].__origin__ is AsyncResult  # type: ignore[attr-defined]


@pytest.mark.parametrize("args", [None, (), []])
def test_no_arguments_have_several_forms(args: Any, app: Celery) -> None:
    app.task(name="ping")(lambda: None).apply_async(args, None)
    assert body(claim(app)[0])[:2] == [[], {}]


@pytest.mark.parametrize(
    ("args", "kwargs", "text"),
    [
        ("ab", None, r"a list or a tuple, not str; write \(value,\) for a single one"),
        (5, None, "a list or a tuple, not int"),
        ({"x": 1}, None, "a list or a tuple, not dict"),
        ((), [1], "keyword arguments are a mapping, not list"),
    ],
)
def test_what_is_no_argument_list_is_refused(
    args: Any, kwargs: Any, text: str, app: Celery
) -> None:
    task = app.task(name="any")(lambda: None)
    sends: list[Callable[[], object]] = [
        lambda: task.apply_async(args, kwargs),
        lambda: app.send_task("far.away", args, kwargs),
    ]
    if kwargs is None and not isinstance(args, dict):
        sends.append(lambda: task.delay_many([args]))
    for send in sends:
        with pytest.raises(TypeError, match=text):
            send()
    assert claim(app) == []


def test_an_unknown_option_is_refused(app: Celery, add: Task[..., int]) -> None:
    wrong: Any = {"que": "other"}
    sends: list[Callable[[], object]] = [
        lambda: add.apply_async((1, 2), **wrong),
        lambda: add.delay_many([(1, 2)], **wrong),
        lambda: app.send_task("far.away", (1, 2), **wrong),
    ]
    for send in sends:
        with pytest.raises(TypeError, match="no option 'que' in this version"):
            send()


@pytest.mark.follows("SER-08")
def test_nothing_is_sent_of_what_cannot_be_written(app: Celery, add: Task[..., int]) -> None:
    with pytest.raises(EncodeError, match=r"args\[1\]"):
        add.delay(1, object())
    with pytest.raises(EncodeError, match=r'kwargs\["y"\]'):
        add.delay_many([(1, 2), {"x": 1, "y": {1}}])
    assert claim(app, "work") == []


@pytest.mark.follows("CALL-20")
def test_a_broker_that_is_away_is_an_error(app: Celery, add: Task[..., int]) -> None:
    assert isinstance(app.broker, MemoryBroker)
    app.broker.sleep()
    with pytest.raises(OperationalError):
        add.delay(1, 2)


def test_many_calls_are_one_batch(app: Celery, add: Task[..., int]) -> None:
    results = add.delay_many([(1, 2), [3, 4], {"x": 5, "y": 6}], priority=3)
    deliveries = claim(app, "work")
    assert [result.id for result in results] == [d.message.id for d in deliveries]
    assert [body(d)[:2] for d in deliveries] == [
        [[1, 2], {}],
        [[3, 4], {}],
        [[], {"x": 5, "y": 6}],
    ]
    assert add.delay_many([]) == []


def test_a_result_of_an_earlier_call_is_found(add: Task[..., int]) -> None:
    assert add.AsyncResult("one").id == "one"


# -- calling here and now


@pytest.mark.follows("TASK-26")
def test_a_direct_call_is_a_call(app: Celery, add: Task[..., int]) -> None:
    assert add(1, 2) == 3
    assert claim(app, "work") == []


@pytest.mark.follows("TASK-26")
def test_a_direct_call_has_a_request_of_its_own(app: Celery) -> None:
    @app.task(bind=True, name="who")
    def who(self: Any, *args: Any, **kwargs: Any) -> tuple[Any, ...]:
        request = self.request
        return request.called_directly, request.id, request.args, request.kwargs, request.retries

    assert who(1, y=2) == (True, None, (1,), {"y": 2}, 0)
    assert who.request.args == (), "it is over"
    assert who.request.id is None


def test_the_request_is_that_of_the_task_itself(app: Celery, add: Task[..., int]) -> None:
    other = app.task(name="other")(lambda: None)
    with inside(add) as request:
        assert add.request is request
        assert other.request.id is None
    assert add.request.id is None


@pytest.mark.follows("CALL-11")
def test_a_direct_call_inside_a_run_belongs_to_the_run(app: Celery) -> None:
    @app.task(name="inner")
    def inner() -> None:
        leaf.delay()

    leaf = app.task(name="leaf")(lambda: None)
    with inside(inner, id="outer run") as request:
        inner()
    said = headers(claim(app)[0])
    assert (said["root_id"], said["parent_id"]) == ("root", "outer run")
    assert request.children == [[[said["id"], None], None]]


@pytest.mark.follows("CALL-12")
def test_every_task_that_a_run_sends_is_its_child(app: Celery, add: Task[..., int]) -> None:
    with inside(add) as request:
        add.delay(1, 2)
        add.apply_async((1, 2))
        add.delay_many([(1, 2), (3, 4)])
        app.send_task("far.away")
    ids = [delivery.message.id for queue in ("work", "celery") for delivery in claim(app, queue)]
    assert [child[0][0] for child in request.children] == ids
    assert len(ids) == 5


# -- retry


def next_run(request: Context) -> Publish:
    (publish,) = request.follow_ups
    return publish


@pytest.fixture
def flaky(app: Celery) -> Task[..., None]:
    @app.task(name="flaky", default_retry_delay=30, max_retries=2)
    def flaky(*args: Any, **kwargs: Any) -> None: ...

    return flaky


@pytest.mark.follows("TASK-07", "TASK-27", "QUIRK-06")
def test_a_retry_is_the_same_task_later(flaky: Task[..., None]) -> None:
    before = time()
    delivery_info = {"routing_key": "urgent", "priority": 7}
    run = inside(flaky, delivery_info=delivery_info, headers={"trace": "abc"})
    with run as request, pytest.raises(Retry) as caught:
        flaky.retry()
    publish = next_run(request)
    said = headers(publish)
    assert (publish.queue, publish.message.priority, publish.message.id) == ("urgent", 7, "run")
    assert body(publish)[:2] == [[1, 2], {"z": 3}]
    assert (said["retries"], said["root_id"], said["parent_id"]) == (1, "root", "run")
    assert said["trace"] == "abc"
    assert publish.due == pytest.approx(before + 30, abs=5)
    assert (caught.value.when, str(caught.value)) == (30, "Retry in 30s")
    assert caught.value.follow_up is publish


def test_nothing_is_sent_before_the_outcome(app: Celery, flaky: Task[..., None]) -> None:
    with inside(flaky), pytest.raises(Retry):
        flaky.retry(countdown=0)
    assert claim(app) == []


@pytest.mark.follows("TASK-27")
def test_a_retry_may_change_everything(flaky: Task[..., None]) -> None:
    with inside(flaky) as request, pytest.raises(Retry) as caught:
        flaky.retry(
            args=[7],
            kwargs={},
            eta="2031-07-01T12:00:00+00:00",
            queue="slow",
            priority=1,
            time_limit=5,
            headers={"trace": "new"},
        )
    publish = next_run(request)
    assert body(publish)[:2] == [[7], {}]
    assert (publish.queue, publish.message.priority) == ("slow", 1)
    said = headers(publish)
    assert (said["eta"], said["trace"]) == ("2031-07-01T12:00:00+00:00", "new")
    assert said["timelimit"] == [5, None]
    assert str(caught.value) == "Retry at 2031-07-01T12:00:00+00:00"


@pytest.mark.follows("TASK-27")
def test_the_exception_that_is_handled_is_the_cause(flaky: Task[..., None]) -> None:
    error = ValueError("first")
    with inside(flaky), pytest.raises(Retry) as caught:
        try:
            raise error
        except ValueError:
            flaky.retry(countdown=1)
    assert caught.value.exc is error
    assert caught.value.__cause__ is error
    assert str(caught.value) == "Retry in 1s: ValueError('first')"


def test_a_given_exception_is_the_cause(flaky: Task[..., None]) -> None:
    given = KeyError("given")
    with inside(flaky), pytest.raises(Retry) as caught:
        try:
            raise ValueError("handled")
        except ValueError:
            flaky.retry(exc=given)
    assert caught.value.exc is given


@pytest.mark.follows("TASK-27")
def test_a_retry_may_be_returned_instead(flaky: Task[..., None]) -> None:
    with inside(flaky) as request:
        retry = flaky.retry(throw=False, countdown=0)
        assert isinstance(retry, Retry)
        assert retry.follow_up is next_run(request)


@pytest.mark.follows("TASK-06", "TASK-28")
def test_the_last_retry_is_the_last(flaky: Task[..., None]) -> None:
    with inside(flaky, retries=1) as request, pytest.raises(Retry):
        flaky.retry()
    assert headers(next_run(request))["retries"] == 2
    with inside(flaky, retries=2) as request, pytest.raises(MaxRetriesExceededError) as caught:
        flaky.retry()
    assert str(caught.value) == "Can't retry flaky[run] args:(1, 2) kwargs:{'z': 3}"
    assert (caught.value.task_args, caught.value.task_kwargs) == ([1, 2], {"z": 3})
    assert request.follow_ups == []


@pytest.mark.follows("TASK-28")
def test_when_retries_are_used_up_a_given_exception_is_raised(flaky: Task[..., None]) -> None:
    given = KeyError("given")
    with inside(flaky, retries=2), pytest.raises(KeyError) as caught:
        flaky.retry(exc=given)
    assert caught.value is given


@pytest.mark.follows("TASK-31", "QUIRK-07")
@pytest.mark.parametrize(("limit", "retries"), [(5, 4), (3, 2)])
def test_a_limit_may_be_given_for_one_retry(
    limit: int, retries: int, flaky: Task[..., None]
) -> None:
    with inside(flaky, retries=retries), pytest.raises(Retry):
        flaky.retry(max_retries=limit)
    with inside(flaky, retries=limit), pytest.raises(MaxRetriesExceededError):
        flaky.retry(max_retries=limit)
    assert flaky.max_retries == 2, "it holds for that call only"


@pytest.mark.follows("TASK-06")
def test_without_a_limit_there_is_no_last_retry(app: Celery) -> None:
    endless = app.task(name="endless", max_retries=None)(lambda: None)
    with inside(endless, retries=10_000), pytest.raises(Retry):
        endless.retry(countdown=0)


@pytest.mark.follows("TASK-30")
def test_arguments_that_cannot_be_written_fail_the_retry(flaky: Task[..., None]) -> None:
    with inside(flaky) as request, pytest.raises(Reject, match=r"args\[0\]"):
        flaky.retry(args=[object()])
    assert request.follow_ups == []


@pytest.mark.follows("TASK-29")
@pytest.mark.parametrize("throw", [True, False])
def test_in_a_direct_call_the_given_exception_is_raised(throw: bool, app: Celery) -> None:
    given = KeyError("given")

    @app.task(bind=True, name="direct")
    def direct(self: Any) -> None:
        try:
            raise ValueError("handled")
        except ValueError:
            self.retry(exc=given, throw=throw)

    with pytest.raises(KeyError) as caught:
        direct()
    assert caught.value is given
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.follows("TASK-29")
def test_in_a_direct_call_without_one_retry_is_raised(app: Celery) -> None:
    @app.task(bind=True, name="direct")
    def direct(self: Any, fails: bool) -> None:
        try:
            if fails:
                raise ValueError("handled")
        except ValueError:
            self.retry()
        self.retry()

    with pytest.raises(Retry, match="Task can be retried") as caught:
        direct(True)
    assert isinstance(caught.value.__cause__, ValueError)
    with pytest.raises(Retry, match="Task can be retried"):
        direct(False)


# -- states of the user's own


@pytest.mark.follows("TASK-36")
def test_a_state_goes_through_the_port_of_the_run(app: Celery, add: Task[..., int]) -> None:
    port = HandPort()
    with inside(add, port=port, parent_id="elder", group="g"):
        add.update_state(state="PROGRESS", meta={"done": 1})
    (put,) = port.puts
    assert (put.key, put.state) == ("celery-task-meta-run", "PROGRESS")
    assert put.ttl == app.settings.result_expires
    document = wire.decode(put.value)
    assert (document.status, document.result) == ("PROGRESS", {"done": 1})
    assert (document.task_id, document.parent_id, document.group_id) == ("run", "elder", "g")
    assert app.AsyncResult("run").state == "PENDING", "the worker stores it"


@pytest.mark.follows("TASK-36")
def test_another_tasks_state_is_stored_at_once(app: Celery, add: Task[..., int]) -> None:
    port = HandPort()
    with inside(add, port=port):
        add.update_state("other", "PROGRESS", 50)
    assert port.puts == []
    assert (app.AsyncResult("other").state, app.AsyncResult("other").info) == ("PROGRESS", 50)


@pytest.mark.follows("TASK-36")
def test_outside_of_runs_a_state_is_stored_by_its_id(app: Celery, add: Task[..., int]) -> None:
    add.update_state("one", "PROGRESS")
    assert app.AsyncResult("one").state == "PROGRESS"


def test_in_a_direct_call_there_is_nothing_to_store(app: Celery) -> None:
    @app.task(bind=True, name="direct")
    def direct(self: Any) -> str:
        self.update_state(state="PROGRESS", meta=1)
        return "done"

    assert direct() == "done"


def test_where_results_are_disabled_a_state_goes_nowhere() -> None:
    app = Celery("x", broker="memory://", backend="disabled://")
    app.task(name="sums.add")(lambda: None).update_state("one", "PROGRESS")


def test_a_state_that_cannot_be_written_is_named(add: Task[..., int]) -> None:
    with inside(add, port=HandPort()), pytest.raises(EncodeError, match=r'result\["x"\]'):
        add.update_state(state="PROGRESS", meta={"x": object()})


# -- policy and handlers


@pytest.mark.follows("TASK-10", "TASK-11", "TASK-15")
@pytest.mark.parametrize(
    ("task_says", "settings_say", "wanted"),
    [(None, False, False), (None, True, True), (False, True, False), (True, False, True)],
)
@pytest.mark.parametrize(
    ("option", "setting", "word"),
    [
        ("ignore_result", "task_ignore_result", "ignores_result"),
        (
            "store_errors_even_if_ignored",
            "task_store_errors_even_if_ignored",
            "stores_errors",
        ),
        ("acks_on_failure", "task_acks_on_failure", "acks_failure"),
        ("acks_on_timeout", "task_acks_on_timeout", "acks_overtime"),
    ],
)
def test_the_tasks_word_counts_more_than_the_settings(
    option: str, setting: str, word: str, task_says: Any, settings_say: bool, wanted: bool
) -> None:
    options: Any = {option: task_says}
    settings: Any = {setting: settings_say}
    task = memory_app(**settings).task(name="x", **options)(lambda: None)
    assert getattr(task, word) is wanted


@pytest.mark.follows("TASK-15")
@pytest.mark.parametrize("word", ["acks_failure", "acks_overtime"])
def test_one_option_speaks_for_both_acks_unless_there_is_a_nearer_one(word: str) -> None:
    app = memory_app(task_acks_on_failure_or_timeout=False)
    assert getattr(app.task(name="a")(lambda: None), word) is False
    spoken = app.task(name="b", acks_on_failure_or_timeout=True)(lambda: None)
    assert getattr(spoken, word) is True
    nearer = app.task(name="c", acks_on_failure_or_timeout=True, acks_on_failure=False)(
        lambda: None
    )
    assert getattr(nearer, word) is (word == "acks_overtime")


def test_only_handlers_of_its_own_are_worth_a_call(app: Celery) -> None:
    class Handling(Task[Any, Any]):
        def on_failure(self, *_: Any) -> None: ...

    class More(Handling):
        def after_return(self, *_: Any) -> None: ...

    assert app.task(name="none")(lambda: None).handlers == frozenset()
    assert app.task(name="some", base=More)(lambda: None).handlers == {"on_failure", "after_return"}
