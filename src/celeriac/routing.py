"""Where a call goes: from its options and its task to a queue.

Precedence: the call, then the task, then ``task_default_queue`` (ROUTE-03). Queues need no
declaration.
"""

from celeriac.exceptions import ImproperlyConfigured
from celeriac.settings import Settings


class Router:
    """Routes calls under one snapshot of settings. Immutable."""

    def __init__(self, settings: Settings) -> None:
        self.default_queue = settings.task_default_queue
        self.default_priority = settings.task_default_priority or 0

    def route(self, queue: str | None, priority: int | None) -> tuple[str, int]:
        """Return the queue and the priority for a call that asks for these.

        Raises ImproperlyConfigured for a priority outside 0 to 255.
        """
        if priority is None:
            priority = self.default_priority
        elif not 0 <= priority <= 255:
            raise ImproperlyConfigured(
                f"priority {priority} is out of range; write a whole number from 0 to 255, "
                "where higher is sooner"
            )
        return queue or self.default_queue, priority
