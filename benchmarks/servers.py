"""Private servers for what is measured: loopback, free ports, in a folder that goes with them.

Each is started when it is first asked for. Redis writes nothing to disk; RabbitMQ is that of the test
fixtures; PostgreSQL, which no superuser may run, belongs to the user that its package made.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

from benchmarks import processes
from benchmarks.environment import ensure_program
from benchmarks.errors import BenchmarkError
from tests.fixtures.rabbit_server import RabbitServer

HOST = "127.0.0.1"
_TIMEOUT = 20.0


class Servers:
    """The servers of one run, ended with it."""

    def __init__(self, cleanup: contextlib.ExitStack) -> None:
        self._cleanup = cleanup

    @cached_property
    def redis(self) -> "Redis":
        """A Redis server without persistence."""
        return self._cleanup.enter_context(contextlib.closing(Redis(self._folder("redis"))))

    @cached_property
    def rabbit(self) -> "Rabbit":
        """A RabbitMQ server."""
        return self._cleanup.enter_context(contextlib.closing(Rabbit(self._folder("rabbit"))))

    @cached_property
    def postgres(self) -> "Postgres":
        """A PostgreSQL server."""
        return self._cleanup.enter_context(contextlib.closing(Postgres(self._folder("postgres"))))

    def _folder(self, name: str) -> Path:
        made = tempfile.TemporaryDirectory(prefix=f"celeriac-bench-{name}-")
        return Path(self._cleanup.enter_context(made))


class Redis:
    """A Redis server."""

    def __init__(self, folder: Path) -> None:
        self._port = free_port()
        self.url = f"redis://{HOST}:{self._port}/0"
        options = {"bind": HOST, "port": str(self._port), "save": "", "appendonly": "no"}
        command = [ensure_program("redis-server"), "--dir", str(folder)]
        command += [word for key, value in options.items() for word in (f"--{key}", value)]
        self._process = _spawned(command, os.environ)
        _wait(self._process, "redis-server", lambda: self._ask(b"PING", b"+PONG"))

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def flush(self) -> None:
        """Delete everything in it."""
        self._ask(b"FLUSHALL", b"+OK")

    def cpu_seconds(self) -> float:
        """CPU seconds that it has used so far."""
        return processes.cpu_seconds(self._process.pid)

    def close(self) -> None:
        """End it."""
        processes.end(self._process, _TIMEOUT)

    def _ask(self, command: bytes, answer: bytes) -> None:
        with socket.create_connection((HOST, self._port), _TIMEOUT) as connection:
            connection.sendall(command + b"\r\n")
            reply = connection.recv(64)
        if not reply.startswith(answer):
            raise BenchmarkError(f"redis-server on {self.url} answered {command!r} with {reply!r}")


class Rabbit:
    """A RabbitMQ server, with a virtual host that is new after each ``empty``."""

    def __init__(self, folder: Path) -> None:
        ensure_program("rabbitmq-server")
        self._server = RabbitServer(folder)
        self._server.start()
        self.url = self._server.url(self._server.new_vhost())

    def empty(self) -> None:
        """Begin with a virtual host that nobody has used."""
        self.url = self._server.url(self._server.new_vhost())

    def cpu_seconds(self) -> float:
        """CPU seconds that it has used so far."""
        return processes.cpu_seconds(self._server.pid)

    def close(self) -> None:
        """End it."""
        self._server.kill()


class Postgres:
    """A PostgreSQL server with its own defaults."""

    def __init__(self, folder: Path) -> None:
        port = free_port()
        binaries = Path(ensure_program("postgres")).parent
        self._become = _unprivileged(folder)
        data = folder / "data"
        subprocess.run(
            [*self._become, str(binaries / "initdb"), "-A", "trust", "-U", "bench", str(data)],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        command = [str(binaries / "postgres"), "-D", str(data), "-k", str(folder)]
        command += ["-p", str(port), "-h", HOST]
        self.url = f"postgresql://bench@{HOST}:{port}/postgres"
        self._psql = [str(binaries / "psql"), "-q", "-v", "ON_ERROR_STOP=1", self.url]
        self._process = _spawned([*self._become, *command], os.environ)
        _wait(self._process, "postgres", self.empty)

    def empty(self) -> None:
        """Delete everything in it."""
        self._run("DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    def _run(self, statement: str) -> None:
        command = [*self._psql, "-c", statement]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise BenchmarkError(f"postgres: {done.stderr.strip()}")

    def cpu_seconds(self) -> float:
        """CPU seconds that it has used so far, by processes that still live."""
        return processes.cpu_seconds(self._process.pid)

    def close(self) -> None:
        """End it."""
        processes.end(self._process, _TIMEOUT)


def _unprivileged(folder: Path) -> list[str]:
    """Return what runs a command as somebody who is not the superuser, and give him the folder."""
    if os.geteuid() != 0:
        return []
    shutil.chown(folder, "postgres", "postgres")
    return ["runuser", "-u", "postgres", "--"]


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
    return port


def _spawned(command: list[str], environment: "os._Environ[str]") -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def _wait(process: "subprocess.Popen[bytes]", name: str, look: Callable[[], None]) -> None:
    """Wait until it answers. Raises BenchmarkError if it ends or stays silent."""
    deadline = time.monotonic() + _TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError, BenchmarkError):
            return look()
        time.sleep(0.02)
    processes.end(process, _TIMEOUT)
    raise BenchmarkError(f"{name} did not answer; try to start it by hand")
