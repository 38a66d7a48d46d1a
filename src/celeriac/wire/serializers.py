"""The serializers by name and by content type: which there are, which are accepted, how errors read.

JSON is at hand; every other is loaded, with its library, when it is first used. More can be
registered, or found as entry points of the groups ``celeriac.serializers`` and
``kombu.serializers`` (SER-01, SER-02). Whatever bytes it is given, ``decode`` returns a value or
raises one of our errors; only pickle, which must be accepted by name, runs code while it reads.

The registry belongs to the process: register at import, in every process that reads or writes. How
the bytes are compressed is ``compression``'s.
"""

import warnings
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from msgspec import Struct

from celeriac import imports
from celeriac.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    ImproperlyConfigured,
    SecurityError,
    UnknownSerializerWarning,
)
from celeriac.wire import json
from celeriac.wire.repr import saferepr

__all__ = [
    "DATA",
    "Encoded",
    "JSON",
    "PICKLE",
    "PLAIN",
    "accepted",
    "content_type_of",
    "form_of",
    "decode",
    "disable_insecure_serializers",
    "enable_insecure_serializers",
    "encode",
    "register",
    "require",
    "unregister",
]

JSON = "application/json"
PICKLE = "application/x-python-serialize"
DATA = "application/data"
"""Bytes as they are, or signed messages once ``signing`` is set up."""

INSECURE = ("pickle", "yaml", "msgpack")
GROUPS = ("celeriac.serializers", "kombu.serializers")

Encoder = Callable[[Any], bytes | str]
Decoder = Callable[[bytes], Any]


class Encoded(Struct, frozen=True):
    """A value as bytes, and what a message says of their form."""

    content_type: str
    content_encoding: str
    data: bytes


class Serializer(Struct, frozen=True):
    """One entry of the registry; functions that are text are loaded by that name when used."""

    name: str
    content_type: str
    content_encoding: str
    encoder: Encoder | str | None
    decoder: Decoder | str | None
    library: str = ""
    """The module it needs, and the extra that brings it."""
    extra: str = ""
    about: tuple[str, str, str] = ("", "", "")
    """What error texts say of it; see ``culprit.About``."""


