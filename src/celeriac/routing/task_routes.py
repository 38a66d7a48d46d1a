"""The setting ``task_routes``: tables, functions, objects and names of them, asked in order (ROUTE-02).

It answers what a name of a task is routed to; what the answer means is the router's business.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any

from celeriac import imports
from celeriac.exceptions import ImproperlyConfigured
from celeriac.queues import is_queue

Answer = dict[str, Any]


class TaskRoutes:
    """All routes of an app. Safe to use from several threads."""

    def __init__(self, routes: Any) -> None:
        if routes is None:
            routes = ()
        elif not isinstance(routes, list | tuple):
            routes = (routes,)
        self._routes = [_prepared(route) for route in routes]

    @property
    def static(self) -> bool:
        """Whether the name of a task alone decides."""
        return all(isinstance(route, RouteTable) for route in self._routes)

    def answer(
        self, name: str, args: Any, kwargs: Mapping[str, Any], options: Answer, task: Any
    ) -> Answer | None:
        """Return the options of the first route that has an answer, as a dict of its own, else None.

        What functions and objects of the user raise comes through. Raises ImproperlyConfigured for
        an answer that is none, and for a name that leads nowhere.
        """
        for index, prepared in enumerate(self._routes):
            route = prepared
            if isinstance(route, str):
                route = self._routes[index] = _loaded(route)
            if isinstance(route, RouteTable):
                answer = route.answer(name)
            elif hasattr(route, "route_for_task"):
                answer = route.route_for_task(name, args, kwargs)
            else:
                answer = route(name, args, kwargs, options, task=task)
            if answer is not None:
                return _as_options(answer, name)
        return None


class RouteTable:
    """Routes by name: exact names first, then patterns in their order."""

    def __init__(self, table: Mapping[Any, Any] | Iterable[Any]) -> None:
        self._exact: dict[str, Any] = {}
        self._patterns: list[tuple[re.Pattern[str], Any]] = []
        for key, value in table.items() if isinstance(table, Mapping) else _pairs(table):
            if isinstance(key, re.Pattern):
                self._patterns.append((key, value))
            elif "*" in key:
                self._patterns.append((re.compile(fnmatch.translate(key)), value))
            else:
                self._exact[key] = value

    def answer(self, name: str) -> Any:
        """Return what the table says of a task, None if that is nothing."""
        if name in self._exact:
            return self._exact[name]
        return next((value for pattern, value in self._patterns if pattern.match(name)), None)


def _pairs(table: Iterable[Any]) -> list[tuple[Any, Any]]:
    pairs = list(table)
    for pair in pairs:
        if not (isinstance(pair, list | tuple) and len(pair) == 2 and _is_key(pair[0])):
            raise ImproperlyConfigured(
                f"task_routes holds {pair!r} where a pair of name and route belongs; write a dict, or "
                "[[(name, route), ...]]"
            )
    return [(key, value) for key, value in pairs]


def _is_key(value: object) -> bool:
    return isinstance(value, str | re.Pattern)


def _prepared(route: Any) -> Any:
    """Return a table, something to ask, or the name of such a thing, to be loaded when asked."""
    if isinstance(route, str):
        return route
    if isinstance(route, Mapping | list | tuple):
        return RouteTable(route)
    if isinstance(route, type) and hasattr(route, "route_for_task"):
        return route()
    if hasattr(route, "route_for_task") or callable(route):
        return route
    raise ImproperlyConfigured(
        f"task_routes holds {route!r}, which routes nothing; write a dict, a function, an object with "
        "route_for_task, or the dotted name of one"
    )


def _loaded(path: str) -> Any:
    try:
        route = imports.load(path)
    except (ImportError, AttributeError) as error:
        raise ImproperlyConfigured(
            f"task_routes names {path!r}, which cannot be loaded: {error}; write module.name or "
            "module:name"
        ) from error
    if isinstance(route, str):
        raise ImproperlyConfigured(f"task_routes names {path!r}, which is the text {route!r}")
    return _prepared(route)


def _as_options(answer: Any, name: str) -> Answer:
    if isinstance(answer, Mapping):
        return dict(answer)
    if isinstance(answer, str):
        return {"queue": answer} if answer else {}
    if is_queue(answer):
        return {"queue": answer}
    raise ImproperlyConfigured(
        f"the route of task {name!r} is {answer!r}; write the name of a queue, a Queue, or a dict "
        "of options"
    )
