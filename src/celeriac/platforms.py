"""What the platform means for a worker: whether the superuser may run one (SEC-04).

Unpickling a message runs whatever code its sender chose; as the superuser it may do anything to the
machine. Nothing else about platforms is decided here.
"""

import os

from celeriac.exceptions import SecurityError

__all__ = ["C_FORCE_ROOT", "refuse_root"]

C_FORCE_ROOT: bool = False
"""Set it to True in the app's module to let the superuser run a worker that accepts pickle."""

_NO = ("", "0", "false", "no", "off")


def refuse_root() -> None:
    """Raise SecurityError if this is the superuser, unless C_FORCE_ROOT is set.

    For a worker that accepts pickle. It is set here, or in the environment.
    """
    forced = C_FORCE_ROOT or os.environ.get("C_FORCE_ROOT", "").lower() not in _NO
    if forced or 0 not in (os.getuid(), os.geteuid()):
        return
    raise SecurityError(
        "the superuser must not run a worker that accepts pickle: whoever can send it a message can "
        "do anything to this machine. Run it as another user, or take 'pickle' out of "
        "accept_content. If you know all who can send, set C_FORCE_ROOT=1 in its environment "
        f"(uid {os.getuid()}, euid {os.geteuid()})"
    )
