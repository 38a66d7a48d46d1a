"""Brings what is measured: an environment for each library, and the programs of servers.

Each is made once and kept. Nothing is installed into the environment that runs the suite.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.paths import ENVIRONMENTS, ROOT

EDITABLE = "--editable"
"""The option of pip for a library that is measured as it lies here."""
_INSTALL_TIMEOUT = 600.0
_PACKAGES = {
    "redis-server": "redis-server",
    "rabbitmq-server": "rabbitmq-server",
    "postgres": "postgresql",
}
"""Debian's packages of servers, by program."""
_ELSEWHERE = ("/usr/sbin", "/usr/lib/rabbitmq/bin")
_MADE_FOR = "requirements.txt"


def ensure_peer(name: str, requirements: Sequence[str]) -> None:
    """Make a library's environment unless it is there already. Raises BenchmarkError."""
    folder = ENVIRONMENTS / name
    wanted = "".join(f"{line}\n" for line in requirements)
    if EDITABLE in requirements:
        # What it needs may have changed.
        wanted += (ROOT / "pyproject.toml").read_text()
    made_for = folder / _MADE_FOR
    if made_for.exists() and made_for.read_text() == wanted:
        return
    print(f"installing {' '.join(requirements)} into {folder.name}/", file=sys.stderr)
    _install([sys.executable, "-m", "venv", "--clear", str(folder)])
    _install([str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", *requirements])
    made_for.write_text(wanted)


def ensure_program(name: str) -> str:
    """Find the program of a server, and install it first if it is missing and we are root.

    Raises BenchmarkError, saying how to install it, where that is not possible.
    """
    if found := _find(name):
        return found
    package = _PACKAGES[name]
    advice = f"install it, for example with: apt-get install {package}"
    installer = shutil.which("apt-get")
    if os.geteuid() != 0 or installer is None:
        raise BenchmarkError(f"{name} is not installed; {advice}")
    _install([installer, "update", "-q"])
    wait = "DPkg::Lock::Timeout=120"
    _install([installer, "install", "-q", "-y", "--no-install-recommends", "-o", wait, package])
    if found := _find(name):
        return found
    raise BenchmarkError(f"{name} is still not there; {advice}")


def _find(name: str) -> str | None:
    # Where a package keeps all of its programs comes first.
    path = ":".join((*_postgres_folders(), os.environ.get("PATH", ""), *_ELSEWHERE))
    return shutil.which(name, path=path)


def _postgres_folders() -> list[str]:
    """Debian keeps each version of PostgreSQL in a folder of its own; the newest comes first."""
    return [
        str(folder) for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    ]


def _install(command: list[str]) -> None:
    line = " ".join(command)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_INSTALL_TIMEOUT,
            check=True,
        )
    except subprocess.CalledProcessError as error:
        message = f"`{line}` failed; run it by hand. It said:\n{error.stderr[-2000:]}"
        raise BenchmarkError(message) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"`{line}` failed: {error}; run it by hand") from error
