"""Celeriac: a distributed task queue for Python, with the API and the wire protocol of Celery.

Public names only; everything else is found where its name says.
"""

from celeriac.app import Celery
from celeriac.log import get_task_logger
from celeriac.result import AsyncResult
from celeriac.task import Task

__version__ = "0.1.0"

__all__ = ["AsyncResult", "Celery", "Task", "__version__", "get_task_logger"]
