"""What the conformance suites share."""

from collections.abc import Callable, Iterator

import pytest

from celeriac.brokers.base import Broker, Consumer
from tests.fixtures.processes import Children, Start

# Assertions in the suites are explained as well as those in test modules.
SUITES = (
    "broker",
    "pool",
    "lease",
    "settlement",
    "chord",
    "dead_letter",
    "exchange",
    "shared",
    "result_store",
)
for suite in SUITES:
    pytest.register_assert_rewrite(f"tests.contract.{suite}_contract")


@pytest.fixture
def consume(broker: Broker) -> Iterator[Callable[..., Consumer]]:
    """Return a function that opens consumers; they are closed at the end."""
    opened: list[Consumer] = []

    def open_one(*queues: str, lease: float = 20.0) -> Consumer:
        opened.append(broker.consumer(queues or ("work",), lease=lease))
        return opened[-1]

    yield open_one
    for consumer in opened:
        consumer.close()


@pytest.fixture
def start() -> Iterator[Start]:
    """Return a function that starts other processes; they are killed at the end."""
    with Children() as start:
        yield start
