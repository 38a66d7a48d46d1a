"""The one interface of everything that runs in a thread: start, stop, join.

``start`` returns when the service is ready; ``stop`` may be called twice, or before ``start``, and
only asks; ``join`` waits. A service whose ``run`` raises is *failed*: the exception is kept in
``failure`` and ``on_failure`` is called, so that its owner can end the rest in order.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable


class Service(ABC):
    """A thread with an orderly life: new -> running -> stopping -> stopped (or failed)."""

    name = "service"

    def __init__(self, on_failure: Callable[["Service"], None] | None = None) -> None:
        self.stopping = False
        self.failure: BaseException | None = None
        self._on_failure = on_failure
        self._thread: threading.Thread | None = None

    @abstractmethod
    def run(self) -> None:
        """Do the work until ``self.stopping``. Runs in the service's own thread."""

    def wake(self) -> None:  # noqa: B027 - a service without a blocking wait has nothing to wake
        """Make a blocking wait in ``run`` return, so that it sees ``stopping``. Thread-safe."""

    def start(self) -> None:
        """Start the thread, unless the service was stopped before it began."""
        if self._thread is None and not self.stopping:
            self._thread = threading.Thread(target=self._guarded, name=self.name, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Ask the service to end. Returns at once; idempotent; thread-safe."""
        self.stopping = True
        self.wake()

    def join(self, timeout: float | None = None) -> bool:
        """Wait up to ``timeout`` seconds for the end; return whether the thread has ended."""
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout)
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the thread is running."""
        return self._thread is not None and self._thread.is_alive()

    def _guarded(self) -> None:
        try:
            self.run()
        except BaseException as error:  # noqa: BLE001 - the edge of a thread: kept here or lost
            self.failure = error
            if self._on_failure is not None:
                self._on_failure(self)
