"""Brings what the Celery side needs: an environment of its own, and the program redis-server.

Both are made once and kept. Nothing is installed into the environment that runs the suite.
"""

import importlib.util
import os
import shutil
import subprocess
import sys

from benchmarks.errors import BenchmarkError
from benchmarks.paths import CELERY_ENVIRONMENT

CELERY_VERSION = "5.7.0"
REQUIREMENTS = (f"celery[redis]=={CELERY_VERSION}", "hiredis")
"""hiredis is optional for Celery, and speeds it up: the peer is measured at its best."""

_INSTALL_TIMEOUT = 600.0
_INSTALL_REDIS = "install it, for example with: apt-get install redis-server"


def require_celeriac() -> None:
    """Raise BenchmarkError when this interpreter cannot import Celeriac's worker."""
    try:
        found = importlib.util.find_spec("celeriac.cli.main")
    except ImportError:
        found = None
    if found is None:
        raise BenchmarkError(
            f"Celeriac cannot be imported by {sys.executable}; install it there with"
            " `pip install -e .`, or measure Celery alone with `--systems celery`"
        )


def ensure_celery() -> None:
    """Make Celery's environment unless it is there already; raises BenchmarkError on failure."""
    python = str(CELERY_ENVIRONMENT / "bin" / "python")
    if _celery_version(python) == CELERY_VERSION:
        return
    print(f"installing Celery {CELERY_VERSION} into {CELERY_ENVIRONMENT.name}/", file=sys.stderr)
    _install([sys.executable, "-m", "venv", "--clear", str(CELERY_ENVIRONMENT)])
    _install([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS])


def _celery_version(python: str) -> str | None:
    code = "import celery, hiredis, redis; print(celery.__version__)"
    try:
        done = subprocess.run(
            [python, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def ensure_redis() -> str:
    """Find redis-server, and install it first if it is missing and we are root.

    Raises BenchmarkError, saying how to install it, where that is not possible.
    """
    if found := shutil.which("redis-server"):
        return found
    installer = shutil.which("apt-get")
    if os.geteuid() != 0 or installer is None:
        raise BenchmarkError(f"redis-server is not installed; {_INSTALL_REDIS}")
    _install([installer, "update", "-q"])
    wait = "DPkg::Lock::Timeout=120"
    _install(
        [installer, "install", "-q", "-y", "--no-install-recommends", "-o", wait, "redis-server"]
    )
    if found := shutil.which("redis-server"):
        return found
    raise BenchmarkError(f"redis-server is still not on the PATH; {_INSTALL_REDIS}")


def _install(command: list[str]) -> None:
    line = " ".join(command)
    try:
        subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT, check=True
        )
    except subprocess.CalledProcessError as error:
        message = f"`{line}` failed; run it by hand. It said:\n{error.stderr[-2000:]}"
        raise BenchmarkError(message) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchmarkError(f"`{line}` failed: {error}; run it by hand") from error
