"""Named SQL statements, read from a ``.sql`` file beside the adapter that uses them.

A statement opens with a line ``-- name: what it is for`` and ends where the next one begins.
"""

import re
from pathlib import Path

_HEAD = re.compile(r"^-- (\w+): ", re.MULTILINE)


def statements(adapter: str, name: str) -> dict[str, str]:
    """Return the statements of the file ``name`` beside the module file ``adapter``."""
    text = Path(adapter).with_name(name).read_text(encoding="utf-8")
    heads = list(_HEAD.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    found = {}
    for head, end in zip(heads, ends, strict=True):
        body = text[head.end() : end].split("\n", 1)[1]
        # One space between words: a short text is a cheap key of the driver's statement cache.
        found[head.group(1)] = " ".join(body.split()).rstrip(";")
    return found
