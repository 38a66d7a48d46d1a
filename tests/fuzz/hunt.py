"""Fuzzes one target in this process, with atheris, until its seconds are over or the process dies.

An error that a target raises is kept and the hunt goes on; a crash, a hang or too much memory ends
the process, and libFuzzer keeps the input. Started by ``python -m tests.fuzz``, which starts it again.
"""

import sys
import traceback
from hashlib import sha256
from pathlib import Path
from typing import Any

import atheris

LONGEST = 4096
"""Bytes of an input that is mutated; larger ones are among the seeds, and run once."""


def _instrumented() -> tuple[Any, list[bytes], tuple[str, ...]]:
    """Import everything that is to tell which of its lines run."""
    with atheris.instrument_imports(include=["celeriac", "yaml", "json", "msgpack"]):
        import yaml  # noqa: F401

        from tests.fuzz import checks, seeds, targets

        target = targets.TARGETS[sys.argv[1]]
        found = seeds.seeds(sys.argv[1])
        checks.prepare(target, filter(_is_short, found))
    return target, found, seeds.WORDS


class Hunt:
    """Calls the target, and keeps one input for each kind of finding."""

    def __init__(self, target: Any, folder: Path) -> None:
        self._target = target
        self._folder = folder
        self._kinds: set[tuple[Any, ...]] = set()

    def one(self, data: bytes) -> None:
        try:
            self._target(data)
        except Exception as error:  # noqa: BLE001 - each is a finding
            self._keep(data, error)

    def _keep(self, data: bytes, error: Exception) -> None:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        kind = (type(error), frame.filename, frame.lineno, str(error)[:20])
        if kind in self._kinds:
            return
        self._kinds.add(kind)
        path = self._folder / f"error-{sha256(data).hexdigest()[:16]}"
        path.write_bytes(data)
        path.with_suffix(".txt").write_text(traceback.format_exc())
        sys.stderr.write(f"FINDING {path.name}: {type(error).__name__}: {str(error)[:300]!r}\n")


def _is_short(data: bytes) -> bool:
    return len(data) <= LONGEST


def _token(word: str) -> str:
    """Return a word as a line of libFuzzer's dictionaries."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"\n'


def main() -> None:
    """Hunt: ``TARGET FOLDER SECONDS``."""
    name, folder, seconds = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    target, found, words = _instrumented()
    from tests.fuzz import checks, corpus

    hunt = Hunt(target, folder / "findings")
    inputs = (*found, *corpus.kept(name))
    for data in filter(_is_short, inputs):
        (folder / "corpus" / sha256(data).hexdigest()[:40]).write_bytes(data)
    (folder / "words").write_text("".join(map(_token, words)))
    options = (
        f"-max_total_time={seconds}",
        f"-max_len={LONGEST}",
        "-timeout=10",
        "-report_slow_units=3600",  # what counts is the limit above; machines pause, too
        "-rss_limit_mb=1536",
        "-print_final_stats=1",
        "-len_control=0",
        f"-dict={folder / 'words'}",
        f"-artifact_prefix={folder / 'findings'}/",
    )
    atheris.Setup([sys.argv[0], *options, str(folder / "corpus")], hunt.one)
    checks.prepare(target, ())
    for data in inputs:
        if not _is_short(data):
            hunt.one(data)
    atheris.Fuzz()


main()
