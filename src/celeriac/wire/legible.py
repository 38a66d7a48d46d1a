"""Messages as people may read them: bounded, with control characters escaped.

What is shown may come from anybody who can write to the broker: nothing is executed, revived or
imported to show it, and it cannot move the cursor of a terminal. JSON is laid out, other text is
shown as it is, everything else in hexadecimal. Pure and thread-safe.
"""

import codecs
import json
from typing import Any

__all__ = ["bounded", "escaped", "laid_out", "plain_json", "text_of"]

LONGEST_JSON = 1 << 20
"""Bytes up to which JSON is read to be laid out, where less than all of it is shown."""

ONE_LINE = 80
"""Characters of JSON that stay on one line."""


def escaped(text: str, keep: str = "") -> str:
    """Return the text with everything that does not print, but for ``keep``, as an escape."""
    if text.isprintable():
        return text
    return "".join(
        c if c in keep or c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def bounded(text: str, limit: int | None) -> str:
    """Return at most ``limit`` characters of the text, and how many more there are."""
    if limit is None or len(text) <= limit:
        return text
    return f"{text[:limit]}... ({len(text) - limit:,} more characters)"


def plain_json(data: bytes) -> Any:
    """Return what the JSON says, typed values as they travel. Raises ValueError if it is none."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def laid_out(value: Any, limit: int | None = None) -> str:
    """Return a value that came from JSON on one line, or on several; escaped and bounded."""
    try:
        text = json.dumps(value, ensure_ascii=False)
        if len(text) > ONE_LINE:
            text = json.dumps(value, indent=2, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply to be shown)"
    return bounded(escaped(text, "\n"), limit)


def text_of(data: bytes, limit: int | None = None) -> str:
    """Return at most ``limit`` bytes that are no JSON: as text if they are one, else in hexadecimal."""
    cut = limit is not None and len(data) > limit
    piece = data[:limit]
    more = f"... ({len(data):,} bytes in all)" if cut else ""
    try:
        # Not final: a letter that was cut in two is left out.
        text = codecs.getincrementaldecoder("utf-8")().decode(piece, final=not cut)
    except UnicodeDecodeError:
        return piece.hex(" ") + more
    odd = sum(not c.isprintable() and not c.isspace() for c in text)
    if "\0" in text or odd * 10 > len(text):
        return piece.hex(" ") + more
    return escaped(text, "\n") + more
