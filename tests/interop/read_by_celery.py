"""Reads with a real Celery what Celeriac writes: the direction that golden bytes cannot show.

Run it by hand, from the root of the repository, when the reference version changes. The first
command needs Celeriac only, the second Celery only (with the libraries of ``capture_codecs.py``)::

    .venv/bin/python -m tests.interop.read_by_celery write /tmp/ours.json
    celery-env/bin/python tests/interop/read_by_celery.py read /tmp/ours.json

It prints what differs, and ends with status 1 if anything does.
"""

# ruff: noqa: T201 - each half runs where the libraries of the other are missing
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

import base64
import json
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMPRESSIONS = (None, "gzip", "bzip2", "lzma", "brotli", "zstd")


def place(folder, name, text):
    """Write a PEM file and return its path."""
    path = Path(folder, name)
    path.write_text(text)
    return str(path)


def write(target):
    """Write one entry for each form that Celeriac knows."""
    from celeriac.exceptions import MaxRetriesExceededError, Retry, WorkerLostError
    from celeriac.wire import protocol1, result, signing, task
    from tests.interop.capture_values import VALUES

    entries = []

    def note(kind, packed, **more):
        form = (packed.content_type, packed.content_encoding, packed.compression)
        body = base64.b64encode(packed.body).decode()
        entries.append({"kind": kind, "form": form, "data": body, **more})

    call = task.Call(task="demo.add", id="one", origin="", argsrepr="", kwargsrepr="")
    for serializer, value in VALUES.items():
        for compression in COMPRESSIONS:
            options = {"serializer": serializer, "compression": compression}
            note("body", task.pack_body((1, value), {"y": value}, **options), name=serializer)
            old = protocol1.encode_v1(call, (1, value), {"y": value}, **options)[1]
            note("old", old, name=serializer)
            done = result.ResultDocument(status="SUCCESS", task_id="one", result=value)
            data = result.encode(done, True, serializer, compression)
            note("result", task.Packed(data), name=serializer)
        errors = ValueError("boom"), Retry("m", ValueError(1), 3), WorkerLostError("it died")
        for error in (*errors, MaxRetriesExceededError("enough")):
            failed = result.ResultDocument(status="FAILURE", task_id="one")
            data = result.encode_failure(failed, error, True, serializer)
            note("failure", task.Packed(data), name=serializer, error=type(error).__name__)
    signed = json.loads((HERE / "golden" / "codecs.json").read_text())["signed"]
    with tempfile.TemporaryDirectory() as folder:
        key, cert = (place(folder, name, signed[name]) for name in ("key", "certificate"))
        signing.setup_security(key=key, cert=cert, store=cert)
        value = VALUES["json"]
        note("signed", task.pack_body((1, value), {"y": value}, serializer="auth"), name="json")
    Path(target).write_text(json.dumps(entries))
    print(len(entries), "written")


def read(source):
    """Read each entry with Celery, and compare."""
    from celery import Celery
    from celery.security.serialization import register_auth
    from kombu.compression import decompress
    from kombu.serialization import loads, prepare_accept_content

    sys.path.insert(0, str(HERE))
    from capture_values import VALUES

    accept = prepare_accept_content(["json", "yaml", "pickle", "msgpack"])
    signed = json.loads((HERE / "golden" / "codecs.json").read_text())["signed"]
    with tempfile.TemporaryDirectory() as folder:
        place(folder, "cert.pem", signed["certificate"])
        register_auth(signed["key"], None, signed["certificate"], folder)
    wrong = 0
    entries = json.loads(Path(source).read_text())
    for entry in entries:
        data, value = base64.b64decode(entry["data"]), VALUES[entry["name"]]
        content_type, encoding, compression = entry["form"]
        if entry["kind"] in ("result", "failure"):
            app = Celery("reader", broker="memory://", backend="file:///tmp")
            app.conf.update(result_serializer=entry["name"], accept_content=list(VALUES))
            found = app.backend.decode_result(data)["result"]
            expected = entry["error"] if entry["kind"] == "failure" else value
            found = type(found).__name__ if entry["kind"] == "failure" else found
        else:
            data = decompress(data, compression) if compression else data
            body = loads(data, content_type, encoding, accept=accept)
            args, kwargs = (body["args"], body["kwargs"]) if entry["kind"] == "old" else body[:2]
            found, expected = (list(args), kwargs), ([1, value], {"y": value})
        if found != expected:
            wrong += 1
            print(entry["kind"], entry["name"], compression, found, "instead of", expected)
    print(len(entries), "read,", wrong, "differ")
    return int(wrong > 0)


if __name__ == "__main__":
    command, path = sys.argv[1:]
    raise SystemExit({"write": write, "read": read}[command](path))
