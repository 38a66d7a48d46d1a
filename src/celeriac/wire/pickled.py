"""Pickle as Celery writes and reads it, and pickles looked at without running them.

Loaded when the serializer ``pickle`` is first used. Unpickling imports modules and calls what the
data names: accept pickle only from those who may run code here anyway (SEC-01). Exceptions that
Celery has too are written under Celery's names and found as ours. ``outline`` shows the plain
values of a pickle and runs nothing: for those who only want to know what a message is about.
"""

import io
import pickle
import pickletools
from typing import Any

from celeriac.wire import homes
from celeriac.wire.repr import saferepr

__all__ = ["Wrapped", "decode", "encode", "outline", "storable"]

PROTOCOL = 4
"""What kombu writes; every Python that runs Celery 5 reads it."""

_WRAPPER = ("celery.utils.serialization", "UnpickleableExceptionWrapper")

# A signature is a mapping with methods; the mapping alone is what travels without pickle, too.
_SIGNATURE = ("celery.canvas", "signature")


def encode(value: Any) -> bytes:
    """Return the value as a pickle. Raises what pickling raises."""
    data = pickle.dumps(value, PROTOCOL)
    if b"celeriac." not in data:
        return data
    # Something of ours may be in it: once more, by the pickler that can be told other names.
    file = io.BytesIO()
    _Writer(file, PROTOCOL).dump(value)
    return file.getvalue()


def decode(data: bytes) -> Any:
    """Return the value of a pickle. Raises whatever unpickling raises: it runs code."""
    return _Reader(io.BytesIO(data)).load()


class Wrapped(Exception):
    """An exception that could not be pickled, as Celery writes it: module, name, args, text."""

    def __init__(self, module: str, name: str, args: Any, text: str | None = None) -> None:
        super().__init__(module, name, args, text)

    def __str__(self) -> str:
        return str(self.args[3])


def storable(error: BaseException) -> BaseException:
    """Return the exception, or what Celery stores for one that does not survive pickling."""
    if _survives(error):
        return error
    kind = type(error)
    args = tuple(arg if _survives(arg) else saferepr(arg, depth=6) for arg in error.args)
    return Wrapped(kind.__module__, kind.__qualname__, args, saferepr(error))


def _survives(value: Any) -> bool:
    try:
        decode(encode(value))
    except Exception:  # noqa: BLE001 - pickling runs the user's code
        return False
    return True


class _Writer(pickle._Pickler):
    """Writes classes of ours under the names by which Celery knows them."""

    def save_global(self, obj: Any, name: str | None = None) -> None:
        found = homes.address(obj) if isinstance(obj, type) else None
        if obj is Wrapped:
            found = _WRAPPER
        if found is None:
            super().save_global(obj, name)  # type: ignore[misc]
            return
        self.save(found[0])  # type: ignore[attr-defined]
        self.save(found[1])  # type: ignore[attr-defined]
        self.write(pickle.STACK_GLOBAL)  # type: ignore[attr-defined]
        self.memoize(obj)  # type: ignore[attr-defined]


class _Reader(pickle.Unpickler):
    """Finds ours for Celery's names, and does without Celery where that is easy."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == _WRAPPER:
            return Wrapped
        own = homes.own(module, name)
        if own is not None:
            return own
        try:
            return super().find_class(module, name)
        except ModuleNotFoundError:
            if (module, name) == _SIGNATURE:
                return dict
            raise


# -- looking without running --


class _Opaque:
    """Stands for whatever a pickle would have built; takes anything and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> "_Opaque":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take anything."""

    def __call__(self, *_: Any, **__: Any) -> "_Opaque":
        return _Opaque()

    def __setstate__(self, _: Any) -> None:
        """Take anything."""

    def __setitem__(self, *_: Any) -> None:
        """Take anything."""

    def append(self, _: Any) -> None:
        """Take anything."""

    def extend(self, _: Any) -> None:
        """Take anything."""

    def add(self, _: Any) -> None:
        """Take anything."""

    def __repr__(self) -> str:
        return "<pickled>"


class _Looker(pickle._Unpickler):
    """Builds plain values, and puts something opaque where code would have to run.

    The one in Python: that in C reserves memory for whatever number a pickle names as the place of
    a value, 60 GiB for six bytes, and frames within frames lead it past what was looked at before.
    """

    def find_class(self, module: str, name: str) -> Any:
        return _Opaque

    def persistent_load(self, pid: Any) -> Any:
        return _Opaque()


def outline(data: bytes) -> Any:
    """Return the plain values of a pickle, with opaque objects in place of all others.

    Nothing is imported and no code of the data's choice runs. Raises what unpickling raises.
    """
    _check_lengths(data)
    return _Looker(io.BytesIO(data)).load()


def _check_lengths(data: bytes) -> None:
    """Refuse a pickle that says of a value that it is longer than what follows.

    The reader reserves the memory before it looks whether there is so much.
    """
    for _ in pickletools.genops(data):
        pass  # It raises ValueError.
