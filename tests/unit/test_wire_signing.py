"""wire/signing.py: who may sign, what is read of it, and what every mistake in the set-up says."""

import base64
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from celeriac.exceptions import (
    ContentDisallowed,
    DecodeError,
    EncodeError,
    ImproperlyConfigured,
    SecurityError,
)
from celeriac.wire import result, serializers, signing
from celeriac.wire.serializers import DATA, accepted
from tests.fixtures.certificates import certificate_file, key_file, rsa_key, sign_no_more

SEPARATOR = b"\x00\x01"
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    yield
    sign_no_more()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Any]:
    """The arguments of ``setup_security`` that name files."""
    (tmp_path / "store").mkdir()
    return {
        "key": key_file(tmp_path, "key.pem"),
        "cert": certificate_file(tmp_path, "cert.pem"),
        "store": str(tmp_path / "store"),
    }


@pytest.fixture
def store(files: dict[str, Any]) -> Path:
    return Path(files["store"])


def set_up(files: dict[str, Any], **changes: Any) -> None:
    store = Path(files["store"])
    if store.is_dir() and not list(store.iterdir()):
        certificate_file(store, "cert.pem")
    signing.setup_security(**{**files, **changes})


def signed(value: Any) -> bytes:
    return serializers.encode(value, "auth").data


def read(data: bytes) -> Any:
    return serializers.decode(data, DATA, accept=accepted(("auth",)))


def changed(data: bytes, part: int, by: bytes) -> bytes:
    parts = base64.b64decode(data).split(SEPARATOR, 4)
    parts[part] = by
    return base64.b64encode(SEPARATOR.join(parts))


@pytest.mark.follows("SEC-02")
@pytest.mark.parametrize("serializer", ["json", "yaml", "pickle", "msgpack"])
@pytest.mark.parametrize("digest", ["sha256", "sha512"])
def test_what_is_signed_is_read(files: dict[str, Any], serializer: str, digest: str) -> None:
    set_up(files, serializer=serializer, digest=digest)
    assert read(signed([1, {"x": "ä"}])) == [1, {"x": "ä"}]
    form = serializers.encode(1, "auth")
    assert (form.content_type, form.content_encoding) == ("application/data", "utf-8")


@pytest.mark.follows("SEC-02")
@pytest.mark.parametrize("password", ["secret", b"secret"])
def test_a_key_may_have_a_password(
    files: dict[str, Any], tmp_path: Path, password: str | bytes
) -> None:
    locked = key_file(tmp_path, "locked.pem", password=b"secret")
    set_up(files, key=locked, key_password=password)
    assert read(signed(1)) == 1
    with pytest.raises(ImproperlyConfigured, match="security_key_password says") as caught:
        set_up(files, key=locked, key_password="wrong word")
    assert "wrong word" not in str(caught.value)
    with pytest.raises(ImproperlyConfigured, match="security_key_password says"):
        set_up(files, key=locked)


@pytest.mark.follows("SEC-02")
def test_the_store_may_be_a_glob(files: dict[str, Any], store: Path) -> None:
    certificate_file(store, "one.crt")
    (store / "readme.txt").write_text("no certificate")
    set_up(files, store=str(store / "*.crt"))
    assert read(signed(1)) == 1


# -- refused --


@pytest.mark.follows("SEC-02")
@pytest.mark.parametrize(
    ("part", "by", "words"),
    [
        (0, base64.b64encode(b"nobody 7"), "signed by 'nobody 7', whose certificate is not in"),
        (0, b"\xff", "whose certificate is not in|not signed"),
        (1, base64.b64encode(b"x" * 256), "its signature does not hold"),
        (1, b"", "its signature does not hold"),
        (4, b"[2]", "its signature does not hold"),
        (4, b"", "its signature does not hold"),
    ],
)
def test_what_was_changed_is_refused(
    files: dict[str, Any], part: int, by: bytes, words: str
) -> None:
    set_up(files)
    with pytest.raises(SecurityError, match=words):
        read(changed(signed([1]), part, by))


@pytest.mark.follows("SEC-02")
def test_what_is_cut_off_or_not_signed_is_refused(files: dict[str, Any]) -> None:
    set_up(files)
    data = signed([1])
    for end in range(0, len(data), 7):
        with pytest.raises(SecurityError):
            read(data[:end])
    for other in (b"", b"[1]", b"\x80\x04]\x94.", b"\xff" * 50, base64.b64encode(b"a" * 99)):
        with pytest.raises(SecurityError, match="refused content that is not signed"):
            read(other)


@given(data=st.binary(max_size=120), wrapped=st.booleans())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_refused(files: dict[str, Any], data: bytes, wrapped: bool) -> None:
    set_up(files)
    with pytest.raises((SecurityError, ContentDisallowed, DecodeError)):
        read(base64.b64encode(data) if wrapped else data)


@pytest.mark.follows("SEC-02", "SEC-03")
def test_a_signed_body_is_not_read_as_something_else(files: dict[str, Any]) -> None:
    """The signature covers the body, not its type: JSON must not be replayed as a pickle."""
    set_up(files)
    with pytest.raises(ContentDisallowed, match="allowed_serializers"):
        read(changed(signed([1]), 2, b"application/x-python-serialize"))


@pytest.mark.follows("SEC-03")
def test_other_serializers_are_read_inside_if_they_are_allowed(files: dict[str, Any]) -> None:
    set_up(files, serializer="yaml")
    data = signed([1])
    set_up(files)
    with pytest.raises(ContentDisallowed):
        read(data)
    set_up(files, allowed_serializers=["yaml"])
    assert read(data) == [1]


