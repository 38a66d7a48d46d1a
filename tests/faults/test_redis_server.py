"""The private servers of ``tests/fixtures/redis_server.py``: faults that tests will rely on."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.fixtures.certificates import server_keys
from tests.fixtures.redis_sentinel import RedisSentinel
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.system import dead
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import ROOT

Make = Callable[..., RedisServer]


def test_what_is_durable_survives_a_kill_and_the_rest_does_not(make_redis: Make) -> None:
    for durable in (True, False):
        server = make_redis(durable=durable)
        with server.client() as client:
            client.set("key", "value")
        server.kill()
        server.start()
        with server.client() as client:
            assert client.get("key") == (b"value" if durable else None)


def test_a_restarted_server_has_the_same_address(make_redis: Make) -> None:
    server = make_redis()
    url, pid = server.url(), server.pid
    server.restart()
    assert (server.url(), server.pid != pid) == (url, True)


def test_a_frozen_server_says_nothing_until_it_is_thawed(make_redis: Make) -> None:
    server = make_redis()
    with server.client(socket_timeout=0.1) as client:
        client.ping()
        with server.frozen(), pytest.raises(redis.TimeoutError):
            client.ping()
    with server.client() as client:
        assert client.ping()


def test_a_server_with_keys_password_and_socket(make_redis: Make, tmp_path: Path) -> None:
    server = make_redis(tls=server_keys(tmp_path), password="p@ss/w", unix_socket=True)
    for url in (server.url(3), f"unix://:p%40ss%2Fw@{server.socket}?db=3"):
        with redis.Redis.from_url(url) as client:
            assert client.incr("calls")
    with server.client(3) as client:
        assert client.get("calls") == b"2"


def test_a_replica_takes_over(
    make_redis: Make, make_sentinel: Callable[..., RedisSentinel]
) -> None:
    master = make_redis(password="secret")
    sentinel = make_sentinel(master)
    assert sentinel.master_port() == master.port
    with master.client() as client:
        client.set("key", "value")
        assert client.wait(1, 5000) == 1
    master.kill()
    sentinel.wait_for_failover()
    with sentinel.replica.client() as client:
        assert client.get("key") == b"value"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "ended"])
def test_a_server_ends_with_who_started_it(number: int, tmp_path: Path) -> None:
    """Also one that is frozen, which hears nothing but SIGKILL."""
    code = (
        "import pathlib, sys\n"
        "from tests.fixtures.redis_server import RedisServer\n"
        "server = RedisServer(pathlib.Path(sys.argv[1]))\n"
        "server.start(); server.freeze(); print(server.pid, flush=True); sys.stdin.read()"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        os.kill(starter.pid, number)
    eventually(lambda: dead(pid))


def test_the_shared_server_is_empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
