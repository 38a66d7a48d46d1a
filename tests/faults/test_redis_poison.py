"""Messages on Redis: tasks that kill their own process are buried, and the others hardly notice."""

from pathlib import Path

from tests.faults.chaos import LONG, chaos, many, show
from tests.faults.poison import EVERY, measure, on_redis
from tests.fixtures.servers import MakeRedis

pytestmark = chaos
SHARE = 0.9 if LONG else 0.7
"""What is to be reached; less in short runs on a machine that does other things meanwhile."""


def test_a_hundredth_of_poison(home: Path, make_redis: MakeRedis) -> None:
    tasks = many(1000)
    figures = measure(home, on_redis(make_redis().url()), tasks, 600.0 if LONG else 60.0)
    show("a hundredth of all tasks kill their own process", figures.rows())
    show("with poison", figures.poisoned)
    for report in (figures.clean, figures.poisoned):
        assert report.passed, f"\n{report}"
    assert figures.poisoned.buried == tasks // EVERY
    assert figures.share >= SHARE, figures.rows()
    # They are not tried one by one: whose death it was is known each time.
    assert figures.burial < (15 if LONG else 5), figures.rows()
