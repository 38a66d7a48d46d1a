"""The values that ``capture_codecs`` sends with each serializer, and that the tests expect back."""

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

PLAIN: dict[str, Any] = {
    "text": "größer als 漢字 😀",
    "list": [1, -2, 2**40, 0.5, None, True],
    "deep": {"a": [[]]},
}
TYPED: dict[str, Any] = {
    "when": datetime(2026, 11, 20, 20, 56, 22, 133632, UTC),
    "day": date(2026, 1, 2),
}
PRECISE: dict[str, Any] = {"price": Decimal("1.50"), "id": UUID(int=5)}
RAW: dict[str, Any] = {"raw": b"\x00\xff"}
SET: dict[str, Any] = {"set": {1, 2}}

VALUES: dict[str, dict[str, Any]] = {
    "json": {**PLAIN, **TYPED, **PRECISE, **RAW},
    "yaml": {**PLAIN, **TYPED, **RAW, **SET},
    "pickle": {**PLAIN, **TYPED, **PRECISE, **RAW, **SET},
    "msgpack": {**PLAIN, **RAW},
}
