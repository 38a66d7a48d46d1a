"""canvas/follow_up.py: what follows from a run by its links."""

import logging
from typing import Any

import pytest

from celeriac import Celery, Task, mourning, signals
from celeriac.exceptions import Reject, WorkerLostError
from celeriac.outcome import Ending
from tests.fixtures.runs import body, claim, document, headers, memory_app, run_sent, work


@pytest.fixture
def app() -> Celery:
    return memory_app()


@pytest.fixture
def add(app: Celery) -> Task[..., int]:
    return app.task(name="sums.add", queue="work")(lambda x, y=0: x + y)


@pytest.fixture
def fail(app: Celery) -> Task[..., None]:
    @app.task(name="fail")
    def fail() -> None:
        raise ValueError("no")

    return fail


# -- callbacks


@pytest.mark.follows("CALL-09")
def test_callbacks_get_the_result(app: Celery, add: Task[..., int]) -> None:
    links = [add.s(10), add.si(7), app.signature("far.away", (5,), kwargs={"z": 1})]
    outcome = run_sent(
        app, lambda: add.apply_async((1, 2), queue="celery", link=links, task_id="mine")
    )
    bodies = [body(publish)[:2] for publish in outcome.publishes]
    assert bodies == [[[3, 10], {}], [[7], {}], [[3, 5], {"z": 1}]]
    assert [publish.queue for publish in outcome.publishes] == ["work", "work", "celery"]
    about = [headers(publish) for publish in outcome.publishes]
    assert {one["parent_id"] for one in about} == {"mine"}
    assert {one["root_id"] for one in about} == {"mine"}
    children = [child[0][0] for child in document(outcome).children or ()]
    assert children == [publish.message.id for publish in outcome.publishes]


@pytest.mark.follows("CALL-09")
def test_one_callback_needs_no_list_and_options_of_it_count(
    app: Celery, add: Task[..., int]
) -> None:
    link = add.s(10).set(queue="other", task_id="next", headers={"a": 1}, stamps={})
    outcome = run_sent(app, lambda: add.apply_async((1,), queue="celery", link=link))
    (publish,) = outcome.publishes
    assert (publish.queue, publish.message.id, headers(publish)["a"]) == ("other", "next", 1)


@pytest.mark.follows("CALL-09")
def test_callbacks_have_callbacks(app: Celery, add: Task[..., int]) -> None:
    inner = add.s(100).set(queue="celery")
    outer = add.s(10).set(queue="celery", link=[inner])
    add.apply_async((1,), queue="celery", link=outer)
    values = [document(outcome).result for _ in range(3) for outcome in work(app)]
    assert values == [1, 11, 111]


@pytest.mark.follows("CALL-09", "QUIRK-36")
def test_a_failure_calls_no_callback(
    app: Celery, add: Task[..., int], fail: Task[..., None]
) -> None:
    assert run_sent(app, lambda: fail.apply_async(link=add.s())).publishes == ()


def test_a_callback_that_cannot_be_sent_fails_the_run(app: Celery, add: Task[..., int]) -> None:
    """Its message is part of the outcome: to store a success without it would lose it."""
    what = app.task(name="what")(lambda: {1, 2})
    outcome = run_sent(app, lambda: what.apply_async(link=add.s(), ignore_result=True))
    assert outcome.ending is Ending.FAILED
    assert outcome.publishes == ()
    group = {"task": "celery.group", "subtask_type": "group", "kwargs": {"tasks": []}}
    outcome = run_sent(app, lambda: add.apply_async((1,), queue="celery", link=group))
    assert outcome.ending is Ending.FAILED
    assert "a group is among its callbacks" in outcome.reason
    assert outcome.runtime is None, "it was called all the same"


# -- chains


@pytest.mark.follows("CANVAS-04")
def test_the_next_step_of_a_chain_gets_the_value(app: Celery, add: Task[..., int]) -> None:
    """As Celery writes chains: the next step is the last."""
    last, second = add.s(100).set(queue="celery", task_id="3"), add.s(10).set(queue="celery")
    more: dict[str, Any] = {"chain": [last, second]}
    add.apply_async((1,), queue="celery", task_id="1", **more)
    outcomes = [outcome for _ in range(3) for outcome in work(app)]
    assert [document(outcome).result for outcome in outcomes] == [1, 11, 111]
    assert [len(outcome.publishes) for outcome in outcomes] == [1, 1, 0]
    sent = outcomes[1].publishes[0].message
    assert (sent.id, headers(outcomes[1].publishes[0])["root_id"]) == ("3", "1")
    assert document(outcomes[0]).children


@pytest.mark.follows("CANVAS-04")
def test_a_chain_ends_with_a_failure(
    app: Celery, add: Task[..., int], fail: Task[..., None]
) -> None:
    more: dict[str, Any] = {"chain": [add.s(1)]}
    assert run_sent(app, lambda: fail.apply_async(**more)).publishes == ()


@pytest.mark.parametrize(
    ("links", "why"),
    [
        ({"chord": {"task": "demo.add"}}, "it is a member of a chord"),
        (
            {"chain": [{"task": "celery.group", "subtask_type": "group"}]},
            "a group is among its chain",
        ),
        (
            {"link": {"task": "celery.chord", "subtask_type": "chord"}},
            "a chord is among its callbacks",
        ),
    ],
)
def test_what_cannot_be_followed_fails_before_it_is_called(
    app: Celery, add: Task[..., int], links: dict[str, Any], why: str
) -> None:
    outcome = run_sent(app, lambda: add.apply_async((1,), queue="celery", **links))
    assert (outcome.ending, outcome.runtime, outcome.publishes) == (Ending.FAILED, None, ())
    assert why in outcome.reason


