"""What a report must say about the machine and the programs, without naming the machine."""

import datetime
import os
import platform
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.environment import ensure_program
from benchmarks.paths import ROOT
from benchmarks.systems import System

_TIMEOUT = 30.0
_VERSIONS = """
import importlib.metadata, sys
for name in sys.argv[1:]:
    try:
        print(name, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        print(name, "absent")
"""


def gather(systems: Sequence[System]) -> dict[str, str]:
    """Facts by name, in the order of showing them."""
    facts = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "none",
        "cores": str(os.cpu_count()),
        "load before": load(),
        "processor": _processor(),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "file system": _file_system(Path(tempfile.gettempdir())),
    }
    kinds = {system.kind for system in systems}
    if kinds & {"redis", "amqp"}:
        facts["redis-server"] = _redis_version()
    if "amqp" in kinds:
        facts["rabbitmq-server"] = _debian_version("rabbitmq-server")
    if "postgres" in kinds:
        facts["postgresql"] = _debian_version("postgresql")
    for system in systems:
        required = system.peer.requirements
        names = [name.partition("==")[0].partition("[")[0] for name in required]
        found = _output(system.peer.python, "-c", _VERSIONS, *(system.peer.packages or names))
        facts[system.name] = f"{', '.join(found.splitlines())}; on {system.kind}"
    return facts


def load() -> str:
    """Return how many processes wanted to run during the last minute."""
    return f"{os.getloadavg()[0]:.2f}"


def _output(*command: str) -> str:
    """What a command prints; empty when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _redis_version() -> str:
    """Find the number in a line like `Redis server v=7.0.15 sha=...`."""
    words = _output(ensure_program("redis-server"), "--version").split()
    return next((word[2:] for word in words if word.startswith("v=")), "unknown")


def _debian_version(package: str) -> str:
    return _output("dpkg-query", "-W", "-f", "${Version}", package) or "unknown"


def _processor() -> str:
    """The model that Linux names, or what Python knows."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory() -> str:
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{size / 2**30:.1f} GiB"


def _file_system(folder: Path) -> str:
    """The type of the file system that the stages lie on, which is where SQLite writes."""
    kinds = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind, *_ = line.split()
        kinds[Path(mount)] = kind
    places = (folder.resolve(), *folder.resolve().parents)
    return next((kinds[place] for place in places if place in kinds), "unknown")
