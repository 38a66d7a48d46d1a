"""Messages on Redis: the server, the connections to it, or that of the results, go and come back.

Nothing is run twice by that: leases that could not be renewed meanwhile are kept. No worker ends.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.faults.chaos import LONG, chaos, passed
from tests.faults.ledger import Plan
from tests.fixtures.ledger import Back, Begun, Fault, Reader
from tests.fixtures.ledger_site import Ground, Site
from tests.fixtures.ledger_troubles import Absence
from tests.fixtures.ports import HOST, free_port
from tests.fixtures.proxy import Proxy
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.servers import MakeProxy, MakeRedis

pytestmark = chaos
MOMENT = 0.5
"""Seconds after a fault in which what was claimed before may still begin."""

Trouble = Callable[[Site], Absence]


@pytest.fixture
def server(make_redis: MakeRedis) -> RedisServer:
    """A server that loses nothing that it has acknowledged."""
    server: RedisServer = make_redis(durable=True)
    return server


def through(proxy: Proxy, server: RedisServer) -> Ground:
    """Return the ground on which workers, and only they, use a proxy to their broker."""
    return Ground(broker=server.url(), worker_broker=f"redis://{HOST}:{proxy.port}/0")


class TestServer:
    """Everybody is without the server: producers, too."""

    @pytest.mark.parametrize("away", [0.2, 2.5], ids=["shortly", "longer-than-leases"])
    def test_it_is_killed_and_started_again(
        self, away: float, home: Path, server: RedisServer
    ) -> None:
        times = 10 if LONG or away < 1 else 2
        trouble = partial(
            Absence,
            role="broker",
            point=f"killed, for {away} s",
            strike=server.kill,
            mend=server.start,
            lasting=away,
            times=times,
        )
        plan = Plan(tasks=2000, workers=2, ground=Ground(broker=server.url()), trouble=trouble)
        report = passed(f"the broker is killed and started again after {away} s", plan, home)
        assert len(report.returns) == times

    def test_it_is_killed_while_tasks_run_that_outlast_it(
        self, home: Path, server: RedisServer
    ) -> None:
        trouble = partial(
            Absence,
            role="broker",
            point="killed, for 2 s",
            strike=server.kill,
            mend=server.start,
            lasting=2.0,
            times=3 if LONG else 1,
        )
        plan = Plan(
            tasks=60,
            seconds=0.4,
            ahead=40,
            workers=2,
            concurrency=8,
            ground=Ground(broker=server.url()),
            trouble=trouble,
        )
        passed("the broker is killed under tasks of 0.4 s", plan, home)

    def test_it_is_full(self, home: Path, server: RedisServer) -> None:
        with server.client() as client:

            def fill() -> None:
                used = client.info("memory")["used_memory"]
                client.config_set("maxmemory", used + 100_000)

            trouble = partial(
                Absence,
                role="broker",
                point="full, for 3 s",
                strike=fill,
                mend=lambda: client.config_set("maxmemory", 0),
                lasting=3.0,
                times=5 if LONG else 1,
            )
            ground = Ground(broker=server.url())
            plan = Plan(tasks=2000, seconds=0.002, workers=2, ground=ground, trouble=trouble)
            passed("the broker is full for 3 s", plan, home)

    def test_it_forgets_its_scripts(self, home: Path, server: RedisServer) -> None:
        with server.client() as client:
            trouble = partial(
                Absence,
                role="broker",
                point="SCRIPT FLUSH",
                strike=client.script_flush,
                times=100 if LONG else 20,
                pause=(0.0, 0.1),
            )
            plan = Plan(tasks=2000, ground=Ground(broker=server.url()), trouble=trouble)
            passed("SCRIPT FLUSH, again and again", plan, home)

    def test_it_is_a_replica_for_a_while(self, home: Path, server: RedisServer) -> None:
        with server.client() as client:
            trouble = partial(
                Absence,
                role="broker",
                point="READONLY, for 3 s",
                # A replica of what cannot be reached keeps what it has.
                strike=partial(client.replicaof, HOST, free_port()),
                mend=partial(client.replicaof, "NO", "ONE"),
                lasting=3.0,
                times=5 if LONG else 1,
            )
            plan = Plan(tasks=2000, workers=2, ground=Ground(broker=server.url()), trouble=trouble)
            passed("the broker is a replica for 3 s", plan, home)

    def test_it_stands_still(self, home: Path, server: RedisServer) -> None:
        trouble = partial(
            Absence,
            role="broker",
            point="frozen, for 4 s",
            strike=server.freeze,
            mend=server.thaw,
            lasting=4.0,
            times=5 if LONG else 1,
        )
        plan = Plan(tasks=2000, workers=2, ground=Ground(broker=server.url()), trouble=trouble)
        passed("the broker stands still for 4 s", plan, home)


class TestConnections:
    """One worker is without the server, in all its connections."""

    def test_they_are_cut_again_and_again(
        self, home: Path, server: RedisServer, make_proxy: MakeProxy
    ) -> None:
        proxy, random = make_proxy(server.port), Random(3)

        def cut() -> None:
            """Cut all now, or in the middle of one of the next replies."""
            if random.random() < 0.3:
                proxy.cut()
            else:
                proxy.cut_after(random.randrange(1, 20_000))

        trouble = partial(
            Absence,
            role="connection",
            point="cut",
            strike=cut,
            times=100 if LONG else 30,
            pause=(0.0, 0.15),
        )
        plan = Plan(tasks=4000, ground=through(proxy, server), trouble=trouble)
        passed("connections are cut, most in the middle of a reply", plan, home)

    def test_they_are_half_open(
        self, home: Path, server: RedisServer, make_proxy: MakeProxy
    ) -> None:
        proxy = make_proxy(server.port)
        trouble = partial(
            Absence,
            role="connection",
            point="half-open, for 10 s",
            strike=proxy.stall,
            mend=proxy.resume,
            lasting=10.0,
            times=3 if LONG else 1,
        )
        plan = Plan(tasks=1000, ground=through(proxy, server), trouble=trouble)
        passed("connections are half-open for 10 s", plan, home)

    def test_they_are_slow(self, home: Path, server: RedisServer, make_proxy: MakeProxy) -> None:
        proxy = make_proxy(server.port)
        trouble = partial(
            Absence,
            role="connection",
            point="slow: 1 s later each way, for 5 s",
            strike=partial(proxy.delay, 1.0),
            mend=partial(proxy.delay, 0.0),
            lasting=5.0,
            times=5 if LONG else 1,
        )
        plan = Plan(tasks=1000, ground=through(proxy, server), trouble=trouble)
        passed("all bytes are 1 s late, each way", plan, home)


def test_the_results_are_away_and_the_messages_are_not(
    home: Path, server: RedisServer, make_redis: MakeRedis
) -> None:
    results = make_redis(durable=True)
    trouble = partial(
        Absence,
        role="store",
        point="killed",
        strike=results.kill,
        mend=results.start,
        lasting=30.0 if LONG else 8.0,
        times=2 if LONG else 1,
    )
    ground = Ground(broker=server.url(), results=results.url())
    plan = Plan(tasks=1000, workers=2, ground=ground, trouble=trouble)
    report = passed("the store of the results is away, its messages are not", plan, home)
    assert report.repeated == 0
    records = list(Reader(str(home / "ledger")).news())
    [*losses] = [record.at for record in records if isinstance(record, Fault)]
    returns = [record.at for record in records if isinstance(record, Back)]
    runs = [record.at for record in records if isinstance(record, Begun)]
    for lost, back in zip(losses, returns, strict=True):
        assert not [at for at in runs if lost + MOMENT < at < back], "claiming went on"
