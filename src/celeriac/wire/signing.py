"""Signed content: the serializer ``auth``, byte for byte as Celery has it (SEC-02, SEC-03).

A value is written by an inner serializer, signed with an RSA key (PSS), and sent together with the
name of the signer's certificate. It is read only if that certificate stands in the store, is valid
today, and the signature holds. Signing says who wrote a message; it hides nothing, and stops nobody
from sending the same message twice.

Imported only by who calls ``setup_security``; needs cryptography (``celeriac[auth]``).
"""

import os
from binascii import a2b_base64, b2a_base64
from collections.abc import Iterable
from datetime import UTC, datetime
from glob import glob
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509 import Certificate, load_pem_x509_certificate

from celeriac.exceptions import ContentDisallowed, ImproperlyConfigured, SecurityError
from celeriac.wire import serializers
from celeriac.wire.repr import saferepr

__all__ = ["Signer", "setup_security"]

_SEPARATOR = b"\x00\x01"

Digest = hashes.HashAlgorithm


def setup_security(
    allowed_serializers: Iterable[str] | None = None,
    key: str | None = None,
    key_password: str | bytes | None = None,
    cert: str | None = None,
    store: str | None = None,
    digest: str = "sha256",
    serializer: str = "json",
) -> None:
    """Register the serializer ``auth`` in this process, and disable all others but those named.

    ``key`` and ``cert`` are paths of PEM files, ``store`` is a folder or a glob of them. Inside of
    what is signed, ``serializer`` writes; it and the ``allowed_serializers`` are read.

    Raises ImproperlyConfigured for what is missing or cannot be read, SecurityError for
    certificates that are not valid today.
    """
    missing = {"security_key": key, "security_certificate": cert, "security_cert_store": store}
    names = [name for name, value in missing.items() if not value]
    if key is None or cert is None or store is None or names:
        raise ImproperlyConfigured(
            f"signed messages need the settings {', '.join(missing)}; "
            f"not set: {', '.join(names)}. Their values are paths of PEM files"
        )
    allowed = None if allowed_serializers is None else tuple(allowed_serializers)
    inner = frozenset((serializer, *(allowed or ())))
    signer = Signer(
        load_key(key, key_password),
        load_certificate(cert),
        load_store(store),
        algorithm(digest),
        serializer,
        inner,
    )
    serializers.disable_insecure_serializers(allowed)
    serializers.register_signing(
        signer.encode,
        signer.decode,
        {
            "allowed_serializers": allowed,
            "key": key,
            "key_password": key_password,
            "cert": cert,
            "store": store,
            "digest": digest,
            "serializer": serializer,
        },
    )


class Signer:
    """Writes and reads signed content. Thread-safe."""

    def __init__(
        self,
        key: rsa.RSAPrivateKey,
        certificate: Certificate,
        store: dict[str, Certificate],
        digest: Digest,
        serializer: str = "json",
        inner: frozenset[str] = frozenset({"json"}),
    ) -> None:
        self._key = key
        self._name = name_of(certificate)
        self._store = store
        self._digest = digest
        self._padding = padding.PSS(padding.MGF1(digest), padding.PSS.MAX_LENGTH)
        self._serializer = serializer
        self._inner = frozenset(map(serializers.content_type_of, inner - {"auth"}))

    def encode(self, value: Any) -> bytes:
        """Return the value, signed. Raises EncodeError for what cannot be written."""
        inner = serializers.encode(value, self._serializer)
        signature = self._key.sign(inner.data, self._padding, self._digest)
        parts = (
            _base64(self._name.encode()),
            _base64(signature),
            inner.content_type.encode(),
            inner.content_encoding.encode(),
            inner.data,
        )
        return _base64(_SEPARATOR.join(parts))

    def decode(self, data: bytes) -> Any:
        """Return the value, once the signature holds.

        Raises SecurityError if it does not, if nobody knows the signer, or if this is nothing
        signed; DecodeError and ContentDisallowed for what is inside.
        """
        name, signature, content_type, body = _parts(data)
        certificate = self._store.get(name)
        if certificate is None:
            raise SecurityError(
                f"refused content signed by {saferepr(name, 160)}, whose certificate is not in "
                "security_cert_store"
            )
        check_validity(certificate, name)
        try:
            _public_key(certificate).verify(signature, body, self._padding, self._digest)
        except InvalidSignature:
            raise SecurityError(
                f"refused content in the name of {saferepr(name, 160)}: its signature does not hold"
            ) from None
        # The signature covers the body alone: whoever replays it may claim that it is a pickle.
        if content_type not in self._inner:
            raise ContentDisallowed(
                f"refused signed content of type {saferepr(content_type, 80)}: name its serializer "
                "in setup_security(allowed_serializers=...) if it is to be read"
            )
        return serializers.decode(body, content_type, accept=self._inner)