@pytest.mark.follows("SEC-03")
def test_all_other_serializers_are_disabled(files: dict[str, Any]) -> None:
    set_up(files)
    with pytest.raises(ContentDisallowed):
        serializers.decode(b"1", serializers.JSON)
    set_up(files, allowed_serializers=["json"])
    assert serializers.decode(b"1", serializers.JSON) == 1


@pytest.mark.follows("SEC-02")
@pytest.mark.parametrize(
    ("begins", "ends", "words"),
    [(-2 * DAY, -DAY, "has expired on 20"), (DAY, 2 * DAY, "is not valid before 20")],
)
@pytest.mark.parametrize("own", [True, False])
def test_a_certificate_that_is_not_valid_today_is_refused(
    files: dict[str, Any], store: Path, begins: timedelta, ends: timedelta, words: str, own: bool
) -> None:
    folder = Path(files["cert"]).parent if own else store
    certificate_file(folder, "cert.pem", begins=begins, ends=ends)
    with pytest.raises(SecurityError, match=words):
        set_up(files)


@pytest.mark.follows("SEC-02")
def test_a_certificate_that_expires_while_we_run_is_refused(
    files: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(files)
    data = signed(1)

    class Later(signing.datetime):  # type: ignore[name-defined]
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz) + 3 * DAY

    monkeypatch.setattr(signing, "datetime", Later)
    with pytest.raises(SecurityError, match="has expired"):
        read(data)


@pytest.mark.follows("SEC-02", "SER-09")
def test_a_result_that_is_not_signed_is_refused(files: dict[str, Any]) -> None:
    """Not even JSON that says what a worker's parent would say."""
    set_up(files)
    told = result.ResultDocument(status="FAILURE", task_id="t", children=[])
    assert result.decode(result.encode(told, serializer="auth"), "auth") == told
    for accept in (None, accepted(("auth", "json"))):
        with pytest.raises(SecurityError, match="not signed"):
            result.decode(result.encode(told), "auth", accept)


def test_what_cannot_be_written_is_named(files: dict[str, Any]) -> None:
    set_up(files)
    with pytest.raises(
        EncodeError, match=r"cannot write args\[0\] as auth: .* set has no JSON form"
    ):
        serializers.encode(([{1}], {}), "auth", ("args", "kwargs"))


# -- the set-up --


@pytest.mark.follows("SEC-03")
def test_every_missing_setting_is_named(files: dict[str, Any]) -> None:
    with pytest.raises(ImproperlyConfigured, match="not set: security_key, security_cert_store"):
        set_up(files, key=None, store="")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": "/nowhere/key.pem"}, "security_key: cannot read /nowhere/key.pem: No such file"),
        ({"cert": "/nowhere/c.pem"}, "security_certificate: cannot read /nowhere/c.pem"),
        ({"store": "/nowhere"}, "security_cert_store: no certificate is found by /nowhere"),
        ({"digest": "sha257"}, "security_digest: there is no hash 'sha257'"),
        ({"digest": "HashAlgorithm"}, "security_digest: there is no hash"),
        ({"serializer": "josn"}, "no serializer is called 'josn'"),
    ],
)
def test_a_mistake_in_the_set_up_is_named(
    files: dict[str, Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ImproperlyConfigured, match=words):
        set_up(files, **changes)
    assert not serializers.is_known("auth")


def test_only_rsa_keys_sign(files: dict[str, Any], tmp_path: Path, store: Path) -> None:
    elliptic = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(ImproperlyConfigured, match="is no RSA key"):
        set_up(files, key=key_file(tmp_path, "ec.pem", elliptic))
    certificate_file(store, "ec.pem", elliptic)
    with pytest.raises(ImproperlyConfigured, match=r"ec\.pem is no X\.509 certificate of an RSA"):
        set_up(files)


def test_two_certificates_of_one_name_are_refused(files: dict[str, Any], store: Path) -> None:
    certificate_file(store, "a.pem")
    certificate_file(store, "b.pem", rsa_key(1))
    with pytest.raises(SecurityError, match="same issuer and serial number"):
        set_up(files)


@pytest.mark.follows("SEC-02")
def test_two_signers_read_each_other(files: dict[str, Any], tmp_path: Path, store: Path) -> None:
    certificate_file(store, "a.pem")
    certificate_file(store, "b.pem", rsa_key(1), serial=8)
    set_up(files)
    data = signed("of a")
    key = key_file(tmp_path, "b.pem", rsa_key(1))
    set_up(files, key=key, cert=str(store / "b.pem"))
    assert read(data) == "of a"


def test_before_the_set_up_the_name_says_what_is_missing() -> None:
    with pytest.raises(EncodeError, match=r"call app\.setup_security\(\) at import"):
        serializers.encode(1, "auth")


@pytest.mark.follows("SEC-02")
def test_a_process_without_the_users_module_sets_up_when_needed(files: dict[str, Any]) -> None:
    set_up(files, allowed_serializers=["json"])
    data, values = signed([1]), serializers.signing_values()
    assert values is not None
    serializers.unregister("auth")
    serializers.sign_later({**values, "allowed_serializers": ("json", "only there")})
    assert read(data) == [1]
    serializers.sign_later(values)
    assert read(signed([2])) == [2]
