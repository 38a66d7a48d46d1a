"""What tasks print, as records of the log (LOG-11).

One record for each piece that ends with a line feed, however many lines it has: a traceback, or a
table, stays together. What has no line feed yet waits for one, for ``flush()``, or for the next task.
"""

import io
import logging
import threading
from typing import Any

from celeriac.context import Context, current


class _Line(threading.local):
    """What a thread has printed and not yet ended, and for which task."""

    text = ""
    request: Context | None = None
    emitting = False


class LoggingProxy(io.TextIOBase):
    """Stands in the place of ``sys.stdout``. Thread-safe.

    ``fileno()`` and ``buffer`` are the original's, for programs that tasks start and for those who
    write bytes: these go past the log. What handlers themselves print goes there, too. ``close()``
    closes nothing.
    """

    def __init__(self, logger: logging.Logger, level: int, original: Any) -> None:
        self.logger = logger
        self.loglevel = level
        self.original: Any = getattr(original, "original", original)
        self._line = _Line()

    def write(self, text: str, /) -> int:
        """Take in text; make a record of what it ends."""
        if self._line.emitting:
            return self._pass(text)
        line = self._line
        if line.text and line.request is not current.get():
            self._emit(line.text)
        line.text += text
        line.request = current.get()
        if line.text.endswith("\n"):
            ended, line.text = line.text, ""
            self._log(ended)
        return len(text)

    def flush(self) -> None:
        """Make a record of what was printed so far."""
        if self._line.text and not self._line.emitting:
            self._emit(self._line.text)

    def close(self) -> None:
        """Flush. The stream stays open: others print, too."""
        self.flush()

    def isatty(self) -> bool:
        """It is no terminal."""
        return False

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """Return the original's descriptor. Raises OSError if it has none."""
        if self.original is None:
            raise io.UnsupportedOperation("fileno")
        descriptor: int = self.original.fileno()
        return descriptor

    @property
    def buffer(self) -> Any:
        """The original's stream of bytes."""
        return self.original.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """The original's encoding."""
        return getattr(self.original, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """How the original treats what it cannot encode."""
        return getattr(self.original, "errors", None)

    def _emit(self, text: str) -> None:
        """Log what has no line feed, as the task that printed it."""
        request, self._line.text = self._line.request, ""
        token = current.set(request)
        try:
            self._log(text)
        finally:
            current.reset(token)

    def _log(self, text: str) -> None:
        text = text.rstrip("\n")
        if not text:
            return
        self._line.emitting = True
        try:
            self.logger.log(self.loglevel, text, stacklevel=3)
        finally:
            self._line.emitting = False

    def _pass(self, text: str) -> int:
        """Write past the log: a handler prints, and must not be called for that again."""
        if self.original is not None:
            self.original.write(text)
        return len(text)
