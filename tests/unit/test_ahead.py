"""worker/ahead.py: what is imported while the template loads the app."""

import sys
from pathlib import Path

import pytest

from celeriac.worker.ahead import LoadingAhead, foreseen

REDIS = ["celeriac.brokers.redis.broker:RedisBroker", "celeriac.results.redis:RedisStore"]
RABBITMQ = ["celeriac.brokers.amqp.broker:AmqpBroker"]


@pytest.mark.parametrize(
    ("environ", "adapters"),
    [
        ({}, []),
        ({"CELERY_BROKER_URL": "redis://:secret@host/0"}, REDIS),
        (
            {"BROKER_URL": "amqp://host", "CELERY_RESULT_BACKEND": "redis://host"},
            [*RABBITMQ, *REDIS],
        ),
        ({"A_BROKER": "rediss://host", "A_BACKEND": "redis://host"}, REDIS),
        # Of something else, as far as one can tell.
        ({"REDIS_URL": "redis://host", "DOCKER_HOST": "unix:///run/docker.sock"}, []),
        ({"CELERY_BROKER_URL": "sqlite:///tasks.db", "CELERY_APP": "proj", "BROKER": "redis"}, []),
    ],
)
def test_adapters_that_variables_name_are_foreseen(
    environ: dict[str, str], adapters: list[str]
) -> None:
    assert foreseen(environ) == adapters


def test_what_is_named_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wanted_later.py").write_text("THING = 5\n")
    (tmp_path / "without_driver.py").write_text("import a_driver_that_is_missing\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wanted_later", raising=False)
    LoadingAhead(["without_driver:Broker", "wanted_later:THING"]).finish()
    assert sys.modules.pop("wanted_later").THING == 5
