"""The report for a bug: complete enough to be of use, and free of secrets."""

import platform
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

from celeriac import Celery, __version__, report
from celeriac.report import bugreport

pytestmark = [
    pytest.mark.follows("APP-33", "SEC-05"),
    pytest.mark.filterwarnings("ignore::celeriac.exceptions.SettingNotReadWarning"),
]


def lines_of(**settings: Any) -> dict[str, str]:
    """Return the head of a report, by what each line is about."""
    app = Celery("shop", **settings)
    head = bugreport(app).partition("\n\n")[0]
    return {
        name.strip(): words for name, _, words in (s.partition("-> ") for s in head.split("\n"))
    }


def test_versions_of_what_is_installed_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"celeriac": __version__, "msgspec": "1.2", "click": "8.9", "redis": "5.0"}

    def version(name: str) -> str:
        try:
            return there[name]
        except KeyError:
            raise PackageNotFoundError(name) from None

    monkeypatch.setattr(report, "version", version)
    lines = lines_of()
    assert lines["software"].startswith(
        f"celeriac:{__version__} python:{platform.python_version()} (CPython) msgspec:1.2 click:8.9 "
    )
    assert lines["optional"] == "redis:5.0"
    there.pop("redis")
    assert lines_of()["optional"] == "nothing"


def test_where_and_what_it_is() -> None:
    lines = lines_of(broker="sqlite:////tmp/a.db", worker_concurrency=3)
    assert lines["app"] == f"shop (module {__name__}), 0 tasks"
    assert platform.release() in lines["platform"]
    assert lines["broker"] == lines["results"] == "sqlite:////tmp/a.db"
    assert lines["pool"] == "prefork, concurrency 3"


def test_addresses_that_this_version_cannot_open_are_told_all_the_same() -> None:
    lines = lines_of(broker="amqp://u:hunter2@h//", backend="redis://:hunter2@h/0")
    assert (lines["broker"], lines["results"]) == ("amqp://u:**@h//", "redis://:**@h/0")
    several = lines_of(broker_url=["amqp://u:hunter2@h//", "amqp://u:hunter2@i//"])
    assert several["broker"] == "amqp://u:**@h//;amqp://u:**@i//"


@pytest.mark.follows("APP-11")
def test_no_secret_is_in_it() -> None:
    app = Celery(
        "shop",
        broker="redis://:hunter2@h/0",
        backend="azureblockblob://AccountName=me;AccountKey=hunter2",
        security_key_password="hunter2",
        s3_secret_access_key="hunter2",
        broker_transport_options={"sentinel_kwargs": {"password": "hunter2", "db": 3}},
        task_default_queue="mail",
    )
    text = bugreport(app)
    assert "hunter2" not in text
    told = [line.strip() for line in text.splitlines()]
    assert "security_key_password = ********" in told
    assert "broker_url = 'redis://:**@h/0'" in told
    assert "task_default_queue = 'mail'" in told
    assert (
        "broker_transport_options = {'sentinel_kwargs': {'password': '********', 'db': 3}}" in told
    )


def test_settings_that_are_as_they_are_anyway_are_left_out() -> None:
    assert bugreport(Celery("shop")).endswith("settings that are not the default ones:\n  (none)\n")
    text = bugreport(Celery("shop", task_acks_late=True, task_track_started=True))
    assert text.endswith("default ones:\n  task_track_started = True\n")
