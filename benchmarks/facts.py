"""What a report must say about the machine and the programs, without naming the machine."""

import datetime
import os
import platform
import sqlite3
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

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


def gather(systems: Sequence[System], redis_program: str | None) -> dict[str, str]:
    """Facts by name, in the order of showing them."""
    facts = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty") or "none",
        "cores": str(os.cpu_count()),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "processor": _processor(),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "file system": _file_system(Path(tempfile.gettempdir())),
    }
    if redis_program:
        facts["redis-server"] = _redis_version(redis_program)
    for system in systems:
        found = _output(system.python, "-c", _VERSIONS, *system.packages)
        facts[f"{system.name} environment"] = ", ".join(found.splitlines())
    return facts


def _output(*command: str) -> str:
    """What a command prints; empty when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def _redis_version(program: str) -> str:
    """Find the number in a line like `Redis server v=7.0.15 sha=...`."""
    words = _output(program, "--version").split()
    return next((word[2:] for word in words if word.startswith("v=")), "unknown")


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
