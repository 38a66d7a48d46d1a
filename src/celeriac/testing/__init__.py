"""Testing tasks: the real road of a task, in the process of the test, with a clock that it moves.

``Inbox`` runs what was enqueued, when the test says so; ``start_worker`` has a worker do it in a
thread. The fixtures are in ``pytest_plugin``; the rest are the names of ``celery.contrib.testing``.
Nothing here is imported by a program that is not tested.
"""

from celeriac.testing.apps import TestApp, Trap, UnitLogging, set_trap, setup_default_app
from celeriac.testing.clocks import FakeClock
from celeriac.testing.inbox import Inbox
from celeriac.testing.manager import Manager, ManagerMixin
from celeriac.testing.messages import Enqueued, Ran
from celeriac.testing.mocks import ContextMock, TaskMessage, TaskMessage1, task_message_from_sig
from celeriac.testing.worker import EmbeddedWorker, start_worker

__all__ = [
    "ContextMock",
    "EmbeddedWorker",
    "Enqueued",
    "FakeClock",
    "Inbox",
    "Manager",
    "ManagerMixin",
    "Ran",
    "TaskMessage",
    "TaskMessage1",
    "TestApp",
    "Trap",
    "UnitLogging",
    "set_trap",
    "setup_default_app",
    "start_worker",
    "task_message_from_sig",
]
