"""What tests of faults share."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.servers import MakeRedis, need

if TYPE_CHECKING:
    from tests.faults.rabbit import Place
    from tests.fixtures.rabbit_server import RabbitServer


@pytest.fixture
def place(rabbit_server: "RabbitServer", make_redis: MakeRedis) -> "Place":
    """Return a virtual host of the shared RabbitMQ, and a Redis for the results that may be hurt."""
    from tests.faults.rabbit import Place

    return Place(rabbit_server, rabbit_server.new_vhost(), make_redis(durable=True))


@pytest.fixture(scope="module")
def frail_rabbit(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[RabbitServer]":
    """Return a server that tests of one module may hurt, one after the other."""
    from tests.fixtures.rabbit_server import RabbitServer, program

    need("rabbitmq-server", program())
    server = RabbitServer(tmp_path_factory.mktemp("frail"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def frail_place(frail_rabbit: "RabbitServer", make_redis: MakeRedis) -> "Place":
    """Return the same where RabbitMQ may be hurt, too."""
    from tests.faults.rabbit import Place

    return Place(frail_rabbit, frail_rabbit.new_vhost(), make_redis(durable=True))
