"""Captures golden/codecs.json: what a real Celery writes with every serializer and compression.

Run it by hand when the reference version changes; the tests only read what it wrote. It needs no
server, and in the running Python::

    pip install "celery==5.7.0" pyyaml msgpack cryptography brotli backports.zstd
    python tests/interop/capture_codecs.py

The key in the captured file is made for it, and signs nothing else.
"""

# ruff: noqa: PLW0108, T201 - a table of calls in one form
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

import base64
import json
import platform
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from billiard.exceptions import SoftTimeLimitExceeded, TimeLimitExceeded, WorkerLostError
from capture_values import PLAIN, VALUES
from celery import Celery, __version__, chain
from celery.app.task import Context
from celery.exceptions import (
    Ignore,
    MaxRetriesExceededError,
    NotRegistered,
    Reject,
    Retry,
    TaskRevokedError,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from kombu import Producer, Queue

GOLDEN = Path(__file__).resolve().parent / "golden"

COMPRESSIONS = ("gzip", "zlib", "bzip2", "lzma", "brotli", "zstd")


class Unpicklable(Exception):
    """Takes other arguments than it gives to its base class."""

    def __init__(self, *, code):
        super().__init__(f"code {code}", 7)


ERRORS = {
    "builtin": lambda: ValueError("boom", 3),
    "oserror": lambda: FileNotFoundError(2, "No such file or directory", "here.txt"),
    "unpicklable": lambda: Unpicklable(code=3),
    "retry": lambda: Retry("again", ValueError("first"), 3),
    "reject": lambda: Reject("no", requeue=True),
    "ignore": lambda: Ignore("nothing"),
    "give_up": lambda: MaxRetriesExceededError("enough", task_args=(1,), task_kwargs={"x": 2}),
    "revoked": lambda: TaskRevokedError("terminated"),
    "unknown": lambda: NotRegistered("demo.nowhere"),
    "lost": lambda: WorkerLostError("it died"),
    "hard_limit": lambda: TimeLimitExceeded(5),
    "soft_limit": lambda: SoftTimeLimitExceeded(),
}


def new_app(**settings):
    """Return an app whose broker lives in this process."""
    app = Celery("codecs", broker="memory://", set_as_current=True)
    app.conf.update(settings)

    @app.task(name="demo.add")
    def add(*args, **kwargs):
        pass

    return app, add


def taken(app):
    """Take the message that was just sent, as it lies in the queue."""
    with app.connection_for_read() as connection:
        envelope = connection.channel()._get("celery")
    return {
        "headers": envelope["headers"],
        "content_type": envelope["content-type"],
        "content_encoding": envelope["content-encoding"],
        "body": envelope["body"],
    }


# -- messages --


def capture_messages():
    """Yield one entry for each message that was sent."""
    app, add = new_app()
    for serializer, value in VALUES.items():
        for compression in (None, *COMPRESSIONS):
            options = {"serializer": serializer, "compression": compression}
            add.apply_async((1, value), {"y": value}, headers={"my": "own"}, **options)
            yield entry("plain", app, **options)
        if serializer == "yaml":
            continue  # Celery cannot write a signature as YAML.
        add.apply_async((1,), link=add.s(2), link_error=add.si(3), serializer=serializer)
        yield entry("link", app, serializer=serializer)
        chain(add.s(1), add.s(2), add.s(3)).apply_async(serializer=serializer)
        yield entry("chain", app, serializer=serializer)
    yield from capture_protocol_1()
    yield from capture_hybrid(app)


def capture_protocol_1():
    app, add = new_app(task_protocol=1)
    links = {"link": add.s(1), "link_error": add.s(2)}
    for serializer in VALUES:
        options = {"serializer": serializer}
        add.apply_async((1, 2), {"y": 3}, headers={"my": "own"}, task_id="old-1", **options)
        yield entry("protocol_1", app, **options)
        add.apply_async(
            (1,), {"y": 3}, task_id="old-2", group_id="group-1", retries=2, time_limit=9,
            soft_time_limit=5, eta=datetime(2026, 11, 20, 20, 56, tzinfo=UTC),
            expires=datetime(2099, 1, 1, tzinfo=UTC), compression="gzip",
            **(links if serializer != "yaml" else {}), **options,
        )  # fmt: skip
        yield entry("protocol_1_full", app, compression="gzip", **options)


def capture_hybrid(app):
    """Send the form that is read, and written by no Celery of today: by hand."""
    body = {"task": "demo.add", "id": "mixed-1", "args": [1], "kwargs": {"y": 2}, "retries": 4,
            "group": "of the body", "callbacks": [{"task": "demo.add", "args": []}]}  # fmt: skip
    headers = {"task": "demo.add", "id": "mixed-1", "group": "of the headers", "my": "own"}
    with app.connection_for_write() as connection:
        queue = Queue("celery", channel=connection.channel())
        queue.declare()
        Producer(connection).publish(body, routing_key="celery", headers=headers, serializer="json")
    yield entry("hybrid", app, serializer="json")


def entry(case, app, **options):
    return {"case": case, **options, "message": taken(app)}


# -- signed messages --


def make_certificate():
    """Return a key and a certificate of its own, in PEM form."""
    key = rsa.generate_private_key(65537, 2048)
    issuer = [(NameOID.COUNTRY_NAME, "XX"), (NameOID.COMMON_NAME, "Test of größer")]
    name = x509.Name([x509.NameAttribute(oid, text) for oid, text in issuer])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(4711)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=365 * 200))
        .sign(key, hashes.SHA256())
    )
    form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return (
        key.private_bytes(serialization.Encoding.PEM, *form).decode(),
        certificate.public_bytes(serialization.Encoding.PEM).decode(),
    )