def _raw(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    raise TypeError(f"raw content is bytes or text, not {type(value).__qualname__}")


_BUILT_IN = (
    Serializer("json", JSON, "utf-8", json.encode, json.decode, about=json.ABOUT),
    Serializer(
        "yaml",
        "application/x-yaml",
        "utf-8",
        "celeriac.wire.yaml:encode",
        "celeriac.wire.yaml:decode",
        "yaml",
        "yaml",
        ("YAML", "a YAML key", "Pass text, numbers, dates, lists, mappings or bytes"),
    ),
    Serializer(
        "pickle",
        PICKLE,
        "binary",
        "celeriac.wire.pickled:encode",
        "celeriac.wire.pickled:decode",
        about=("pickle", "picklable", "Pass values that pickle can write"),
    ),
    Serializer(
        "msgpack",
        "application/x-msgpack",
        "binary",
        "celeriac.wire.msgpack:encode",
        "celeriac.wire.msgpack:decode",
        "msgpack",
        "msgpack",
        ("msgpack", "a msgpack key", "Pass text, numbers up to 64 bits, lists, mappings or bytes"),
    ),
    Serializer("raw", DATA, "binary", _raw, bytes, about=("raw bytes", "text", "")),
)

PLAIN = frozenset({JSON, "application/x-yaml", "application/x-msgpack"})
"""The content types whose reading builds plain values only, wherever it is done."""

_by_name: dict[str, Serializer] = {built_in.name: built_in for built_in in _BUILT_IN}
_by_type: dict[str, Serializer] = {built_in.content_type: built_in for built_in in _BUILT_IN}
_enabled: set[str] = {JSON}
_state: dict[str, Any] = {"discovered": False, "signing": None}


# -- writing and reading --


def encode(value: Any, serializer: str = "json", root: str | tuple[str, ...] = "result") -> Encoded:
    """Return the value in the form of this serializer.

    Raises EncodeError (SER-07, SER-08) naming the path to what cannot be written, from ``root`` as
    in ``json.encode``; also for an unknown serializer, or one whose library is missing.
    """
    if serializer == "json":
        return Encoded(JSON, "utf-8", json.encode(value, root))
    found = _named(serializer)
    if found is None:
        raise EncodeError(_unknown(serializer))
    try:
        encoder: Encoder | None = _function(found, found.encoder)
    except ImproperlyConfigured as error:
        raise EncodeError(str(error)) from error
    if encoder is None:
        raise EncodeError(f"the serializer {serializer!r} only reads; it was registered so")
    try:
        data = encoder(value)
    except (MemoryError, SecurityError):
        raise
    except Exception as error:  # the value's own hooks and a registered encoder may raise anything
        explained = imports.load("celeriac.wire.culprit:explained")
        about = found.about if found.about[0] else (serializer, "a key of that form", "")
        raise explained(value, root, error, encoder, about) from error
    content_encoding = found.content_encoding
    if isinstance(data, str):
        return Encoded(found.content_type, content_encoding, data.encode("utf-8", "surrogatepass"))
    if found.name == "raw" and isinstance(value, str):
        content_encoding = "utf-8"
    return Encoded(found.content_type, content_encoding, bytes(data))


def decode(
    data: bytes,
    content_type: str,
    content_encoding: str = "utf-8",
    accept: frozenset[str] | None = None,
) -> Any:
    """Return the value that the bytes stand for.

    ``accept`` are content types, from ``accepted``; None stands for what is enabled globally (JSON,
    unless told otherwise). Raises ContentDisallowed for any other type (SEC-01), DecodeError for
    bytes that are not what they claim to be, and SecurityError for signatures that do not hold.
    ``content_encoding`` is told by messages but not needed: every serializer knows its own.
    """
    content_type = content_type or DATA
    if content_type not in (_enabled if accept is None else accept):
        raise ContentDisallowed(_refusal(content_type))
    if content_type == JSON:
        return json.decode(data)
    found = _by_type.get(content_type)
    if found is None and discover():
        found = _by_type.get(content_type)
    if found is None or found.decoder is None:
        raise DecodeError(f"nothing is registered that reads content of type {content_type!r}")
    try:
        decoder: Decoder = _function(found, found.decoder)
    except ImproperlyConfigured as error:
        raise DecodeError(str(error)) from error
    try:
        return decoder(data)
    except (DecodeError, ContentDisallowed, SecurityError):
        raise
    except RecursionError:
        raise DecodeError(f"cannot read {found.name}: it is nested too deeply") from None
    except Exception as error:  # libraries raise many kinds, and what is unpickled raises any
        shown = f"{type(error).__name__}: {saferepr(str(error), 200)}"
        raise DecodeError(f"cannot read {found.name}: {shown}; it begins {data[:60]!r}") from error


def _refusal(content_type: str) -> str:
    known = _by_type.get(content_type)
    name = content_type if known is None else known.name
    return (
        f"refused content of type {saferepr(content_type, 80)}, which is not in accept_content "
        f"(for results: result_accept_content); if you trust whoever can write there, add "
        f"{saferepr(name, 80)} to it"
    )


# -- what is accepted --


@lru_cache(maxsize=64)
def accepted(names: tuple[str, ...]) -> frozenset[str]:
    """Return the content types that ``accept_content`` names; types stand for themselves.

    Asked for every message, and remembered: give the tuple that the settings hold. A name that no
    serializer has is kept out, with one warning, so that a worker starts as it would without it.
    """
    types = set()
    for name in names:
        found = None if "/" in name else _named(name)
        if found is not None:
            types.add(found.content_type)
        elif "/" in name:
            types.add(name)
        else:
            text = f"{_unknown(name)}; it is left out of what is accepted"
            warnings.warn(text, UnknownSerializerWarning, stacklevel=2)
    return frozenset(types)


def content_type_of(name: str) -> str:
    """Return the content type of a serializer. Raises ImproperlyConfigured for an unknown one."""
    return form_of(name)[0]


def form_of(name: str) -> tuple[str, str]:
    """Return content type and encoding of a serializer. Raises ImproperlyConfigured for an unknown one."""
    found = _named(name)
    if found is None:
        raise ImproperlyConfigured(_unknown(name))
    return found.content_type, found.content_encoding


def is_type(content_type: str) -> bool:
    """Return whether something is registered that reads this content type."""
    return content_type in _by_type


def name_of(content_type: str) -> str:
    """Return the serializer of a content type, which must be known here (KeyError)."""
    return _by_type[content_type].name


def require(name: str, setting: str) -> None:
    """See that what this setting names can be written here, its library included.

    Raises ImproperlyConfigured naming the setting, and what to install or write instead.
    """
    found = _named(name)
    if found is None:
        raise ImproperlyConfigured(f"{setting}: {_unknown(name)}")
    if _function(found, found.encoder) is None:
        raise ImproperlyConfigured(f"{setting}: the serializer {name!r} only reads")


def is_known(name: str) -> bool:
    """Whether a serializer of this name can be found here."""
    return _named(name) is not None


def _named(name: str) -> Serializer | None:
    found = _by_name.get(name)
    if found is None and name != "auth" and discover():
        found = _by_name.get(name)
    return found


def _unknown(name: str) -> str:
    if name == "auth":
        return "messages cannot be signed or verified here yet; call app.setup_security() at import"
    names = ", ".join(sorted(_by_name))
    return (
        f"no serializer is called {name!r} (there are {names}); register it with "
        "celeriac.wire.serializers.register() at import"
    )


def _function(serializer: Serializer, function: Any) -> Any:
    """Return a function of a serializer, loaded if it is named."""
    if not isinstance(function, str):
        return function
    try:
        return imports.load(function)
    except ModuleNotFoundError as error:
        if serializer.library and imports.missing_is(error, serializer.library):
            raise ImproperlyConfigured(
                f"the serializer {serializer.name!r} needs a library that is not installed; "
                f"pip install 'celeriac[{serializer.extra}]'"
            ) from error
        raise


# -- the registry --


def register(
    name: str,
    encoder: Encoder | None,
    decoder: Decoder | None,
    content_type: str,
    content_encoding: str = "utf-8",
) -> None:
    """Add a serializer, or replace one of that name (SER-02). Do so at import, in every process.

    ``encoder`` returns bytes, or text that is sent as UTF-8; ``decoder`` gets bytes. One of them may
    be None. Raises ImproperlyConfigured for ``json``, which many programs rely upon.
    """
    if name == "json" or content_type == JSON:
        raise ImproperlyConfigured(
            "the serializer 'json' cannot be replaced: other programs read what it writes. Register "
            "under a name and a content type of your own, and set task_serializer to that name"
        )
    entry = Serializer(name, content_type, content_encoding, encoder, decoder)
    _by_name[name] = entry
    _by_type[content_type] = entry
    accepted.cache_clear()


def register_signing(encoder: Encoder, decoder: Decoder, values: dict[str, Any]) -> None:
    """Add the serializer ``auth``, made from these values by ``signing.setup_security``."""
    register("auth", encoder, decoder, DATA)
    _state["signing"] = values


def signing_values() -> dict[str, Any] | None:
    """Return the arguments of the last ``setup_security``, for a process that imports no user module.

    None if nothing is signed here. A password may be among them.
    """
    values: dict[str, Any] | None = _state["signing"]
    return values


def sign_later(values: dict[str, Any]) -> None:
    """Add the serializer ``auth``; keys and certificates are read when it is first used."""

    def set_up() -> Serializer:
        known = tuple(filter(is_known, values["allowed_serializers"] or ()))
        set_up_security = imports.load("celeriac.wire.signing:setup_security")
        set_up_security(**{**values, "allowed_serializers": known})
        return _by_name["auth"]

    def encode_signed(value: Any) -> bytes | str:
        encoder: Encoder = _function(set_up(), _by_name["auth"].encoder)
        return encoder(value)

    def decode_signed(data: bytes) -> Any:
        decoder: Decoder = _function(set_up(), _by_name["auth"].decoder)
        return decoder(data)

    register_signing(encode_signed, decode_signed, values)


def unregister(name: str) -> None:
    """Take a serializer out. Raises ImproperlyConfigured for an unknown name, and for ``json``."""
    if name not in _by_name or name == "json":
        raise ImproperlyConfigured(f"the serializer {name!r} cannot be taken out: {_unknown(name)}")
    entry = _by_name.pop(name)
    if _by_type.get(entry.content_type) == entry:
        del _by_type[entry.content_type]
        # Another of the same type, which it stood before, is read again: raw bytes after ``auth``.
        others = (one for one in _by_name.values() if one.content_type == entry.content_type)
        _by_type.update({one.content_type: one for one in others})
    accepted.cache_clear()


def discover() -> bool:
    """Register what installed packages offer as entry points, once. Whether that was now."""
    if _state["discovered"]:
        return False
    _state["discovered"] = True
    entry_points = imports.load("importlib.metadata:entry_points")
    for group in GROUPS:
        for point in entry_points(group=group):
            try:
                register(point.name, *point.load())
            except Exception as error:  # noqa: BLE001 - another package's fault must not stop us
                warnings.warn(
                    f"the serializer {point.name!r} of {point.value} cannot be used: {error!r}",
                    UnknownSerializerWarning,
                    stacklevel=2,
                )
    return True


# -- what is enabled where no list of accepted types is given --


def enable_insecure_serializers(choices: Iterable[str] | None = INSECURE) -> None:
    """Let ``decode`` read these where no ``accept`` is given: names or content types (SEC-07).

    Workers and results always give one, from ``accept_content`` and ``result_accept_content``.
    """
    _enabled.update(_types(choices))


def disable_insecure_serializers(allowed: Iterable[str] | None = ("json",)) -> None:
    """Let ``decode`` read only these where no ``accept`` is given; None is nothing at all (SEC-03)."""
    types = _types(allowed)
    _enabled.clear()
    _enabled.update(types)


def _types(names: Iterable[str] | None) -> set[str]:
    return {name if "/" in name else content_type_of(name) for name in names or ()}
