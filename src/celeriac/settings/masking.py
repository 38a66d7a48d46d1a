"""Hide passwords and keys in what is printed: errors, banners, logs, views of settings.

Masking is for display only, and errs on the side of hiding. Nothing here decides what is stored
or sent.
"""

from collections.abc import Mapping
from typing import Any

from celeriac.failover import split_urls

_MASK = "**"
_HIDDEN = "********"
_LONGEST = 120
_SECRET_PARTS = ("PASS", "SECRET", "TOKEN", "KEY", "SIGNATURE", "CREDENTIAL", "PWD")
_HARMLESS_PARTS = ("ROUTING_KEY", "KEYSPACE", "KEYPREFIX", "KEEPALIVE")


def is_secret(name: str) -> bool:
    """Whether a setting or option of this name should not be shown (after APP-11)."""
    upper = name.upper()
    for harmless in _HARMLESS_PARTS:
        upper = upper.replace(harmless, "")
    return any(part in upper for part in _SECRET_PARTS)


def masked_url(url: Any) -> Any:
    """Return ``url`` with ``**`` for each password: ``redis://:pw@h/0`` is ``redis://:**@h/0``.

    Takes one URL, several with ``;`` between them, a list or tuple of URLs (a list comes back), or
    anything else, which is returned as it is. Never raises.
    """
    if isinstance(url, str):
        return ";".join(_masked_one(one) for one in split_urls(url))
    if isinstance(url, list | tuple):
        return [masked_url(one) for one in url]
    return url


def shown(name: str, value: object) -> str:
    """The text to print for the value of the setting ``name``: masked, and not too long."""
    if value is not None and is_secret(name):
        return _HIDDEN
    text = repr(_masked_deep(value))
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def censor(name: str, value: object) -> object:
    """The value of the setting ``name`` with its secrets hidden, in the same shape (APP-11)."""
    return _HIDDEN if value is not None and is_secret(name) else _masked_deep(value)


def _masked_one(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    place, question, query = rest.partition("?")
    if "@" not in place and "@" in query:
        # a password with a bare question mark in it: what looks like a query is half an authority
        place, question, query = rest, "", ""
    login, at, address = place.rpartition("@")
    user, colon, password = login.partition(":")
    if at and colon and password:
        place = f"{user}:{_MASK}@{address}"
    # Azure's addresses are connection strings: AccountName=...;AccountKey=...
    place, query = _masked_pairs(place, ";"), _masked_pairs(query, "&")
    return f"{scheme}://{place}{question}{query}"


def _masked_pairs(text: str, separator: str) -> str:
    return separator.join(
        f"{key}={_MASK}" if value and is_secret(key) else pair
        for pair in text.split(separator)
        for key, _, value in [pair.partition("=")]
    )


def _masked_deep(value: object) -> object:
    if isinstance(value, Mapping):
        return {
            key: _HIDDEN if is_secret(str(key)) and inner else _masked_deep(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_masked_deep(inner) for inner in value]
    return masked_url(value)
