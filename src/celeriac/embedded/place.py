"""Where the embedded file is."""

import os
from hashlib import blake2s
from pathlib import Path
from re import sub

from platformdirs import user_state_path

from celeriac.exceptions import ImproperlyConfigured


def default_path(app: str, folder: str) -> str:
    """Return the path for an app that configures no broker.

    ``<state directory>/<app>-<hash of its folder>.db``, so that every process that imports the same
    module finds the same file. ``CELERIAC_HOME`` moves the state directory.
    """
    home = os.environ.get("CELERIAC_HOME")
    place = Path(home).expanduser() if home else user_state_path("celeriac", appauthor=False)
    name = sub(r"[^\w.-]+", "_", app) or "app"
    digest = blake2s(os.path.realpath(folder).encode(), digest_size=4).hexdigest()
    return str(place.absolute() / f"{name}-{digest}.db")


def path_in(url: str) -> str:
    """Return the path in ``sqlite:///relative.db`` or ``sqlite:////absolute.db``.

    Raises ImproperlyConfigured for other forms.
    """
    path = url.removeprefix("sqlite://")
    if not path.startswith("/") or path == "/":
        raise ImproperlyConfigured(
            f"{url!r} names no file; write sqlite:///tasks.db (relative) or sqlite:////var/tasks.db"
        )
    return os.path.abspath(os.path.expanduser(path[1:]))
