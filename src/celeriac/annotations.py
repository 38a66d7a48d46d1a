"""Annotations: options of tasks that are set from outside of their code (APP-36).

``task_annotations`` is a mapping of task names (``*`` is every task) to attributes, an object with
``annotate(task)`` or ``annotate_any()``, a dotted name of either, or a list of them. An attribute
that begins with ``@`` is a decorator for the method of that name.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from celeriac import imports
from celeriac.exceptions import ImproperlyConfigured


class Annotated(Protocol):
    """What can be annotated."""

    name: str

    def on_annotated(self) -> None:
        """Called when attributes of the class were changed."""


def annotate(task: Annotated, setting: Any) -> None:
    """Set what the setting says about a task on its class; its own name beats ``*``.

    Raises ImproperlyConfigured for a setting of another form.
    """
    if setting is None:
        return
    chosen: dict[str, Any] = {}
    for found in _matching(task, setting):
        chosen = {**found, **chosen}
    if not chosen:
        return
    kind = type(task)
    for name, value in chosen.items():
        if name.startswith("@"):
            _wrap(kind, name[1:], value)
        else:
            setattr(kind, name, value)
    task.on_annotated()


def _matching(task: Annotated, setting: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the attributes for a task, the more important first."""
    all_ = [_resolved(one) for one in (setting if isinstance(setting, list | tuple) else [setting])]
    for one in all_:
        named = one.get(task.name) if isinstance(one, Mapping) else _asked(one, "annotate", task)
        if named:
            yield named
    for one in all_:
        common = one.get("*") if isinstance(one, Mapping) else _asked(one, "annotate_any")
        if common:
            yield common


def _asked(annotation: Any, method: str, *args: Any) -> Mapping[str, Any] | None:
    ask = getattr(annotation, method, None)
    answer: Mapping[str, Any] | None = None if ask is None else ask(*args)
    return answer


def _resolved(annotation: Any) -> Any:
    if isinstance(annotation, str):
        annotation = imports.load(annotation)
        annotation = annotation() if isinstance(annotation, type) else annotation
    known = isinstance(annotation, Mapping) or any(
        hasattr(annotation, method) for method in ("annotate", "annotate_any")
    )
    if not known:
        raise ImproperlyConfigured(
            f"task_annotations holds {annotation!r}; write a mapping of task names to attributes, "
            "or an object with annotate(task)"
        )
    return annotation


def _wrap(kind: type[Any], name: str, decorator: Any) -> None:
    """Put a decorator around a method; applied again it replaces what it put there before."""
    owner = next(base for base in kind.__mro__ if name in vars(base))
    unbound = isinstance(vars(owner)[name], staticmethod)
    method = getattr(kind, name)
    inner = getattr(method, "_annotated", method)
    wrapped = decorator(inner)
    wrapped._annotated = inner
    setattr(kind, name, staticmethod(wrapped) if unbound else wrapped)
