"""Where Celery has the exceptions whose names we share, and where ours are found for theirs.

A class of ours that is not listed is known to Celery's clients as one of our own module. Nothing is
imported here, and nothing written or read.
"""

from celeriac import exceptions

__all__ = ["CELERY", "HOMES", "address", "own"]

CELERY = "celery.exceptions"

HOMES: dict[str, tuple[str, ...]] = {
    CELERY: (
        "AlreadyRegistered",
        "AlwaysEagerIgnored",
        "BackendError",
        "BackendGetMetaError",
        "BackendStoreError",
        "CeleryError",
        "ChordError",
        "DuplicateTaskNameWarning",
        "Ignore",
        "ImproperlyConfigured",
        "IncompleteStream",
        "InvalidTaskError",
        "MaxRetriesExceededError",
        "NotRegistered",
        "QueueNotFound",
        "Reject",
        "Retry",
        "SecurityError",
        "TaskError",
        "TaskPredicate",
        "TaskRevokedError",
        "TimeoutError",
    ),
    "billiard.exceptions": (
        "SoftTimeLimitExceeded",
        "Terminated",
        "TimeLimitExceeded",
        "WorkerLostError",
    ),
    "kombu.exceptions": (
        "ContentDisallowed",
        "DecodeError",
        "EncodeError",
        "OperationalError",
        "SerializationError",
    ),
}
"""The exceptions of each module of Celery's that may be ours, by name."""

_OURS = vars(exceptions)
_ADDRESSES: dict[type, tuple[str, str]] = {
    _OURS[name]: (module, name)
    for module, names in HOMES.items()
    for name in names
    if name in _OURS
}


def address(kind: type) -> tuple[str, str] | None:
    """Return the module and name by which Celery knows a class of ours, None for any other class."""
    return _ADDRESSES.get(kind)


def own(module: str, name: str) -> type | None:
    """Return the class of ours that Celery has under this module and name, None if there is none."""
    found = _OURS.get(name) if module in HOMES else None
    return found if isinstance(found, type) else None
