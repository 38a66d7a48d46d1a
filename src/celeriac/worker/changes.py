"""Which source files of a project have been saved, found by looking at their times.

Looked at are the files of all modules that this process has loaded from below one folder; what
package managers have put there (``site-packages``) is left out. One object per process, one thread.
"""

import os
import sys
from collections.abc import Iterator

Stamp = tuple[int, int]
"""Time of the last change in nanoseconds, and size."""

INSTALLED = frozenset(("site-packages", "dist-packages", "node_modules", "__pycache__"))


class Changes:
    """Looks for changes below a folder, an absolute path. Made before the modules are loaded."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._before = {path: _stamp(path) for path in self._sources()}
        self._seen: dict[str, Stamp | None] = {}

    def loaded(self) -> list[str]:
        """Return files of loaded modules that have changed since the last look.

        The first look compares with the start: what was saved while modules were being loaded may
        have been loaded as it was before.
        """
        changed = []
        for path in self._modules():
            stamp = _stamp(path)
            if stamp != self._seen.get(path, self._before.get(path, stamp)):
                changed.append(self._shown(path))
            self._seen[path] = stamp
        self.forgive()
        return changed

    def forgive(self) -> None:
        """Take what is loaded from now on as it is."""
        self._before = {}

    def anywhere(self) -> list[str]:
        """Return source files that have changed, come or gone since the last look, loaded or not.

        For when loading has failed: what is to be mended may not be loaded, or not be there yet.
        """
        now = {path: _stamp(path) for path in self._sources()}
        paths = sorted(now.keys() | self._before.keys())
        changed = [path for path in paths if now.get(path) != self._before.get(path)]
        self._before = now
        return [self._shown(path) for path in changed]

    def _modules(self) -> Iterator[str]:
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if isinstance(path, str) and self._is_ours(path := os.path.abspath(path)):
                yield path

    def _is_ours(self, path: str) -> bool:
        inside = path.startswith(os.path.join(self.folder, ""))
        return inside and INSTALLED.isdisjoint(path[len(self.folder) :].split(os.sep))

    def _sources(self) -> Iterator[str]:
        for place, folders, files in os.walk(self.folder):
            folders[:] = [f for f in folders if f[0] != "." and f not in INSTALLED]
            yield from (os.path.join(place, file) for file in files if file.endswith(".py"))

    def _shown(self, path: str) -> str:
        return os.path.relpath(path, self.folder)


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
