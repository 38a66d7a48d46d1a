"""The registry of deliveries in a worker's hands."""

from typing import Any

import pytest

from celeriac.pools.base import NO_LIMITS, Job
from celeriac.worker.flights import Flight, Flights
from tests.fixtures.deliveries import delivery, message, options


def flight(number: int, **told: Any) -> Flight:
    held = delivery(message(f"id-{number}"), receipt=f"{number}:1", **told)
    return Flight(Job(number, held.message, "celery"), held, options(), NO_LIMITS)


def registry(*numbers: int) -> Flights:
    flights = Flights()
    for number in numbers:
        flights.add(flight(number))
    return flights


def test_a_flight_is_found_by_the_number_of_its_job() -> None:
    flights = registry(1, 2)
    found = flights.get(2)
    assert found is not None
    assert found.delivery.message.id == "id-2"
    assert flights.get(3) is None
    assert (len(flights), [f.job.number for f in flights.all()]) == (2, [1, 2])


def test_a_flight_is_removed_once() -> None:
    flights = registry(1, 2)
    assert flights.remove(1) is not None
    assert flights.remove(1) is None
    assert (len(flights), flights.get(1)) == (1, None)


def test_only_what_is_not_acknowledged_holds_a_lease() -> None:
    flights = registry(1, 2, 3)
    acknowledged = flights.get(2)
    assert acknowledged is not None
    acknowledged.acknowledged = True
    assert flights.receipts() == {"1:1": 1, "3:1": 3}
    assert len(flights) == 3


def test_a_flight_is_labelled_as_log_lines_show_it() -> None:
    assert flight(7).label == "shop.pay[id-7]"


@pytest.mark.parametrize(
    ("told", "on_trial"),
    [
        ({}, False),
        ({"suspect": True}, False),
        ({"losses": 2}, False),  # It killed its own process, and that is known.
        ({"suspect": True, "losses": 1}, True),
    ],
)
def test_what_may_have_killed_a_worker_before_is_on_trial(
    told: dict[str, Any], on_trial: bool
) -> None:
    flights = registry(1)
    flights.add(flight(2, **told))
    assert flights.on_trial == on_trial
