"""The states of a task, and which of them are final.

Words only: who moves a task from one state to another is ``outcome.py``; the drawing of the moves
is in the documentation (state machine).
"""

PENDING = "PENDING"
RECEIVED = "RECEIVED"
STARTED = "STARTED"
RETRY = "RETRY"
SUCCESS = "SUCCESS"
FAILURE = "FAILURE"
REVOKED = "REVOKED"
REJECTED = "REJECTED"
IGNORED = "IGNORED"

READY_STATES = frozenset({SUCCESS, FAILURE, REVOKED})
"""A task in one of these will not change any more (RES-01)."""

UNREADY_STATES = frozenset({PENDING, RECEIVED, STARTED, RETRY, REJECTED})
EXCEPTION_STATES = frozenset({RETRY, FAILURE, REVOKED})
PROPAGATE_STATES = frozenset({FAILURE, REVOKED})
"""``get()`` raises for these."""
ALL_STATES = READY_STATES | UNREADY_STATES
