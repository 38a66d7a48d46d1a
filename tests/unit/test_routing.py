"""routing.py: the queue and the priority of a call."""

import pytest

from celeriac.exceptions import ImproperlyConfigured
from celeriac.routing import Router
from celeriac.settings import Settings


@pytest.mark.follows("ROUTE-03")
def test_what_the_call_says_counts() -> None:
    assert Router(Settings()).route("urgent", 7) == ("urgent", 7)


@pytest.mark.follows("ROUTE-10")
def test_the_settings_decide_the_rest() -> None:
    router = Router(Settings(task_default_queue="work", task_default_priority=4))
    assert router.route(None, None) == ("work", 4)
    assert router.route("urgent", None) == ("urgent", 4)
    assert router.route(None, 7) == ("work", 7)


@pytest.mark.follows("ROUTE-10")
def test_without_settings_it_is_celerys_queue_and_no_priority() -> None:
    assert Router(Settings()).route(None, None) == ("celery", 0)


def test_zero_is_a_priority_of_its_own() -> None:
    assert Router(Settings(task_default_priority=4)).route(None, 0) == ("celery", 0)


@pytest.mark.parametrize("priority", [0, 255])
def test_the_ends_of_the_range_are_in_it(priority: int) -> None:
    assert Router(Settings()).route(None, priority) == ("celery", priority)


@pytest.mark.parametrize("priority", [-1, 256, 1000])
def test_other_priorities_are_refused(priority: int) -> None:
    with pytest.raises(ImproperlyConfigured, match=rf"priority {priority} .* from 0 to 255"):
        Router(Settings()).route(None, priority)
