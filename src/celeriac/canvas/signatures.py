"""Signatures: a call of one task as a value, which can be kept, sent, or linked to another call.

A signature is a dictionary of exactly the form that travels in messages, so that a received one
needs no decoding: ``task``, ``args``, ``kwargs``, ``options``, ``subtask_type``, ``immutable``. What
becomes of those that are linked to a task is ``follow_up``.
"""

from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from celeriac.current import get_current_app
from celeriac.exceptions import ImproperlyConfigured

Signatures = Any
"""A signature, or a list of them."""


class Signature(dict[str, Any]):
    """A call of one task that is not made yet (TASK-40, APP-22).

    ``task`` is a task, the name of one, or a dictionary that is a signature already. ``options`` are
    those of ``apply_async``, ``immutable`` ones take no result of an earlier task. Not thread-safe.
    """

    def __init__(
        self,
        task: Any = None,
        args: Any = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Any = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Any = None,
        **more: Any,
    ) -> None:
        self._app = app
        self._task = type
        if isinstance(task, Mapping):
            super().__init__(task)
            self._complete()
            return
        if not isinstance(task, str) and task is not None:
            self._task, task = task, task.name
        super().__init__(
            task=task,
            args=tuple(args or ()),
            kwargs=dict(kwargs or {}),
            options={**(options or {}), **more},
            subtask_type=subtask_type,
            immutable=immutable,
        )

    def _complete(self) -> None:
        """Fill in what a dictionary from elsewhere has left out."""
        defaults: dict[str, Any] = {"args": (), "kwargs": {}, "options": {}, "subtask_type": None}
        for name, value in {**defaults, "immutable": False}.items():
            if self.get(name) is None:
                self[name] = value
        if not isinstance(self.get("task"), str):
            raise ImproperlyConfigured(f"{dict(self)!r} is no signature: it names no task")

    # -- parts

    @property
    def name(self) -> str:
        """The name of the task."""
        return str(self["task"])

    task = name

    @property
    def args(self) -> Any:
        """The positional arguments."""
        return self["args"]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The keyword arguments."""
        kwargs: dict[str, Any] = self["kwargs"]
        return kwargs

    @property
    def options(self) -> dict[str, Any]:
        """The options of the call."""
        options: dict[str, Any] = self["options"]
        return options

    @property
    def immutable(self) -> bool:
        """Whether it takes no result of an earlier task."""
        return bool(self["immutable"])

    @property
    def id(self) -> str | None:
        """The id that the task will have, if that is decided."""
        return self.options.get("task_id")

    @property
    def app(self) -> Any:
        """The app that the call is made with: its own, that of its task, or the current one."""
        return self._app or getattr(self._task, "app", None) or get_current_app()

    @property
    def type(self) -> Any:
        """The task. Raises NotRegistered if the app has none of this name."""
        return self._task if self._task is not None else self.app.tasks[self.name]

    # -- calling

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task here and now, as a function."""
        args, kwargs, _ = self.merged(args, kwargs)
        return self.type(*args, **kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> Any:
        """Send the task; arguments given here come before those of the signature."""
        return self.apply_async(args, kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Send the task; what is given here is joined with what the signature says."""
        args, kwargs, options = self.merged(args, kwargs, options)
        # By name if the task is not here: who sends need not have its code.
        task = self._task if self._task is not None else self.app.tasks.get(self.name)
        if task is None:
            return self.app.send_task(self.name, args, kwargs, **options)
        return task.apply_async(args, kwargs, **options)

    def apply(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Run the task here and now, and return its EagerResult."""
        args, kwargs, options = self.merged(args, kwargs, options)
        return self.type.apply(args, kwargs, **options)

    def merged(
        self, args: Any = None, kwargs: Any = None, options: Mapping[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any], dict[str, Any]]:
        """Return the arguments and options of a call: given ones first, unless it is immutable."""
        given = {name: value for name, value in (options or {}).items() if value is not None}
        chosen = {**self.options, **given}
        if self.immutable:
            return tuple(self.args), dict(self.kwargs), chosen
        return (*(args or ()), *self.args), {**self.kwargs, **(kwargs or {})}, chosen

    # -- changing

    def clone(self, args: Any = None, kwargs: Any = None, **options: Any) -> "Signature":
        """Return a copy, joined with these arguments and options."""
        args, kwargs, options = self.merged(args, kwargs, options)
        copy = Signature(
            self.name,
            args,
            kwargs,
            deepcopy(options),
            type=self._task,
            subtask_type=self["subtask_type"],
            immutable=self.immutable,
            app=self._app,
        )
        copy.update({name: value for name, value in self.items() if name not in copy})
        return copy

    partial = clone

    def set(self, immutable: bool | None = None, **options: Any) -> "Signature":
        """Change options in place, and return the signature."""
        if immutable is not None:
            self.set_immutable(immutable)
        self.options.update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Say whether it takes the results of earlier tasks."""
        self["immutable"] = immutable

    def replace(
        self, args: Any = None, kwargs: Any = None, options: Mapping[str, Any] | None = None
    ) -> "Signature":
        """Return a copy with these parts in place of its own."""
        copy = self.clone()
        copy["args"] = copy.args if args is None else tuple(args)
        copy["kwargs"] = copy.kwargs if kwargs is None else dict(kwargs)
        copy["options"] = copy.options if options is None else dict(options)
        return copy

    def link(self, callback: Any) -> Any:
        """Have a signature called with the result; return it (CALL-09)."""
        return self._add_to("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Have a signature called when the task has failed; return it (CALL-10)."""
        return self._add_to("link_error", errback)

    def on_error(self, errback: Any) -> "Signature":
        """Like ``link_error``, but return this signature."""
        self.link_error(errback)
        return self

    def _add_to(self, option: str, signature: Any) -> Any:
        present = self.options.get(option) or []
        present = [present] if isinstance(present, Mapping) else list(present)
        if signature not in present:
            present.append(signature)
        self.options[option] = present
        return signature

    def __deepcopy__(self, memo: dict[int, Any]) -> "Signature":
        copy = Signature(deepcopy(dict(self), memo), app=self._app)
        copy._task = self._task
        return copy

    def __copy__(self) -> "Signature":
        return self.clone()

    def __reduce__(self) -> Any:
        # As the dictionary that it is: who receives it has another app, and may have no such class.
        return dict, (dict(self),)

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def __repr__(self) -> str:
        args = [repr(one) for one in self.args]
        args += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.name}({', '.join(args)})"


def signature(task: Any, *args: Any, **options: Any) -> Signature:
    """Return the signature of a task, of its name, or of a dictionary that is one (APP-22)."""
    return Signature(task, *args, **options)


subtask = signature


def maybe_signature(given: Any, app: Any = None, clone: bool = False) -> Any:
    """Return a signature of what may be one as a dictionary; None stays None."""
    if given is None:
        return None
    made = given if isinstance(given, Signature) else Signature(given, app=app)
    if app is not None:
        made._app = app
    return made.clone() if clone and made is given else made


maybe_subtask = maybe_signature

Maker = Callable[..., Signature]
