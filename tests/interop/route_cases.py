"""Calls and settings of which it is known where Celery sends them: see ``capture_routes.py``.

Written for both: ``kit`` brings ``Queue``, ``Exchange``, ``binding`` and ``Broadcast``, kombu's or
ours. Imports nothing of either.
"""

import re
from typing import Any, NamedTuple

NAME = "feed.tasks.import_feed"


class Case(NamedTuple):
    """One call under some settings. ``task`` are the attributes of a task that is known here."""

    settings: dict[str, Any] = {}
    call: dict[str, Any] = {}
    task: dict[str, Any] | None = None
    name: str = NAME
    parent: int | None = None
    """The priority of the task that calls."""


def by_function(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
    return {"queue": "by-function", "priority": len(args)} if name.startswith("feed.") else None


def by_text(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
    return "by-text"


def by_task(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
    return None if task is None else f"of-{task.name}"


def by_argument(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
    return {"queue": f"arg-{args[0]}", "routing_key": kwargs["word"]}


def by_nothing(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
    return None


def by_emptiness(name: str, args: Any, kwargs: Any, options: Any, **_: Any) -> Any:
    return {}


def by_options(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
    return "urgent" if options.get("priority") == 9 else None


class ByMethod:
    """A router of the old kind."""

    def route_for_task(self, task: str, args: Any = None, kwargs: Any = None) -> Any:
        return {"queue": "by-method", "routing_key": task}


class OwnRouter:
    """What the option ``router`` takes."""

    def route(self, options: Any, name: str, *_: Any) -> Any:
        return {**options, "queue": f"own-{name}"}


def cases(kit: Any, here: str) -> dict[str, Case]:
    """Return the cases by name. ``here`` is the dotted name of this module."""
    return {
        **plain(),
        **routed(here),
        **precedence(),
        **priorities(),
        **declared(kit),
        **exchanges(kit),
    }


def plain() -> dict[str, Case]:
    other = {"task_default_queue": "work"}
    topic = {"task_default_exchange": "tasks", "task_default_exchange_type": "topic"}
    return {
        "nothing said": Case(),
        "nothing said, task known": Case(task={}),
        "queue": Case(call={"queue": "video"}),
        "queue, task known": Case(call={"queue": "video"}, task={}),
        "queue of the task": Case(task={"queue": "video"}),
        "queue of call and task": Case(call={"queue": "audio"}, task={"queue": "video"}),
        "queue None": Case(call={"queue": None}, task={"queue": None}),
        "queue empty": Case(call={"queue": ""}),
        "default queue": Case(other),
        "default queue, another one": Case(other, {"queue": "video"}),
        "default exchange": Case({"task_default_exchange": "tasks"}),
        "default key": Case({"task_default_routing_key": "task.key"}),
        "default topic": Case({**topic, "task_default_routing_key": "task.key"}),
        "default topic, own key": Case(
            {**topic, "task_default_routing_key": "task.#"}, {"routing_key": "task.mail"}
        ),
        "default topic, other queue": Case(topic, {"queue": "video"}),
        "quorum": Case({"task_default_queue_type": "quorum"}),
        "missing quorum": Case({"task_create_missing_queue_type": "quorum"}, {"queue": "video"}),
        "missing topic": Case(
            {"task_create_missing_queue_exchange_type": "topic"}, {"queue": "video"}
        ),
        "missing topic, own key": Case(
            {"task_create_missing_queue_exchange_type": "topic"},
            {"queue": "video", "routing_key": "video"},
        ),
        "missing refused": Case({"task_create_missing_queues": False}, {"queue": "video"}),
        "delivery mode": Case(call={"delivery_mode": 1}),
        "delivery mode by name": Case(call={"delivery_mode": "transient"}),
        "delivery mode of the settings": Case({"task_default_delivery_mode": "transient"}),
    }


def routed(here: str) -> dict[str, Case]:
    def case(routes: Any, **changes: Any) -> Case:
        return Case({"task_routes": routes}, **changes)

    return {
        "route, exact": case({NAME: {"queue": "feeds"}}),
        "route, exact, a name": case({NAME: "feeds"}),
        "route, other task": case({"other": "feeds"}),
        "route, glob": case({"feed.tasks.*": {"queue": "feeds"}}),
        "route, glob, a name": case({"feed.*": "feeds"}),
        "route, glob in the middle": case({"*.import_feed": "feeds", "feed.*": "later"}),
        "route, question mark beside a star": case({"fee?.*": "feeds"}),
        "route, question mark alone": case({"feed.tasks.import_fee?": "feeds"}),
        "route, regex": case({re.compile(r"(feed|image)\.tasks\..*"): {"queue": "media"}}),
        "route, regex matches a beginning": case({re.compile(r"feed"): "media"}),
        "route, regex elsewhere": case({re.compile(r"tasks"): "media"}),
        "route, exact before glob": case({"feed.*": "globs", NAME: "exact"}),
        "route, pairs": case([[("web.*", "web"), ("feed.*", "feeds")]]),
        "route, first table": case([{"feed.*": "first"}, {NAME: "second"}]),
        "route, second table": case([{"web.*": "first"}, {NAME: "second"}]),
        "route, empty dict": case([{NAME: {}}, {NAME: "second"}]),
        "route, function": case(by_function),
        "route, function, no answer": case(by_function, name="other"),
        "route, function, text": case((by_text,)),
        "route, function of task": case((by_task,), task={}),
        "route, function of no task": case((by_task, {NAME: "second"})),
        "route, function of arguments": case((by_argument,)),
        "route, function of options": case((by_options,), call={"priority": 9}),
        "route, functions in order": case([by_nothing, by_function, by_text]),
        "route, empty answer": case([by_emptiness, by_text]),
        "route, object": case(ByMethod()),
        "route, name of a function": case(f"{here}.by_function"),
        "route, name of a class": case(f"{here}:ByMethod"),
        "route, names in order": case((f"{here}.by_nothing", f"{here}.by_text")),
        "route, delivery mode": case({NAME: {"queue": "feeds", "delivery_mode": 1}}),
        "own router": Case(call={"router": OwnRouter()}),
        "own router, task known": Case(call={"router": OwnRouter()}, task={}),
    }


def precedence() -> dict[str, Case]:
    full = {
        "task_routes": {
            NAME: {"queue": "feeds", "exchange": "ex", "routing_key": "key", "priority": 3}
        }
    }
    return {
        "route, full": Case(full),
        "route, full, task known": Case(full, task={}),
        "call over route: queue": Case(full, {"queue": "mine"}),
        "call over route: key": Case(full, {"routing_key": "mine"}),
        "call over route: exchange": Case(full, {"exchange": "mine"}),
        "call over route: priority": Case(full, {"priority": 8}),
        "call over route: None": Case(full, {"queue": None, "routing_key": None}),
        "call over route: all": Case(
            full, {"queue": "q", "exchange": "e", "routing_key": "k", "priority": 1}
        ),
        "task over route: queue": Case(full, task={"queue": "mine"}),
        "task over route: priority": Case(full, task={"priority": 0}),
        "task over route: key": Case(full, task={"routing_key": "mine"}),
        "task over route: exchange": Case(full, task={"exchange": "mine"}),
        "call over task over route": Case(full, {"priority": 8}, task={"priority": 7}),
        "route without queue": Case({"task_routes": {NAME: {"priority": 4}}}),
        "route without queue, key": Case({"task_routes": {NAME: {"routing_key": "key"}}}),
    }


def priorities() -> dict[str, Case]:
    five = {"task_default_priority": 5}
    inherits = {"task_inherit_parent_priority": True}
    return {
        "priority": Case(call={"priority": 7}),
        "priority 0": Case(five, {"priority": 0}, task={}),
        "priority of the task": Case(task={"priority": 6}),
        "default priority": Case(five, task={}),
        "default priority, queue": Case(five, {"queue": "video"}, task={}),
        "default priority over route": Case(
            {**five, "task_routes": {NAME: {"queue": "q", "priority": 3}}}, task={}
        ),
        "inherited": Case(inherits, task={}, parent=7),
        "inherited, task unknown": Case(inherits, parent=7),
        "inherited, queue, task unknown": Case(inherits, {"queue": "video"}, parent=7),
        "inherited, but said": Case(inherits, {"priority": 2}, task={}, parent=7),
        "inherited, but default": Case({**inherits, **five}, task={}, parent=7),
        "inherited, but routed": Case(
            {**inherits, "task_routes": {NAME: {"queue": "q", "priority": 3}}}, task={}, parent=7
        ),
        "not inherited": Case(task={}, parent=7),
    }


def declared(kit: Any) -> dict[str, Case]:
    listed = {"task_queues": [kit.Queue("celery"), kit.Queue("video", alias="v")]}
    mapped = {
        "task_queues": {
            "celery": {"exchange": "celery", "routing_key": "celery"},
            "video": {"exchange": "media", "exchange_type": "topic", "binding_key": "media.#"},
        }
    }
    no_default = {"task_queues": [kit.Queue("video")]}
    mode = {"task_queues": [kit.Queue("celery", kit.Exchange("celery", delivery_mode="transient"))]}
    return {
        "listed": Case(listed),
        "listed, queue": Case(listed, {"queue": "video"}),
        "listed, alias": Case(listed, {"queue": "v"}),
        "listed, their common exchange": Case(
            listed, {"exchange": "celery", "routing_key": "celery"}
        ),
        "listed, refused": Case({**listed, "task_create_missing_queues": False}, {"queue": "mail"}),
        "listed, missing": Case(listed, {"queue": "mail"}),
        "listed, default missing": Case(no_default),
        "listed, default refused": Case({**no_default, "task_create_missing_queues": False}),
        "mapped": Case(mapped),
        "mapped, topic": Case(mapped, {"queue": "video", "routing_key": "media.video.new"}),
        "mapped, topic by its key": Case(mapped, {"queue": "video"}),
        "delivery mode of the exchange": Case(mode),
        "delivery mode over that of the exchange": Case(mode, {"delivery_mode": 2}),
        "queue as object": Case(call={"queue": kit.Queue("own")}),
        "queue as object, topic": Case(
            call={
                "queue": kit.Queue("own", kit.Exchange("o", "topic"), "a.*"),
                "routing_key": "a.b",
            }
        ),
        "queue as object in a route": Case(
            {"task_routes": {NAME: {"queue": kit.Queue("own", routing_key="k")}}}
        ),
    }


def exchanges(kit: Any) -> dict[str, Case]:
    media = kit.Exchange("media", type="topic")
    news = kit.Exchange("news", type="fanout")
    topics = {
        "task_queues": [
            kit.Queue("celery"),
            kit.Queue("video", media, routing_key="media.video.#"),
            kit.Queue("any", media, routing_key="media.*.new"),
            kit.Queue("all", media, routing_key="#"),
        ]
    }
    fans = {"task_queues": [kit.Queue("a", news), kit.Queue("b", news), kit.Queue("celery")]}
    direct = kit.Exchange("jobs", type="direct")
    bound = {
        "task_queues": [
            kit.Queue("celery"),
            kit.Queue("many", [kit.binding(direct, "one"), kit.binding(direct, "two")]),
            kit.Queue("one", direct, "one"),
        ]
    }
    broadcast = {
        "task_queues": [kit.Queue("celery"), kit.Broadcast("everyone", queue="bcast.me")],
        "task_routes": {NAME: {"queue": "everyone", "exchange": "everyone"}},
    }
    return {
        "topic": Case(topics, {"exchange": "media", "routing_key": "media.video.new"}),
        "topic, one": Case(topics, {"exchange": "media", "routing_key": "other"}),
        "topic, exchange as object": Case(
            topics, {"exchange": media, "routing_key": "media.audio.new"}
        ),
        "topic, by queue": Case(topics, {"queue": "video", "routing_key": "media.video.old.one"}),
        "topic, by queue alone": Case(topics, {"queue": "any"}),
        "topic, route": Case(
            {**topics, "task_routes": {NAME: {"queue": "video", "routing_key": "media.video.x"}}}
        ),
        "fanout": Case(fans, {"exchange": "news", "routing_key": "x"}),
        "fanout, by queue": Case(fans, {"queue": "a"}),
        "fanout, without a key": Case(fans, {"queue": "b", "exchange": "news"}),
        "exchange type": Case(bound, {"queue": "one", "exchange_type": "topic"}),
        "bindings, one": Case(bound, {"exchange": "jobs", "routing_key": "one"}),
        "bindings, two": Case(bound, {"exchange": "jobs", "routing_key": "two"}),
        "bindings, three": Case(bound, {"exchange": "jobs", "routing_key": "three"}),
        "bindings, by queue": Case(bound, {"queue": "many"}),
        "exchange alone": Case(bound, {"exchange": "jobs"}),
        "key alone": Case(bound, {"routing_key": "one"}),
        "exchange nobody knows": Case(call={"exchange": "nobody", "routing_key": "k"}),
        "exchange without a name": Case(call={"exchange": "", "routing_key": "video"}),
        "exchange without a name, queue": Case(
            topics, {"queue": "video", "exchange": "", "routing_key": "all"}
        ),
        "broadcast": Case(broadcast),
        "broadcast, by alias": Case(
            {"task_queues": broadcast["task_queues"]}, {"queue": "everyone"}
        ),
        "declare": Case(
            call={
                "exchange": "late",
                "routing_key": "k",
                "declare": [kit.Queue("late", kit.Exchange("late"), "k")],
            }
        ),
    }
