"""Flights: deliveries in the worker's hands, from claim to settlement.

The registry is shared by three threads; each operation is one step of a dictionary.
"""

from msgspec import Struct

from celeriac.message import Delivery
from celeriac.pools.base import Job, Limits
from celeriac.pools.manifest import TaskOptions


class Flight(Struct, gc=False):
    """One delivery that is to run, runs, or has run and is not settled yet."""

    job: Job
    delivery: Delivery
    task: TaskOptions
    limits: Limits
    retries: int = 0
    keeps_errors: bool = True
    """Whether a failure is stored."""
    acknowledged: bool = False
    """Its message was acknowledged at its start (early acks)."""
    settling: bool = False
    """A settlement is on its way: from now on a lost receipt is no news."""

    @property
    def label(self) -> str:
        """Name and id, as log lines show them."""
        message = self.delivery.message
        return f"{message.task}[{message.id}]"


def on_trial(delivery: Delivery) -> bool:
    """Whether a task may be what its last worker died of, and was lost before.

    One that only ever killed its own process is not: whose fault that was is known.
    """
    return delivery.suspect and delivery.losses > 0


class Flights:
    """All flights of a worker, by job number."""

    def __init__(self) -> None:
        self._flights: dict[int, Flight] = {}

    def add(self, flight: Flight) -> None:
        """Take in a flight, before its job is submitted."""
        self._flights[flight.job.number] = flight

    def get(self, number: int) -> Flight | None:
        """Return the flight of a job."""
        return self._flights.get(number)

    def remove(self, number: int) -> Flight | None:
        """Let go of a flight; return it if it was there."""
        return self._flights.pop(number, None)

    def all(self) -> list[Flight]:
        """Return all flights now."""
        return list(self._flights.values())

    def receipts(self) -> dict[str, int]:
        """Return the job numbers by receipt, of those that still hold a lease."""
        return {f.delivery.receipt: f.job.number for f in self.all() if not f.acknowledged}

    @property
    def on_trial(self) -> bool:
        """Whether one of them is on trial."""
        return any(on_trial(flight.delivery) for flight in self.all())

    def __len__(self) -> int:
        return len(self._flights)
