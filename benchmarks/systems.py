"""The systems that are measured, as values: where they live, how a worker is started, what they can do.

A system is a library with a broker. Each runs in an environment of its own: the peers with the versions
that are pinned here, Celeriac as it lies here, with what it needs and nothing else. Starts no process.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.environment import EDITABLE
from benchmarks.paths import ENVIRONMENTS, ROOT
from benchmarks.servers import Servers

CELERIAC = "celeriac"
CELERY = "celery"

Kind = Literal["sqlite", "redis", "amqp", "postgres"]


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """A library as it is known before anything runs."""

    name: str
    requirements: tuple[str, ...]
    """What pip installs for it."""
    packages: tuple[str, ...] = ()
    """Whose versions a report names; without any, those that are required."""
    kinds: tuple[Kind, ...]
    """Brokers that it is measured on; on the first where it has none of those asked for."""
    worker: str
    """How a worker is started: {n} is the number of processes, {app} the module, {broker} its URL."""
    definition: str
    """Source of a program that imports it and defines a task ``add``."""
    share: float = 1.0
    """Of the tasks that Celeriac is given in a workload, so that each takes about as long."""
    stores: bool = True
    """Whether it keeps results."""
    bulk: bool = True
    """Whether it has a call for many tasks."""
    delays: bool = True
    """Whether a task can be sent for later without another process."""
    awaits: bool = False
    """Whether it can enqueue from coroutines."""

    @property
    def module(self) -> str:
        """The application written for it."""
        return f"benchmarks.apps.{self.name}_app"

    @property
    def python(self) -> str:
        """The interpreter of the environment that it is installed in."""
        return str(ENVIRONMENTS / self.name / "bin" / "python")


_CELERY_LIKE = """
from {name} import {name_of_class}
app = {name_of_class}("bench", broker="{url}", backend="{url}")
@app.task
def add(x: int, y: int) -> int:
    return x + y
