"""The parameters of a task's function: whether arguments fit, and how a retry may change them.

Python itself does the checking, so that its own messages are raised: by calling an empty function
with the same parameters.
"""

from collections.abc import Callable, Mapping
from types import CodeType, FunctionType
from typing import Any

from celeriac.context import Context

_OPTIMIZED, _NEWLOCALS, _VARARGS, _VARKEYWORDS = 0x1, 0x2, 0x4, 0x8


def _nothing() -> None:
    """Lend its code to the functions that check."""


def parameter_check(fun: Any, *, bound: bool) -> Callable[..., Any] | None:
    """Return a function that raises TypeError for arguments that do not fit ``fun`` (TASK-22).

    ``bound`` says that its first parameter is given by somebody else. None for what cannot be looked
    into (functions written in C).
    """
    code = getattr(fun, "__code__", None)
    if not isinstance(code, CodeType):
        return None
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & _VARARGS) + bool(code.co_flags & _VARKEYWORDS)
    names = code.co_varnames[:count]
    skip = 1 if bound and code.co_argcount else 0
    empty = _nothing.__code__.replace(
        co_argcount=code.co_argcount - skip,
        co_posonlyargcount=max(0, code.co_posonlyargcount - skip),
        co_kwonlyargcount=code.co_kwonlyargcount,
        co_nlocals=count - skip,
        co_varnames=names[skip:],
        co_flags=_OPTIMIZED | _NEWLOCALS | (code.co_flags & (_VARARGS | _VARKEYWORDS)),
        co_name=code.co_name,
        co_qualname=code.co_name,
        co_filename=code.co_filename,
    )
    check = FunctionType(empty, {}, code.co_name)
    check.__defaults__ = _defaults(fun, code.co_argcount - skip)
    check.__kwdefaults__ = fun.__kwdefaults__
    return check


def _defaults(fun: Any, count: int) -> tuple[Any, ...] | None:
    """Return the defaults that belong to the last ``count`` positional parameters."""
    defaults: tuple[Any, ...] | None = fun.__defaults__
    return defaults if defaults is None or len(defaults) <= count else defaults[-count or None :]


def merged_arguments(
    run: Any, request: Context, args: Any, kwargs: Mapping[str, Any] | None
) -> tuple[Any, Any]:
    """Return the arguments of a retry, of which a caller may have given either half anew.

    What was given otherwise the first time gives way: a parameter that is now given by position is
    no keyword any more, and the other way round.
    """
    names = _positional_names(run)
    if kwargs is None:
        if args is None:
            return request.args, request.kwargs
        given = set(names[: len(args)])
        return args, {k: v for k, v in request.kwargs.items() if k not in given}
    if args is not None:
        return args, kwargs
    by_position = names[: len(request.args)]
    kept = [kwargs.get(name, value) for name, value in zip(by_position, request.args, strict=False)]
    left = {name: value for name, value in kwargs.items() if name not in by_position}
    return [*kept, *request.args[len(by_position) :]], left


def _positional_names(run: Any) -> tuple[str, ...]:
    """Return names of the positional parameters, in their order; empty for those without a keyword."""
    fun = getattr(run, "__func__", run)
    code = getattr(fun, "__code__", None)
    if not isinstance(code, CodeType):
        return ()
    names = code.co_varnames[: code.co_argcount]
    nameless = code.co_posonlyargcount
    return ("",) * nameless + names[nameless:] if fun is run else _positional_names(fun)[1:]
