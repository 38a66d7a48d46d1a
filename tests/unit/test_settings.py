"""``app.conf``: reading, writing, layers, sources, and what happens to wrong names and values."""

import copy
import pickle
import sys
import threading
import types
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from celeriac.exceptions import ImproperlyConfigured, SettingNotReadWarning
from celeriac.settings import Configuration, Settings, sources
from celeriac.settings.spelling import nearest, new_name
from celeriac.settings.table import NAMES, entry
from celeriac.settings.validation import coerce


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


@pytest.fixture
def often_switching() -> Iterator[None]:
    """Threads change places so often that a missing lock shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


# -- reading and writing


@pytest.mark.follows("APP-04", "APP-09")
def test_attributes_and_items_under_both_names(conf: Configuration) -> None:
    conf.task_time_limit = 30
    assert conf.CELERYD_TASK_TIME_LIMIT == conf["CELERYD_TASK_TIME_LIMIT"] == 30.0
    conf["CELERYD_TASK_TIME_LIMIT"] = 40
    assert conf.task_time_limit == conf["task_time_limit"] == conf.get("task_time_limit") == 40.0


def test_it_is_a_mapping_of_all_names(conf: Configuration) -> None:
    assert set(conf) == set(conf.keys()) == NAMES
    assert len(conf) == len(NAMES)
    assert dict(conf) == dict(conf.items())
    assert "task_acks_late" in conf
    assert "CELERY_ACKS_LATE" in conf
    assert "task_acks_lat" not in conf
    assert conf.get("task_acks_lat", 7) == 7


def test_update_takes_mappings_pairs_and_keywords(conf: Configuration) -> None:
    conf.update({"task_time_limit": 1}, task_soft_time_limit=2)
    conf.update([("worker_concurrency", 3)])
    limits = (conf.task_time_limit, conf.task_soft_time_limit, conf.worker_concurrency)
    assert limits == (1.0, 2.0, 3)


def test_update_is_all_or_nothing(conf: Configuration) -> None:
    with pytest.raises(ImproperlyConfigured):
        conf.update(task_time_limit=1, task_soft_time_limit="soon")
    assert conf.task_time_limit is None
    assert conf.version == 0


def test_setdefault_yields_to_any_given_value_but_not_to_the_column(conf: Configuration) -> None:
    conf.load({"task_time_limit": 5})
    assert conf.setdefault("task_time_limit", 6) == 5.0
    assert conf.setdefault("task_acks_late", False) is False
    assert conf.setdefault("task_acks_late", True) is False


def test_deleting_takes_back_a_direct_assignment(conf: Configuration) -> None:
    conf.load({"task_time_limit": 5})
    conf.task_time_limit = 6
    del conf.CELERYD_TASK_TIME_LIMIT
    assert conf.task_time_limit == 5.0
    conf["task_time_limit"] = 7
    del conf["task_time_limit"]
    assert conf.task_time_limit == 5.0


def test_unknown_attributes_and_items_are_the_usual_errors(conf: Configuration) -> None:
    with pytest.raises(AttributeError, match="task_acks_lat"):
        _ = conf.task_acks_lat
    with pytest.raises(KeyError):
        _ = conf["task_acks_lat"]
    assert not hasattr(conf, "__wrapped__")
    assert "task_acks_late" in dir(conf)


def test_a_value_mutated_in_place_lives_through_a_rebuild(conf: Configuration) -> None:
    conf.beat_schedule["a"] = {"task": "t"}
    conf.task_time_limit = 1
    assert conf.beat_schedule == {"a": {"task": "t"}}


# -- the snapshot


def test_the_snapshot_is_kept_until_something_changes(conf: Configuration) -> None:
    first, version = conf.snapshot, conf.version
    assert conf.snapshot is first
    conf.task_time_limit = 30
    assert conf.snapshot is not first
    assert conf.version > version
    assert (first.task_time_limit, conf.snapshot.task_time_limit) == (None, 30.0)


def test_the_snapshot_is_frozen(conf: Configuration) -> None:
    with pytest.raises(AttributeError):
        conf.snapshot.task_acks_late = False  # type: ignore[misc]


def test_changes_from_many_threads_are_all_kept(conf: Configuration, often_switching: None) -> None:
    names = [
        name for name in sorted(NAMES) if entry(name).type is bool and entry(name).setting.read
    ]
    names += ["task_time_limit", "task_soft_time_limit", "worker_grace", "broker_timeout"]
    together = threading.Barrier(len(names))
    seen: list[Settings] = []

    def assign(name: str) -> None:
        together.wait()
        for number in range(200):
            conf[name] = number % 2
            seen.append(conf.snapshot)
        conf[name] = 1

    threads = [threading.Thread(target=assign, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: conf[name] for name in names} == dict.fromkeys(names, 1)
    assert conf.version == 201 * len(names)
    assert all(isinstance(snapshot, Settings) for snapshot in seen)


def test_it_can_be_pickled_and_copied(conf: Configuration) -> None:
    conf.load({"task_time_limit": 5})
    conf.worker_concurrency = 2
    copies: list[Any] = [pickle.loads(pickle.dumps(conf)), copy.copy(conf), copy.deepcopy(conf)]
    for one in copies:
        assert (one.task_time_limit, one.worker_concurrency) == (5.0, 2)
        one.worker_concurrency = 3
    assert conf.worker_concurrency == 2


def test_reading_costs_one_call(conf: Configuration) -> None:
    conf.snapshot  # noqa: B018
    calls = []
    sys.setprofile(lambda frame, event, _: calls.append(frame.f_code) if event == "call" else None)
    try:
        _ = conf.task_acks_late
    finally:
        sys.setprofile(None)
    assert len(calls) == 1


# -- layers


@pytest.mark.follows("APP-04")
def test_direct_assignments_survive_a_later_load(conf: Configuration) -> None:
    conf.task_time_limit = 30
    conf.load({"task_time_limit": 60, "task_soft_time_limit": 50})
    assert (conf.task_time_limit, conf.task_soft_time_limit) == (30.0, 50.0)


def test_a_load_replaces_the_one_before(conf: Configuration) -> None:
    conf.load({"task_time_limit": 60})
    conf.load({"task_soft_time_limit": 50})
    assert (conf.task_time_limit, conf.task_soft_time_limit) == (None, 50.0)


@pytest.mark.follows("APP-12")
def test_added_defaults_fill_only_what_nobody_gave(conf: Configuration) -> None:
    conf.add_defaults({"task_time_limit": 1, "task_soft_time_limit": 1})
    conf.add_defaults({"task_time_limit": 2, "worker_concurrency": 2})
    conf.load({"task_soft_time_limit": 3})
    limits = (conf.task_time_limit, conf.task_soft_time_limit, conf.worker_concurrency)
    assert limits == (1.0, 3.0, 2)


@pytest.mark.follows("APP-14")
def test_the_environment_wins(conf: Configuration, monkeypatch: pytest.MonkeyPatch) -> None:
    conf.broker_url = "redis://assigned"
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://environment")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", "")
    conf.result_backend = "redis://assigned"
    assert conf.broker_url == "redis://environment"
    assert conf.result_backend == "redis://assigned"
    assert conf.is_set("broker_url")
    assert not conf.is_set("task_acks_late")


@pytest.mark.follows("APP-14")
@pytest.mark.parametrize(
    "name", ["broker_url", "broker_read_url", "broker_write_url", "result_backend"]
)
def test_each_variable_of_the_environment_is_a_setting(
    name: str, conf: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"CELERY_{name.upper()}", "redis://environment")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SettingNotReadWarning)
        conf.load({name: "redis://loaded"})
        conf[name] = "redis://assigned"
    assert conf[name] == "redis://environment"


# -- sources


def _module(**names: Any) -> types.ModuleType:
    module = types.ModuleType("celeryconfig")
    vars(module).update(names)
    return module


def test_modules_and_objects_give_their_known_names(conf: Configuration) -> None:
    tools = {"timezone": types.ModuleType("timezone"), "helper": print, "SECRET_KEY": "x"}
    conf.load(_module(task_time_limit=30, **tools))
    assert (conf.task_time_limit, conf.timezone) == (30.0, None)

    class Base:
        task_time_limit = 40

    class Config(Base):
        task_soft_time_limit = timedelta(seconds=35)

    for source in (Config, Config()):
        conf.load(source)
        assert (conf.task_time_limit, conf.task_soft_time_limit) == (40.0, 35.0)


@pytest.mark.follows("APP-09")
def test_old_style_sources(conf: Configuration) -> None:
    conf.load(_module(CELERY_ACKS_LATE=False, CELERYD_CONCURRENCY="4", CELERY_DB_REUSE_MAX=1))
    assert (conf.task_acks_late, conf.worker_concurrency) == (False, 4)


def test_django_names_its_zone_time_zone(conf: Configuration) -> None:
    conf.load(_module(TIME_ZONE="Europe/Vienna"), namespace="CELERY")
    assert conf.timezone == "Europe/Vienna"
    conf.load({"TIME_ZONE": "Europe/Vienna", "timezone": "Asia/Tokyo"})
    assert conf.timezone == "Asia/Tokyo"


@pytest.mark.follows("APP-08")
@pytest.mark.parametrize("namespace", ["CELERY", "CELERY_", "celery"])
def test_a_namespace_selects_its_names(conf: Configuration, namespace: str) -> None:
    prefix = namespace.rstrip("_") + "_"
    name = "TASK_ACKS_LATE" if prefix.isupper() else "task_acks_late"
    conf.load({prefix + name: False, "task_time_limit": 3, "OTHER": 4}, namespace=namespace)
    assert (conf.task_acks_late, conf.task_time_limit) == (False, None)


@pytest.mark.follows("APP-08")
def test_a_namespace_takes_no_old_names_and_says_what_it_leaves(conf: Configuration) -> None:
    with pytest.warns(SettingNotReadWarning, match="CELERY_ACKS_LATE is not a setting"):
        conf.load({"CELERY_ACKS_LATE": False}, namespace="CELERY")
    assert conf.task_acks_late is True


@pytest.mark.follows("APP-09")
def test_mixing_styles_is_refused_with_the_renames(conf: Configuration) -> None:
    mixed = {"CELERY_ACKS_LATE": True, "task_time_limit": 3, "task_soft_time_limit": 3}
    with pytest.raises(ImproperlyConfigured, match="CELERY_ACKS_LATE -> task_acks_late") as caught:
        conf.load(mixed, source_name="celeryconfig")
    assert "celeryconfig" in str(caught.value)
    mostly_old = {"CELERY_ACKS_LATE": True, "CELERY_TIMEZONE": "UTC", "task_time_limit": 3}
    with pytest.raises(ImproperlyConfigured, match="task_time_limit -> CELERYD_TASK_TIME_LIMIT"):
        conf.update(mostly_old)


@pytest.mark.follows("APP-09")
def test_both_spellings_side_by_side_are_no_mixture(conf: Configuration) -> None:
    both = {"CELERY_ACKS_LATE": True, "task_acks_late": False, "task_time_limit": 3}
    conf.load(both)
    assert conf.task_acks_late is False
    conf.load(dict(reversed(both.items())))
    assert conf.task_acks_late is False


@pytest.mark.parametrize(
    ("spelling", "advice"),
    [
        ("task_acks_lat", "did you mean 'task_acks_late'?"),
        ("CELERYD_CONCURENCY", "did you mean 'CELERYD_CONCURRENCY'?"),
        ("TASK_ACKS_LATE", "write 'task_acks_late' in lower case"),
        ("CELERY_BROKER_URL", "write 'broker_url', or load the source with namespace='CELERY'"),
        ("zzz", "docs/reference/settings.md lists all names"),
    ],
)
def test_unknown_names_are_refused_with_advice(
    conf: Configuration, spelling: str, advice: str
) -> None:
    for give in (
        lambda: conf.load({spelling: 1}),
        lambda: conf.update({spelling: 1}),
        lambda: setattr(conf, spelling, 1),
        lambda: conf.__setitem__(spelling, 1),
        lambda: conf.__delitem__(spelling),
    ):
        with pytest.raises(ImproperlyConfigured) as caught:
            give()
        assert f"unknown setting {spelling!r}" in str(caught.value)
        assert advice in str(caught.value)


@pytest.mark.parametrize("name", ["CELERY_ACKS_LATTE", "CELERYD_X", "CELERYBEAT_X", "BROKER_X"])
def test_an_upper_case_name_that_begins_as_ours_is_refused_in_modules_too(
    conf: Configuration, name: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=name):
        conf.load(_module(**{name: 1}))


def test_text_is_no_source(conf: Configuration) -> None:
    with pytest.raises(ImproperlyConfigured, match="celeryconfig"):
        conf.load("celeryconfig")


def test_nearest_finds_nothing_for_strangers() -> None:
    assert nearest("task_ack_late") == "task_acks_late"
    assert nearest("qqqqqqqq") is None
    assert new_name("celery_acks_late") is None


# -- values


class _Text(str):
    def __str__(self) -> str:
        return "not me"


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("task_acks_late", "FALSE", False),
        ("task_acks_late", "on", True),
        ("task_acks_late", 0, False),
        ("task_acks_late", 1, True),
        ("task_acks_on_failure", None, None),
        ("task_default_priority", "5", 5),
        ("task_default_priority", 5.0, 5),
        ("task_time_limit", "1.5", 1.5),
        ("task_time_limit", 2, 2.0),
        ("result_expires", timedelta(hours=1), 3600.0),
        ("result_expires", None, None),
        ("worker_concurrency", "8", 8),
        ("worker_concurrency", "auto", "auto"),
        ("include", "a, b,", ("a", "b")),
        ("include", ["a", "b"], ("a", "b")),
        ("include", {"b", "a"}, ("a", "b")),
        ("accept_content", ["json"], ("json",)),
        ("broker_url", "a://;b://", "a://;b://"),
        ("broker_url", ["a://", "b://"], ("a://", "b://")),
        ("task_default_queue", _Text("q"), "q"),
        ("beat_schedule_filename", Path("x/y"), "x/y"),
        ("broker_use_ssl", "no", False),
        ("broker_use_ssl", {"keyfile": "k"}, {"keyfile": "k"}),
        ("worker_pool", Configuration, Configuration),
        ("security_key_password", b"x", b"x"),
        ("cassandra_options", OrderedDict(a=1), {"a": 1}),
        ("cassandra_options", types.MappingProxyType({"a": 1}), {"a": 1}),
        ("task_routes", print, print),
    ],
)
def test_values_are_brought_into_their_type(name: str, given: Any, expected: Any) -> None:
    value = coerce(name, given)
    assert value == expected
    assert isinstance(value, type(expected))


@pytest.mark.parametrize(
    ("name", "given", "fits"),
    [
        ("task_acks_late", "maybe", "give True or False"),
        ("task_acks_late", 2, "give True or False"),
        ("task_acks_late", [], "give True or False"),
        ("task_default_priority", True, "give a whole number or None"),
        ("task_default_priority", 1.5, "give a whole number or None"),
        ("task_default_priority", float("inf"), "give a whole number or None"),
        ("task_time_limit", True, "give a number"),
        ("task_time_limit", float("nan"), "give a number"),
        ("task_time_limit", "soon", "give a number"),
        ("task_default_queue", None, "give a string"),
        ("task_default_queue", b"q", "give a string"),
        ("include", [1], "give a list of strings"),
        ("broker_url", 7, "give a string, a list of strings or None"),
        ("broker_transport_options", [], "give a dictionary"),
        ("worker_pool", 3, "give a string or a class"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_would(name: str, given: Any, fits: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        coerce(name, given, "celeryconfig")
    text = str(caught.value)
    assert f"the setting {name!r} in celeryconfig cannot be {given!r}" in text
    assert fits in text


def test_errors_show_no_secrets(conf: Configuration) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.update(redis_password=["hunter2"])
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ImproperlyConfigured) as caught:
        conf.update(broker_transport_options="redis://:hunter2@h")
    assert "hunter2" not in str(caught.value)
    assert "redis://:**@h" in str(caught.value)


# -- settings that nothing reads


def test_setting_what_nothing_reads_says_so_once_and_where(conf: Configuration) -> None:
    text = "s3_bucket is understood but nothing reads it yet in this version of Celeriac"
    with pytest.warns(SettingNotReadWarning) as caught:
        conf.s3_bucket = "gzip"
    assert [str(one.message) for one in caught] == [text]
    assert caught[0].filename == __file__
    with warnings.catch_warnings(record=True) as again:
        warnings.simplefilter("always")
        conf.s3_bucket = "bzip2"
        Configuration().load({"s3_bucket": "gzip"})
    assert again == []


def test_asking_for_what_happens_anyway_is_no_reason_to_warn(conf: Configuration) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        conf.update(task_serializer="json", enable_utc=True, task_time_limit=3)
        assert conf.snapshot.s3_bucket is None


# -- deprecated names


@pytest.mark.follows("APP-10")
def test_old_names_in_use_are_known_with_those_of_today() -> None:
    conf = Configuration()
    conf.load({"CELERY_TASK_SERIALIZER": "json"})
    conf.add_defaults({"CELERY_TIMEZONE": "UTC"})
    conf.update(result_expires=60)
    assert conf.deprecated == {
        "CELERY_TASK_SERIALIZER": "task_serializer",
        "CELERY_TIMEZONE": "timezone",
    }


@pytest.mark.follows("APP-10")
@pytest.mark.parametrize(
    ("source_name", "namespace"), [("django.conf:settings", None), ("settings", "CELERY")]
)
def test_old_names_of_django_and_names_under_a_namespace_are_nothing_to_warn_of(
    source_name: str, namespace: str | None
) -> None:
    conf = Configuration()
    conf.load({"CELERY_TIMEZONE": "UTC"}, namespace=namespace, source_name=source_name)
    assert conf.timezone == "UTC"
    assert conf.deprecated == {}


@pytest.mark.follows("APP-10")
def test_a_setting_that_celery_has_deprecated() -> None:
    conf = Configuration()
    assert conf.deprecated == {}
    conf.task_acks_on_failure_or_timeout = True
    assert conf.deprecated == {
        "task_acks_on_failure_or_timeout": "task_acks_on_failure, task_acks_on_timeout"
    }
