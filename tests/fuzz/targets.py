"""One target for each decoder that reads what others wrote: a function of bytes.

A target returns nothing, and raises only if it found something: an error that is not documented, a
module imported, a value that does not survive being written and read again, or more of a result
than the input can stand for. Where a decoder is told more than bytes (a content type, a method of
compression), the first bytes of the input choose it. Crashes, hangs and memory are watched by
whoever runs a target.
"""

import logging
import warnings
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable
from functools import cache
from math import isfinite, isnan
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import msgspec

from celeriac import Celery, clock, execution
from celeriac.cli import letters
from celeriac.cli.tasks import Json, Moment
from celeriac.exceptions import CeleriacError, ContentDisallowed, EncodeError
from celeriac.loaders import Loader
from celeriac.message import DeadLetter, Delivery, Message
from celeriac.outcome import Ending, Outcome
from celeriac.pools.base import Job
from celeriac.settings import Configuration, Settings
from celeriac.settings.table import NAMES
from celeriac.settings.validation import coerce
from celeriac.wire import (
    compression,
    culprit,  # noqa: F401 - loaded when something cannot be written
    json,
    legible,
    result,
    serializers,
    signing,
    task,
)
from celeriac.wire.protocol1 import upgraded
from celeriac.worker.dispatcher import Deferred, Dispatcher, Refused
from celeriac.worker.documents import Documents
from celeriac.worker.flights import Flight
from tests.fixtures.certificates import certificate_file, key_file
from tests.fixtures.deliveries import NAME, manifest, options
from tests.fixtures.runs import HandPort
from tests.fuzz.checks import CONFIGURING, READING, WRITING, judged, require, weight

Target = Callable[[bytes], None]

TYPES = (
    serializers.JSON,
    "application/x-yaml",
    "application/x-msgpack",
    serializers.DATA,
    serializers.PICKLE,
    "text/unheard-of",
)
METHODS = (
    None,
    "application/x-gzip",
    "application/x-bz2",
    "application/x-lzma",
    "application/x-brotli",
    "application/zstd",
    "unheard-of",
)
ACCEPTED = frozenset(TYPES) - {serializers.PICKLE}
WITH_PICKLE = frozenset(TYPES)
LIMIT = 1 << 20
"""Bytes to which content may grow by decompression here."""


def _chosen(choices: tuple[Any, ...], data: bytes, place: int) -> Any:
    """Return what a byte of the input chooses: "0" the first, "1" the second."""
    return choices[(data[place] - 48) % len(choices)] if place < len(data) else choices[0]


