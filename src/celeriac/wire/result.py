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

from celeriac import exceptions, imports
from celeriac.exceptions import DecodeError, EncodeError, SecurityError
from celeriac.wire import homes, json, serializers
from celeriac.wire.repr import saferepr

__all__ = [
    "ResultDocument",
    "decode",
    "encode",
    "encode_failure",
    "exception_document",
    "rebuild_exception",
    "stored_exception",
]


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
_HEAD = b'{"status": %b, "result": %b, "traceback": %b, "children": %b, "date_done": %b'
_ABOUT_CALL = b', "name": %b, %b, "worker": %b, "retries": %b, "queue": %b'
_known = lru_cache(maxsize=1024, typed=True)(json.encode)
"""Writes what is the same for many tasks: names of tasks, queues and workers, and states."""
_COMPRESSED = b"\x00celery-compressed\x00"

# Keys that need more than the fast decoder: typed values, and stamps that lie flat in the document.
_SLOW = (b'"__type__"', b'"stamped_headers"', b'"stamps"')


# -- documents --


def encode(
    document: ResultDocument,
    extended: bool = False,
    serializer: str = "json",
    compression: str | None = None,
    arguments: bytes = b"",
) -> bytes:
    """Return the document in the form of a serializer, compressed if a method is named.

    ``extended`` writes the fields about the call too; arguments that this serializer cannot write
    are shown as text there. JSON takes them from ``arguments`` (see ``task.Body``), if there are some:
    what has been read as it is need not be written anew. Raises EncodeError naming the path to what
    cannot be written, such as ``result["when"]``.
    """
    if serializer == "json" and not document.stamps:
        data = _in_pieces(document, extended, arguments)
    else:
        data = _written(_mapping(document, extended, serializer), serializer)
    return data if compression is None else _compressed(data, compression)


def _in_pieces(document: ResultDocument, extended: bool, arguments: bytes) -> bytes:
    """Return the JSON of ``_mapping``, piece by piece.

    Most pieces are the same for many tasks, or next to nothing, and there is a document for each
    task: written in one go it took twice as long.
    """
    pieces = _HEAD % (
        _known(document.status),
        json.encode(document.result),
        b"null" if document.traceback is None else json.encode(document.traceback),
        b"[]" if document.children == [] else json.encode(document.children, "children"),
        b"null" if document.date_done is None else json.text(document.date_done),
    )
    if document.group_id:
        pieces += b', "group_id": ' + json.encode(document.group_id)
    if document.parent_id:
        pieces += b', "parent_id": ' + json.encode(document.parent_id)
    if extended:
        pieces += _ABOUT_CALL % (
            _known(document.name),
            arguments or _written(_arguments(document), "json")[1:-1],
            _known(document.worker),
            _known(document.retries),
            _known(document.queue),
        )
    return b'%b, "task_id": %b}' % (pieces, json.encode(document.task_id))


def _arguments(document: ResultDocument) -> dict[str, Any]:
    return {"args": document.args, "kwargs": document.kwargs}


def _mapping(document: ResultDocument, extended: bool, serializer: str) -> dict[str, Any]:
    traceback = document.traceback
    if traceback is not None and serializer != "json":
        # Lone surrogates, which a source file may well contain, have no form outside of JSON.
        traceback = traceback.encode(errors="backslashreplace").decode()
    mapping: dict[str, Any] = {
        "status": document.status,
        "result": document.result,
        "traceback": traceback,
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
    return mapping


def encode_failure(
    document: ResultDocument,
    error: BaseException,
    extended: bool = False,
    serializer: str = "json",
    compression: str | None = None,
) -> bytes:
    """Return the document with this exception as its result. Never raises.

    A serializer or a compression that refuses even this (it is gone, or it is the user's own and
    raises) is left out: a document that only some can read is better than a run without an outcome.
    """
    try:
        result = stored_exception(error, serializer)
        stored = msgspec.structs.replace(document, result=result)
        return encode(stored, extended, serializer, compression)
    except EncodeError:
        stored = msgspec.structs.replace(document, result=exception_document(error))
        return encode(stored, extended)


def _written(fields: dict[str, Any], serializer: str) -> bytes:
    """Return fields in this form; arguments that it cannot write are shown as text."""
    try:
        return serializers.encode(fields, serializer, tuple(fields)).data
    except EncodeError:
        if not _shows_arguments(fields, serializer):
            raise
        return serializers.encode(fields, serializer, tuple(fields)).data


def _shows_arguments(fields: dict[str, Any], serializer: str) -> bool:
    """Replace arguments that cannot be written by their text; whether there were any."""
    changed = False
    for name in ("args", "kwargs"):
        try:
            serializers.encode(fields.get(name), serializer)
        except EncodeError:
            fields[name] = saferepr(fields[name])
            changed = True
    return changed


def _compressed(data: bytes, compression: str) -> bytes:
    packed, mime = imports.load("celeriac.wire.compression:compress")(data, compression)
    return b"".join((_COMPRESSED, mime.encode(), b"\x00", packed))


def _about_call(document: ResultDocument) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "name": document.name,
        **_arguments(document),
        "worker": document.worker,
        "retries": document.retries,
        "queue": document.queue,
    }
    if document.stamps:
        names = document.stamped_headers or ()
        fields["stamped_headers"] = document.stamped_headers
        fields |= {name: stamp for name, stamp in document.stamps.items() if name in names}
    return fields


