"""Task ids: their form, their order, and what they tell of their age."""

import uuid
from time import time, time_ns

import pytest

from celeriac import task_ids
from celeriac.task_ids import age, new_id


def test_ids_are_uuids_and_in_order_of_time() -> None:
    before = int(time() * 1000)
    ids = [new_id() for _ in range(500)]
    after = int(time() * 1000)
    assert len(set(ids)) == 500
    for id_ in ids:
        parsed = uuid.UUID(id_)
        assert (str(parsed), parsed.version, parsed.variant) == (id_, 7, uuid.RFC_4122)
    stamps = [int(id_.replace("-", "")[:12], 16) for id_ in ids]
    assert stamps == sorted(stamps)
    assert before <= stamps[0] <= stamps[-1] <= after


def test_the_random_part_of_an_id_uses_all_its_digits() -> None:
    tails = [new_id()[15:].replace("-", "") for _ in range(500)]
    for place in range(len(tails[0])):
        digits = {tail[place] for tail in tails}
        assert len(digits) == (4 if place == 3 else 16), f"digit {place} behind the version"


def test_an_id_tells_how_old_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    id_ = new_id()
    assert 0 <= age(id_) < 1
    now = time_ns()
    monkeypatch.setattr(task_ids, "time_ns", lambda: now + 5_000_000_000)
    assert 5 <= age(id_) < 6


@pytest.mark.parametrize("id_", ["", "one", str(uuid.UUID(int=7, version=4)), "x" * 14 + "7" * 22])
def test_others_do_not(id_: str) -> None:
    assert age(id_) == float("inf")
