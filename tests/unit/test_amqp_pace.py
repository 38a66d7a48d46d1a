"""When messages are sent without being asked for, and how many ahead."""

from celeriac.brokers.amqp.pace import BATCH, FEWER, FULL, MOST, Pace


def streaming(count: int = 100) -> Pace:
    pace = Pace()
    for _ in range(FULL):
        pace.after(count, count, 0)
    return pace


def test_full_claims_in_a_row_begin_a_stream() -> None:
    pace = Pace()
    assert pace.after(100, 100, 100) == 0
    assert pace.after(100, 99, 100) == 0
    assert pace.after(100, 100, 100) == 0
    assert pace.after(100, 100, 150) == 350


def test_small_claims_do_not() -> None:
    pace = Pace()
    assert {pace.after(BATCH - 1, BATCH - 1, 50) for _ in range(20)} == {0}


def test_a_dry_queue_ends_it() -> None:
    pace = streaming()
    assert pace.after(100, 1, 1) > 0
    assert pace.after(100, 0, 0) == 0


def test_it_follows_what_is_asked_for() -> None:
    pace = streaming(20)
    assert pace.prefetch == 40
    assert pace.after(200, 40, 40) == 40
    assert pace.after(200, 200, 200) == 600
    assert pace.after(20_000, 20_000, 0) == MOST
    # Much less, several times: the worker is busy with long tasks.
    assert [pace.after(1, 1, 2) for _ in range(FEWER)] == [MOST] * (FEWER - 1) + [0]
