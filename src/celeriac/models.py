"""pydantic models in and out of tasks (TASK-47, TASK-48). Loaded for tasks with ``pydantic=True``.

In the worker, arguments that are annotated with a model are validated, and a model that is returned
is dumped. In the caller a model may be passed, if what it is dumped to gives an equal model again;
any other is left to the serializer.
"""

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import wraps
from types import UnionType
from typing import Any, Union, get_args, get_origin

from celeriac.exceptions import ImproperlyConfigured

try:
    from pydantic import BaseModel
except ImportError as error:
    raise ImproperlyConfigured(
        "pydantic=True needs the package pydantic; install celeriac[pydantic]"
    ) from error


class Models:
    """The models of one task's parameters and return value. Immutable, thread-safe."""

    def __init__(
        self,
        fun: Callable[..., Any],
        *,
        bind: bool,
        strict: bool,
        context: Mapping[str, Any],
        dump: Mapping[str, Any],
    ) -> None:
        self.original = fun
        self._bind = bind
        self._strict = strict
        self._context = dict(context)
        self._dump_options = {"mode": "json", **dump}
        self._signature = inspect.signature(fun)
        hints = _hints(fun, self._signature)
        self._returns = _model_in(hints.get("return"))
        self._models = {
            name: model for name, hint in hints.items() if (model := _model_in(hint)) is not None
        }
        self._models.pop("return", None)
        self.function = self._wrapped()

    def _wrapped(self) -> Callable[..., Any]:
        fun = self.original

        @wraps(fun)
        def validated(*args: Any, **kwargs: Any) -> Any:
            given = self._signature.bind(*args, **kwargs)
            for name, value in given.arguments.items():
                if value is not None and name in self._models:
                    given.arguments[name] = self._validated(name, value)
            return self._returned(fun(*given.args, **given.kwargs))

        return validated

    def _validated(self, name: str, value: Any) -> Any:
        model = self._models[name]
        return model.model_validate(value, strict=self._strict, context=self._context)

    def _returned(self, value: Any) -> Any:
        """Return what a task returned: dumped, if it is the model that was announced."""
        expected = self._returns
        if expected is not None and isinstance(value, expected):
            return value.model_dump(**self._dump_options)
        return value

    def dump(self, args: Any, kwargs: Mapping[str, Any]) -> tuple[Any, Mapping[str, Any]]:
        """Return the arguments of a call with models as data, where the task gets equal ones."""
        if not any(isinstance(value, BaseModel) for value in (*args, *kwargs.values())):
            return args, kwargs
        names = [
            name
            for name, parameter in self._signature.parameters.items()
            if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
        ][1 if self._bind else 0 :]
        names += [""] * (len(args) - len(names))
        positional = [self._dumped(*pair) for pair in zip(names, args, strict=False)]
        return type(args)(positional), {k: self._dumped(k, v) for k, v in kwargs.items()}

    def _dumped(self, name: str, value: Any) -> Any:
        if name not in self._models or not isinstance(value, BaseModel):
            return value
        if hasattr(type(value), "__json__"):
            return value  # It says itself how it is written.
        try:
            data = value.model_dump(**self._dump_options)
            return data if self._validated(name, data) == value else value
        except Exception:  # noqa: BLE001 - validators that work in the worker only: left as it is
            return value


def with_models(
    fun: Callable[..., Any], base: Any, name: str, bind: bool, options: Mapping[str, Any]
) -> Models:
    """Return the models of a task that is being made, as its options and its base class say."""

    def option(key: str) -> Any:
        return options.get(key, getattr(base, key))

    context = {
        **(option("pydantic_context") or {}),
        "celery_app": getattr(base, "app", None),
        "celery_task_name": name,
    }
    return Models(
        fun,
        bind=bind,
        strict=bool(option("pydantic_strict")),
        context=context,
        dump=option("pydantic_dump_kwargs") or {},
    )


def _hints(fun: Callable[..., Any], signature: inspect.Signature) -> dict[str, Any]:
    """Return the annotations of a function; those that cannot be looked up stay text."""
    try:
        return typing.get_type_hints(fun)
    except (NameError, AttributeError, TypeError):
        hints = {name: one.annotation for name, one in signature.parameters.items()}
        return {**hints, "return": signature.return_annotation}


def _model_in(hint: Any) -> type[BaseModel] | None:
    """Return the model that an annotation names, also as ``Model | None``."""
    if get_origin(hint) in (Union, UnionType):
        inner = [one for one in get_args(hint) if one is not type(None)]
        hint = inner[0] if len(inner) == 1 else None
    return hint if isinstance(hint, type) and issubclass(hint, BaseModel) else None