def capture_signed():
    """Return the key, its certificate, and messages that Celery signed with them."""
    key, certificate = make_certificate()
    with tempfile.TemporaryDirectory() as folder:
        places = {"key": key, "cert": certificate}
        for name, text in places.items():
            Path(folder, f"{name}.pem").write_text(text)
        entries = []
        for serializer in ("json", "pickle"):
            for digest in ("sha256", "sha512"):
                app, add = new_app(
                    task_serializer="auth",
                    accept_content=["auth"],
                    security_key=f"{folder}/key.pem",
                    security_certificate=f"{folder}/cert.pem",
                    security_cert_store=f"{folder}/cert*.pem",
                )
                # Its setting security_digest has no effect: the default of the argument wins.
                app.setup_security(serializer=serializer, digest=digest)
                add.apply_async((1, PLAIN), {"y": 2})
                entries.append(entry("signed", app, serializer=serializer, digest=digest))
    return {"key": key, "certificate": certificate, "captured": entries}


# -- results --


def capture_results():
    """Yield one entry for each document that Celery's file backend stored."""
    for serializer, value in VALUES.items():
        for compression in (None, *COMPRESSIONS):
            yield from stored(serializer, compression, {"value": ("SUCCESS", value)})
        errors = {f"error_{name}": ("FAILURE", make()) for name, make in ERRORS.items()}
        yield from stored(serializer, None, errors)
        yield from stored(serializer, None, {"retry": ("RETRY", ValueError("first run"))})
        yield from stored(serializer, None, {"pending": ("PROGRESS", {"done": 1})})


def stored(serializer, compression, documents):
    with tempfile.TemporaryDirectory() as folder:
        app, _ = new_app(
            result_backend=f"file://{folder}",
            result_serializer=serializer,
            result_compression=compression,
            result_extended=True,
        )
        for case, (state, value) in documents.items():
            request = Context(
                id="one", task="demo.add", args=[1, "x"], kwargs={"y": 2}, hostname="w1@host",
                retries=1, delivery_info={"routing_key": "celery"}, group="g-1", parent_id="p-1",
                children=[],
            )  # fmt: skip
            text = "Traceback: so it was" if state == "FAILURE" else None
            app.backend.store_result(case, value, state, traceback=text, request=request)
            data = Path(folder, f"celery-task-meta-{case}").read_bytes()
            yield {
                "case": case,
                "serializer": serializer,
                "compression": compression,
                "state": state,
                "document": base64.b64encode(data).decode(),
            }


def main():
    """Capture everything anew."""
    captured = {
        "celery": __version__,
        "python": platform.python_version(),
        "messages": list(capture_messages()),
        "results": list(capture_results()),
        "signed": capture_signed(),
    }
    text = json.dumps(captured, indent=1)
    (GOLDEN / "codecs.json").write_text(text + "\n")
    print({name: len(value) for name, value in captured.items()})


if __name__ == "__main__":
    main()
