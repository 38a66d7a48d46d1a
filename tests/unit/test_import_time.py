"""What ``import celeriac`` and a first task cost, told by the modules they load, not by a clock."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import json, sys
# msgspec takes this module if it is there, which it is in a developer's environment.
sys.modules["typing_extensions"] = None
before = set(sys.modules)
import celeriac
app = celeriac.Celery("proj", broker="memory://")

@app.task
def add(x, y):
    return x + y

{more}
print(json.dumps(sorted(set(sys.modules) - before)))
"""

OURS = {
    "annotations", "app", "backend", "backoff", "brokers", "brokers.base", "brokers.urls", "failover",
    "call_options", "canvas", "canvas.signatures", "client", "clock", "completion", "configured",
    "connections", "context", "current", "exceptions", "imports", "joining", "lineage", "loaders", "log",
    "message", "parameters", "proxies", "publication", "queues", "reading", "registry", "result",
    "result_cache", "results", "results.base", "results.urls", "retry", "routing", "routing.amqp",
    "routing.bindings", "routing.registry", "routing.router", "settings", "settings.configuration",
    "settings.masking", "settings.sources", "settings.spelling", "settings.table",
    "settings.validation", "signals", "states", "task", "task_factory", "task_ids", "task_options", "wire",
    "wire.homes", "wire.json", "wire.repr", "wire.result", "wire.serializers", "wire.task",
}  # fmt: skip

OTHERS = {
    # Ours, or msgspec's (uuid with platform, textwrap).
    "binascii", "collections", "contextlib", "contextvars", "copyreg", "datetime", "decimal", "enum",
    "functools", "importlib", "itertools", "json", "keyword", "logging", "math", "msgspec", "numbers",
    "operator", "platform", "random", "re", "reprlib", "string", "struct", "textwrap", "threading",
    "types", "typing", "uuid", "warnings", "weakref", "zoneinfo",
    # Logging's, and theirs.
    "atexit", "copy", "linecache", "token", "tokenize", "traceback",
    # Random's and zoneinfo's.
    "bisect", "sysconfig",
    "__future__",
}  # fmt: skip
"""What else may be loaded. A name more here is some milliseconds more in every program."""

COSTLY = {
    "asyncio", "ast", "click", "concurrent", "dataclasses", "difflib", "dis", "email", "http",
    "inspect", "multiprocessing", "pathlib", "platformdirs", "selectors", "shutil", "signal",
    "socket", "sqlite3", "ssl", "subprocess", "tempfile", "urllib",
}  # fmt: skip

EXTRAS = {
    "cryptography", "django", "gevent", "hiredis", "jinja2", "opentelemetry", "pika", "prometheus_client",
    "psutil", "psycopg", "pydantic", "pymemcache", "redis", "rich", "sqlalchemy", "starlette", "tblib",
    "uvicorn", "yaml", "zstandard",
}  # fmt: skip


def loaded(more: str = "") -> set[str]:
    """Return the modules that a fresh program loads, which defines a task and does ``more``."""
    command = [sys.executable, "-I", "-W", "error", "-c", PROGRAM.format(more=more)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def tops(modules: set[str]) -> set[str]:
    """Return the top-level modules, but for private ones."""
    names = {module.partition(".")[0] for module in modules}
    return {n for n in names if n.startswith("__") or not n.startswith("_")} - {"celeriac"}


@pytest.fixture(scope="module")
def modules() -> set[str]:
    return loaded()


def test_only_the_callers_side_of_ours_is_loaded(modules: set[str]) -> None:
    ours = {module.partition(".")[2] for module in modules if module.startswith("celeriac.")}
    assert ours == OURS


def test_nothing_costly_is_loaded(modules: set[str]) -> None:
    assert tops(modules) & COSTLY == set()


def test_nothing_of_the_extras_is_loaded(modules: set[str]) -> None:
    assert tops(modules) & EXTRAS == set()


def test_nothing_else_is_loaded(modules: set[str]) -> None:
    assert tops(modules) - OTHERS == set()
    assert OTHERS.isdisjoint(COSTLY | EXTRAS)


def test_a_direct_call_and_a_setting_load_nothing_more(modules: set[str]) -> None:
    assert loaded("assert add(1, 2) == 3\napp.conf.task_acks_late = False") == modules


def test_an_adapter_is_loaded_when_its_url_is_opened(modules: set[str]) -> None:
    more = loaded("add.delay(1, 2)") - modules
    assert {module for module in more if module.startswith("celeriac")} == {
        "celeriac.brokers.memory"
    }


def test_asyncio_is_loaded_when_a_coroutine_asks(modules: set[str]) -> None:
    more = loaded("app.awaiter") - modules
    assert "asyncio" in more
    assert {module for module in more if module.startswith("celeriac")} == {
        *("celeriac.awaiting", "celeriac.listener", "celeriac.service")
    }