def decode(
    data: bytes, serializer: str = "json", accept: frozenset[str] | None = None
) -> ResultDocument:
    """Return what a stored document says; unknown fields are skipped.

    It is read as what the reader's ``result_serializer`` names (SER-09), if that is among the
    content types ``accept``; None accepts that one. Compressed documents are recognised by
    themselves. Raises DecodeError if it is not a result document, ContentDisallowed (SEC-01) and
    SecurityError as ``serializers.decode`` does, ImproperlyConfigured for an unknown serializer.
    """
    is_json = serializer == "json" and (accept is None or serializers.JSON in accept)
    if is_json and not any(key in data for key in _SLOW):
        try:
            return _DOCUMENT.decode(data)
        except (ValueError, RecursionError):
            pass  # what Celery accepts and the fast decoder refuses, or an error to explain
    return _decode_slowly(data, serializer, accept)


def _decode_slowly(data: bytes, serializer: str, accept: frozenset[str] | None) -> ResultDocument:
    if data.startswith(_COMPRESSED):
        mime, _, packed = data[len(_COMPRESSED) :].partition(b"\x00")
        decompress = imports.load("celeriac.wire.compression:decompress")
        data = decompress(packed, mime.decode("latin-1"))
    mapping = _read(data, serializer, accept)
    if not isinstance(mapping, dict):
        raise DecodeError(f"cannot read result document: {saferepr(mapping, 80)} is not a mapping")
    names = mapping.get("stamped_headers")
    mapping.pop("stamps", None)
    if isinstance(names, list | tuple):
        known = [name for name in names if isinstance(name, str) and name in mapping]
        mapping["stamps"] = {name: mapping[name] for name in known}
    try:
        return msgspec.convert(mapping, ResultDocument)
    except (ValueError, RecursionError) as error:  # of keys that are no text, too
        raise DecodeError(f"cannot read result document: {error}") from error


def _read(data: bytes, serializer: str, accept: frozenset[str] | None) -> Any:
    content_type = serializers.content_type_of(serializer)
    allowed = frozenset((content_type,)) if accept is None else accept
    try:
        return serializers.decode(data, content_type, accept=allowed)
    except DecodeError:
        # A worker's parent knows no serializer that a program registers: what it has to say in
        # place of a run that died is JSON. Never so where documents must be signed.
        may = accept is None or serializers.JSON in accept
        if not may or content_type == serializers.DATA or not data.startswith(b'{"status": '):
            raise
        return json.decode(data)


# -- exceptions, written --

# Reads the arguments of an exception even if its class has given ``args`` another meaning.
_ARGS = vars(BaseException)["args"].__get__

# How Celery's process pool writes an exception that cannot be pickled: module, name, args, text.
_WRAPPER = ("celery.utils.serialization", "UnpickleableExceptionWrapper")
_OUR_WRAPPER = ("celeriac.wire.pickled", "Wrapped")


def stored_exception(error: BaseException, serializer: str = "json") -> Any:
    """Return what a document holds as the result of a failure, under this serializer. Never raises.

    A pickled document holds the exception itself, or what Celery puts in place of one that cannot
    be pickled; any other its description (RES-16).
    """
    if serializer == "pickle":
        return imports.load("celeriac.wire.pickled:storable")(error)
    return exception_document(error, serializer)


def exception_document(error: BaseException, serializer: str = "json") -> dict[str, Any]:
    """Return the description of an exception. Never raises.

    Arguments that cannot be written are replaced by their ``repr()``.
    """
    kind = type(error)
    module, name = homes.address(kind) or (kind.__module__, kind.__qualname__)
    described = _writable(_ARGS(error), serializer)
    return {"exc_type": name, "exc_message": described, "exc_module": module}


def _writable(args: Sequence[Any], serializer: str) -> list[Any]:
    try:
        serializers.encode(args, serializer)
    except EncodeError:
        return [_writable_one(arg, serializer) for arg in args]
    return list(args)


def _writable_one(arg: Any, serializer: str) -> Any:
    try:
        serializers.encode(arg, serializer)
    except EncodeError:
        return saferepr(arg, depth=6)
    return arg


# -- exceptions, read --


def rebuild_exception(document: Any) -> BaseException:
    """Return the exception that a document describes, or holds (RES-16).

    Its class is taken from the modules that are loaded already and is never imported; a class that
    is not found is made up under the same name. If the class refuses the arguments, its constructor
    is left out: attributes that it would have set are missing then.

    Raises SecurityError if the name leads to something that is no exception, and DecodeError if the
    document has no ``exc_type``.
    """
    if isinstance(document, BaseException):
        # Only a pickle holds one, and where pickles are accepted it may be of any class.
        kind = type(document)
        inside = (kind.__module__, kind.__qualname__) == _OUR_WRAPPER
        return _rebuilt(*_unwrapped(document.args)) if inside else document
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
    return _rebuilt(module if isinstance(module, str) else homes.CELERY, name, args)


def _unwrapped(args: tuple[Any, ...]) -> tuple[Any, str, tuple[Any, ...]]:
    """Return module, name and args of the exception inside a wrapper, or those of the wrapper."""
    match args:
        case (str(module), str(name), list() | tuple() as inner, *_):
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
    ours = _look_up(exceptions.__name__, name) if module in homes.HOMES else None
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
