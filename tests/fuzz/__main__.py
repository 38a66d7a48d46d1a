"""Fuzz targets for a while: ``python -m tests.fuzz [TARGET ...] --seconds 600 --parallel 2``.

Each target hunts in a process of its own (``hunt``), which is started again when an input kills it,
until its time is over. What was found lies in ``build/fuzz/TARGET/findings``, one file for each input;
``--replay FILE`` runs one again. ``--keep`` takes into ``tests/fuzz/corpus`` what reaches most.
Needs atheris: ``pip install 'celeriac[fuzz]'``, or ``make fuzz``.
"""

import argparse
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from msgspec import Struct, json

from tests.fuzz import corpus
from tests.fuzz.reach import fewest
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).parents[2]
HARD = ("crash-", "timeout-", "oom-", "leak-")
DEATHS = 20
"""How often a target may kill its process before it is given up."""


class Report(Struct):
    """What came of fuzzing one target."""

    target: str
    seconds: float = 0.0
    executions: int = 0
    coverage: int = 0
    features: int = 0
    inputs: int = 0
    deaths: int = 0
    findings: list[str] = []

    def line(self) -> str:
        """Return it as a line of a table."""
        return (
            f"{self.target:<12} {self.seconds:6.0f} s {self.executions:>10,} runs  "
            f"{self.coverage:>6,} edges {self.features:>7,} features {self.inputs:>6,} inputs  "
            f"{len(self.findings)} findings"
        )


def fuzzed(target: str, seconds: int, folder: Path) -> Report:
    """Hunt for so many seconds; return what came of it."""
    for name in ("corpus", "findings"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    report = Report(target)
    began = monotonic()
    with (folder / "log").open("w") as log:
        while (left := round(seconds - (monotonic() - began))) > 0 and report.deaths < DEATHS:
            start = log.tell()
            command = [sys.executable, "-m", "tests.fuzz.hunt", target, str(folder), str(left)]
            status = subprocess.run(
                ["nice", *command], cwd=ROOT, stdout=log, stderr=log, check=False
            ).returncode
            _read(report, (folder / "log").read_text(errors="replace")[start:])
            if status:
                report.deaths += 1
                log.write(f"\n-- ended with status {status} --\n")
                log.flush()
    report.seconds = monotonic() - began
    found = (folder / "findings").iterdir()
    report.findings = sorted(path.name for path in found if path.suffix != ".txt")
    report.inputs = len(list((folder / "corpus").iterdir()))
    return report


def _read(report: Report, log: str) -> None:
    done = re.findall(r"^stat::number_of_executed_units: (\d+)|^#(\d+)\s", log, re.MULTILINE)
    if done:
        report.executions += max(int(exact or step) for exact, step in done)
    for coverage, features in re.findall(r" cov: (\d+) ft: (\d+) ", log):
        report.coverage = max(report.coverage, int(coverage))
        report.features = max(report.features, int(features))


def _numbered(targets: list[str]) -> "SimpleQueue[str]":
    queue: SimpleQueue[str] = SimpleQueue()
    for target in targets:
        queue.put(target)
    return queue


def _all(options: argparse.Namespace) -> Iterator[Report]:
    """Yield a report for each target, some of them hunting side by side."""
    waiting = _numbered(options.targets)
    reports: SimpleQueue[Report] = SimpleQueue()

    def work() -> None:
        while True:
            try:
                target = waiting.get_nowait()
            except Empty:
                return
            reports.put(fuzzed(target, options.seconds, options.folder / target))

    threads = [threading.Thread(target=work) for _ in range(options.parallel)]
    for thread in threads:
        thread.start()
    for _ in options.targets:
        yield reports.get()


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parsed(arguments: list[str]) -> argparse.Namespace:
    """Return the options of a command line."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument("--parallel", type=int, default=2, help="targets at a time (2)")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--keep", action="store_true", help="take what was reached into the corpus")
    parser.add_argument("--replay", type=Path, help="run one input of the one target named")
    options = parser.parse_args(arguments)
    for target in options.targets:
        if target not in TARGETS:
            parser.error(f"there is no target {target!r}; targets are {', '.join(TARGETS)}")
    options.targets = options.targets or list(TARGETS)
    return options


def main(arguments: list[str]) -> int:
    """Fuzz, replay or keep; return 1 if anything was found."""
    options = parsed(arguments)
    if options.replay:
        TARGETS[options.targets[0]](options.replay.read_bytes())
        return 0
    if options.keep:
        for target in options.targets:
            found: Any = (options.folder / target / "corpus").glob("*")
            inputs = [path.read_bytes() for path in found]
            corpus.keep(target, fewest(target, [*corpus.kept(target), *inputs]))
            _say(f"{target}: {len(corpus.kept(target))} of {len(inputs)} inputs kept")
        return 0
    worst = 0
    for report in _all(options):
        _say(report.line())
        with (options.folder / "report.jsonl").open("ab") as file:
            file.write(json.encode(report) + b"\n")
        for name in report.findings:
            worst = 1
            _say(f"  {options.folder / report.target / 'findings' / name}")
    return worst


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
