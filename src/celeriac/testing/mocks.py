"""Mocks of received messages, for tests of code that handles messages itself (TESTH-06).

They have what such code reads (headers, body, payload, content type), and are mocks for the rest.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from unittest.mock import Mock

from celeriac import clock
from celeriac.app import Celery
from celeriac.task_ids import new_id
from celeriac.wire import json
from celeriac.wire import task as wire


class SignatureLike(Protocol):
    """What is read of a signature."""

    task: Any
    args: Any
    kwargs: Any
    options: Any

    @property
    def id(self) -> Any:
        """The id of its task, once it has one."""
        ...

    def freeze(self) -> Any:
        """Give it an id."""


def TaskMessage(
    name: str,
    id: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chain: Sequence[Any] | None = None,
    shadow: str | None = None,
    utc: bool | None = None,
    **options: Any,
) -> Any:
    """Return a task message of protocol 2; ``options`` become headers."""
    id, kwargs = id or new_id(), dict(kwargs or {})
    message = _message(id)
    message.headers = {"id": id, "task": name, "shadow": shadow, **options}
    embed = {"callbacks": callbacks, "errbacks": errbacks, "chain": chain}
    message.payload = (args, kwargs, embed)
    message.body = wire.encode_body(list(args), kwargs, callbacks, errbacks, chain).decode()
    return message


def TaskMessage1(
    name: str,
    id: str | None = None,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    callbacks: Sequence[Any] | None = None,
    errbacks: Sequence[Any] | None = None,
    chain: Sequence[Any] | None = None,
    **options: Any,
) -> Any:
    """Return a task message of protocol 1: everything is in its body, ``options`` too."""
    id = id or new_id()
    message = _message(id)
    message.headers = {}
    message.payload = {
        "task": name,
        "id": id,
        "args": args,
        "kwargs": dict(kwargs or {}),
        "callbacks": callbacks,
        "errbacks": errbacks,
        **options,
    }
    message.body = json.encode(message.payload, "body").decode()
    return message


def task_message_from_sig(
    app: Celery, sig: SignatureLike, utc: bool = True, TaskMessage: Callable[..., Any] = TaskMessage
) -> Any:
    """Return the message that a signature stands for; the signature gets an id by it."""
    sig.freeze()
    options = {name: value for name, value in sig.options.items() if name != "task_id"}
    callbacks, errbacks = (_mappings(options.pop(name, None)) for name in ("link", "link_error"))
    countdown, eta = options.pop("countdown", None), options.pop("eta", None)
    return TaskMessage(
        sig.task,
        id=sig.id,
        args=sig.args,
        kwargs=sig.kwargs,
        callbacks=callbacks,
        errbacks=errbacks,
        eta=_moment(countdown or eta),
        expires=_moment(options.pop("expires", None)),
        utc=utc,
        **options,
    )


class _ContextMock(Mock):
    """The two methods must be there in the class; an instance's do not make a ``with``."""

    def __enter__(self) -> Any: ...

    def __exit__(self, *_: object) -> None: ...


def ContextMock(*args: Any, **kwargs: Any) -> Any:
    """Return a mock that can be used with ``with``, and yields itself there."""
    mock = _ContextMock(*args, **kwargs)
    for method, answer in (("__enter__", mock), ("__exit__", None)):
        mock.attach_mock(_ContextMock(return_value=answer), method)
    return mock


def _message(id: str) -> Any:
    message = Mock(name=f"TaskMessage-{id}")
    message.content_type, message.content_encoding = "application/json", "utf-8"
    return message


def _mappings(signatures: Sequence[Any] | None) -> list[dict[str, Any]] | None:
    return [dict(signature) for signature in signatures] if signatures else None


def _moment(when: float | datetime | str | None) -> str | None:
    """Return a moment, or a number of seconds from now, as a message names it."""
    if isinstance(when, int | float):
        return clock.iso(clock.wall() + when)
    return when.isoformat() if isinstance(when, datetime) else when
