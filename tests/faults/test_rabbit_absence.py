"""Messages on RabbitMQ: the server, the connections to it, or the results, go and come back.

Leases end with the connection there: what was in flight is run again, and nothing else. No worker ends.
"""

from functools import partial
from pathlib import Path
from random import Random

import pytest

from tests.faults.chaos import LONG, chaos, many, passed
from tests.faults.ledger import Plan
from tests.faults.rabbit import HEARTBEAT, Place
from tests.fixtures.ledger import Back, Begun, Fault, Reader
from tests.fixtures.ledger_troubles import Absence
from tests.fixtures.servers import MakeProxy

pytestmark = chaos
HALF_OPEN = 10.0 if LONG else 4.0 * HEARTBEAT
"""Longer than either side waits for a sign of life."""
AWAY = 30.0 if LONG else 3.0
"""Seconds without the store."""
MOMENT = 0.5
"""Seconds after a fault in which what was claimed before may still begin."""


class TestServer:
    """Everybody is without the server: producers, too."""

    def test_it_is_killed_and_started_again(self, home: Path, frail_place: Place) -> None:
        times = 10 if LONG else 2
        trouble = partial(
            Absence,
            role="broker",
            point="killed and started again",
            strike=frail_place.server.kill,
            mend=frail_place.server.start,
            times=times,
        )
        plan = Plan(
            tasks=many(1000),
            workers=2,
            ground=frail_place.ground(),
            view=frail_place.view,
            trouble=trouble,
            patience=60.0,
        )
        report = passed("the broker is killed and started again", plan, home)
        assert len(report.returns) == times

    def test_it_closes_all_connections(self, home: Path, place: Place) -> None:
        trouble = partial(
            Absence,
            role="connection",
            point="closed by rabbitmqctl",
            strike=place.server.drop_connections,
            times=20 if LONG else 2,
        )
        plan = Plan(
            tasks=many(1000),
            workers=2,
            ground=place.ground(),
            view=place.view,
            trouble=trouble,
        )
        passed("rabbitmqctl close_all_connections", plan, home)

    @pytest.mark.skipif(not LONG, reason="make chaos runs it; the others are much the same")
    def test_it_stands_still(self, home: Path, place: Place) -> None:
        trouble = partial(
            Absence,
            role="broker",
            point="frozen, for 4 s",
            strike=place.server.freeze,
            mend=place.server.thaw,
            lasting=4.0,
            times=5 if LONG else 1,
        )
        plan = Plan(
            tasks=many(1000),
            workers=2,
            ground=place.ground(),
            view=place.view,
            trouble=trouble,
        )
        passed("the broker stands still for 4 s", plan, home)


class TestConnections:
    """One worker is without the server, in all its connections."""

    def test_they_are_cut_again_and_again(
        self, home: Path, place: Place, make_proxy: MakeProxy
    ) -> None:
        proxy, random = make_proxy(place.server.port), Random(3)

        def cut() -> None:
            """Cut all now, or in the middle of what the server sends next."""
            if random.random() < 0.3:
                proxy.cut()
            else:
                proxy.cut_after(random.randrange(1, 20_000))

        trouble = partial(
            Absence,
            role="connection",
            point="cut",
            strike=cut,
            times=100 if LONG else 10,
            pause=(0.0, 0.3),
        )
        plan = Plan(tasks=many(1000), ground=place.ground(proxy), view=place.view, trouble=trouble)
        passed("connections are cut, most in the middle of what is sent", plan, home)

    def test_they_are_half_open(self, home: Path, place: Place, make_proxy: MakeProxy) -> None:
        proxy = make_proxy(place.server.port)
        trouble = partial(
            Absence,
            role="connection",
            point=f"half-open, for {HALF_OPEN} s",
            strike=proxy.stall,
            mend=proxy.resume,
            lasting=HALF_OPEN,
            times=3 if LONG else 1,
        )
        plan = Plan(tasks=many(1000), ground=place.ground(proxy), view=place.view, trouble=trouble)
        passed(f"connections are half-open for {HALF_OPEN} s", plan, home)

    @pytest.mark.skipif(not LONG, reason="make chaos runs it; the others are much the same")
    def test_they_are_slow(self, home: Path, place: Place, make_proxy: MakeProxy) -> None:
        proxy = make_proxy(place.server.port)
        trouble = partial(
            Absence,
            role="connection",
            point="slow: 1 s later each way, for 5 s",
            strike=partial(proxy.delay, 1.0),
            mend=partial(proxy.delay, 0.0),
            lasting=5.0,
            times=5 if LONG else 1,
        )
        plan = Plan(tasks=many(1000), ground=place.ground(proxy), view=place.view, trouble=trouble)
        passed("all bytes are 1 s late, each way", plan, home)


def test_the_results_are_away_and_the_messages_are_not(home: Path, place: Place) -> None:
    trouble = partial(
        Absence,
        role="store",
        point="killed",
        strike=place.results.kill,
        mend=place.results.start,
        lasting=AWAY,
        times=2 if LONG else 1,
    )
    plan = Plan(
        tasks=many(1000),
        workers=2,
        ground=place.ground(),
        view=place.view,
        trouble=trouble,
    )
    report = passed("the store of the results is away, its messages are not", plan, home)
    assert report.repeated == 0
    records = list(Reader(str(home / "ledger")).news())
    losses = [record.at for record in records if isinstance(record, Fault)]
    returns = [record.at for record in records if isinstance(record, Back)]
    runs = [record.at for record in records if isinstance(record, Begun)]
    for lost, back in zip(losses, returns, strict=True):
        assert not [at for at in runs if lost + MOMENT < at < back], "claiming went on"
