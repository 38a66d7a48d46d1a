"""The inputs that fuzzing has found worth keeping, a file of Base64 lines for each target.

Each of them reaches something in a decoder that no other does. They are replayed in ``make test``,
and fuzzing goes on from them.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).with_name("corpus")


def kept(target: str) -> list[bytes]:
    """Return the kept inputs of a target."""
    path = FOLDER / f"{target}.txt"
    return [b64decode(line) for line in path.read_text().split()] if path.exists() else []


def keep(target: str, inputs: Iterable[bytes]) -> None:
    """Keep these inputs of a target, in place of those before."""
    lines = sorted((b64encode(data).decode() for data in set(inputs)), key=lambda x: (len(x), x))
    (FOLDER / f"{target}.txt").write_text("\n".join(lines) + "\n")
