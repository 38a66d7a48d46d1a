"""Result documents: what a store keeps about one task, and how exceptions travel in it.

Keys, their order and which of them are present are Celery's (RES-15, RES-16). Reading an exception
looks its class up among the modules that are loaded already; nothing is imported (SEC-06). Pure and
thread-safe. Groups, chords and how a document is stored are not known here.
"""

import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import msgspec

from celeriac import exceptions
from celeriac.exceptions import DecodeError, EncodeError, SecurityError
from celeriac.wire import json
from celeriac.wire.repr import saferepr

__all__ = ["ResultDocument", "decode", "encode", "exception_document", "rebuild_exception"]


class ResultDocument(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one task.

    ``result`` is the value, the progress of ``update_state``, or an exception document.
    ``date_done`` is ISO 8601 text, None until the task is done. ``name`` to ``queue`` and the
    stamps are written only with ``result_extended``. ``children`` of None means that nobody knew
    them.
    """

    status: str
    task_id: str | None = None
    result: Any = None
    traceback: str | None = None
    children: Sequence[Any] | None = ()
    date_done: str | None = None
    group_id: str | None = None
    parent_id: str | None = None
    name: str | None = None
    args: Any = None
    kwargs: Any = None
    worker: str | None = None
    retries: int | None = None
    queue: str | None = None
    stamped_headers: Sequence[str] | None = None
    stamps: Mapping[str, Any] | None = None


_DOCUMENT = msgspec.json.Decoder(ResultDocument)
_COMPRESSED = b"\x00celery-compressed\x00"

# Keys that need more than the fast decoder: typed values, and stamps that lie flat in the document.
_SLOW = (b'"__type__"', b'"stamped_headers"', b'"stamps"')


# -- documents --


def encode(document: ResultDocument, extended: bool = False) -> bytes:
    """Return the document as JSON; ``extended`` writes the fields about the call too.

    Raises EncodeError naming the path to what cannot be written, such as ``result["when"]``.
    """
    mapping: dict[str, Any] = {
        "status": document.status,
        "result": document.result,
        "traceback": document.traceback,
        "children": document.children,
        "date_done": document.date_done,
    }
    if document.group_id:
        mapping["group_id"] = document.group_id
    if document.parent_id:
        mapping["parent_id"] = document.parent_id
    if extended:
        mapping |= _about_call(document)
    mapping["task_id"] = document.task_id
    return json.encode(mapping, tuple(mapping))


def _about_call(document: ResultDocument) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": document.name,
        "args": document.args,
        "kwargs": document.kwargs,
        "worker": document.worker,
        "retries": document.retries,
        "queue": document.queue,
    }
    if document.stamps:
        names = document.stamped_headers or ()
        fields["stamped_headers"] = document.stamped_headers
        fields |= {name: stamp for name, stamp in document.stamps.items() if name in names}
    return fields


def decode(data: bytes) -> ResultDocument:
    """Return what a stored document says; unknown fields are skipped.

    Raises DecodeError if it is not a result document.
    """
    if not any(key in data for key in _SLOW):
        try:
            return _DOCUMENT.decode(data)
        except (ValueError, RecursionError):
            pass  # what Celery accepts and the fast decoder refuses, or an error to explain
    return _decode_slowly(data)


def _decode_slowly(data: bytes) -> ResultDocument:
    if data.startswith(_COMPRESSED):
        raise DecodeError("cannot read result document: it is compressed (result_compression)")
    mapping = json.decode(data)
    if not isinstance(mapping, dict):
        raise DecodeError(f"cannot read result document: {saferepr(mapping, 80)} is not a mapping")
    names = mapping.get("stamped_headers")
    mapping.pop("stamps", None)
    if isinstance(names, list):
        known = [name for name in names if isinstance(name, str) and name in mapping]
        mapping["stamps"] = {name: mapping[name] for name in known}
    try:
        return msgspec.convert(mapping, ResultDocument)
    except msgspec.ValidationError as error:
        raise DecodeError(f"cannot read result document: {error}") from error


# -- exceptions, written --

_CELERY = "celery.exceptions"

# Where Celery's clients find the classes whose names we share. A class of ours that is not listed
# is stored under our own module, and shows there as a made-up class of that name.
_HOMES: dict[str, tuple[str, ...]] = {
    _CELERY: (
        "AlreadyRegistered",
        "AlwaysEagerIgnored",
        "BackendError",
        "BackendGetMetaError",
        "BackendStoreError",
        "CeleryError",
        "ChordError",
        "DuplicateTaskNameWarning",
        "Ignore",
        "ImproperlyConfigured",
        "IncompleteStream",
        "InvalidTaskError",
        "MaxRetriesExceededError",
        "NotRegistered",
        "QueueNotFound",
        "Reject",
        "Retry",
        "SecurityError",
        "TaskError",
        "TaskPredicate",
        "TaskRevokedError",
        "TimeoutError",
    ),
    "billiard.exceptions": (
        "SoftTimeLimitExceeded",
        "Terminated",
        "TimeLimitExceeded",
        "WorkerLostError",
    ),
    "kombu.exceptions": (
        "ContentDisallowed",
        "DecodeError",
        "EncodeError",
        "OperationalError",
        "SerializationError",
    ),
}
_OURS = vars(exceptions)
_ADDRESSES: dict[type, tuple[str, str]] = {
    _OURS[name]: (module, name)
    for module, names in _HOMES.items()
    for name in names
    if name in _OURS
}

# Reads the arguments of an exception even if its class has given ``args`` another meaning.
_ARGS = vars(BaseException)["args"].__get__

# How Celery's process pool writes an exception that cannot be pickled: module, name, args, text.
_WRAPPER = ("celery.utils.serialization", "UnpickleableExceptionWrapper")


def exception_document(error: BaseException) -> dict[str, Any]:
    """Return the form in which an exception is stored. Never raises.

    Arguments that cannot be written are replaced by their ``repr()``.
    """
    kind = type(error)
    module, name = _ADDRESSES.get(kind) or (kind.__module__, kind.__qualname__)
    return {"exc_type": name, "exc_message": _writable(_ARGS(error)), "exc_module": module}


def _writable(args: Sequence[Any]) -> list[Any]:
    try:
        json.encode(args)
    except EncodeError:
        return [_writable_one(arg) for arg in args]
    return list(args)


def _writable_one(arg: Any) -> Any:
    try:
        json.encode(arg)
    except EncodeError:
        return saferepr(arg, depth=6)
    return arg


# -- exceptions, read --


def rebuild_exception(document: Any) -> BaseException:
    """Return the exception that a document describes (RES-16).

    Its class is taken from the modules that are loaded already and is never imported; a class that
    is not found is made up under the same name. If the class refuses the arguments, its constructor
    is left out: attributes that it would have set are missing then.

    Raises SecurityError if the name leads to something that is no exception, and DecodeError if the
    document has no ``exc_type``.
    """
    if not isinstance(document, Mapping) or not isinstance(document.get("exc_type"), str):
        raise DecodeError(
            f"cannot rebuild an exception from {saferepr(document, 80)}: it has no exc_type. "
            "A task that sets FAILURE with update_state() should raise an exception instead"
        )
    name, module = document["exc_type"], document.get("exc_module")
    message = document.get("exc_message", "")
    args = tuple(message) if isinstance(message, list | tuple) else (message,)
    if (module, name) == _WRAPPER:
        module, name, args = _unwrapped(args)
    return _rebuilt(module if isinstance(module, str) else _CELERY, name, args)


def _unwrapped(args: tuple[Any, ...]) -> tuple[Any, str, tuple[Any, ...]]:
    """Return module, name and args of the exception inside a wrapper, or those of the wrapper."""
    match args:
        case (str(module), str(name), list(inner), *_):
            return module, name, tuple(inner)
        case _:
            return *_WRAPPER, args


def _rebuilt(module: str, name: str, args: tuple[Any, ...]) -> BaseException:
    found = _find(module, name)
    if found is None:
        return _synthetic(module, name)(*args)
    if isinstance(found, type) and issubclass(found, BaseException):
        return _instance(found, args)
    shown = saferepr(f"{module}.{name}", 160)
    raise SecurityError(f"refused to rebuild an exception: {shown} is no exception class")


def _find(module: str, name: str) -> Any:
    """Return what the name means to us, or None; names of Celery's are looked for in ours first."""
    ours = _look_up(exceptions.__name__, name) if module in _HOMES else None
    return _look_up(module, name) if ours is None else ours


def _look_up(module: str, name: str) -> Any:
    """Return what the dotted name means in a loaded module, or None.

    Namespaces are read directly: ``getattr`` could run a module's ``__getattr__``, which may
    import.
    """
    place: Any = sys.modules.get(module)
    if not issubclass(type(place), ModuleType):  # isinstance() would ask the object itself
        return None
    space: Mapping[str, Any] = ModuleType.__getattribute__(place, "__dict__")
    for step in name.split("."):
        place = space.get(step)
        if not isinstance(place, type):
            return place
        space = vars(place)
    return place


@lru_cache(maxsize=256)
def _synthetic(module: str, name: str) -> type[Exception]:
    """Return a class that stands for one that this process has not loaded."""
    short = name.rpartition(".")[2].encode("ascii", "backslashreplace").decode().replace("\0", "")
    return type(short, (Exception,), {"__module__": module, "__qualname__": name})


def _instance(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Return an instance of the class, without its constructor if that refuses the arguments."""
    try:
        return kind(*args)
    except Exception:  # noqa: BLE001 - the user's constructor may want other arguments
        pass
    try:
        error = kind.__new__(kind, *args)
        error.args = args
        return error
    except Exception:  # noqa: BLE001 - as above; an exception group refuses what is no exception
        return _synthetic(kind.__module__, kind.__qualname__)(*args)