def _text(data: bytes) -> str:
    """Return the bytes as text; those that are none become lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def message_of(data: bytes) -> Message:
    """Return a message: content type and compression by a byte each, a line of headers, the body."""
    head, _, body = data[2:].partition(b"\n")
    method = _chosen(METHODS, data, 1)
    if method is not None and head.endswith(b"}"):
        comma = b", " if len(head) > 2 else b""
        head = head[:-1] + comma + b'"compression": "' + method.encode() + b'"}'
    return Message(
        id="one", task=NAME, headers=head, body=body, content_type=_chosen(TYPES, data, 0)
    )


# -- the parts of a message --


def headers(data: bytes) -> None:
    """Task headers of protocol 2, and the times in them."""
    with judged(*READING):
        found = task.decode_headers(data)
        for name in ("task", "id"):
            require(isinstance(getattr(found, name), str), name, found)
        require(not any(map(isnan, filter(None, found.timelimit))), "no limit", found)
        again = task.decode_headers(json.encode(msgspec.structs.asdict(found)))
        require(again == found, "read again it differs", found, again)
        for text in (found.eta, found.expires):
            if text is not None:
                moment(text)
    with judged(*READING):
        moment(_text(data))


def moment(text: str) -> None:
    """Check a time, in seconds since 1970. Raises DecodeError if it is none."""
    seconds = task.parse_time(text)
    require(isfinite(seconds), "no time", text, seconds)
    try:
        written = task.format_time(seconds)
    except EncodeError:
        return  # just outside of the calendar, by its zone
    require(abs(task.parse_time(written) - seconds) < 0.001, "another time", text, written)


def body(data: bytes) -> None:
    """Task bodies, in any form and compressed by any method."""
    with judged(*READING):
        found = task.decode_body(
            data[2:],
            _chosen(TYPES, data, 0),
            "utf-8",
            _chosen(METHODS, data, 1),
            ACCEPTED,
        )
        require(isinstance(found.args, list | tuple), "args", found)
        require(isinstance(found.kwargs, dict) and isinstance(found.embed, dict), "body", found)


def protocol1(data: bytes) -> None:
    """Messages of protocol 1, and of the form between the two."""
    held = message_of(data)
    with judged(*READING):
        made = upgraded(held, ACCEPTED)
        found = task.decode_headers(made.headers)
        require(made is held or (made.id, made.task) == (found.id, found.task), "ids", made)


def pickled(data: bytes) -> None:
    """Pickles: refused, or looked at without running anything."""
    try:
        serializers.decode(data, serializers.PICKLE, "binary", ACCEPTED)
    except ContentDisallowed:
        pass
    else:
        require(False, "a pickle was read")
    held = Message(id="", task="", headers=b"{}", body=data, content_type=serializers.PICKLE)
    with judged(*READING):
        upgraded(held, WITH_PICKLE)


# -- serializers --


def plain_json(data: bytes) -> None:
    """JSON, typed values included."""
    with judged(*READING):
        _survives(data, json.decode(data))
    with judged(*READING):
        json.decode(_text(data))


def _survives(data: bytes, value: Any) -> None:
    """Check that a value is no larger than its text, and that written and read it stays the same."""
    nodes, length = weight(value)
    require(nodes <= len(data) and length <= len(data), "larger than its text", value)
    if b"\\u00" in data:
        return  # an escaped "__type__" is an ordinary key, and no longer one when it is written
    with judged(*WRITING):
        written = json.encode(value)
        require(json.encode(json.decode(written)) == written, "read again it differs", value)


def yaml(data: bytes) -> None:
    """YAML."""
    with judged(*READING):
        value = serializers.decode(data, "application/x-yaml", accept=ACCEPTED)
        nodes, _ = weight(value)
        require(nodes <= 4 * len(data) + 1_000_000, "more than aliases may repeat", nodes)


def msgpack(data: bytes) -> None:
    """MessagePack."""
    with judged(*READING):
        value = serializers.decode(data, "application/x-msgpack", accept=ACCEPTED)
        nodes, length = weight(value)
        require(nodes <= len(data) and length <= len(data), "larger than its bytes", value)
        with judged(*WRITING):
            written = serializers.encode(value, "msgpack").data
            again = serializers.decode(written, "application/x-msgpack", accept=ACCEPTED)
            require(serializers.encode(again, "msgpack").data == written, "it differs", value)


@cache
def signer() -> signing.Signer:
    """Return one who signs, and accepts JSON and YAML of his own."""
    with TemporaryDirectory() as folder:
        key, path = key_file(Path(folder), "key.pem"), certificate_file(Path(folder), "cert.pem")
        return signing.Signer(
            signing.load_key(key),
            signing.load_certificate(path),
            signing.load_store(folder + "/cert.pem"),
            signing.algorithm("sha256"),
            "raw",
            frozenset({"json", "yaml"}),
        )


def signed(data: bytes) -> None:
    """Signed content: anything at all, a signature of something else, and what was well signed."""
    us = signer()
    with judged(*READING):
        us.decode(data)
    require(serializers.decode(data, serializers.DATA, accept=ACCEPTED) == data, "raw", data)
    content_type, _, inner = data.partition(b"\n")
    parts = a2b_base64(us.encode(inner)).split(b"\0\1", 4)
    with judged(*READING):
        us.decode(b2a_base64(b"\0\1".join((*parts[:2], content_type, b"", inner))))
    with judged(*READING):
        us.decode(b2a_base64(b"\0\1".join((parts[0], data))))


# -- compression, results --


def compressed(data: bytes) -> None:
    """Each method of compression, with a limit."""
    method = _chosen(METHODS[1:], data, 0)
    with judged(*READING):
        whole = compression.decompress(data[1:], method, LIMIT)
        require(len(whole) <= LIMIT, "more than the limit", len(whole))
        packed, mime = compression.compress(whole, method)
        require(compression.decompress(packed, mime, LIMIT) == whole, "it differs", whole)


def result_document(data: bytes) -> None:
    """Result documents, in any form, and the exceptions in them."""
    name = _chosen(("json", "yaml", "msgpack", "raw", "pickle"), data, 0)
    with judged(*READING):
        found = result.decode(data[1:], name, ACCEPTED)
        with judged(*WRITING):
            written = result.encode(found, extended=True)
            again = result.encode(result.decode(written), extended=True)
            require(again == written, "read again it differs", written, again)
        error = result.rebuild_exception(found.result)
        require(isinstance(error, BaseException), "no exception", error)
        result.decode(result.encode_failure(result.ResultDocument(status="FAILURE"), error))


# -- settings --


def settings(data: bytes) -> None:
    """Settings from a mapping: a line for each, a name and a value in JSON."""
    given: dict[str, Any] = {}
    names = sorted(NAMES)
    for line in data.split(b"\n"):
        spelling, _, value = line.partition(b" ")
        name = names[int(spelling) % len(names)] if spelling.isdigit() else _text(spelling)
        with judged(*READING):
            given[name] = json.decode(value)
    _read_settings(given)
    for name in NAMES & given.keys():
        with judged(*CONFIGURING):
            value = coerce(name, given[name])
            require(repr(coerce(name, value)) == repr(value), "not stable", name, value)


def _read_settings(given: dict[str, Any]) -> None:
    conf = Configuration()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with judged(*CONFIGURING):
            conf.load(given, namespace="CELERY")
        with judged(*CONFIGURING):
            conf.load(given)
        with judged(*CONFIGURING):
            conf.update(given)
    conf.humanize()
    repr(conf)


def words(data: bytes) -> None:
    """Words of a command line: settings, arguments and times. One word on each line."""
    lines = [_text(line) for line in data.split(b"\n")]
    loader = Loader(_storeless())
    for line in lines:
        with judged(*CONFIGURING):
            given = loader.cmdline_config_parser([line])
            require(len(given) == 1, "not one setting", given)
            _read_settings(given)
        for kind in (Json(list, "[]"), Json(dict, "{}"), Moment(), Moment(or_seconds=True)):
            with judged(click.UsageError):
                kind.convert(line, None, None)


# -- what people are shown --


@cache
def _storeless() -> Celery:
    return Celery("fuzzed", set_as_current=False, broker="memory://", backend="disabled")


def dead_letters(data: bytes) -> None:
    """Whatever a dead letter holds, as it is shown: nothing in it may reach a terminal as it is."""
    held = message_of(data)
    odd = _text(data[:100])
    held = msgspec.structs.replace(held, task=odd, id=odd, content_type=odd)
    plain = message_of(data)
    for message in (held, plain):
        letter = DeadLetter(id="7", message=message, queue=odd, reason=odd, died=clock.wall())
        for full in (False, True):
            _shown(letters.page(_storeless(), letter, full=full), None if full else 80_000)
        _shown(letters.line(letter), 4_000)
        document = letters.everything(_storeless(), letter)
        require(isinstance(document, dict), "no document", document)
    for limit in (None, 0, 7):
        _shown(legible.text_of(data, limit), None)


def _shown(text: str, most: int | None) -> None:
    odd = [c for c in text if c != "\n" and not c.isprintable()]
    require(not odd, "what does not print", odd)
    text.encode()
    require(most is None or len(text) <= most, "too long", len(text))


# -- the road through a worker --


@cache
def _dispatcher() -> Dispatcher:
    logging.getLogger("celeriac").setLevel(logging.CRITICAL)
    found = manifest(options(), content_types=WITH_PICKLE)
    settings = Settings(task_delivery_limit=3)
    return Dispatcher(found, settings, Documents(settings, "w1@host"))


def admission(data: bytes) -> None:
    """A whole message, as the worker's parent decides on it: it runs, waits or is refused."""
    held = Delivery(message=message_of(data), queue="celery", receipt="1:1")
    with judged():
        admitted = _dispatcher().admit(held)
    require(isinstance(admitted, Flight | Deferred | Refused), "neither", admitted)
    if isinstance(admitted, Deferred):
        require(isfinite(admitted.due), "it waits for ever", admitted)
    if isinstance(admitted, Flight):
        limits = (admitted.limits.soft, admitted.limits.hard)
        require(not any(map(isnan, filter(None, limits))), "no limit", limits)
        Documents(Settings(), "w1@host").failure(admitted.job.message, ValueError("lost"), "celery")
    if isinstance(admitted, Refused):
        admitted.completion.reason.encode()