# -- errbacks


@pytest.mark.follows("CALL-10", "QUIRK-23")
def test_an_errback_gets_the_id_of_the_failed_task(app: Celery, fail: Task[..., None]) -> None:
    one = app.task(name="one", queue="work")(lambda id: None)
    bound: Any = app.task(name="bound", bind=True, queue="work")(lambda self, id, x=0: None)
    links = [one.s(), bound.s(), app.signature("far.away")]
    outcome = run_sent(app, lambda: fail.apply_async(link_error=links, task_id="mine"))
    assert document(outcome).status == "FAILURE"
    assert [body(publish)[0] for publish in outcome.publishes] == [["mine"]] * 3
    assert {headers(publish)["root_id"] for publish in outcome.publishes} == {"mine"}


@pytest.mark.follows("CALL-10", "QUIRK-23")
def test_an_errback_of_three_arguments_is_called_on_the_spot(
    app: Celery, fail: Task[..., None]
) -> None:
    seen: list[Any] = []
    told: Any = app.task(name="told")(
        lambda request, exc, text: seen.append((request.id, exc, text))
    )
    more: Any = app.task(name="more")(lambda a, b, c, d: seen.append(d))
    any_: Any = app.task(name="any")(lambda *args: seen.append(len(args)))
    links = [told.s(), more.s(4), any_.s()]
    outcome = run_sent(app, lambda: fail.apply_async(link_error=links, task_id="mine"))
    assert outcome.publishes == ()
    (id_, error, text), *others = seen
    assert (id_, type(error), str(error)) == ("mine", ValueError, "no")
    assert text.startswith("Traceback") and text.endswith("ValueError: no\n")
    assert others == [4, 3]


@pytest.mark.follows("CALL-10")
def test_arguments_that_an_errback_brings_do_not_count(app: Celery, fail: Task[..., None]) -> None:
    two: Any = app.task(name="two")(lambda id, note: None)
    links = [two.s(note="x"), two.s("y")]
    outcome = run_sent(app, lambda: fail.apply_async(link_error=links, task_id="mine"))
    assert [body(publish)[:2] for publish in outcome.publishes] == [
        [["mine"], {"note": "x"}],
        [["mine", "y"], {}],
    ]


@pytest.mark.follows("CALL-10")
def test_an_errback_that_fails_changes_nothing(
    app: Celery, fail: Task[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(name="bad")
    def bad(request: Any, exc: Any, text: Any) -> None:
        raise KeyError("worse")

    good: Any = app.task(name="good")(lambda id: None)
    with caplog.at_level(logging.ERROR):
        outcome = run_sent(app, lambda: fail.apply_async(link_error=[bad.s(), good.s()]))
    assert document(outcome).result["exc_type"] == "ValueError"
    assert len(outcome.publishes) == 1
    assert "errback bad of task fail[" in caplog.text


@pytest.mark.follows("CALL-10", "TASK-34")
def test_a_rejected_run_has_failed_too(app: Celery) -> None:
    @app.task
    def refuse() -> None:
        raise Reject("no", requeue=False)

    outcome = run_sent(app, lambda: refuse.apply_async(link_error=app.signature("far.away")))
    assert len(outcome.publishes) == 1


@pytest.mark.follows("CALL-10")
def test_a_run_that_was_killed_has_errbacks_too(app: Celery, fail: Task[..., None]) -> None:
    fail.apply_async(link_error=app.signature("far.away", queue="work"), task_id="mine")
    (delivery,) = claim(app)
    error = WorkerLostError("gone")
    mourning.mourn(app, delivery.message, "gone", error, "w1@host")
    (sent,) = claim(app, "work")
    assert body(sent)[0] == ["mine"]


@pytest.mark.follows("TASK-27", "CALL-09")
def test_a_retry_keeps_the_links(app: Celery, add: Task[..., int]) -> None:
    @app.task(bind=True)
    def flaky(self: Any) -> int:
        if self.request.retries == 0:
            raise self.retry(countdown=0)
        return 5

    link, errback = add.s(1), app.signature("far.away")
    outcome = run_sent(app, lambda: flaky.apply_async(link=link, link_error=errback))
    (again,) = outcome.publishes
    assert body(again)[2]["callbacks"][0]["task"] == "sums.add"
    assert body(again)[2]["errbacks"][0]["task"] == "far.away"
    final = run_sent(app, lambda: app.broker.publish(outcome.publishes))
    assert [body(publish)[0] for publish in final.publishes] == [[5, 1]]


@pytest.mark.follows("CALL-18")
def test_what_follows_from_a_run_is_announced_in_the_run(app: Celery, add: Task[..., int]) -> None:
    """Who marks messages in before_task_publish, as tracers do, marks links and retries too."""

    def mark(headers: Any, **_: Any) -> None:
        headers["mark"] = headers["id"]

    @app.task(bind=True)
    def flaky(self: Any) -> None:
        raise self.retry(countdown=0)

    signals.before_task_publish.connect(mark)
    try:
        linked = run_sent(app, lambda: add.apply_async((1,), queue="celery", link=add.s(1)))
        again = run_sent(app, flaky.delay)
    finally:
        signals.before_task_publish.disconnect(mark)
    for publish in (*linked.publishes, *again.publishes):
        assert headers(publish)["mark"] == publish.message.id
