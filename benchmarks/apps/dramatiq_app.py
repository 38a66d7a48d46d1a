"""The application on Dramatiq, with its defaults."""

import json
import os

import dramatiq
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

from benchmarks.marks import mark

_url, _results = os.environ["BENCH_BROKER"], os.environ["BENCH_BACKEND"]
broker = RabbitmqBroker(url=_url) if _url.startswith("amqp") else RedisBroker(url=_url)
if _results:
    _store = RedisBackend(url=_results)
    broker.add_middleware(Results(backend=_store))
dramatiq.set_broker(broker)
_options = {"store_results": True} if _results else {}


@dramatiq.actor(**_options)
def add(x: int, y: int) -> int:
    """The no-op."""
    mark(x)
    return x + y


@dramatiq.actor(**_options)
def echo(number: int, text: str) -> str:
    """Give a payload back."""
    mark(number)
    return text


@dramatiq.actor
def ring(number: int) -> None:
    """Say when send number `number` arrived."""
    mark(number)


def _handle(message: dramatiq.Message) -> str:
    return json.dumps([message.queue_name, message.actor_name, message.message_id])


def send(x: int, y: int) -> str:
    return _handle(add.send(x, y))


def send_many(count: int, batch: int) -> list[str]:
    """There is no call for many tasks, so `batch` changes nothing."""
    del batch
    return [send(1, 2) for _ in range(count)]


def send_echo(number: int, text: str) -> str:
    return _handle(echo.send(number, text))


def send_ring(number: int) -> None:
    ring.send(number)


def send_later(seconds: int) -> None:
    add.send_with_options(args=(1, 2), delay=seconds * 1000)


def result(handle: str, timeout: float) -> object:
    queue, actor, id_ = json.loads(handle)
    message = dramatiq.Message(
        queue_name=queue, actor_name=actor, message_id=id_, args=(), kwargs={}, options={}
    )
    return _store.get_result(message, block=True, timeout=int(timeout * 1000))
