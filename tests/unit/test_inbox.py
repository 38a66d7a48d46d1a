"""The inbox: tasks on their real road, when the test says so and at the time that it says."""

import traceback
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from celeriac import Celery, Task, clock, signals, states
from celeriac.exceptions import (
    EncodeError,
    ImproperlyConfigured,
    MaxRetriesExceededError,
    NotRegistered,
    OperationalError,
    Reject,
    Retry,
    SettingNotReadWarning,
    TaskRevokedError,
)
from celeriac.message import Publish
from celeriac.testing import FakeClock, Inbox, Ran
from tests.fixtures.deliveries import message

START = datetime(2030, 1, 1, tzinfo=UTC)


class Shop:
    """An app with tasks that note what they did, and when by Celeriac's clock."""

    def __init__(self) -> None:
        self.app = app = Celery("shop", broker="redis://nowhere.invalid/0")
        self.notes: list[Any] = []

        @app.task
        def note(word: Any) -> Any:
            self.notes.append(word)
            return word

        @app.task
        def pay(order: Any, amount: float = 1.0) -> str:
            note.delay(f"paid {order}")
            return f"{order}: {amount:g}"

        @app.task
        def fail(text: str) -> None:
            raise ValueError(text)

        @app.task(bind=True, max_retries=3, default_retry_delay=600)
        def flaky(self_: Task, failures: int) -> int:
            self.notes.append(clock.wall() - START.timestamp())
            if self_.request.retries < failures:
                raise self_.retry(exc=ConnectionError("away"))
            return self_.request.retries

        @app.task(bind=True)
        def again(self_: Task) -> None:
            again.delay()

        self.note, self.pay, self.fail, self.flaky, self.again = note, pay, fail, flaky, again


@pytest.fixture
def shop() -> Shop:
    return Shop()


@pytest.fixture
def inbox(shop: Shop) -> Iterator[Inbox]:
    with Inbox(shop.app, at=START) as inbox:
        yield inbox


