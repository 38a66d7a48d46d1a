"""The same ledger, kept of a real Celery on Redis: what the same faults do there.

::

    python -m tests.faults.celery_ledger --tasks 2000

It needs Redis and Celery's environment (``make services``, ``make interop``). Celery is told to be as
careful as it can be: late acknowledgement, redelivery of what a lost process ran, and a visibility
timeout of ten seconds in place of an hour, looked after every second, without which nothing would come
back in time.
"""

import json
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
import redis

from tests.faults.ledger import Plan, run
from tests.fixtures.celery_peer import PYTHON
from tests.fixtures.ledger_site import Ground, Producer, Site, Worker
from tests.fixtures.ledger_troubles import Absence
from tests.fixtures.ledger_views import View
from tests.fixtures.ports import HOST
from tests.fixtures.proxy import Proxy
from tests.fixtures.redis_server import RedisServer

LEDGER = "tests.fixtures.apps.ledger_celery"
SETTINGS = {
    "task_acks_late": True,
    "task_reject_on_worker_lost": True,
    "broker_transport_options": {
        "visibility_timeout": 10,
        "unacked_restore_interval": 1,
        "unacked_restore_throttle": 1,
    },
    "broker_connection_retry_on_startup": True,
    "worker_cancel_long_running_tasks_on_connection_loss": False,
}


class CeleryView(View):
    """Looks at the messages as kombu keeps them."""

    def __init__(self, url: str) -> None:
        self._server: Any = redis.Redis.from_url(url)

    def leased(self) -> Sequence[str]:
        entries = self._server.hvals("unacked")
        return [json.loads(entry)[0]["headers"]["id"] for entry in entries]

    def left(self) -> list[str]:
        texts = self._server.lrange("celery", 0, -1)
        return [*self.leased(), *(json.loads(text)["headers"]["id"] for text in texts)]

    def empty(self) -> bool:
        """Whether there is nothing, neither here nor there, at one moment."""
        try:
            with self._server.pipeline(transaction=True) as both:
                return not any(both.llen("celery").hlen("unacked").execute())
        except redis.RedisError:
            return False


class CeleryWorker(Worker):
    """``celery worker`` in place of ours."""

    def _start(self) -> None:
        self._arguments = ["-A", LEDGER, "worker", "-l", "WARNING", "-P", "prefork", "-c", "2"]
        self._arguments += ["--without-gossip", "--without-mingle", "-n", f"{id(self)}@here"]
        self.program = self._site.start("celery", *self._arguments, worker=True, python=str(PYTHON))
        self.running = True


class CeleryProducer(Producer):
    """Celery's calling side."""

    def _start(self) -> None:
        self._program = self._site.start(LEDGER, piped=True, python=str(PYTHON))


Case = tuple[str, Ground, Callable[[Site], object] | None, tuple[str, ...]]


def cases(server: RedisServer, proxy: Proxy) -> list[Case]:
    """Return the faults, each with the ground on which it happens."""
    plain = Ground(broker=server.url())
    proxied = Ground(broker=server.url(), worker_broker=f"redis://{HOST}:{proxy.port}/0")
    restart = partial(
        Absence,
        role="broker",
        point="killed, for 0.2 s",
        strike=server.kill,
        mend=server.start,
        lasting=0.2,
        times=10,
    )
    cut = partial(
        Absence,
        role="connection",
        point="cut",
        strike=lambda: proxy.cut_after(2000),
        times=30,
    )
    stall = partial(
        Absence,
        role="connection",
        point="half-open, for 10 s",
        strike=proxy.stall,
        mend=proxy.resume,
        lasting=10.0,
    )
    return [
        ("nothing", plain, None, ()),
        ("kill -9 of the worker's parent, 5 times", plain, None, ("parent",) * 5),
        ("kill -9 of children, 10 times", plain, None, ("child",) * 10),
        ("the broker is killed and started again", plain, restart, ()),
        ("connections are cut in the middle of a reply", proxied, cut, ()),
        ("connections are half-open", proxied, stall, ()),
    ]


@click.command(help=__doc__.replace("::\n\n", ":\n\n\b\n"))
@click.option("--tasks", default=2000, show_default=True)
@click.option("--patience", default=45.0, help="Seconds without progress after which a run ends.")
@click.option("--case", "only", default="", help="Only the cases with this word in their name.")
def main(tasks: int, patience: float, only: str) -> None:
    os.environ["LEDGER_CELERY_SETTINGS"] = json.dumps(SETTINGS)
    folder = Path(tempfile.mkdtemp(prefix="celery-ledger-"))
    server = RedisServer(folder, durable=True)
    server.start()
    proxy = Proxy(server.port)
    try:
        for number, (name, ground, trouble, kill) in enumerate(cases(server, proxy)):
            if only not in name:
                continue
            server.flush()
            plan = Plan(
                tasks=tasks,
                ahead=200,
                ground=ground,
                trouble=trouble,
                kill=kill,
                worker=CeleryWorker,
                producer=CeleryProducer,
                view=CeleryView(server.url()),
                patience=patience,
                longest=900.0,
            )
            report = run(plan, folder / str(number))
            click.echo(f"\nCelery: {name}\n{report}")
    finally:
        proxy.close()
        server.kill()


if __name__ == "__main__":
    main()
