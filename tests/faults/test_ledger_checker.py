"""The checker finds what is wrong with a ledger: each test writes a small one in which something is."""

from pathlib import Path

import pytest

from celeriac.wire.result import ResultDocument
from tests.fixtures.ledger import (
    SIZE,
    Acknowledged,
    Again,
    Back,
    Begun,
    Book,
    Copied,
    Ended,
    Fault,
    Gone,
    Held,
    Process,
    Reader,
    Record,
    Tried,
)
from tests.fixtures.ledger_report import Evidence, Report, check
from tests.fixtures.ledger_tasks import DEADLY, HEALTHY

PARENT, CHILD, OTHER = 10, 11, 12


def published(name: str = HEALTHY) -> list[Record]:
    return [Tried(1, name), Acknowledged(1, "id-1")]


def ran(pid: int = CHILD, attempt: int = 1, at: float = 1.0, parent: int = PARENT) -> list[Record]:
    return [Begun(1, "id-1", pid, attempt, parent, at), Ended(1, pid, attempt, at + 0.1)]


def evidence(
    status: str = "SUCCESS",
    pid: int = CHILD,
    attempt: int = 1,
    dead: bool = False,
    left: bool = False,
) -> Evidence:
    value = {"number": 1, "pid": pid, "attempt": attempt} if status == "SUCCESS" else None
    documents = {"id-1": ResultDocument(status=status, result=value)} if status else {}
    some = frozenset({"id-1"})
    return Evidence(documents, some if dead else frozenset(), some if left else frozenset())


def child_killed(pid: int = CHILD) -> Fault:
    return Fault("child", "by hand", pid, 1.05)


def parent_killed() -> list[Record]:
    return [Fault("parent", "by hand", PARENT, 1.05), Gone(PARENT, -9, False)]


def wrong(records: list[Record], found: Evidence) -> Report:
    report = check(records, found)
    assert not report.passed
    assert "NO" in str(report)
    return report


def test_a_task_that_was_run_and_told_is_fine() -> None:
    report = check(published() + ran(), evidence())
    assert report.passed
    assert (report.attempted, report.acknowledged, report.ok, report.repeated) == (1, 1, 1, 0)


def test_an_acknowledged_task_without_a_result_is_lost() -> None:
    assert wrong(published(), evidence("")).lost == [1]
    assert wrong(published() + ran(), evidence("")).lost == [1]
    assert wrong(published(), evidence("STARTED")).lost == [1]


def test_a_task_that_nobody_acknowledged_may_be_missing_but_not_vanish_after_it_began() -> None:
    assert check([Tried(1, HEALTHY)], evidence("")).passed
    assert wrong([Tried(1, HEALTHY), ran()[0]], evidence("")).lost == [1]
    report = check([Tried(1, HEALTHY), *ran()], evidence())
    assert report.passed
    assert report.recovered == 1


def test_a_run_of_what_nobody_attempted_is_unexpected() -> None:
    assert "never attempted" in wrong(ran(), evidence()).unexpected[0]


@pytest.mark.parametrize(
    "found",
    [
        evidence("FAILURE"),
        evidence(dead=True),
        evidence(left=True),
        evidence(pid=OTHER),
        evidence(attempt=2),
    ],
)
def test_a_wrong_end_is_unexpected(found: Evidence) -> None:
    assert wrong(published() + ran(), found).unexpected


def test_a_repetition_without_a_fault_is_unexpected() -> None:
    runs = ran() + ran(OTHER, at=2.0)
    assert "no fault" in wrong(published() + runs, evidence()).unexpected[0]
    assert "no fault" in wrong([*published(), child_killed(99), *runs], evidence()).unexpected[0]


def test_a_killed_child_explains_one_repetition_of_its_last_run() -> None:
    again = ran(OTHER, at=2.0)
    report = check([*published(), *ran(), child_killed(), *again], evidence())
    assert report.passed
    assert (report.repeated, report.in_flight) == (1, [1])
    assert report.recovery == pytest.approx(2.1 - 1.05)
    later = [Begun(2, "id-2", CHILD, 2, PARENT, 1.04)]
    assert wrong([*published(), *ran(), *later, child_killed(), *again], evidence()).unexpected


def test_a_killed_parent_explains_repetitions_of_what_was_still_under_its_lease() -> None:
    again = ran(OTHER, at=2.0, parent=20)
    records = [*published(), *ran(), *parent_killed(), *again]
    assert "no fault" in wrong(records, evidence()).unexpected[0]
    report = check([*records, Held(PARENT, "id-1")], evidence())
    assert report.passed
    assert (report.repeated, report.in_flight) == (1, [1])


def test_a_stopped_parent_explains_that_it_runs_late_what_it_held() -> None:
    runs = ran(parent=20) + ran(OTHER, at=2.0)
    held = Held(PARENT, "id-1")
    stopped = Fault("parent", "by hand", PARENT, 0.9, stopped=True)
    assert check([*published(), *runs, held, stopped], evidence()).passed
    killed = Fault("parent", "by hand", PARENT, 0.9)
    assert wrong([*published(), *runs, held, killed], evidence()).unexpected
    assert wrong([*published(), *runs, stopped], evidence()).unexpected


def test_a_killed_template_explains_what_ran_in_the_child_of_which_it_told_nobody() -> None:
    fault = Fault("template", "by hand", 13, 1.05)
    newborn = Process("child", CHILD, PARENT, forked_by=13)
    records = [*published(), *ran(), fault, *ran(OTHER, at=2.0)]
    assert check([newborn, *records], evidence()).passed
    assert "no fault" in wrong(records, evidence()).unexpected[0]
    earlier = [newborn, Process("child", OTHER, PARENT, forked_by=13)]
    assert "no fault" in wrong([*earlier, *records], evidence()).unexpected[0]
    lived_on = Begun(1, "id-1", CHILD, 2, PARENT, 3.0)
    assert "no fault" in wrong([newborn, *records, lived_on], evidence()).unexpected[0]


