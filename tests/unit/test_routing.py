"""routing: where a call goes. What Celery does in each case is held by ``tests/interop``."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest

from celeriac import Celery
from celeriac.brokers.memory import MemoryBroker
from celeriac.call_options import Options, retry_options
from celeriac.context import Context, current
from celeriac.exceptions import ImproperlyConfigured, QueueNotFound
from celeriac.message import Publish
from celeriac.queues import Broadcast, Exchange, Queue, binding, worker_direct
from celeriac.routing import Queues, Route, Router
from celeriac.routing import router as routers
from celeriac.routing.bindings import headers_match, topic_matches
from celeriac.settings import Settings
from celeriac.signals import Signal, after_task_publish, before_task_publish
from celeriac.worker.parts import make_consumer
from tests.fixtures.messages import publish

NAME = "shop.pay"


def find(options: dict[str, Any] | None = None, /, name: str = NAME, **settings: Any) -> Route:
    return Router(Settings(**settings)).find(options or {}, name, (1,), {"word": "w"})


def queue_of(options: dict[str, Any] | None = None, /, name: str = NAME, **settings: Any) -> str:
    (queue,) = find(options, name, **settings).queues
    return queue


class TestPriorities:
    @pytest.mark.follows("CALL-02")
    def test_what_the_call_says_counts(self) -> None:
        route = find({"queue": "urgent", "priority": 7})
        assert (route.queues, route.priority) == (("urgent",), 7)

    def test_the_settings_decide_the_rest(self) -> None:
        settings: Any = {"task_default_queue": "work", "task_default_priority": 4}
        assert find(**settings).priority == 4
        assert find({"queue": "urgent"}, **settings).priority == 4
        assert find({"priority": 7}, **settings).queues == ("work",)

    def test_a_route_goes_before_the_default_of_tasks_that_nobody_knows(self) -> None:
        routes = {NAME: {"priority": 3}}
        assert find(task_default_priority=4, task_routes=routes).priority == 3

    @pytest.mark.follows("ROUTE-10")
    def test_without_settings_it_is_celerys_queue_and_no_priority(self) -> None:
        route = find()
        assert (route.queues, route.exchange, route.routing_key) == (("celery",), "", "celery")
        assert route.priority == 0

    def test_zero_is_a_priority_of_its_own(self) -> None:
        assert find({"priority": 0}, task_default_priority=4).priority == 0

    @pytest.mark.parametrize("priority", [0, 255])
    def test_the_ends_of_the_range_are_in_it(self, priority: int) -> None:
        assert find({"priority": priority}).priority == priority

    @pytest.mark.parametrize("priority", [-1, 256, 1000])
    def test_others_are_refused(self, priority: int) -> None:
        with pytest.raises(ImproperlyConfigured, match=rf"priority {priority} .* from 0 to 255"):
            find({"priority": priority})
        with pytest.raises(ImproperlyConfigured, match=rf"priority {priority} "):
            find(task_routes={NAME: {"priority": priority}})

    def test_that_of_the_running_message_is_kept_though_no_call_can_have_it(self) -> None:
        """What Celery puts behind the others on Redis is below 0; a retry of it is, too."""
        token = current.set(Context(delivery_info={"priority": -9}, called_directly=False))
        try:
            assert find({"priority": -9}).priority == -9
            with pytest.raises(ImproperlyConfigured, match=r"priority -3 "):
                find({"priority": -3})
        finally:
            current.reset(token)

    @pytest.mark.follows("CALL-22")
    def test_that_of_the_caller_also_with_a_queue(self) -> None:
        """Celery forgets it there."""
        app = Celery(broker="memory://", task_inherit_parent_priority=True)
        app.task(name=NAME)(lambda: None)
        app.finalize()
        token = current.set(Context(delivery_info={"priority": 6}, called_directly=False))
        try:
            assert app.amqp.router.find({"queue": "video"}, NAME).priority == 6
        finally:
            current.reset(token)
        assert app.amqp.router.find({"queue": "video"}, NAME).priority is None


class Place:
    """A router of the old kind, and one whose class is named."""

    def route_for_task(self, task: str, args: Any, kwargs: Any) -> Any:
        return f"{task}-{args[0]}-{kwargs['word']}"


class TestRoutes:
    @pytest.mark.follows("ROUTE-02")
    def test_a_class_is_made_an_object(self) -> None:
        assert queue_of(task_routes=Place) == "shop.pay-1-w"

    @pytest.mark.follows("ROUTE-02")
    @pytest.mark.parametrize("path", ["places.table", "places:table", "places.Place", "places.ask"])
    def test_a_name_leads_to_anything_that_routes(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        places: Any = ModuleType("places")
        places.table = {NAME: "shop.pay-1-w"}
        places.Place = Place
        places.ask = lambda name, args, kwargs, options, task=None: "shop.pay-1-w"
        monkeypatch.setitem(sys.modules, "places", places)
        assert queue_of(task_routes=path) == "shop.pay-1-w"

    def test_a_name_is_loaded_when_it_is_needed(self) -> None:
        router = Router(Settings(task_routes="no.such.module"))
        with pytest.raises(ImproperlyConfigured, match=r"names 'no.such.module', which cannot be"):
            router.find({}, NAME)

    @pytest.mark.follows("ROUTE-04")
    @pytest.mark.parametrize("route", ["feeds", {"queue": "feeds"}, Queue("feeds")])
    def test_a_route_names_a_queue_in_several_ways(self, route: Any) -> None:
        assert queue_of(task_routes={NAME: route}) == "feeds"
        assert queue_of(task_routes=lambda *_, **__: route) == "feeds"

    @pytest.mark.follows("ROUTE-02")
    def test_patterns_are_asked_in_order(self) -> None:
        routes = {re.compile("shop"): "first", "shop.*": "second", "*": "third"}
        assert queue_of(task_routes=routes) == "first"
        assert queue_of(name="shopping", task_routes=routes) == "first"
        assert queue_of(name="other", task_routes=routes) == "third"

    @pytest.mark.follows("ROUTE-02")
    def test_a_function_is_told_everything(self) -> None:
        told: list[Any] = []

        def ask(*positional: Any, **named: Any) -> None:
            told.append((*positional, named))

        app = Celery(broker="memory://", task_routes=[ask])
        task = app.task(name=NAME, queue="video")(lambda x, word: x)
        task.apply_async((1,), {"word": "w"}, expires=60)
        ((name, args, kwargs, options, named),) = told
        assert (name, args, kwargs, named) == (NAME, (1,), {"word": "w"}, {"task": task})
        assert (options["queue"].name, options["expires"]) == ("video", 60)

    def test_an_answer_is_not_changed(self) -> None:
        answer = {"queue": "feeds", "priority": 3}
        find(task_routes=lambda *_, **__: answer)
        find(task_routes={NAME: answer})
        assert answer == {"queue": "feeds", "priority": 3}

    @pytest.mark.parametrize(
        ("routes", "words"),
        [
            (7, "holds 7, which routes nothing; write a dict, a function"),
            ({NAME: 7}, "the route of task 'shop.pay' is 7; write the name of a queue"),
            ([["shop.*", "feeds"]], "holds 'shop.*' where a pair of name and route belongs"),
            (lambda *_, **__: 7, "the route of task 'shop.pay' is 7"),
        ],
        ids=["no route", "no answer", "no pairs", "no answer of a function"],
    )
    def test_what_cannot_be_right_is_refused(self, routes: Any, words: str) -> None:
        with pytest.raises(ImproperlyConfigured, match=re.escape(words)):
            find(task_routes=routes)

    def test_what_a_function_raises_comes_through(self) -> None:
        def fails(*_: Any, **__: Any) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            find(task_routes=fails)

    @pytest.mark.follows("ROUTE-03", "ROUTE-04")
    def test_other_options_are_handed_on_unless_the_call_has_them(self) -> None:
        router = Router(Settings(task_routes={NAME: {"expires": 60, "shadow": "s", "queue": "q"}}))
        assert router.find({"expires": 10}, NAME).options == {"shadow": "s"}
        assert router.find({"expires": None}, NAME).options == {"expires": 60, "shadow": "s"}
        assert router.find({"expires": 10, "shadow": ""}, NAME).options == {}

    @pytest.mark.follows("ROUTE-03")
    def test_a_call_gets_them(self) -> None:
        app = Celery(broker="memory://", task_routes={NAME: {"shadow": "of the route"}})
        app.send_task(NAME)
        app.send_task(NAME, shadow="of the call")
        first, second = app.broker.consumer(["celery"]).claim(2, 1000)
        assert b'"shadow":"of the route"' in first.message.headers
        assert b'"shadow":"of the call"' in second.message.headers

    def test_a_time_of_the_call_goes_before_one_of_the_route(self) -> None:
        app = Celery(broker="memory://", task_routes={NAME: {"countdown": 3600}})
        app.send_task(NAME)
        app.send_task(NAME, countdown=0)
        app.send_task(NAME, eta="2020-01-01T00:00:00+00:00")
        size = app.broker.sizes()["celery"]
        assert (size.delayed, size.ready) == (1, 2)


class Own:
    """A router for single calls."""

    def route(self, options: Any, *_: Any) -> Any:
        return {**options, "queue": "own"}


class TestMemory:
    """Equal calls are routed once."""

    @pytest.fixture
    def router(self, monkeypatch: pytest.MonkeyPatch) -> Router:
        monkeypatch.setattr(routers, "REMEMBERED", 2)
        return Router(Settings(task_routes={"a": "feeds"}))

    def test_an_equal_call_gets_the_same(self, router: Router) -> None:
        router.find({}, "a")
        assert router.find({}, "a") is router.find({"queue": None}, "a")

    def test_another_one_does_not(self, router: Router) -> None:
        assert router.find({}, "a").queues == ("feeds",)
        assert router.find({}, "b").queues == ("celery",)
        assert router.find({"queue": "mine"}, "a").queues == ("mine",)
        assert router.find({"priority": 1}, "a").priority == 1
        assert router.find({"priority": 2}, "a").priority == 2

    @pytest.mark.parametrize(
        "call",
        [
            {"delivery_mode": 1},
            {"router": Own()},
            {"exchange": "C.dq2", "routing_key": "w"},
            {"exchange": "C.dq2", "routing_key": "v"},
            {"exchange_type": "topic"},
        ],
        ids=lambda option: next(iter(option)),
    )
    def test_every_option_counts(self, call: dict[str, Any]) -> None:
        router = Router(Settings())
        _ = router.queues["own"]
        router.find({}, "a")
        router.find({"exchange": "C.dq2", "routing_key": "x"}, "a")
        assert router.find(call, "a") == Router(Settings()).find(call, "a") != router.find({}, "a")

    def test_a_new_queue_counts(self, router: Router) -> None:
        media = Exchange("media", "topic")
        router.queues.add(Queue("all", media, "#"))
        call = {"exchange": "media", "routing_key": "k"}
        assert router.find(call, "a").queues == ("all",)
        router.queues.add(Queue("more", media, "#"))
        assert router.find(call, "a").queues == ("all", "more")

    def test_it_does_not_grow_without_end(self, router: Router) -> None:
        for number in range(10):
            assert router.find({"queue": f"user-{number}"}, "a").queues == (f"user-{number}",)
        assert len(router._known) <= 2

    def test_what_cannot_be_kept_is_no_hindrance(self, router: Router) -> None:
        late = [Queue("late", Exchange("late"), "k")]
        call = {"exchange": "late", "routing_key": "k", "declare": late}
        assert router.find(call, "a").queues == router.find(call, "a").queues == ("late",)

    def test_functions_are_asked_each_time(self) -> None:
        answers = iter(["first", "second"])
        router = Router(Settings(task_routes=lambda *_, **__: next(answers)))
        assert [router.find({}, "a").queues for _ in range(2)] == [("first",), ("second",)]


class TestExchanges:
    @pytest.mark.follows("ROUTE-08")
    @pytest.mark.parametrize(
        ("pattern", "fitting", "others"),
        [
            ("a.b", ["a.b"], ["a", "a.b.c", "", "a.c"]),
            ("a.*", ["a.b", "a."], ["a", "a.b.c", "b.a"]),
            ("*.b.*", ["a.b.c"], ["b", "a.b", "b.c"]),
            ("#", ["", "a", "a.b.c"], []),
            ("a.#", ["a", "a.b", "a.b.c"], ["b", "", "ab"]),
            ("#.c", ["c", "a.c", "a.b.c", "c.c"], ["c.a", ""]),
            ("a.#.c", ["a.c", "a.b.c", "a.b.b.c", "a.c.c"], ["a", "a.b", "b.c"]),
            ("#.*", ["a", "a.b"], [""]),
            ("#.a.#.b.#", ["a.b.a", "a.b", "c.a.c.b.c"], ["b.a", "a"]),
            ("#.#", ["", "a"], []),
            ("", [""], ["a"]),
            ("a+", ["a+"], ["a", "aa"]),
        ],
    )
    def test_topics(self, pattern: str, fitting: list[str], others: list[str]) -> None:
        assert [key for key in [*fitting, *others] if topic_matches(pattern, key)] == fitting

    def test_a_long_pattern_takes_no_time(self) -> None:
        assert not topic_matches("#." * 100 + "z", "a." * 500 + "b")

    @pytest.mark.follows("ROUTE-08")
    @pytest.mark.parametrize(
        ("wanted", "headers", "fits"),
        [
            ({"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}, True),
            ({"a": 1, "b": 2}, {"a": 1}, False),
            ({"x-match": "any", "a": 1, "b": 2}, {"a": 1}, True),
            ({"x-match": "any", "a": 1, "b": 2}, {"a": 2}, False),
            ({"a": None}, {"a": "anything"}, True),
            ({"a": None}, {}, False),
            ({"x-a": 1, "b": 2}, {"b": 2}, True),
            ({"x-match": "all-with-x", "x-a": 1}, {}, False),
            ({"x-match": "any-with-x", "x-a": 1}, {"x-a": 1}, True),
            ({}, {}, True),
        ],
    )
    def test_headers(self, wanted: dict, headers: dict, fits: bool) -> None:
        assert headers_match(wanted, headers) is fits

    @pytest.mark.follows("ROUTE-08")
    def test_headers_of_a_call_lead_somewhere_each_time(self) -> None:
        kinds = Exchange("kinds", "headers")
        queues = [
            Queue("celery"),
            Queue("images", kinds, binding_arguments={"kind": "image"}),
            Queue("films", [binding(kinds, arguments={"kind": "film"})]),
            Queue("payments", kinds, binding_arguments={"task": NAME}),
        ]
        router = Router(Settings(task_queues=queues))
        call = {"exchange": "kinds", "routing_key": "-"}
        reached = [
            router.find({**call, "headers": {"kind": kind}}, name).queues
            for kind, name in [("image", "a"), ("film", "a"), ("image", NAME)]
        ]
        assert reached == [("images",), ("films",), ("images", "payments")]

    @pytest.mark.follows("ROUTE-08")
    def test_what_leads_nowhere_is_told(self) -> None:
        queues = [Queue("video", Exchange("media", "topic"), "video.#")]
        with pytest.raises(QueueNotFound) as caught:
            find({"exchange": "media", "routing_key": "audio"}, task_queues=queues)
        assert str(caught.value) == (
            "nothing is bound to exchange 'media' with routing key 'audio', and the message would be lost; "
            "known bindings: media(topic) 'video.#' -> video; celery(direct) 'celery' -> celery. "
            "Add a Queue with that exchange to task_queues, or name a queue"
        )

    def test_a_type_that_only_a_server_knows(self) -> None:
        queues = [Queue("a", Exchange("h", "x-consistent-hash"), "1")]
        call = {"exchange": "h", "routing_key": "k"}
        with pytest.raises(ImproperlyConfigured, match="'x-consistent-hash', which only RabbitMQ"):
            find(call, task_queues=queues)
        router = Router(Settings(task_queues=queues), broker_routes=True)
        assert router.find(call, NAME).queues == ()

    @pytest.mark.follows("ROUTE-09")
    def test_a_broadcast_needs_a_broker_that_can(self) -> None:
        settings: Any = {
            "task_queues": [Queue("celery"), Broadcast("all", queue="mine")],
            "task_routes": {NAME: "all"},
        }
        with pytest.raises(ImproperlyConfigured, match="use Redis or RabbitMQ"):
            find(**settings)
        route = Router(Settings(**settings), broker_routes=True).find({}, NAME)
        assert (route.broadcast, route.exchange, route.queues) == (True, "all", ())
        assert route.declare == ()
        # What it must know to send there: the exchange, which stands in the Broadcast.
        assert [(q.name, q.exchange.type) for q in route.declarations] == [("mine", "fanout")]
        assert route.exchange_type == "fanout"

    @pytest.mark.follows("ROUTE-08", "ROUTE-20")
    def test_a_broker_that_routes_is_told_what_is_known(self) -> None:
        media = Exchange("media", "topic")
        queues = [Queue("celery"), Queue("video", media, "video.#")]
        router = Router(Settings(task_queues=queues), broker_routes=True)
        route = router.find({"exchange": "media", "routing_key": "audio"}, NAME)
        # Others may be bound to it; those that are known here must be there before.
        assert (route.queues, route.exchange_type) == ((), "topic")
        assert [queue.name for queue in route.declarations] == ["video"]
        own = Queue("own", media, "audio")
        route = router.find(
            {"exchange": "media", "routing_key": "audio", "declare": [own, Exchange("logs")]}, NAME
        )
        assert route.queues == ("own",)
        assert [(queue.name, queue.exchange.name) for queue in route.declarations] == [
            ("video", "media"),
            ("own", "media"),
            ("", "logs"),
        ]
        assert router.find({}, NAME).declarations == ()
        unknown = router.find(
            {"exchange": "x", "routing_key": "k", "exchange_type": "x-random"}, NAME
        )
        assert (unknown.queues, unknown.exchange_type) == ((), "x-random")

    @pytest.mark.follows("ROUTE-13")
    def test_the_queue_of_one_worker(self) -> None:
        assert queue_of({"exchange": "C.dq2", "routing_key": "w@h"}) == "w@h.dq2"
        assert queue_of({"queue": worker_direct("w@h")}) == "w@h.dq2"
        assert queue_of({"queue": "w@h.dq2"}) == "w@h.dq2"

    def test_an_exchange_without_key_and_queue(self) -> None:
        class Own:
            def route(self, options: Any, *_: Any) -> Any:
                return {"exchange": "jobs"}

        with pytest.raises(QueueNotFound, match="'jobs' without a routing key leads to no queue"):
            find({"router": Own()})

    @pytest.mark.follows("ROUTE-08", "CALL-02")
    def test_several_queues_each_get_the_message(self) -> None:
        queues = [Queue(name, Exchange("news", "fanout")) for name in ("a", "b")]
        app = Celery(broker="memory://", task_queues=queues)
        result = app.send_task(NAME, exchange="news", routing_key="k")
        delivered = app.broker.consumer(["a", "b"]).claim(9, 1000)
        assert [(d.queue, d.message.id) for d in delivered] == [("a", result.id), ("b", result.id)]


class TestRetries:
    @pytest.fixture
    def app(self) -> Celery:
        media = Exchange("media", "topic")
        queues = [Queue("celery"), Queue("video", media, "video.#"), Queue("all", media, "#")]
        return Celery(broker="memory://", task_queues=queues)

    def again(self, app: Celery, **options: Any) -> Publish:
        request = Context(task=NAME, id="1", delivery_info={"routing_key": "video", "priority": 3})
        return app.client.compose(NAME, (), {}, retry_options(request, options))

    @pytest.mark.follows("ROUTE-08")
    def test_only_the_queue_that_it_came_from_gets_it(self, app: Celery) -> None:
        publish = self.again(app)
        assert (publish.exchange, publish.routing_key) == ("", "video")
        assert (publish.queue, publish.copies, publish.message.priority) == ("video", (), 3)

    @pytest.mark.parametrize(
        ("options", "queues"),
        [
            ({"queue": "celery"}, ["celery"]),
            ({"queue": "all"}, ["all"]),
            ({"exchange": "media", "routing_key": "video.new"}, ["video", "all"]),
        ],
        ids=["queue", "queue of a topic", "exchange"],
    )
    def test_unless_another_place_is_named(
        self, app: Celery, options: dict[str, Any], queues: list[str]
    ) -> None:
        publish = self.again(app, **options)
        assert [publish.queue, *publish.copies] == queues


class TestSignals:
    @pytest.mark.follows("CALL-02")
    def test_receivers_are_told_exchange_key_and_mode(self) -> None:
        media = Exchange("media", "topic")
        app = Celery(broker="memory://", task_queues=[Queue("video", media, "#")])
        told: list[Any] = []

        def before(properties: dict[str, Any], **words: Any) -> None:
            told.append((words["exchange"], words["routing_key"], properties["delivery_mode"]))

        def after(**words: Any) -> None:
            told.append((words["exchange"], words["routing_key"]))

        with connected(before_task_publish, before), connected(after_task_publish, after):
            app.send_task(NAME, exchange="media", routing_key="k", delivery_mode="transient")
        assert told == [("media", "k", 1), ("media", "k")]


@contextmanager
def connected(signal: Signal, receiver: Any) -> Iterator[None]:
    signal.connect(receiver)
    yield
    signal.disconnect(receiver)


class TestRegistry:
    """``app.amqp.queues`` (ROUTE-18)."""

    @pytest.mark.follows("ROUTE-10", "ROUTE-18")
    def test_it_holds_the_default_queue(self) -> None:
        app = Celery(task_default_queue="work", task_default_exchange="tasks")
        assert list(app.amqp.queues) == list(app.amqp.queues.consume_from) == ["work"]
        assert app.amqp.default_queue == Queue("work", Exchange("tasks"), "work")
        assert app.amqp.default_exchange == Exchange("tasks")

    @pytest.mark.follows("ROUTE-01")
    @pytest.mark.parametrize(
        "given",
        [
            [Queue("a", Exchange("e"), "k"), "b"],
            (Queue("a", Exchange("e"), "k"), Queue("b", Exchange("b"), "b")),
            {"a": {"exchange": "e", "binding_key": "k"}, "b": {"exchange": "b"}},
            {"a": Queue("a", "e", "k"), "b": Queue("b", "b", "b")},
        ],
        ids=["list", "tuple", "dicts", "dict"],
    )
    def test_task_queues_have_several_forms(self, given: Any) -> None:
        queues = Celery(task_queues=given, task_create_missing_queues=False).amqp.queues
        assert list(queues.values()) == [
            Queue("a", Exchange("e"), "k"),
            Queue("b", Exchange("b"), "b"),
        ]

    @pytest.mark.parametrize(
        ("given", "words"),
        [
            ([7], "7 is no queue; write Queue(name) or a name"),
            (
                {"a": {"exchnge": "e"}},
                "queue 'a' has options that do not exist: exchnge; options are",
            ),
        ],
    )
    def test_other_forms_are_refused(self, given: Any, words: str) -> None:
        with pytest.raises(ImproperlyConfigured, match=re.escape(words)):
            find(task_queues=given)

    @pytest.mark.follows("ROUTE-05")
    def test_missing_ones_are_created_or_refused(self) -> None:
        created = Celery().amqp.queues["new"]
        assert created == Queue("new", Exchange("new"), "new")
        strict = Celery(task_queues=["b", "a"], task_create_missing_queues=False).amqp.queues
        with pytest.raises(QueueNotFound, match=r"'new' is not in task_queues, .* queues: a, b"):
            strict["new"]
        with pytest.raises(KeyError):
            strict["new"]

    @pytest.mark.follows("ROUTE-06", "ROUTE-21")
    def test_types_of_created_queues(self) -> None:
        settings: Any = {
            "task_create_missing_queue_type": "quorum",
            "task_create_missing_queue_exchange_type": "topic",
        }
        created = Celery(**settings).amqp.queues["new"]
        assert created.queue_arguments == {"x-queue-type": "quorum"}
        assert created.exchange == Exchange("new", "topic")
        default = Celery(task_default_queue_type="quorum").amqp.default_queue
        assert default.queue_arguments == {"x-queue-type": "quorum"}
        with pytest.raises(ImproperlyConfigured, match="no queue type 'stream'; write classic or"):
            Celery(task_create_missing_queue_type="stream").amqp.queues["new"]

    @pytest.mark.follows("ROUTE-14")
    def test_the_highest_priority_of_queues_that_have_none(self) -> None:
        given = [
            Queue("a"),
            Queue("b", queue_arguments={"x-max-priority": 3}),
            Queue("c", max_priority=4),
        ]
        queues = Celery(task_queues=given, task_queue_max_priority=10).amqp.queues
        found = [(queue.queue_arguments or {}).get("x-max-priority") for queue in queues.values()]
        assert found == [10, 3, None]
        assert queues["new"].queue_arguments == {"x-max-priority": 10}

    @pytest.mark.follows("ROUTE-11", "ROUTE-18")
    def test_a_worker_selects_and_deselects(self) -> None:
        queues = Queues([Queue("a"), Queue("b", alias="bee"), Queue("c")])
        queues.deselect(["c", "unknown"])
        assert list(queues.consume_from) == ["a", "b"]
        queues.select(["bee", "new"])
        assert list(queues.consume_from) == ["b", "new"]
        queues.deselect("bee")
        assert list(queues.consume_from) == ["new"]
        queues.select(None)
        queues.deselect(None)
        assert list(queues.consume_from) == ["new"]
        assert set(queues) == {"a", "b", "c", "new"}

    @pytest.mark.follows("ROUTE-17", "ROUTE-18")
    def test_queues_are_added_to_those_that_were_selected_or_not(self) -> None:
        queues = Queues([Queue("a")], default_exchange=Exchange("e"), default_routing_key="k")
        assert queues.select_add(Queue("b")) == Queue("b", Exchange("e"), "k")
        assert list(queues.consume_from) == ["a", "b"]
        queues.select("a")
        queues.select_add("c", exchange="x", exchange_type="topic", routing_key="c.#")
        queues.add(Queue("d"))
        assert list(queues.consume_from) == ["a", "c"]
        assert queues["c"] == Queue("c", Exchange("x", "topic"), "c.#")

    @pytest.mark.follows("ROUTE-18")
    def test_it_is_shown_as_celery_shows_it(self) -> None:
        queues = Queues([Queue("b", Exchange("media", "topic"), "b.#"), Queue("a", "e", "k")])
        lines = [
            ".> a                exchange=e(direct) key=k",
            ".> b                exchange=media(topic) key=b.#",
        ]
        assert queues.format().splitlines() == lines
        assert queues.format(2) == f"  {lines[0]}\n  {lines[1]}"
        assert queues.format(2, indent_first=False) == f"{lines[0]}\n  {lines[1]}"
        queues.deselect(["a", "b"])
        assert queues.format() == ""

    def test_what_is_removed_is_gone_by_every_name(self) -> None:
        queues = Queues([Queue("b", alias="bee")], create_missing=False)
        del queues["b"]
        with pytest.raises(QueueNotFound):
            queues["bee"]


class TestAmqp:
    @pytest.mark.follows("ROUTE-18")
    def test_what_was_added_stays_until_settings_of_queues_change(self) -> None:
        app = Celery(broker="memory://")
        app.amqp.queues.add(Queue("video", Exchange("media", "topic"), "video.#"))
        app.conf.task_routes = {NAME: {"queue": "video", "routing_key": "video.new"}}
        app.send_task(NAME)
        (delivery,) = app.broker.consumer(["video"]).claim(1, 1000)
        assert delivery.message.task == NAME
        app.conf.task_queues = [Queue("celery")]
        assert list(app.amqp.queues) == ["celery"]

    def test_queues_put_there_by_hand_count_at_once(self) -> None:
        app = Celery(broker="memory://")
        app.send_task(NAME)
        app.amqp.queues = app.amqp.Queues([Queue("celery")], create_missing=False)
        with pytest.raises(QueueNotFound):
            app.send_task(NAME, queue="video")
        app.conf.task_queues = ["video"]
        assert list(app.amqp.queues) == ["celery"]

    @pytest.mark.follows("ROUTE-18")
    def test_routes_changed_in_place_count_when_they_are_flushed(self) -> None:
        app = Celery(broker="memory://", task_routes={NAME: "a"})
        client = app.client
        app.conf.task_routes[NAME] = "b"
        app.amqp.flush_routes()
        assert client.compose(NAME, (), {}, Options()).queue == "b"
        assert app.amqp.routes == ({NAME: "b"},)

    def test_a_router_is_made_once_for_each_snapshot(self) -> None:
        app = Celery(broker="memory://")
        assert app.amqp.router is app.amqp.router
        earlier = app.amqp.router
        app.conf.task_default_queue = "other"
        assert app.amqp.router is not earlier
        assert app.amqp.router.find({}, NAME).queues == ("other",)


class TestQueueValues:
    def test_they_are_frozen_and_equal_by_value(self) -> None:
        queue: Any = Queue("a", "e")
        assert queue == Queue("a", Exchange("e"))
        assert len({queue, Queue("a", "e"), Queue("b")}) == 2
        with pytest.raises(AttributeError):
            queue.name = "b"

    def test_bindings_stand_in_place_of_an_exchange(self) -> None:
        both = [binding(Exchange("x"), "k"), binding("y", "l")]
        assert (
            Queue("a", both).all_bindings == Queue("a", bindings=both).all_bindings == tuple(both)
        )
        assert Queue("a", "e", "k").all_bindings == (binding("e", "k"),)

    def test_an_exclusive_queue_is_deleted(self) -> None:
        assert Queue("a", exclusive=True).auto_delete

    @pytest.mark.follows("ROUTE-09")
    def test_each_broadcast_has_a_queue_of_its_own(self) -> None:
        one, other = Broadcast("all"), Broadcast("all")
        assert one.name != other.name
        assert one.name.startswith("bcast.")
        assert (one.alias, one.exchange, one.auto_delete) == (
            "all",
            Exchange("all", "fanout"),
            True,
        )
        assert Broadcast("all", queue="q").name == "q"
        assert re.fullmatch(r"q\.\w+", Broadcast("all", queue="q", unique=True).name)

    @pytest.mark.parametrize(("given", "mode"), [("transient", 1), ("persistent", 2), (1, 1)])
    def test_delivery_modes_have_names(self, given: Any, mode: int) -> None:
        assert Exchange("e", delivery_mode=given).delivery_mode == mode

    def test_other_delivery_modes_are_refused(self) -> None:
        with pytest.raises(
            ImproperlyConfigured, match="no delivery mode 3; write 1 or 'transient'"
        ):
            find({"delivery_mode": 3})


@pytest.mark.follows("ROUTE-16")
@pytest.mark.parametrize(
    ("options", "order"),
    [
        ({}, ["c", "a", "b", "c", "a", "b"]),
        ({"queue_order_strategy": "round_robin"}, ["c", "a", "b", "c", "a", "b"]),
        ({"queue_order_strategy": "priority"}, ["c", "c", "a", "a", "b", "b"]),
        ({"queue_order_strategy": "sorted"}, ["a", "a", "b", "b", "c", "c"]),
    ],
    ids=["default", "round_robin", "priority", "sorted"],
)
def test_the_order_in_which_a_worker_asks_its_queues(options: dict, order: list[str]) -> None:
    broker = MemoryBroker()
    for name in "abc":
        broker.publish([publish(str(number), name) for number in range(2)])
    consumer = make_consumer(broker, ["c", "a", "b"], options)
    assert [consumer.claim(1, 1000)[0].queue for _ in range(6)] == order
