"""The fake clock: what moves with it, and that it is undone."""

import threading
from datetime import UTC, datetime, timedelta
from time import monotonic, time

import pytest

from celeriac import clock
from celeriac.brokers.memory import MemoryBroker
from celeriac.completion import Put
from celeriac.message import Publish
from celeriac.results.memory import MemoryStore
from celeriac.testing import FakeClock
from celeriac.testing.clocks import sleepers
from tests.fixtures.deliveries import message

NEW_YEAR = datetime(2030, 1, 1, tzinfo=UTC)


def test_the_wall_clock_stands_still_and_is_moved() -> None:
    with FakeClock(NEW_YEAR) as fake:
        assert clock.wall() == NEW_YEAR.timestamp()
        fake.advance(days=1, hours=2, minutes=3, seconds=4)
        assert fake.now == NEW_YEAR + timedelta(days=1, hours=2, minutes=3, seconds=4)
        assert clock.wall() == fake.seconds == fake.now.timestamp()
        fake.move_to(datetime(2031, 1, 1, tzinfo=UTC))
        assert clock.iso(clock.wall()) == "2031-01-01T00:00:00+00:00"


def test_it_begins_at_the_real_time() -> None:
    before = time()
    with FakeClock() as fake:
        assert before <= fake.seconds <= time()


def test_the_real_clock_is_back_afterwards_whatever_happens() -> None:
    with pytest.raises(LookupError), FakeClock(NEW_YEAR):
        raise LookupError
    assert abs(clock.wall() - time()) < 60


def test_clocks_can_be_nested() -> None:
    with FakeClock(1000.0):
        with FakeClock(5000.0):
            assert clock.wall() == 5000
        assert clock.wall() == 1000
    assert abs(clock.wall() - time()) < 60


def test_monotonic_time_goes_on() -> None:
    with FakeClock(NEW_YEAR) as fake:
        before = clock.monotonic()
        fake.advance(days=400)
        assert 0 <= clock.monotonic() - before < 60
        assert clock.monotonic is monotonic


def test_it_does_not_go_back() -> None:
    with FakeClock(NEW_YEAR) as fake:
        with pytest.raises(ValueError, match=r"moves forward only, not from 2030-01-01 .* by 60 s"):
            fake.advance(minutes=-1)
        assert fake.now == NEW_YEAR


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="no time zone"):
        FakeClock(datetime(2030, 1, 1))


def test_what_is_due_in_a_broker_follows_it() -> None:
    with FakeClock(NEW_YEAR) as fake:
        broker = MemoryBroker()
        consumer = broker.consumer(["celery"])
        broker.publish([Publish(queue="celery", message=message(), due=clock.wall() + 3600)])
        fake.advance(minutes=59)
        assert consumer.claim(1, 1000) == []
        assert broker.next_due() == NEW_YEAR.timestamp() + 3600
        fake.advance(minutes=1)
        assert len(consumer.claim(1, 1000)) == 1


def test_how_long_a_result_is_kept_follows_it() -> None:
    with FakeClock(NEW_YEAR) as fake:
        store = MemoryStore()
        store.put([Put("key", b"value", ttl=60.0)])
        fake.advance(seconds=59)
        assert store.get(["key"])
        fake.advance(seconds=1)
        assert not store.get(["key"])


def test_who_waits_for_something_due_is_woken() -> None:
    broker = MemoryBroker()
    consumer = broker.consumer(["celery"])
    with FakeClock(NEW_YEAR) as fake:
        broker.publish([Publish(queue="celery", message=message(), due=clock.wall() + 3600)])
        thread = threading.Thread(target=consumer.wait, args=(60.0,))
        sleepers.add(consumer)
        thread.start()
        fake.advance(hours=1)
        thread.join(10)
        assert not thread.is_alive()
        assert len(consumer.claim(1, 1000)) == 1
