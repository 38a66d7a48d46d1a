"""Canvas: calls as values, to be sent later, linked to others, or carried in messages."""

from celeriac.canvas.signatures import Signature, maybe_signature, signature, subtask

__all__ = ["Signature", "maybe_signature", "signature", "subtask"]
