"""The table of settings beside Celery's own, masking, and the page that is made from the table."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from celeriac.exceptions import SettingNotReadWarning
from celeriac.settings import Configuration, Settings, masked_url, sources
from celeriac.settings.masking import is_secret, shown
from celeriac.settings.table import DEFAULTS, NAMES, SAME, celery_column, entries
from celeriac.settings.validation import _CONVERSIONS, _kinds, coerce
from scripts.settings_reference import PAGE, page

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "celeriac"
CELERY = json.loads((ROOT / "tests" / "fixtures" / "celery_settings.json").read_text("utf-8"))

OURS = {
    *("broker_timeout", "task_delivery_limit", "task_unknown_ttl", "worker_grace"),
    "worker_log_style",
}
UNLISTED = {
    "dynamodb_endpoint_url",
    "gcs_threadpool_maxsize",
    "redis_backend_credential_provider",
    "redis_backend_health_check_interval",
    "redis_client_name",
    "result_backend_thread_safe",
}


@pytest.fixture(autouse=True)
def _nothing_warned_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_warned", set())


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND"):
        monkeypatch.delenv(f"CELERY_{variable}", raising=False)


@pytest.fixture
def conf() -> Configuration:
    return Configuration()


# -- the table


def test_every_setting_of_celery_is_in_the_table_and_nothing_unknown() -> None:
    assert len(CELERY) == 207
    assert set(CELERY) | OURS | UNLISTED == NAMES


@pytest.mark.follows("APP-09")
def test_old_names_are_those_of_celery() -> None:
    assert {e.name: list(e.old_names) for e in entries() if e.old_names} == {
        name: old for name, (old, _) in CELERY.items()
    }


@pytest.mark.follows("APP-09")
@pytest.mark.parametrize(
    ("old", "name"), [(old, name) for name, (olds, _) in CELERY.items() for old in olds]
)
def test_an_old_name_is_understood_wherever_the_new_one_is(
    old: str, name: str, conf: Configuration
) -> None:
    default = getattr(DEFAULTS, name)
    for source in ({old: default}, SimpleNamespace(**{old: default})):
        conf.load(source)
        assert conf.is_set(name)
        conf.load({})
        assert not conf.is_set(name)
    conf[old] = default
    assert conf.is_set(name)
    assert conf[old] == getattr(conf, old) == conf[name] == default


def test_the_second_column_is_celerys() -> None:
    snapshot = Configuration("celery").snapshot
    for name, (_, default) in CELERY.items():
        ours = getattr(snapshot, name)
        theirs = float("inf") if default == "Infinity" else default
        assert (list(ours) if isinstance(ours, tuple) else ours) == theirs, name


@pytest.mark.follows("TASK-14", "TASK-16", "LOG-04")
def test_the_columns_differ_where_the_design_says() -> None:
    ours, theirs = Settings(), celery_column()
    assert {name: (getattr(ours, name), value) for name, value in theirs.items()} == {
        "broker_heartbeat": (20.0, 120.0),
        "broker_url": (None, "amqp://"),
        "result_backend": (None, "disabled://"),
        "result_extended": (True, False),
        "task_acks_late": (True, False),
        "task_reject_on_worker_lost": (True, None),
        "worker_hijack_root_logger": (False, True),
        "worker_prefetch_multiplier": (None, 4),
    }
    # the column is found by looking for its word in the text of the table
    assert set(theirs) == {e.name for e in entries() if e.setting.celery is not SAME}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_each_default_fits_its_own_type(name: str) -> None:
    default = getattr(DEFAULTS, name)
    assert coerce(name, default) == default
    assert all(kind in _CONVERSIONS for kind in _kinds(name))


def test_the_two_columns_agree_on_what_is_not_read() -> None:
    assert all(e.setting.celery is SAME for e in entries() if not e.setting.read)


def test_no_setting_hides_behind_a_method_of_the_configuration() -> None:
    assert not NAMES & set(vars(Configuration))


def test_defaults_are_not_shared_between_configurations(conf: Configuration) -> None:
    conf.beat_schedule["a"] = {}
    conf.task_publish_retry_policy["max_retries"] = 9
    assert Configuration().beat_schedule == {}
    assert Configuration().task_publish_retry_policy["max_retries"] == 3


# -- masking


@pytest.mark.follows("APP-11", "BROK-17")
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:pw@h/0", "redis://:**@h/0"),
        ("amqp://guest:guest@h:5672//", "amqp://guest:**@h:5672//"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://user@h/0", "redis://user@h/0"),
        ("redis://:p@ss/w#rd@h/0", "redis://:**@h/0"),
        ("redis://:p?w@h/0?db=1", "redis://:**@h/0?db=1"),
        ("a://:p;w@h/0;b://u:x@i/1", "a://:**@h/0;b://u:**@i/1"),
        (
            "redis+socket:///run/r.sock?password=pw&db=1",
            "redis+socket:///run/r.sock?password=**&db=1",
        ),
        ("sqlite:////var/lib/x@y.db", "sqlite:////var/lib/x@y.db"),
        ("db+postgresql://u:p@h/d", "db+postgresql://u:**@h/d"),
        (
            "azureblockblob://AccountName=me;AccountKey=pw==;BlobEndpoint=https://h/me;Key=k",
            "azureblockblob://AccountName=me;AccountKey=**;BlobEndpoint=https://h/me;Key=**",
        ),
        (["redis://:pw@h/0", "memory://"], ["redis://:**@h/0", "memory://"]),
        ("redis", "redis"),
        ("", ""),
        (None, None),
        (7, 7),
    ],
)
@pytest.mark.follows("APP-11")
def test_passwords_in_urls_are_masked(url: Any, expected: Any) -> None:
    assert masked_url(url) == expected


def test_secret_names() -> None:
    secret = {name for name in NAMES if is_secret(name)}
    assert secret == {
        "broker_password",
        "redis_backend_credential_provider",
        "redis_password",
        "s3_access_key_id",
        "s3_secret_access_key",
        "security_key",
        "security_key_password",
    }
    assert is_secret("MY_API_KEY")


@pytest.mark.follows("APP-11", "SEC-05")
def test_what_is_printed_holds_no_secret(conf: Configuration) -> None:
    conf.update(broker_url=["redis://:hunter2@h", "redis://i"], result_backend="redis://:hunter2@h")
    with pytest.warns(SettingNotReadWarning):
        conf.update(redis_password="hunter2", mongodb_backend_settings={"password": "hunter2"})
    for text in (repr(conf), repr(conf.snapshot), str(conf.snapshot)):
        assert "hunter2" not in text
        assert "redis://:**@h" in text
    assert shown("task_routes", "x" * 1000).endswith("...")


# -- the page, and the code


def test_the_page_is_what_the_generator_prints() -> None:
    assert PAGE.read_text("utf-8") == page(), "run: python scripts/settings_reference.py --write"


HOLDERS = {"settings", "conf", "snapshot"}


def _settings_read(tree: ast.AST) -> Iterator[str]:
    """Setting names read as attributes of a snapshot, or listed in a constant for that purpose."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            holder = node.value
            name = holder.attr if isinstance(holder, ast.Attribute) else getattr(holder, "id", "")
            if name.lstrip("_") in HOLDERS and node.attr in NAMES:
                yield node.attr
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Tuple):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            constant = all(isinstance(one, ast.Name) and one.id.isupper() for one in targets)
            words = [getattr(item, "value", None) for item in node.value.elts]
            if constant and all(word in NAMES for word in words):
                yield from (str(word) for word in words)


def test_the_scan_sees_attributes_and_manifests_only() -> None:
    code = """
SENT_TO_CHILDREN: Final = ("task_time_limit", "task_soft_time_limit")
OTHER = ("task_routes", "no setting")
a = self._settings.task_acks_late or app.conf.timezone or conf.snapshot.include
self.conf.task_compression = "gzip"
b = self.task_serializer
"""
    assert sorted(_settings_read(ast.parse(code))) == [
        "include",
        "task_acks_late",
        "task_soft_time_limit",
        "task_time_limit",
        "timezone",
    ]


@pytest.mark.skipif(
    not all((SOURCE / file).exists() for file in ("app.py", "worker/worker.py", "cli/main.py")),
    reason="the app, the worker and the command line, which read the settings, are not all there",
)
def test_the_table_tells_the_truth_about_what_is_read() -> None:
    used = {
        name
        for path in SOURCE.rglob("*.py")
        if SOURCE / "settings" not in path.parents
        for name in _settings_read(ast.parse(path.read_text("utf-8")))
    }
    marked = {e.name for e in entries() if e.setting.read}
    assert sorted(marked - used) == [], "marked read=True, but nothing reads them"
    assert sorted(used - marked) == [], "read somewhere, but not marked read=True"
