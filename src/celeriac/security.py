"""Signed messages for a whole app: what ``app.setup_security`` does (APP-13, SEC-03)."""

from collections.abc import Iterable
from typing import Protocol

from celeriac.exceptions import ImproperlyConfigured
from celeriac.settings import Settings
from celeriac.wire import signing


class Secured(Protocol):
    """What it needs of an app."""

    @property
    def settings(self) -> Settings:
        """The settings now."""
        ...


def setup_security(
    app: Secured,
    allowed_serializers: Iterable[str] | None = None,
    key: str | None = None,
    key_password: bytes | str | None = None,
    cert: str | None = None,
    store: str | None = None,
    digest: str | None = None,
    serializer: str = "json",
) -> None:
    """Have this process sign what it sends and verify what it reads.

    ``key``, ``cert`` and ``store`` are paths; what is left out is as the ``security_*`` settings
    say. ``serializer`` is the form of what is signed; other forms are refused, but for
    ``allowed_serializers``. Raises ImproperlyConfigured unless ``task_serializer`` and
    ``accept_content`` say ``auth``, and for keys that are missing.
    """
    settings = app.settings
    if settings.task_serializer != "auth":
        raise ImproperlyConfigured(
            f"task_serializer is {settings.task_serializer!r}; messages are signed only with "
            "task_serializer = 'auth'"
        )
    if settings.accept_content != ("auth",):
        raise ImproperlyConfigured(
            f"accept_content is {list(settings.accept_content)}; messages without a signature are "
            "refused only with accept_content = ['auth']"
        )
    signing.setup_security(
        allowed_serializers,
        key or settings.security_key,
        key_password or settings.security_key_password,
        cert or settings.security_certificate,
        store or settings.security_cert_store,
        digest or settings.security_digest,
        serializer,
    )