def test_a_slow_recovery_does_not_pass() -> None:
    records = [*published(), *ran(), child_killed(), *ran(OTHER, at=32.0)]
    assert wrong(records, evidence()).recovery > 30


def test_an_absence_explains_no_repetition() -> None:
    away: list[Record] = [Fault("broker", "killed", 0, 1.05), Back("broker", 1.5)]
    runs = [*ran(), *away, *ran(OTHER, at=2.0)]
    assert "no fault" in wrong([*published(), *runs], evidence()).unexpected[0]


def test_what_was_published_again_may_run_twice() -> None:
    away: list[Record] = [Fault("broker", "killed", 0, 0.5), Again(1), Back("broker", 0.8)]
    runs = ran() + ran(OTHER, at=2.0)
    report = check([*published(), *away, *runs], evidence())
    assert report.passed
    assert (report.repeated, report.in_flight) == (1, [1])


def test_work_must_go_on_soon_after_a_return() -> None:
    gone: list[Record] = [Fault("broker", "killed", 0, 0.5)]
    for back, passed in ((Back("broker", 4.0), True), (Back("broker", 0.8), False)):
        report = check([*published(), *gone, back, *ran(at=6.0)], evidence())
        assert report.passed == passed
        assert report.returns == [6.0 - back.at]


def test_what_a_parent_held_counts_at_the_fault_after_which_it_was_written_down() -> None:
    again = ran(OTHER, at=2.0, parent=20)
    stops = [Fault("parent", "by hand", PARENT, at, stopped=True) for at in (0.1, 1.05)]
    records = [*published(), stops[0], *ran(), stops[1], Held(PARENT, "id-1"), *again]
    report = check(records, evidence())
    assert report.passed
    assert report.in_flight == [0, 1]


def test_a_worker_that_ends_unasked_is_unexpected() -> None:
    good = published() + ran()
    assert check([*good, Gone(PARENT, 0, True)], evidence()).passed
    for gone in (Gone(PARENT, 0, False), Gone(PARENT, 1, True), Gone(PARENT, -9, False)):
        assert wrong([*good, gone], evidence()).unexpected


def test_a_deadly_task_must_be_dead_lettered() -> None:
    records = [*published(DEADLY), *ran()]
    report = check(records, evidence("FAILURE", dead=True))
    assert report.passed
    assert report.buried == 1
    assert wrong(records, evidence("FAILURE")).unexpected
    assert wrong(records, evidence("SUCCESS")).unexpected


def test_records_are_of_one_size_that_divides_a_page(tmp_path: Path) -> None:
    assert 4096 % SIZE == 0
    records = published() + ran() + parent_killed() + [Held(PARENT, "i" * 36)]
    book = Book(str(tmp_path))
    book.write(*records)
    book.close()
    assert Path(book.path).stat().st_size == SIZE * len(records)
    assert list(Reader(str(tmp_path)).news()) == records


def cut(*, severs: bool) -> list[Record]:
    return [Fault("connection", "by hand", 0, 1.05, severs=severs), Back("connection", 1.05)]


def test_what_was_in_flight_when_leases_ended_with_connections_is_run_again() -> None:
    again = ran(OTHER, at=1.2)
    report = check(published() + ran() + cut(severs=True) + again, evidence())
    assert report.passed
    assert (report.repeated, report.in_flight) == (1, [1])
    wrong(published() + ran() + cut(severs=False) + again, evidence())


def test_what_had_long_been_settled_then_is_not() -> None:
    late: list[Record] = [
        Fault("connection", "by hand", 0, 9.0, severs=True),
        Back("connection", 9.0),
    ]
    report = wrong(published() + ran() + late + ran(OTHER, at=9.5), evidence())
    assert "no fault struck" in report.unexpected[0]


def test_who_stood_still_may_run_late_what_he_held_where_nobody_can_say_what_that_was() -> None:
    stop = Fault("parent", "by hand", PARENT, 1.05, stopped=True, severs=True)
    records = [*published(), stop, *ran(OTHER, at=1.2, parent=20), *ran(at=1.5)]
    assert check(records, evidence()).passed
    own: list[Record] = [*published(), stop, *ran(OTHER, at=1.2), *ran(at=1.5)]
    wrong(own, evidence())


def test_what_was_taken_over_counts_at_the_stop_that_made_it_so() -> None:
    """Not at every one before, from which it would seem to have taken long."""
    stops = [Fault("parent", "by hand", PARENT, at, True, severs=True) for at in (39.0, 40.0)]
    late = [*ran(OTHER, at=41.0, parent=20), *ran(at=42.0)]
    report = check([*published(), *stops, *late], evidence())
    assert report.passed
    assert report.in_flight == [0, 1]


def test_a_message_that_was_being_copied_may_be_there_twice() -> None:
    copying: list[Record] = [Copied(PARENT, "id-1", 0.2)]
    copied: list[Record] = [*copying, Copied(PARENT, "id-1", 0.3, done=True)]
    fault: list[Record] = [Fault("broker", "by hand", 0, 0.5), Back("broker", 0.6)]
    again = ran() + ran(OTHER, at=3.0)
    report = check(published() + copying + fault + again, evidence())
    assert report.passed
    assert sum(report.in_flight) == 1
    wrong(published() + copied + fault + again, evidence())
    fault = [Fault("broker", "by hand", 0, 0.5, severs=True), Back("broker", 0.6)]
    late = ran(at=2.0) + ran(OTHER, at=4.0)
    assert check(published() + copied + fault + late, evidence()).passed
