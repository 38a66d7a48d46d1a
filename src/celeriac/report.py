"""The report for a bug: versions, addresses and settings of an app as text, secrets masked (APP-33).

Made to be pasted into an issue. Nothing is connected, and no task or result is looked at; what
cannot be told is said in its place, so that a report never fails.
"""

import os
import platform
import sqlite3
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

from celeriac.app import Celery
from celeriac.exceptions import CeleriacError
from celeriac.settings import masked_url
from celeriac.settings.masking import shown
from celeriac.settings.table import DEFAULTS

CORE = ("msgspec", "click", "platformdirs")
OPTIONAL = (
    *("redis", "hiredis", "pika", "psycopg", "SQLAlchemy", "pymemcache", "Django"),
    *("PyYAML", "msgpack", "zstandard", "cryptography", "tblib", "pydantic", "gevent"),
    *("celery", "kombu"),
)
"""What may be installed beside: drivers, serializers, and what users often confuse us with."""


def bugreport(app: Celery) -> str:
    """Return versions, platform, addresses, pool, and the settings that are not the default ones.

    Passwords in URLs are shown as ``**``, secret settings as ``********`` (APP-11).
    """
    lines = {
        "software": f"{_versions('celeriac')} python:{platform.python_version()} "
        f"({platform.python_implementation()}) {_versions(*CORE)} sqlite:{sqlite3.sqlite_version}",
        "optional": _versions(*OPTIONAL) or "nothing",
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}, "
        f"{os.cpu_count()} processors",
        "program": " ".join((sys.executable, *sys.argv[:1])),
        "app": f"{app.main} (module {app.module}), {len(app.tasks)} tasks",
        "broker": _address(lambda: app.broker_url),
        "results": _address(lambda: app.store_url),
        "pool": f"{app.conf['worker_pool']}, concurrency "
        f"{app.settings.worker_concurrency or 'as many as processors'}",
    }
    told = [f"{name:<9}-> {words}" for name, words in lines.items()]
    return "\n".join([*told, "", "settings that are not the default ones:", *_settings(app), ""])


def _versions(*packages: str) -> str:
    """Return ``name:version`` of those that are installed."""
    return " ".join(f"{name}:{found}" for name in packages if (found := _version(name)))


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _address(url: Callable[[], str]) -> str:
    try:
        return str(masked_url(url()))
    except CeleriacError as error:
        return f"unknown: {error}"


def _settings(app: Celery) -> Iterator[str]:
    changed = False
    for name, value in app.conf.items():
        if value != getattr(DEFAULTS, name):
            changed = True
            yield f"  {name} = {shown(name, value)}"
    if not changed:
        yield "  (none)"
