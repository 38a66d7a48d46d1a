"""What ``celeriac check`` finds, and what it leaves alone."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest

from celeriac import Celery, Task
from celeriac.findings import KINDS, Finding, Level, findings

pytestmark = pytest.mark.filterwarnings("ignore::celeriac.exceptions.SettingNotReadWarning")


@pytest.fixture
def app() -> Celery:
    return Celery("shop", task_acks_late=True)


def found(app: Celery) -> list[tuple[str, str]]:
    """Return code and place of all findings."""
    return [(one.code, one.place) for one in findings(app)]


def what(app: Celery) -> str:
    [one] = findings(app)
    return one.what


def add(app: Celery, fun: Callable[..., Any], **options: Any) -> None:
    app.task(**{"name": "t", **options})(fun)


def nothing() -> None: ...


def test_nothing_wrong(app: Celery) -> None:
    def pay(amount: int, currency: str = "EUR", tags: tuple[str, ...] = (), note: Any = None): ...

    def bound(self: Any, x: int) -> None: ...

    add(app, pay, time_limit=10, soft_time_limit=5, throws=(KeyError, (OSError,)))
    add(app, bound, name="b", bind=True, autoretry_for=[OSError], retry_backoff=True)
    app.conf.timezone = "Europe/Berlin"
    assert findings(app) == []


# -- tasks


def test_acks_late_left_open(app: Celery) -> None:
    del app.conf.task_acks_late
    add(app, nothing, name="open")
    add(app, nothing, name="late", acks_late=True)
    add(app, nothing, name="early", acks_late=False)
    add(app, nothing, name="celery.own")
    assert found(app) == [("acks-late-default", "open")]
    app.conf.task_acks_late = True
    assert findings(app) == []


@pytest.mark.parametrize(
    "option",
    [
        {"acks_on_failure": False},
        {"acks_on_timeout": False},
        {"acks_on_failure_or_timeout": False},
        {"reject_on_worker_lost": True},
    ],
    ids=str,
)
def test_options_that_come_too_late(app: Celery, option: dict[str, Any]) -> None:
    add(app, nothing, acks_late=True, **option)
    assert findings(app) == []
    add(app, nothing, name="early", acks_late=False, **option)
    assert found(app) == [("option-without-effect", "early")]
    [(name, value)] = option.items()
    assert what(app) == f"{name}={value}"
    add(app, nothing, name="other", acks_late=False, **{name: not value})
    assert len(findings(app)) == 1


@pytest.mark.parametrize(
    ("soft", "hard", "wrong"), [(5, 10, False), (10, 10, True), (11, 10, True), (None, 10, False)]
)
def test_limits(app: Celery, soft: float | None, hard: float | None, wrong: bool) -> None:
    add(app, nothing, soft_time_limit=soft, time_limit=hard)
    assert bool(findings(app)) is wrong
    if wrong:
        assert what(app) == f"its soft limit is {soft} s, its hard limit {hard} s"


def test_limits_of_the_settings_count(app: Celery) -> None:
    app.conf.update(task_time_limit=10, task_soft_time_limit=20)
    add(app, nothing)
    add(app, nothing, name="own", soft_time_limit=5)
    assert found(app) == [("soft-limit-not-below-hard", "t")]


def test_self(app: Celery) -> None:
    def wants_self(self: Any, x: int) -> None: ...

    def last(x: int, self: Any) -> None: ...

    class Own(Task[Any, Any]):
        name = "own"

        def run(self, x: int) -> None: ...

    add(app, wants_self, name="1")
    add(app, wants_self, name="2", bind=True)
    add(app, nothing, name="3", bind=True)
    add(app, last, name="4")
    app.register_task(Own)
    assert found(app) == [("self-without-bind", "1"), ("bind-without-self", "3")]


def test_something_that_does_not_say_how_it_is_called(app: Celery) -> None:
    class Strange:
        __name__ = "strange"
        __signature__ = "nonsense"

        def __call__(self) -> None: ...

    add(app, Strange())
    assert findings(app) == []


def test_defaults_that_cannot_travel(app: Celery) -> None:
    def pay(x: Any, y: Any = {"a": [1, {2}]}, *, z: Any = object) -> None: ...  # noqa: B006

    add(app, pay)
    assert found(app) == [("unserialisable-default", "t(y)"), ("unserialisable-default", "t(z)")]
    assert findings(app)[0].what.startswith('cannot write y["a"][1] as JSON: set has no JSON form')


@pytest.mark.parametrize("option", ["autoretry_for", "dont_autoretry_for", "throws"])
def test_what_is_no_exception(app: Celery, option: str) -> None:
    add(app, nothing, **{option: (KeyError, "ValueError")})
    assert found(app) == [("not-an-exception", "t")]
    assert what(app) == f"{option} is (<class 'KeyError'>, 'ValueError')"


def test_a_list_is_no_tuple(app: Celery) -> None:
    add(app, nothing, throws=[KeyError])
    assert found(app) == [("not-an-exception", "t")]


def test_retry_options_that_nothing_reads(app: Celery) -> None:
    add(app, nothing, retry_backoff=True, retry_kwargs={"max_retries": 1})
    add(app, nothing, name="ok", retry_backoff=True, autoretry_for=(OSError,))
    assert found(app) == [("retry-options-without-autoretry", "t")]
    assert what(app) == "it has retry_backoff and retry_kwargs, and no autoretry_for"


def test_names_that_are_taken(app: Celery) -> None:
    def other() -> None: ...

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        add(app, nothing)
        add(app, other)
        app.finalize()
        warnings.warn("something else", UserWarning, stacklevel=1)
    [one] = findings(app, warned)
    assert (one.code, one.place.rpartition(":")[0]) == ("duplicate-name", __file__)
    assert "task name 't' is taken by" in one.what


# -- settings


def test_addresses_that_nobody_can_open() -> None:
    app = Celery("shop", broker="nonsense://u:hunter2@h", backend="sqlite://")
    broker, store = findings(app)
    assert (broker.code, broker.place) == ("address", "broker_url")
    assert (store.code, store.place) == ("address", "result_backend")
    assert "hunter2" not in broker.what
    assert "names no file" in store.what


def test_a_broker_that_no_worker_can_reach() -> None:
    app = Celery("shop", broker="memory://", backend="disabled://")
    assert found(app) == [("broker-in-memory", "broker_url")]


def test_nothing_is_connected(app: Celery, tmp_path: Any) -> None:
    app.conf.broker_url = f"sqlite:///{tmp_path / 'new' / 'work.db'}"
    assert findings(app) == []
    assert list(tmp_path.iterdir()) == []


def test_content_that_nothing_reads(app: Celery) -> None:
    app.conf.accept_content = ["json", "application/json", "jsno"]
    assert found(app) == [("unknown-content", "accept_content")]
    assert what(app) == "'jsno' names no serializer"


@pytest.mark.parametrize("name", ["pickle", "application/x-python-serialize"])
def test_pickle(app: Celery, name: str) -> None:
    app.conf.accept_content = ["json", name]
    assert ("pickle-accepted", "accept_content") in found(app)


def test_a_time_zone_that_is_none(app: Celery) -> None:
    app.conf.timezone = "Mars/Olympus"
    assert found(app) == [("unknown-timezone", "timezone")]


def test_settings_that_nothing_reads(app: Celery) -> None:
    app.conf.update(redis_password="hunter2", beat_max_loop_interval=0, control_exchange="celery")
    assert findings(app) == [Finding("setting-not-read", "redis_password", "it is ********")]


# -- in order


def test_errors_come_first_and_every_kind_says_what_to_do(app: Celery) -> None:
    add(app, nothing, retry_backoff=True)
    add(app, nothing, name="b", bind=True)
    add(app, nothing, name="a", bind=True)
    assert found(app) == [
        ("bind-without-self", "a"),
        ("bind-without-self", "b"),
        ("retry-options-without-autoretry", "t"),
    ]
    levels = [kind.level for kind in KINDS.values()]
    assert levels == sorted(levels, key=list(Level).index)
    assert all(kind.why and kind.remedy for kind in KINDS.values())


@pytest.mark.follows("ROUTE-05")
def test_a_task_that_leads_to_no_queue() -> None:
    app = Celery("shop", task_queues=["mail"], task_create_missing_queues=False)
    app.task(name="lost", queue="nowhere", acks_late=True)(nothing)
    app.task(name="found", queue="mail", acks_late=True)(nothing)
    [one] = findings(app)
    assert (one.code, one.place) == ("queue-not-found", "lost")
    assert "nowhere" in one.what


def test_a_route_that_wants_to_see_arguments_is_left_alone() -> None:
    app = Celery("shop", task_routes=lambda name, args, *_, **__: args[0])
    app.task(name="one", acks_late=True)(nothing)
    assert findings(app) == []


def test_every_serializer_is_known_by_name_and_type() -> None:
    app = Celery("shop", accept_content=["yaml", "application/x-msgpack", "json", "xml"])
    [one] = findings(app)
    assert (one.code, one.what) == ("unknown-content", "'xml' names no serializer")


def test_a_default_is_looked_at_with_the_serializer_of_its_task() -> None:
    app = Celery("shop")

    def spread(of: Any = frozenset((1,))) -> None: ...

    app.task(name="pickled", serializer="pickle", acks_late=True)(spread)
    assert findings(app) == []