@cache
def _host() -> Celery:
    logging.getLogger("celeriac").setLevel(logging.CRITICAL)
    app = Celery("fuzzed", set_as_current=False, broker="memory://", backend="memory://")
    app.conf.accept_content = ["json", "yaml", "msgpack"]

    @app.task(name=NAME, bind=True)
    def pay(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "raises" in kwargs:
            raise ValueError("asked to")
        return args

    return app


def run(data: bytes) -> None:
    """A whole message, as a child runs it: how it ends is always an outcome."""
    try:
        held = upgraded(message_of(data), ACCEPTED)
        task.decode_headers(held.headers)
    except (*READING, CeleriacError):
        return  # the parent refuses it; see ``admission``
    if held.task != NAME:
        return
    with judged():
        outcome = execution.run(_host(), Job(1, held, "celery"), HandPort())
    require(isinstance(outcome, Outcome), "no outcome", outcome)
    assert outcome is not None
    ran = outcome.ending in (Ending.SUCCEEDED, Ending.FAILED)
    require(ran or outcome.ending is Ending.UNDECODABLE, "an odd ending", outcome)


TARGETS: dict[str, Target] = {
    "headers": headers,
    "body": body,
    "protocol1": protocol1,
    "pickle": pickled,
    "json": plain_json,
    "yaml": yaml,
    "msgpack": msgpack,
    "signed": signed,
    "compression": compressed,
    "result": result_document,
    "settings": settings,
    "words": words,
    "letters": dead_letters,
    "admission": admission,
    "run": run,
}