def calls(runs: list[Ran]) -> list[str]:
    return [str(ran) for ran in runs]


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class TestRunning:
    def test_nothing_runs_by_itself(self, inbox: Inbox, shop: Shop) -> None:
        result = shop.pay.delay(7)
        assert result.state == states.PENDING
        assert shop.notes == []
        assert len(inbox.enqueued()) == 1

    def test_what_is_ready_runs_and_what_that_enqueues(self, inbox: Inbox, shop: Shop) -> None:
        first, second = shop.pay.delay(7, amount=2.5), shop.note.delay("mid")
        runs = inbox.run_pending()
        name = __name__
        assert calls(runs) == [
            f"{name}.pay(7, amount=2.5) SUCCESS",
            f"{name}.note('mid') SUCCESS",
            f"{name}.note('paid 7') SUCCESS",
        ]
        assert runs == inbox.ran
        assert [ran.result for ran in runs] == ["7: 2.5", "mid", "paid 7"]
        assert shop.notes == ["mid", "paid 7"]
        assert (first.get(), second.get()) == ("7: 2.5", "mid")
        assert inbox.enqueued() == []
        assert inbox.run_pending() == []

    def test_arguments_cross_the_wire(self, inbox: Inbox, shop: Shop) -> None:
        order = UUID(int=5)
        shop.note.delay((1, {2: 3}))
        shop.note.delay(order)
        inbox.run_pending()
        assert shop.notes == [[1, {"2": 3}], order]
        with pytest.raises(EncodeError, match=r"args\[0\]"):
            shop.note.delay(object())

    def test_results_cross_the_wire(self, inbox: Inbox, shop: Shop) -> None:
        @shop.app.task
        def unwritable() -> object:
            return object()

        result = unwritable.delay()
        with pytest.raises(EncodeError):
            inbox.run_pending()
        assert result.state == states.FAILURE

    def test_so_many_runs_and_no_more(self, inbox: Inbox, shop: Shop) -> None:
        for number in range(5):
            shop.note.delay(number)
        assert len(inbox.run_pending(max=2)) == 2
        assert [m.args for m in inbox.enqueued()] == [[2], [3], [4]]
        assert len(inbox.run_pending(max=9)) == 3
        assert inbox.run_pending(max=0) == []

    def test_tasks_that_never_end_to_enqueue_are_found_out(
        self, inbox: Inbox, shop: Shop, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("celeriac.testing.inbox.ENDLESS", 50)
        shop.again.delay()
        with pytest.raises(RuntimeError, match=r"50 tasks have run .* The last ones were: .*again"):
            inbox.run_pending()
        assert len(inbox.run_pending(max=60)) == 60

    def test_all_queues_are_served_also_those_that_come_up_meanwhile(
        self, inbox: Inbox, shop: Shop
    ) -> None:
        @shop.app.task
        def far() -> None:
            shop.note.apply_async(("far",), queue="third")

        far.apply_async(queue="second")
        shop.note.delay("near")
        assert sorted(ran.queue for ran in inbox.run_pending()) == ["celery", "second", "third"]
        assert sorted(shop.notes) == ["far", "near"]

    def test_priorities_count(self, inbox: Inbox, shop: Shop) -> None:
        for priority in (1, 9, 5):
            shop.note.apply_async((priority,), priority=priority)
        inbox.run_pending()
        assert shop.notes == [9, 5, 1]

    def test_tasks_made_after_the_first_run_are_known(self, inbox: Inbox, shop: Shop) -> None:
        inbox.run_pending()

        @shop.app.task
        def late() -> str:
            return "known"

        late.delay()
        assert [ran.result for ran in inbox.run_pending()] == ["known"]

    def test_settings_may_change_between_runs(self, inbox: Inbox, shop: Shop) -> None:
        shop.note.delay(1)
        inbox.run_pending()
        shop.app.conf.result_extended = False
        result = shop.note.delay(2)
        inbox.run_pending()
        assert (result.get(), result.name) == (2, None)

    def test_early_acks_and_started_are_on_the_road(self, inbox: Inbox, shop: Shop) -> None:
        seen: list[Any] = []

        @shop.app.task(bind=True, acks_late=False, track_started=True)
        def tracked(self: Task) -> None:
            seen.append(shop.app.AsyncResult(str(self.request.id)).state)
            seen.append(inbox._broker.sizes())

        tracked.delay()
        assert [ran.state for ran in inbox.run_pending()] == [states.SUCCESS]
        # The document of STARTED is committed when the thread comes to it; the message is gone.
        assert seen == [states.PENDING, {}]

    def test_a_state_of_the_task_itself_is_stored(self, inbox: Inbox, shop: Shop) -> None:
        @shop.app.task(bind=True)
        def leaves(self: Task) -> None:
            self.update_state(state="HALFWAY", meta=50)
            raise Reject("not me", requeue=False)

        result = leaves.delay()
        with pytest.raises(Reject):
            inbox.run_pending()
        assert result.state == states.FAILURE
        assert [letter.reason for letter in inbox.dead()] == ["rejected: not me"]

    def test_get_in_a_task_is_refused_as_in_a_worker(self, inbox: Inbox, shop: Shop) -> None:
        @shop.app.task
        def waits() -> None:
            shop.note.delay(1).get()

        waits.delay()
        with pytest.raises(RuntimeError, match="waits for the result of another task"):
            inbox.run_pending()

    def test_signals_are_fired(self, inbox: Inbox, shop: Shop) -> None:
        heard = []

        def hear(signal: Any, **_: Any) -> None:
            heard.append(signal.name)

        told = [signals.task_received, signals.task_prerun, signals.task_success]
        for signal in told:
            signal.connect(hear)
        shop.note.delay(1)
        inbox.run_pending()
        assert heard == [signal.name for signal in told]


class TestFailures:
    def test_the_first_one_is_raised_with_the_traceback_of_the_task(
        self, inbox: Inbox, shop: Shop
    ) -> None:
        result = shop.fail.delay("so what")
        shop.note.delay("later")
        with pytest.raises(ValueError, match="so what") as caught:
            inbox.run_pending()
        names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
        assert names[-1] == "fail"
        assert "call" not in names
        assert result.state == states.FAILURE
        assert shop.notes == []
        inbox.run_pending()
        assert shop.notes == ["later"]

    def test_or_they_are_found_in_what_is_returned(self, inbox: Inbox, shop: Shop) -> None:
        shop.fail.delay("so what")
        shop.note.delay("later")
        failed, noted = inbox.run_pending(propagate=False)
        assert (failed.state, failed.result) == (states.FAILURE, None)
        assert isinstance(failed.exception, ValueError)
        assert (noted.state, noted.exception) == (states.SUCCESS, None)

    def test_a_retry_is_no_failure(self, inbox: Inbox, shop: Shop) -> None:
        shop.flaky.delay(1)
        [ran] = inbox.run_pending()
        assert (ran.state, ran.retries) == (states.RETRY, 0)
        assert isinstance(ran.exception, Retry)

    def test_a_value_that_is_an_exception_is_no_failure(self, inbox: Inbox, shop: Shop) -> None:
        @shop.app.task(ignore_result=True)
        def returns() -> Any:
            return ValueError("returned")

        returns.delay()
        [ran] = inbox.run_pending()
        assert isinstance(ran.result, ValueError)
        assert ran.exception is None

    def test_a_message_that_cannot_be_read_is_dead(self, inbox: Inbox, shop: Shop) -> None:
        broken = message(task=shop.note.name, body=b"[")
        shop.app.broker.publish([Publish(queue="celery", message=broken)])
        assert inbox.run_pending() == []
        assert len(inbox.dead()) == 1

    def test_a_broker_that_sleeps_is_told(self, inbox: Inbox, shop: Shop) -> None:
        @shop.app.task
        def lull() -> None:
            inbox._broker.sleep()

        lull.delay()
        with pytest.raises(OperationalError, match="put to sleep"):
            inbox.run_pending()
        inbox._broker.wake_up()


class TestTime:
    def test_countdown_waits_for_the_clock(self, inbox: Inbox, shop: Shop) -> None:
        shop.note.apply_async(("later",), countdown=3600)
        assert inbox.run_pending() == []
        assert inbox.advance(minutes=59, seconds=59) == []
        [ran] = inbox.advance(seconds=1)
        assert (ran.result, ran.at) == ("later", after(3600))

    def test_everything_runs_when_it_is_due_in_that_order(self, inbox: Inbox, shop: Shop) -> None:
        for minutes in (50, 10, 30):
            shop.note.apply_async((minutes,), eta=after(60 * minutes))
        shop.note.delay(0)
        runs = inbox.advance(hours=3)
        assert [(ran.result, ran.at) for ran in runs] == [
            (minutes, after(60 * minutes)) for minutes in (0, 10, 30, 50)
        ]
        assert inbox.now == after(3 * 3600)
        assert clock.wall() == after(3 * 3600).timestamp()

    def test_retries_wait_for_their_delay(self, inbox: Inbox, shop: Shop) -> None:
        result = shop.flaky.delay(2)
        inbox.run_pending()
        assert inbox.assert_enqueued(shop.flaky, countdown=600).retries == 1
        assert [ran.state for ran in inbox.advance(hours=1)] == [states.RETRY, states.SUCCESS]
        assert shop.notes == [0, 600, 1200]
        assert (result.get(), result.retries) == (2, 2)

    def test_retries_are_used_up(self, inbox: Inbox, shop: Shop) -> None:
        result = shop.flaky.delay(9)
        with pytest.raises(ConnectionError, match="away"):
            inbox.advance(hours=1)
        assert shop.notes == [0, 600, 1200, 1800]
        assert inbox.now == after(1800)
        assert result.state == states.FAILURE
        assert inbox.advance(hours=1) == []

    def test_retries_without_a_cause_say_that_they_are_used_up(
        self, inbox: Inbox, shop: Shop
    ) -> None:
        @shop.app.task(bind=True, max_retries=1)
        def never(self: Task) -> None:
            raise self.retry(countdown=1)

        never.delay()
        with pytest.raises(MaxRetriesExceededError):
            inbox.advance(seconds=1)

    def test_what_has_expired_is_not_run(self, inbox: Inbox, shop: Shop) -> None:
        revoked = []

        def hear(**told: Any) -> None:
            revoked.append((told["request"].id, told["expired"]))

        signals.task_revoked.connect(hear)
        result = shop.note.apply_async(("old",), expires=60)
        fresh = shop.note.apply_async(("fresh",), expires=61)
        inbox.clock.advance(seconds=60)
        assert [ran.result for ran in inbox.run_pending()] == ["fresh"]
        assert fresh.get() == "fresh"
        assert result.state == states.REVOKED
        with pytest.raises(TaskRevokedError):
            result.get()
        assert revoked == [(result.id, True)]

    def test_results_are_kept_as_long_as_they_are(self, inbox: Inbox, shop: Shop) -> None:
        shop.app.conf.result_expires = 3600
        result = shop.note.delay(1)
        inbox.run_pending()
        inbox.advance(minutes=59)
        assert shop.app.AsyncResult(result.id).state == states.SUCCESS
        inbox.advance(minutes=1)
        assert shop.app.AsyncResult(result.id).state == states.PENDING

    def test_a_task_that_nobody_knows_waits_for_a_day(self, inbox: Inbox, shop: Shop) -> None:
        result = shop.app.send_task("elsewhere.task", (1,))
        assert inbox.run_pending() == []
        [parked] = inbox.enqueued()
        assert parked.parked
        assert "no task of this name is registered" in str(parked)
        inbox.advance(hours=23)
        assert len(inbox.enqueued()) == 1
        inbox.advance(hours=2)
        assert inbox.enqueued() == []
        with pytest.raises(NotRegistered, match=r"elsewhere\.task"):
            result.get()
        assert len(inbox.dead()) == 1

    def test_a_task_that_nobody_knew_runs_when_somebody_does(
        self, inbox: Inbox, shop: Shop
    ) -> None:
        shop.app.send_task("elsewhere.task", (1,))
        inbox.run_pending()
        shop.app.task(name="elsewhere.task")(shop.notes.append)
        inbox.advance(seconds=2)
        assert shop.notes == [1]

    def test_a_thousand_tasks_with_retries_over_three_hours(self, inbox: Inbox, shop: Shop) -> None:
        tries = [number % 3 for number in range(1000)]
        results = [
            shop.flaky.apply_async((failures,), countdown=7 * number)
            for number, failures in enumerate(tries)
        ]
        runs = inbox.advance(hours=3)
        assert len(runs) == 1000 + sum(tries) == len(shop.notes)
        assert shop.notes == sorted(shop.notes)
        assert [result.get() for result in results] == tries
        assert inbox.enqueued() == []
        assert shop.notes[-1] == max(7 * n + 600 * failures for n, failures in enumerate(tries))


class TestAsserting:
    def test_a_message_is_found_by_what_is_said_of_it(self, inbox: Inbox, shop: Shop) -> None:
        shop.pay.apply_async((7,), {"amount": 2.5}, queue="fast", priority=3, countdown=60)
        wanted: list[dict[str, Any]] = [
            {},
            {"args": (7,)},
            {"args": [7], "kwargs": {"amount": 2.5}},
            {"queue": "fast", "priority": 3},
            {"countdown": 60},
            {"eta": after(60)},
            {"count": 1},
        ]
        for options in wanted:
            found = inbox.assert_enqueued(shop.pay, **options)
            assert (found.task, found.args, found.kwargs) == (shop.pay.name, [7], {"amount": 2.5})
        assert inbox.assert_enqueued(shop.pay.name, id=found.id) == found
        assert (found.queue, found.priority, found.due) == ("fast", 3, after(60))
        assert found.headers["id"] == found.id

    @pytest.mark.parametrize(
        "options",
        [
            {"args": (8,)},
            {"args": ()},
            {"kwargs": {}},
            {"queue": "celery"},
            {"priority": 4},
            {"eta": None},
            {"eta": after(60.1)},
            {"countdown": 62},
            {"count": 2},
            {"id": "other"},
        ],
    )
    def test_and_not_by_something_else(
        self, inbox: Inbox, shop: Shop, options: dict[str, Any]
    ) -> None:
        shop.pay.apply_async((7,), {"amount": 2.5}, queue="fast", priority=3, countdown=60)
        with pytest.raises(AssertionError):
            inbox.assert_enqueued(shop.pay, **options)

    def test_arguments_are_compared_as_they_arrive(self, inbox: Inbox, shop: Shop) -> None:
        shop.note.delay((1, {2: (3,)}))
        inbox.assert_enqueued(shop.note, args=((1, {2: (3,)}),))
        inbox.assert_enqueued(shop.note, args=[[1, {"2": [3]}]])

    def test_without_a_delay_it_is_due_now(self, inbox: Inbox, shop: Shop) -> None:
        shop.note.delay(1)
        inbox.assert_enqueued(shop.note, eta=None)
        with pytest.raises(AssertionError, match="due now"):
            inbox.assert_enqueued(shop.note, countdown=0)

    def test_a_failure_shows_what_is_there_the_nearest_first(
        self, inbox: Inbox, shop: Shop
    ) -> None:
        shop.note.delay("far")
        shop.pay.apply_async((1,), queue="slow")
        shop.pay.apply_async((2,), priority=3)
        with pytest.raises(AssertionError) as caught:
            inbox.assert_enqueued(shop.pay, args=(1,), queue="celery", priority=0)
        assert str(caught.value).splitlines() == [
            f"no such message is enqueued: {__name__}.pay args=[1] queue='celery' priority=0",
            "enqueued, the nearest first:",
            f"  {__name__}.pay(1) queue='slow'",
            "      queue is 'slow'",
            f"  {__name__}.pay(2) queue='celery' priority=3",
            "      args is [2]; priority is 3",
            f"  {__name__}.note('far') queue='celery'",
            f"      task is '{__name__}.note'; args is ['far']",
        ]

    def test_a_failure_shows_ten_at_most(self, inbox: Inbox, shop: Shop) -> None:
        for number in range(13):
            shop.note.delay(number)
        with pytest.raises(AssertionError, match="and 3 more"):
            inbox.assert_enqueued(shop.pay)
        with pytest.raises(AssertionError, match="13 such messages are enqueued, not 2"):
            inbox.assert_enqueued(shop.note, count=2)

    def test_a_failure_says_that_nothing_is_there(self, inbox: Inbox, shop: Shop) -> None:
        with pytest.raises(AssertionError, match="nothing is enqueued"):
            inbox.assert_enqueued(shop.note)

    def test_none_is_asked_for_in_another_way(self, inbox: Inbox, shop: Shop) -> None:
        with pytest.raises(ValueError, match="refute_enqueued"):
            inbox.assert_enqueued(shop.note, count=0)

    def test_a_message_that_must_not_be_there(self, inbox: Inbox, shop: Shop) -> None:
        shop.note.delay(1)
        inbox.refute_enqueued(shop.pay)
        inbox.refute_enqueued(shop.note, args=(2,))
        inbox.refute_enqueued(shop.note, queue="other")
        with pytest.raises(
            AssertionError, match=r"such a message is enqueued: .*\n.*\n.*note\(1\)"
        ):
            inbox.refute_enqueued(shop.note, args=(1,))

    def test_what_is_enqueued_can_be_chosen(self, inbox: Inbox, shop: Shop) -> None:
        shop.note.apply_async((1,), countdown=60, expires=120)
        shop.note.delay(2)
        shop.pay.apply_async((3,), queue="other")
        assert sorted(m.args[0] for m in inbox.enqueued()) == [1, 2, 3]
        assert [m.args for m in inbox.enqueued(shop.note)] == [[2], [1]]
        assert [m.args for m in inbox.enqueued(queue="other")] == [[3]]
        assert [m.expires for m in inbox.enqueued(shop.note)] == [None, after(120)]

    def test_a_moment_without_a_zone_is_refused(self, inbox: Inbox, shop: Shop) -> None:
        with pytest.raises(ValueError, match="no time zone"):
            inbox.assert_enqueued(shop.note, eta=datetime(2030, 1, 1))


class TestBorrowing:
    def test_the_app_has_its_own_again_afterwards(self) -> None:
        app = Celery("own", broker="memory://", backend="memory://")
        broker = app.broker
        with Inbox(app) as inbox:
            assert app.broker is inbox._broker
            app.send_task("one")
        assert app.broker is not inbox._broker
        assert app.broker is not broker  # It was closed, and is opened again.
        assert app.broker.sizes() == {}

    def test_each_inbox_is_empty_at_first(self, shop: Shop) -> None:
        for _ in range(2):
            with Inbox(shop.app) as inbox:
                assert inbox.enqueued() == []
                shop.note.delay(1)
        assert shop.notes == []

    def test_it_is_given_back_also_after_a_failure(self, shop: Shop) -> None:
        with pytest.raises(AssertionError), Inbox(shop.app, at=START) as inbox:
            inbox.assert_enqueued(shop.note)
        assert clock.wall() > 0
        with FakeClock(5.0):
            assert clock.wall() == 5
        assert shop.app.broker_url == "redis://nowhere.invalid/0"

    def test_disabled_results_stay_disabled(self) -> None:
        app = Celery("own", broker="memory://", backend="disabled://")
        with Inbox(app) as inbox:
            app.task(name="one")(lambda: 5).delay()
            assert app.store is None
            assert [ran.result for ran in inbox.run_pending()] == [5]

    def test_an_app_that_calls_eagerly_has_no_inbox(self) -> None:
        app = Celery("own", broker="memory://")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SettingNotReadWarning)
            app.conf.task_always_eager = True
        with pytest.raises(ImproperlyConfigured, match="task_always_eager is on"), Inbox(app):
            pass

    def test_the_process_is_set_up_once_and_only_to_run(self, shop: Shop) -> None:
        heard = []

        def hear(signal: Any, **_: Any) -> None:
            heard.append(signal.name)

        for signal in (signals.worker_process_init, signals.worker_process_shutdown):
            signal.connect(hear)
        with Inbox(shop.app) as inbox:
            shop.note.delay(1)
            assert heard == []
            inbox.run_pending()
            shop.note.apply_async((2,), queue="other")
            inbox.run_pending()
            assert heard == ["worker_process_init"]
        assert heard == ["worker_process_init", "worker_process_shutdown"]
