"""Captures where a real Celery sends the calls of ``route_cases.py``, into golden/routes.json.

Run it by hand when the reference version or the cases change; the tests only read what it wrote. It
needs ``celery==5.7.0`` in the running Python, and no server::

    python tests/interop/capture_routes.py
"""

# ruff: noqa: T201, BLE001, E402 - what fails is a case; the cases lie beside it
# mypy: ignore-errors
# pyright: basic, reportMissingImports=false, reportMissingModuleSource=false

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import kombu.pools
from celery import Celery, __version__
from celery._state import _task_stack
from kombu.common import Broadcast
from kombu.messaging import Producer
from kombu.transport import memory

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import route_cases

KIT = SimpleNamespace(
    Queue=kombu.Queue, Exchange=kombu.Exchange, binding=kombu.binding, Broadcast=Broadcast
)

sent = []
publish = Producer.publish


def spy(self, body, **options):
    """Note what is published, and publish it."""
    sent.append(options)
    return publish(self, body, **options)


def work(*args, **kwargs):
    """Do nothing: no task is run here."""


def where(case):
    """Return where a call goes: what is published, and the queues that have it then."""
    memory.Channel.queues.clear()
    memory.Transport.global_state.clear()
    # Its connections remember what they have declared.
    kombu.pools.reset()
    sent.clear()
    app = Celery("capture", broker="memory://", backend="disabled://", set_as_current=False)
    app.conf.update(case.settings)
    parent = app.task(name="parent")(work)
    if case.task is not None:
        task = app.task(name=case.name, **case.task)(work)
    with app.connection_for_write() as connection:
        for queue in app.amqp.queues.values():
            queue(connection.default_channel).declare()
    if case.parent is not None:
        parent.push_request(delivery_info={"priority": case.parent}, called_directly=False)
        _task_stack.push(parent)
    try:
        args, kwargs = (1, 2), {"word": "w"}
        if case.task is not None:
            task.apply_async(args, kwargs, **case.call)
        else:
            app.send_task(case.name, args, kwargs, **case.call)
    except Exception as error:
        return {"error": type(error).__name__}
    finally:
        if case.parent is not None:
            _task_stack.pop()
            parent.pop_request()
    (options,) = sent
    exchange = options["exchange"]
    queues = [name for name, queue in memory.Channel.queues.items() if queue.qsize()]
    mode = options["delivery_mode"]
    return {
        "exchange": getattr(exchange, "name", exchange),
        "routing_key": options["routing_key"],
        "priority": options.get("priority", 0),
        "delivery_mode": {"transient": 1, "persistent": 2}.get(mode, mode),
        "declare": [one.name for one in options["declare"] or ()],
        "queues": sorted(queues),
    }


def main():
    warnings.simplefilter("ignore")
    Producer.publish = spy
    found = {name: where(case) for name, case in route_cases.cases(KIT, "route_cases").items()}
    document = {"celery": __version__, "kombu": kombu.__version__, "cases": found}
    file = HERE / "golden" / "routes.json"
    file.write_text(json.dumps(document, indent=1) + "\n")
    print(f"{len(found)} cases in {file}")


if __name__ == "__main__":
    main()