"""


def _celery_like(name: str, url: str) -> str:
    return _CELERY_LIKE.format(name=name, name_of_class="Celery", url=url)


PEERS: dict[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer(
            name=CELERIAC,
            requirements=(EDITABLE, f"{ROOT}[amqp,redis]"),
            packages=("celeriac", "msgspec", "redis", "hiredis", "pika"),
            kinds=("sqlite", "redis", "amqp"),
            worker="celeriac -A {app}:app worker -c {n} -l WARNING",
            definition=_celery_like(CELERIAC, "sqlite:////nowhere/bench.db"),
            awaits=True,
        ),
        Peer(
            name=CELERY,
            # hiredis is optional for Celery, and speeds it up: the peer is measured at its best.
            requirements=("celery[redis]==5.7.0", "hiredis==3.5.0"),
            kinds=("redis", "amqp"),
            worker="celery -A {app}:app worker -c {n} -l WARNING",
            definition=_celery_like(CELERY, "redis://127.0.0.1:1/0"),
            share=0.2,
            bulk=False,
        ),
        Peer(
            name="dramatiq",
            requirements=("dramatiq[redis,rabbitmq]==2.2.1", "hiredis==3.5.0"),
            kinds=("redis", "amqp"),
            worker="dramatiq {app} -p {n} -t 8",
            definition="import dramatiq\n@dramatiq.actor\ndef add(x, y):\n    return x + y\n",
            share=0.4,
            bulk=False,
        ),
        Peer(
            name="taskiq",
            requirements=(
                "taskiq==0.13.0",
                "taskiq-redis==1.2.4",
                "taskiq-aio-pika==0.6.1",
                "hiredis==3.5.0",
            ),
            kinds=("redis", "amqp"),
            worker="taskiq worker {app}:broker -w {n} --log-level WARNING",
            definition="from taskiq_redis import ListQueueBroker\n"
            "broker = ListQueueBroker('redis://127.0.0.1:1/0')\n"
            "@broker.task\nasync def add(x: int, y: int) -> int:\n    return x + y\n",
            share=0.4,
            bulk=False,
            delays=False,
            awaits=True,
        ),
        Peer(
            name="huey",
            requirements=("huey==3.5.4", "redis==8.1.0", "hiredis==3.5.0"),
            kinds=("redis", "sqlite"),
            worker="huey.bin.huey_consumer {app}.huey -w {n} -k process -q",
            definition="from huey import RedisHuey\n"
            "huey = RedisHuey('bench', url='redis://127.0.0.1:1/0')\n"
            "@huey.task()\ndef add(x, y):\n    return x + y\n",
            share=0.4,
            bulk=False,
        ),
        Peer(
            name="rq",
            requirements=("rq==2.12.0", "redis==8.1.0", "hiredis==3.5.0"),
            kinds=("redis",),
            worker="rq.cli worker-pool -u {broker} -n {n} -l WARNING default",
            definition="import redis, rq\nqueue = rq.Queue(connection=redis.Redis(port=1))\n"
            "def add(x, y):\n    return x + y\n",
            share=0.015,
            delays=False,
        ),
        Peer(
            name="arq",
            requirements=("arq==0.25.0", "hiredis==3.5.0"),
            kinds=("redis",),
            worker="{app} {n}",
            definition="import arq\nasync def add(ctx, x, y):\n    return x + y\n"
            "class WorkerSettings:\n    functions = [add]\n",
            share=0.1,
            bulk=False,
            awaits=True,
        ),
        Peer(
            name="procrastinate",
            requirements=("procrastinate==3.10.0", "psycopg[binary,pool]==3.3.9"),
            kinds=("postgres",),
            worker="procrastinate --app={app}.app worker -c {n}",
            definition="import procrastinate\napp = procrastinate.App("
            "connector=procrastinate.SyncPsycopgConnector())\n"
            "@app.task\ndef add(x, y):\n    return x + y\n",
            share=0.03,
            stores=False,
        ),
    )
}


class System(msgspec.Struct, frozen=True, kw_only=True):
    """A library with a broker, ready to be measured."""

    peer: Peer
    kind: Kind
    address: Callable[[Path], str]
    """Gives the URL of the broker, for a stage in the given folder."""
    results: Callable[[Path], str]
    """Gives the URL of the results."""
    reset: Callable[[], None]
    """Forgets all tasks and results that do not lie in the folder of a stage."""
    server_cpu: Callable[[], float]
    """CPU seconds that its servers have used so far."""

    @property
    def name(self) -> str:
        """The name of the library."""
        return self.peer.name

    def tasks(self, full: int) -> int:
        """How many tasks it is given where Celeriac is given ``full``."""
        return max(20, round(full * self.peer.share))

    def worker_command(self, processes: int, broker: str) -> list[str]:
        """How a worker with so many processes is started."""
        words = self.peer.worker.format(n=processes, app=self.peer.module, broker=broker).split()
        return [self.peer.python, "-m", *words]


def system(peer: Peer, kind: Kind, servers: Servers) -> System:
    """Return a peer on a kind of broker, or on its own kind if it does not know that one."""
    kind = kind if kind in peer.kinds else peer.kinds[0]
    if kind == "sqlite":
        return System(
            peer=peer,
            kind=kind,
            address=_file,
            results=_file,
            reset=lambda: None,
            server_cpu=lambda: 0.0,
        )
    if kind == "postgres":
        return System(
            peer=peer,
            kind=kind,
            address=lambda _: servers.postgres.url,
            results=lambda _: "",
            reset=servers.postgres.empty,
            server_cpu=servers.postgres.cpu_seconds,
        )
    on_rabbit = kind == "amqp"

    def reset() -> None:
        servers.redis.flush()
        if on_rabbit:
            servers.rabbit.empty()

    return System(
        peer=peer,
        kind=kind,
        address=lambda _: servers.rabbit.url if on_rabbit else servers.redis.url,
        results=lambda _: servers.redis.url,
        reset=reset,
        server_cpu=lambda: (
            servers.redis.cpu_seconds() + (servers.rabbit.cpu_seconds() if on_rabbit else 0.0)
        ),
    )


def chosen(names: Sequence[str], kind: Kind, servers: Servers) -> list[System]:
    """Return systems by name, always in the same order: those that know this kind, and yardsticks.

    Celery stands beside everything; procrastinate, which knows none of the others, where it is named.
    """
    wanted = [peer for peer in PEERS.values() if not names or peer.name in names]
    return [
        system(peer, kind, servers)
        for peer in wanted
        if kind in peer.kinds or peer.name in (CELERY, *names)
    ]


def _file(folder: Path) -> str:
    return f"sqlite:///{folder / 'bench.db'}"
