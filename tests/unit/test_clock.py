"""clock.py and zones.py: wall times, their text, and zones."""

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest

from celeriac import clock
from celeriac.zones import zone

MOMENT = datetime(2026, 3, 29, 12, 0, 0, 123456, tzinfo=UTC)
SECONDS = MOMENT.timestamp()


def test_wall_is_the_time_of_day() -> None:
    before = time.time()
    assert before <= clock.wall() <= time.time()


def test_iso_keeps_offset_and_microseconds() -> None:
    assert clock.iso(SECONDS) == "2026-03-29T12:00:00.123456+00:00"
    assert clock.iso(SECONDS, zone("Europe/Berlin")) == "2026-03-29T14:00:00.123456+02:00"


def test_iso_and_back_is_the_same_time() -> None:
    assert clock.parse_iso(clock.iso(SECONDS, zone("Asia/Kolkata"))) == SECONDS


def test_a_datetime_has_the_zone_it_says() -> None:
    east = timezone(timedelta(hours=5))
    assert clock.unix(MOMENT.astimezone(east)) == SECONDS
    assert clock.unix(MOMENT.astimezone(east), zone("Europe/Berlin")) == SECONDS


def test_a_datetime_without_zone_is_taken_to_be_in_the_given_one() -> None:
    naive = MOMENT.replace(tzinfo=None)
    assert clock.unix(naive) == SECONDS
    assert clock.unix(naive, zone("Europe/Berlin")) == SECONDS - 2 * 3600


def test_text_without_zone_is_taken_to_be_in_the_given_one() -> None:
    assert clock.parse_iso("2026-03-29T12:00:00.123456") == SECONDS
    berlin = zone("Europe/Berlin")
    assert clock.parse_iso("2026-03-29T14:00:00.123456", berlin) == SECONDS
    assert clock.parse_iso("2026-03-29T12:00:00.123456Z", berlin) == SECONDS


def test_other_text_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="tomorrow"):
        clock.parse_iso("tomorrow")


@pytest.mark.parametrize("name", [None, "UTC", "utc"])
def test_utc_has_several_names(name: str | None) -> None:
    assert zone(name) is UTC


@pytest.mark.parametrize("name", ["Europe/Belrin", "", "../etc/passwd", "Europe"])
def test_an_unknown_zone_is_told_with_an_example(name: str) -> None:
    with pytest.raises(ValueError, match=r"no time zone called .* such as Europe/Berlin"):
        zone(name)


def test_the_boot_id_stays_while_the_machine_runs() -> None:
    assert clock.boot_id()
    assert clock.boot_id() == clock.boot_id()


def test_without_proc_the_boot_id_is_the_moment_of_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clock, "_BOOT_ID_FILE", "/nowhere/boot_id")
    minutes = int(clock.boot_id().removeprefix("boot-"))
    assert abs(minutes * 60 - (time.time() - time.monotonic())) <= 61
