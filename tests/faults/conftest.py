"""What tests of faults share."""

from typing import TYPE_CHECKING

import pytest

from tests.fixtures.servers import MakeRabbit, MakeRedis

if TYPE_CHECKING:
    from tests.faults.rabbit import Place
    from tests.fixtures.rabbit_server import RabbitServer


@pytest.fixture
def place(rabbit_server: "RabbitServer", make_redis: MakeRedis) -> "Place":
    """Return a virtual host of the shared RabbitMQ, and a Redis for the results that may be hurt."""
    from tests.faults.rabbit import Place

    return Place(rabbit_server, rabbit_server.new_vhost(), make_redis(durable=True))


@pytest.fixture
def own_place(make_rabbit: MakeRabbit, make_redis: MakeRedis) -> "Place":
    """Return two servers that may be hurt."""
    from tests.faults.rabbit import Place

    return Place(make_rabbit(), "/", make_redis(durable=True))
