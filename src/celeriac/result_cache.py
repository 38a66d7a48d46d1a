"""Results that a process keeps, so that it need not ask for them again (RES-19).

Successes only, for nothing else stays as it is. Where documents come from is not known here.
"""

from collections import OrderedDict
from collections.abc import Sequence
from threading import Lock

from celeriac.wire.result import ResultDocument


class ResultCache:
    """The documents of the successes that were asked for last. Thread-safe."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, ResultDocument] = OrderedDict()
        self._lock = Lock()

    def find(self, task_ids: Sequence[str]) -> dict[str, ResultDocument]:
        """Return those of these tasks that are here."""
        if not self._kept:
            return {}
        with self._lock:
            found = {id_: self._kept[id_] for id_ in task_ids if id_ in self._kept}
            for id_ in found:
                self._kept.move_to_end(id_)
        return found

    def keep(self, task_id: str, document: ResultDocument, most: int | None) -> None:
        """Keep a document, and of all of them at most so many: None or 0 any number, -1 none."""
        if most == -1:
            return
        with self._lock:
            self._kept[task_id] = document
            self._kept.move_to_end(task_id)
            while most and len(self._kept) > most:
                self._kept.popitem(last=False)

    def drop(self, task_id: str) -> None:
        """Keep a document no longer."""
        with self._lock:
            self._kept.pop(task_id, None)

    def __contains__(self, task_id: object) -> bool:
        return task_id in self._kept
