"""A test that needs what is not installed is left out where somebody may look, and fails in CI."""

import pytest

from tests.fixtures.servers import need


def test_what_is_there_is_needed_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    need("redis-server", "/usr/bin/redis-server")


@pytest.mark.parametrize("ci", ["", "false"])
def test_a_test_is_skipped_with_the_name_of_the_package(
    ci: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(pytest.skip.Exception, match="rabbitmq-server is not installed"):
        need("rabbitmq-server", None)


def test_it_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="`make services` does that"):
        need("redis-server", None)
