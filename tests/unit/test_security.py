"""security.py: an app that signs what it sends and verifies what it reads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from celeriac import Celery
from celeriac.exceptions import ImproperlyConfigured
from celeriac.outcome import Ending
from celeriac.wire import serializers
from tests.fixtures.certificates import certificate_file, key_file, sign_no_more
from tests.fixtures.runs import claim, document, memory_app, run


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    sign_no_more()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "store").mkdir()
    certificate_file(tmp_path / "store", "cert.pem")
    return {
        "security_key": key_file(tmp_path, "key.pem"),
        "security_certificate": certificate_file(tmp_path, "cert.pem"),
        "security_cert_store": str(tmp_path / "store"),
    }


def signing_app(**settings: Any) -> Celery:
    return memory_app(task_serializer="auth", accept_content=["auth"], **settings)


@pytest.mark.follows("APP-13", "SEC-02", "SEC-03")
def test_messages_are_signed_and_verified(files: dict[str, Any]) -> None:
    app = signing_app(**files)
    app.setup_security()
    add = app.task(name="add")(lambda x, y: x + y)
    add.delay(1, y=2)
    (delivery,) = claim(app)
    assert delivery.message.content_type == "application/data"
    assert document(run(app, delivery)).result == 3
    plain = memory_app()
    plain.send_task("add", (1, 2))
    (unsigned,) = claim(plain)
    assert run(app, unsigned).ending is Ending.UNDECODABLE


@pytest.mark.follows("APP-13")
def test_what_is_given_goes_before_the_settings(files: dict[str, Any]) -> None:
    app = signing_app()
    with pytest.raises(ImproperlyConfigured, match="not set: security_key, security_certificate"):
        app.setup_security()
    key, cert, store = files.values()
    app.setup_security(key=key, cert=cert, store=store, digest="sha512", serializer="yaml")
    app.task(name="add")(lambda x: x).delay(1)
    assert len(claim(app)) == 1


@pytest.mark.follows("APP-13", "SEC-03")
@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"task_serializer": "json"}, "task_serializer is 'json'"),
        ({"accept_content": ["auth", "json"]}, r"accept_content is \['auth', 'json'\]"),
    ],
)
def test_an_app_that_does_not_ask_for_signatures_is_told(
    files: dict[str, Any], settings: dict[str, Any], text: str
) -> None:
    app = signing_app(**{**files})
    app.conf.update(settings)
    with pytest.raises(ImproperlyConfigured, match=text):
        app.setup_security()


def test_when_signing_is_over_raw_bytes_are_read_again(files: dict[str, Any]) -> None:
    app = signing_app(**files)
    app.setup_security()
    serializers.unregister("auth")
    data = serializers.encode(b"x", "raw")
    accept = frozenset((data.content_type,))
    assert serializers.decode(data.data, data.content_type, accept=accept) == b"x"
