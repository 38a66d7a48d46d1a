"""platforms.py: the superuser, and workers that accept pickle."""

import os

import pytest

from celeriac import Celery, platforms
from celeriac.exceptions import ImproperlyConfigured, SecurityError
from celeriac.pools.template import build_manifest


def be(monkeypatch: pytest.MonkeyPatch, uid: int, euid: int) -> None:
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr(os, "geteuid", lambda: euid)
    monkeypatch.delenv("C_FORCE_ROOT", raising=False)


@pytest.mark.follows("SEC-04")
@pytest.mark.parametrize(("uid", "euid"), [(0, 0), (1000, 0), (0, 1000)])
def test_the_superuser_is_refused(monkeypatch: pytest.MonkeyPatch, uid: int, euid: int) -> None:
    be(monkeypatch, uid, euid)
    with pytest.raises(SecurityError, match=r"must not run a worker .* C_FORCE_ROOT=1") as caught:
        platforms.refuse_root()
    assert f"uid {uid}, euid {euid}" in str(caught.value)
    for no in ("", "0", "false"):
        monkeypatch.setenv("C_FORCE_ROOT", no)
        with pytest.raises(SecurityError):
            platforms.refuse_root()


@pytest.mark.follows("SEC-04")
def test_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, 1000, 1000)
    platforms.refuse_root()


@pytest.mark.follows("SEC-04")
@pytest.mark.parametrize("where", ["environment", "module"])
def test_it_can_be_forced(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    be(monkeypatch, 0, 0)
    if where == "module":
        monkeypatch.setattr(platforms, "C_FORCE_ROOT", True)
    else:
        monkeypatch.setenv("C_FORCE_ROOT", "true")
    platforms.refuse_root()


@pytest.mark.follows("SEC-01", "SEC-04")
def test_it_is_about_pickle_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    be(monkeypatch, 0, 0)
    build_manifest(Celery("proj", broker="memory://", accept_content=["json", "yaml"]), (), 0)
    for name in ("pickle", "application/x-python-serialize"):
        with pytest.raises(SecurityError):
            build_manifest(Celery("proj", broker="memory://", accept_content=[name]), (), 0)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"result_serializer": "josn"}, "^result_serializer: no serializer is called 'josn'"),
        ({"result_compression": "rar"}, "^result_compression: no compression is called 'rar'"),
    ],
)
def test_a_worker_that_could_store_no_result_does_not_start(
    settings: dict[str, str], words: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=words):
        build_manifest(Celery("proj", broker="memory://", **settings), (), 0)