def _parts(data: bytes) -> tuple[str, bytes, str, bytes]:
    """Return signer, signature, content type and body of something signed."""
    try:
        name, signature, content_type, _, body = a2b_base64(data).split(_SEPARATOR, 4)
        return a2b_base64(name).decode(), a2b_base64(signature), content_type.decode(), body
    except ValueError as error:
        raise SecurityError(
            f"refused content that is not signed: {saferepr(error, 160)}"
        ) from error


def _base64(data: bytes) -> bytes:
    return b2a_base64(data, newline=False)


# -- keys and certificates --


def algorithm(digest: str) -> Digest:
    """Return a hash by the name that ``security_digest`` gives it. Raises ImproperlyConfigured."""
    found = getattr(hashes, digest.upper(), None)
    try:
        if isinstance(found, type) and issubclass(found, Digest):
            return found()
    except TypeError:
        pass  # one that wants to be told its length
    raise ImproperlyConfigured(f"security_digest: there is no hash {digest!r}; write 'sha256'")


def load_key(path: str, password: str | bytes | None = None) -> rsa.RSAPrivateKey:
    """Return the RSA key of a PEM file. Raises ImproperlyConfigured; never shows the password."""
    secret = password.encode() if isinstance(password, str) else password
    try:
        key = serialization.load_pem_private_key(_read(path, "security_key"), secret or None)
    except (ValueError, TypeError) as error:
        raise ImproperlyConfigured(
            f"security_key: {path} is no private key that can be opened with what "
            f"security_key_password says: {saferepr(str(error), 160)}"
        ) from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ImproperlyConfigured(
            f"security_key: {path} is no RSA key, the only kind that signs here"
        )
    return key


def load_certificate(path: str, setting: str = "security_certificate") -> Certificate:
    """Return the certificate of a PEM file, valid today.

    Raises ImproperlyConfigured for what is none of RSA, SecurityError for one that is not valid.
    """
    try:
        certificate = load_pem_x509_certificate(_read(path, setting))
        _public_key(certificate)
    except (ValueError, SecurityError) as error:
        raise ImproperlyConfigured(
            f"{setting}: {path} is no X.509 certificate of an RSA key in PEM form: "
            f"{saferepr(str(error), 160)}"
        ) from error
    check_validity(certificate, f"{name_of(certificate)} ({path})")
    return certificate


def load_store(path: str) -> dict[str, Certificate]:
    """Return the certificates of a folder, or of a glob, by signer."""
    pattern = os.path.join(path, "*") if os.path.isdir(path) else path
    found: dict[str, Certificate] = {}
    for file in sorted(filter(os.path.isfile, glob(pattern))):
        certificate = load_certificate(file, "security_cert_store")
        name = name_of(certificate)
        if name in found:
            raise SecurityError(
                f"security_cert_store: {file} and another file hold certificates of the same issuer "
                f"and serial number, {saferepr(name, 160)}; keep one of them"
            )
        found[name] = certificate
    if not found:
        raise ImproperlyConfigured(
            f"security_cert_store: no certificate is found by {pattern}; without one no message "
            "can be accepted"
        )
    return found


def name_of(certificate: Certificate) -> str:
    """Return the name that a message gives its signer: issuer and serial number."""
    issuer = " ".join(_text(part.value) for part in certificate.issuer)
    return f"{issuer} {certificate.serial_number}"


def check_validity(certificate: Certificate, name: str) -> None:
    """Raise SecurityError unless the certificate is valid now."""
    now = datetime.now(UTC)
    if now >= certificate.not_valid_after_utc:
        when = f"has expired on {certificate.not_valid_after_utc:%Y-%m-%d}"
    elif now < certificate.not_valid_before_utc:
        when = f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d}"
    else:
        return
    raise SecurityError(f"the certificate of {saferepr(name, 240)} {when}; renew it")


def _public_key(certificate: Certificate) -> rsa.RSAPublicKey:
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise SecurityError("its key is not an RSA key")
    return key


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")


def _read(path: str, setting: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise ImproperlyConfigured(f"{setting}: cannot read {path}: {error.strerror}") from error
