"""Routing: from a call to the queues that get its message.

``router`` decides, ``registry`` knows the queues, ``task_routes`` what the user says of tasks,
``bindings`` where exchanges lead; ``amqp`` is all of it for one app. Nothing is sent here.
"""

from celeriac.routing.amqp import AMQP
from celeriac.routing.registry import Queues
from celeriac.routing.router import Route, Router

__all__ = ["AMQP", "Queues", "Route", "Router"]
