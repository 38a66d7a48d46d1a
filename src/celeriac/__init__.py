"""Celeriac: a distributed task queue for Python, with the API and the wire protocol of Celery.

Public names only; everything else is found where its name says.
"""

from celeriac.app import Celery
from celeriac.canvas import Signature, maybe_signature, signature
from celeriac.current import current_app, current_task, current_worker_task
from celeriac.log import get_task_logger
from celeriac.registry import shared_task
from celeriac.result import AsyncResult
from celeriac.task import Task
from celeriac.task_ids import new_id as uuid

__version__ = "0.1.0"

__all__ = [
    "AsyncResult",
    "Celery",
    "Signature",
    "Task",
    "__version__",
    "current_app",
    "current_task",
    "current_worker_task",
    "get_task_logger",
    "maybe_signature",
    "shared_task",
    "signature",
    "uuid",
]
