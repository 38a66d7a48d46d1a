"""Scripts that run inside the server, each as one step: Lua texts from ``lua/``, and their digests.

A script is put together from files, so that what several need is written once. The last file opens
with what the script is for, its keys, its arguments and what it returns. Rules for all of them: no
message is parsed or written anew, types of keys are looked at before the first write, and nothing that
can fail comes after it, since the server takes nothing back.
"""

from hashlib import sha1
from pathlib import Path

from msgspec import Struct

_FOLDER = Path(__file__).with_name("lua")


class Script(Struct, frozen=True):
    """A script, and the digest that the server knows it by."""

    text: str
    sha: str


def script(*names: str) -> Script:
    """Return the script that these files make, in this order."""
    text = "\n".join((_FOLDER / f"{name}.lua").read_text(encoding="utf-8") for name in names)
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
