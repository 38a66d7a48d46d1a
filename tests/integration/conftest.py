"""What tests with real workers share."""

from collections.abc import Iterator

import pytest

from tests.fixtures.gate import Gate


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.close()
