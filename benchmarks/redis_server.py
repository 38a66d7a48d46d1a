"""A private Redis server for Celery: loopback, a free port, nothing written to disk.

Speaks just enough of the protocol to wait for it and to empty it. Never touches another server.
"""

import contextlib
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator

from benchmarks import processes
from benchmarks.errors import BenchmarkError

_HOST = "127.0.0.1"
_TIMEOUT = 10.0


class RedisServer:
    """A running server; made by `redis_server()`."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.url = f"redis://{_HOST}:{port}/0"

    def flush(self) -> None:
        """Delete everything in it."""
        self._ask(b"FLUSHALL", b"+OK")

    def wait(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it answers; raises BenchmarkError if it ends or stays silent."""
        deadline = time.monotonic() + _TIMEOUT
        while process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                return self._ask(b"PING", b"+PONG")
            time.sleep(0.01)
        raise BenchmarkError(f"redis-server on {self.url} did not answer; try to start it by hand")

    def _ask(self, command: bytes, answer: bytes) -> None:
        with socket.create_connection((_HOST, self._port), _TIMEOUT) as connection:
            connection.sendall(command + b"\r\n")
            reply = connection.recv(64)
        if not reply.startswith(answer):
            raise BenchmarkError(f"redis-server on {self.url} answered {command!r} with {reply!r}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
    return port


@contextlib.contextmanager
def redis_server(program: str) -> Iterator[RedisServer]:
    """Run `program` (the path of redis-server) as a private server, and end it afterwards."""
    port = _free_port()
    with tempfile.TemporaryDirectory(prefix="celeriac-bench-redis-") as folder:
        options = {"bind": _HOST, "port": str(port), "save": "", "appendonly": "no", "dir": folder}
        command = [
            program,
            *(word for key, value in options.items() for word in (f"--{key}", value)),
        ]
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            server = RedisServer(port)
            server.wait(process)
            yield server
        finally:
            processes.end(process, _TIMEOUT)
