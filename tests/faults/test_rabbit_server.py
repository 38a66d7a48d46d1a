"""The private servers of ``tests/fixtures/rabbit_server.py``: faults that tests will rely on.

One test does all to one server, since each start takes seconds.
"""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker, StreamLostError

from tests.fixtures.certificates import server_keys
from tests.fixtures.proxy import Proxy
from tests.fixtures.rabbit_server import RabbitServer
from tests.fixtures.servers import MakeRabbit

Q = "durable"


@contextmanager
def channel(url: str) -> Iterator[BlockingChannel]:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    try:
        yield connection.channel()
    finally:
        if connection.is_open:
            connection.close()


def count(url: str) -> int:
    with channel(url) as open_channel:
        return int(open_channel.queue_declare(Q, passive=True).method.message_count)


def publish(url: str) -> None:
    with channel(url) as open_channel:
        open_channel.queue_declare(Q, durable=True)
        open_channel.confirm_delivery()
        kept = pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent)
        open_channel.basic_publish("", Q, b"kept", kept)


def test_a_server_that_is_hurt(make_rabbit: MakeRabbit) -> None:
    server = make_rabbit()
    url = server.url(server.new_vhost())
    publish(url)
    with channel(url) as open_channel:
        server.drop_connections()
        with pytest.raises(ConnectionClosedByBroker, match="dropped by a test"):
            open_channel.queue_declare(Q, passive=True)
    with server.frozen(), socket.create_connection(("127.0.0.1", server.port), 0.1) as line:
        line.sendall(b"AMQP\x00\x00\x09\x01")
        with pytest.raises(TimeoutError):
            line.recv(1)
    assert count(url) == 1
    for end in (server.stop, server.kill):
        end()
        server.start()
        assert count(url) == 1


def test_a_server_with_keys(make_rabbit: MakeRabbit, tmp_path: Path) -> None:
    keys = server_keys(tmp_path)
    server = make_rabbit(tls=keys)
    parameters = pika.URLParameters(server.url())
    context = ssl.create_default_context(cafile=keys.ca)
    parameters.ssl_options = pika.SSLOptions(context, parameters.host)
    pika.BlockingConnection(parameters).close()


def test_each_test_has_a_virtual_host_of_its_own(
    rabbit_server: RabbitServer, rabbit_url: str, make_proxy: Callable[[int], Proxy]
) -> None:
    publish(rabbit_url)
    with pytest.raises(ChannelClosedByBroker):
        count(rabbit_server.url(rabbit_server.new_vhost()))
    proxy = make_proxy(rabbit_server.port)
    way = rabbit_url.replace(f":{rabbit_server.port}/", f":{proxy.port}/")
    with channel(way) as open_channel:
        proxy.cut()
        with pytest.raises(StreamLostError):
            open_channel.queue_declare(Q, passive=True)
    assert count(way) == 1
