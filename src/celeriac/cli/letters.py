"""Dead letters as text for people and as JSON for programs; no command.

Nothing in a letter is trusted: see ``wire.legible``.
"""

from base64 import b64encode
from typing import Any

from msgspec import Struct

from celeriac import clock, states
from celeriac.app import Celery
from celeriac.exceptions import CeleriacError, DecodeError
from celeriac.message import DeadLetter
from celeriac.wire import legible
from celeriac.wire.task import parse_time

SHORTENED = 4000
"""Characters of headers, arguments and body that are shown without ``--full``."""
LONGEST_WORD = 300
"""Characters of a reason in a list."""


class Contents(Struct, frozen=True):
    """What could be read of a message; None where it could not."""

    headers: dict[str, Any] | None = None
    body: list[Any] | None = None
    """Positional and keyword arguments, and the signatures that follow."""


def contents(letter: DeadLetter, *, full: bool = True) -> Contents:
    """Read headers and body as far as they are plain JSON, and not too large if not ``full``."""
    message = letter.message
    headers = _json(message.headers, full)
    body = None
    packed = isinstance(headers, dict) and headers.get("compression")
    if message.content_type == "application/json" and not packed:
        body = _json(message.body, full)
    is_body = isinstance(body, list) and len(body) == 3
    return Contents(headers if isinstance(headers, dict) else None, body if is_body else None)


def _json(data: bytes, full: bool) -> Any:
    if len(data) > legible.LONGEST_JSON and not full:
        return None
    try:
        return legible.plain_json(data)
    except ValueError:
        return None


def line(letter: DeadLetter) -> str:
    """Return a letter in two lines: which it is, and why it died."""
    message = letter.message
    task, id_, queue = map(legible.escaped, (message.task, message.id, letter.queue))
    reason = legible.bounded(legible.escaped(letter.reason), LONGEST_WORD)
    return (
        f"{letter.id}  {clock.iso(letter.died)}  {task or 'unknown task'}[{id_}]  queue {queue}\n"
        f"  {reason}"
    )


def summary(letter: DeadLetter) -> dict[str, Any]:
    """Return what a list tells of a letter, for programs."""
    message = letter.message
    return {
        "id": letter.id,
        "task": message.task,
        "task_id": message.id,
        "queue": letter.queue,
        "died": clock.iso(letter.died),
        "reason": letter.reason,
        "losses": letter.losses,
        "priority": message.priority,
        "content_type": message.content_type,
        "content_encoding": message.content_encoding,
        "body_bytes": len(message.body),
    }


def everything(app: Celery, letter: DeadLetter) -> dict[str, Any]:
    """Return all of a letter, for programs; what is no JSON is in Base64."""
    found = contents(letter)
    document = {**summary(letter), "state": state(app, letter), "headers": found.headers}
    if found.headers is None:
        document["headers_base64"] = b64encode(letter.message.headers).decode()
    if found.body is None:
        document["body_base64"] = b64encode(letter.message.body).decode()
    else:
        args, kwargs, embed = found.body
        document |= {"args": args, "kwargs": kwargs, "embed": embed}
    return document


def state(app: Celery, letter: DeadLetter) -> str | None:
    """Return the state that is stored for the task; None if no store can tell."""
    if app.store is None or not letter.message.id:
        return None
    try:
        return app.AsyncResult(letter.message.id).state
    except CeleriacError:
        return None


def expired(letter: DeadLetter) -> bool:
    """Whether the message has expired: a worker that gets it will revoke it."""
    headers = contents(letter, full=False).headers or {}
    try:
        return parse_time(headers["expires"]) <= clock.wall()
    except (KeyError, TypeError, DecodeError):
        return False


def page(app: Celery, letter: DeadLetter, *, full: bool = False) -> str:
    """Return all of a letter as text."""
    message = letter.message
    found = contents(letter, full=full)
    stored = state(app, letter)
    facts = {
        "task": message.task or "unknown: its headers cannot be read",
        "task id": message.id or "unknown: its headers cannot be read",
        "queue": letter.queue,
        "died": clock.iso(letter.died),
        "reason": letter.reason,
        "losses": f"{letter.losses} earlier runs",
        "state": _state_text(app, stored),
        "priority": str(message.priority),
        "body": f"{len(message.body):,} bytes, {message.content_type}, {message.content_encoding}",
    }
    if expired(letter):
        facts["expired"] = "yes: a worker that gets it again will revoke it"
    lines = [f"dead letter {letter.id}"]
    lines += [f"  {name:<9} {legible.escaped(text)}" for name, text in facts.items()]
    limit = None if full else SHORTENED
    for name, text in _parts(letter, found, limit).items():
        lines += [name, *(f"  {one}" for one in text.splitlines())]
    return "\n".join(lines)


def _parts(letter: DeadLetter, found: Contents, limit: int | None) -> dict[str, str]:
    message = letter.message
    if found.headers is None:
        parts = {"headers (unreadable)": legible.text_of(message.headers, limit)}
    else:
        given = {name: value for name, value in found.headers.items() if value is not None}
        lines = (f"{legible.escaped(n)}: {legible.laid_out(v)}" for n, v in given.items())
        parts = {"headers": legible.bounded("\n".join(lines), limit)}
    if found.body is None:
        return {**parts, "body": legible.text_of(message.body, limit)}
    args, kwargs, embed = found.body
    parts["args"], parts["kwargs"] = legible.laid_out(args, limit), legible.laid_out(kwargs, limit)
    follows = embed and (not isinstance(embed, dict) or any(embed.values()))
    return {**parts, "what follows": legible.laid_out(embed, limit)} if follows else parts


def _state_text(app: Celery, stored: str | None) -> str:
    if stored is None:
        return "unknown: results are disabled" if app.store is None else "unknown"
    return f"{stored} (nothing is stored)" if stored == states.PENDING else stored
