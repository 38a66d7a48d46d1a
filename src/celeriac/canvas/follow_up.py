"""What follows from a run by its links: callbacks and the next step of a chain, or errbacks.

A callback becomes a message that goes out in the same commit as the outcome, so that it is neither
lost nor sent twice (CALL-09). An errback whose task takes a request, an exception and a traceback is
called on the spot, any other becomes a message with the id of the failed task (CALL-10, QUIRK-23).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from celeriac.call_options import Options, arguments, changed
from celeriac.canvas.signatures import Signature
from celeriac.client import Client, note_child
from celeriac.context import Context
from celeriac.exceptions import ImproperlyConfigured
from celeriac.message import Publish
from celeriac.task import Task
from celeriac.wire.links import listed

log = logging.getLogger("celeriac.execution")


class LinkHost(Protocol):
    """What links need of their app."""

    @property
    def client(self) -> Client:
        """The road out."""
        ...

    def known_task(self, name: str) -> Task[Any, Any] | None:
        """Return the task of this name, None if there is none here."""
        ...


def callbacks(app: LinkHost, request: Context, value: Any) -> list[Publish]:
    """Return the messages for the callbacks of a run that returned this value, and for its chain.

    Raises EncodeError for a value or signature that cannot be written.
    """
    links = [Signature(one, app=app) for one in listed(request.callbacks)]
    publishes = [compose(app, request, one, (value,)) for one in links]
    if request.chain:
        # The next step is the last; it gets the others, and the value.
        *rest, step = request.chain
        root, signature = request.root_id or request.id, Signature(step, app=app)
        again = compose(app, request, signature, (value,), chain=rest or None, root_id=root)
        publishes.append(again)
    for publish in publishes:
        note_child(publish.message.id, request)
    return publishes


def errbacks(app: LinkHost, request: Context, error: BaseException, text: str) -> list[Publish]:
    """Call the errbacks that want it; return the messages for the others.

    ``text`` is the traceback. What an errback that is called raises, and what keeps a message from
    being made, is logged: the failure itself must get through.
    """
    publishes: list[Publish] = []

    def keep(one: Signature) -> None:
        root = request.root_id or request.id
        publishes.append(compose(app, request, one, (request.id,), root_id=root))

    _each_errback(app, request, (request, error, text), keep)
    return publishes


def eager_callbacks(app: LinkHost, request: Context, value: Any) -> None:
    """Send the callbacks of a run that was eager; where tasks are called eagerly, run them."""
    for link in listed(request.callbacks):
        Signature(link, app=app).apply_async((value,), parent_id=request.id)


def eager_errbacks(app: LinkHost, request: Context, error: BaseException, text: str) -> None:
    """Run the errbacks of a run that was eager and failed; what they raise is logged."""
    _each_errback(app, request, (request, error, text), lambda one: one.apply((request.id,)))


def _each_errback(
    app: LinkHost, request: Context, told: tuple[Any, ...], otherwise: Callable[[Signature], Any]
) -> None:
    """Call each errback that takes what is told, and do something else with the others."""
    for link in listed(request.errbacks):
        try:
            one = Signature(link, app=app)
            task = app.known_task(one.name)
            if task is not None and takes_exception(task, one):
                args, kwargs, _ = one.merged(told)
                task(*args, **kwargs)
            else:
                otherwise(one)
        except Exception:  # user code, or a signature that somebody else wrote
            name = link.get("task") if isinstance(link, Mapping) else link
            log.exception("errback %s of task %s[%s] failed", name, request.task, request.id)


def compose(
    app: LinkHost, request: Context, signature: Signature, partial: Sequence[Any], **more: Any
) -> Publish:
    """Return the message that makes the call of a signature, as a child of this run.

    Raises ImproperlyConfigured for a signature of several tasks.
    """
    if signature["subtask_type"] is not None:
        raise ImproperlyConfigured(
            f"the link {signature.name} is a {signature['subtask_type']}, which this version cannot "
            "send; link the signature of a single task"
        )
    args, kwargs, given = signature.merged(partial)
    task = app.known_task(signature.name)
    own = Options(parent_id=request.id) if task is None else task.options
    chosen = changed(own, _known(given) | {"parent_id": request.id} | more)
    client = app.client
    return client.announced(client.compose(signature.name, *arguments(args, kwargs), chosen))


def takes_exception(task: Task[Any, Any], signature: Signature) -> bool:
    """Whether an errback takes a request, an exception and a traceback: more than one argument.

    Arguments that the signature brings along do not count; a bound task never takes them.
    """
    code = getattr(task.run, "__code__", None)
    if code is None or hasattr(task.run, "__self__"):
        return False
    names = code.co_varnames[len(signature.args) : code.co_argcount]
    open_ = [name for name in names if name not in signature.kwargs]
    takes_any = bool(code.co_flags & 0x04)  # CO_VARARGS
    return takes_any or len(open_) > 1


def _known(options: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out options that a signature from elsewhere may have and that mean nothing here."""
    names = Options.__struct_fields__
    return {name: value for name, value in options.items() if name in names}
