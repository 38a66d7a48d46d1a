"""Two workers of which one is taken out of the world, for longer than it may hold what it holds."""

import signal
from collections.abc import Callable
from time import monotonic

from celeriac.wire.result import ResultDocument
from tests.faults.chaos import many, show
from tests.faults.ledger import close
from tests.fixtures.ledger import PARENT, Begun, Fault, Held
from tests.fixtures.ledger_site import Producer, Site, Worker, kill, living
from tests.fixtures.ledger_tasks import HEALTHY
from tests.fixtures.waiting import eventually

A_MOMENT = 0.2
"""Seconds after which the server has done what it was asked for: much less than a lease."""
AHEAD = 1000


class Rivals:
    """Two workers, of which one is taken out of the world for longer than its leases last."""

    def __init__(self, site: Site, away: float) -> None:
        """``away``: the seconds for which the victim is taken out, at least."""
        self._site = site
        self.away = away
        self.victim = Worker(site, [], ["-c", "4", "-n", "victim@here"])
        self.other = Worker(site, [], ["-c", "4", "-n", "other@here"], direct=True)
        self.producer = Producer(site)
        eventually(lambda: (site.look(), site.workers_ready() == 2)[1], 20)

    def work(self) -> None:
        """Keep some tasks waiting, as long as there are not enough of them."""
        self._site.look()
        waiting = self._site.tried - len(self._site.ended)
        if self.producer.idle and waiting < AHEAD / 2:
            self.producer.publish(AHEAD, HEALTHY, 0.02)

    def runs(self, worker: Worker) -> list[Begun]:
        """Return what a worker has run so far."""
        runs = (record for record in self._site.records if isinstance(record, Begun))
        return [run for run in runs if run.parent == worker.pid]

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the victim."""
        pid = self.victim.pid
        for one in {pid, *living(f"{PARENT}={pid}")}:
            kill(one, number)

    def stop(self) -> set[str]:
        """Have the victim stand still; return as ``outlast`` does."""
        stop, go_on = signal.SIGSTOP, signal.SIGCONT
        return self.outlast("stopped", lambda: self.signal(stop), lambda: self.signal(go_on))

    def outlast(
        self, point: str, strike: Callable[[], object], mend: Callable[[], object]
    ) -> set[str]:
        """Take the victim away until all that it held was run by the other; return what that was."""
        site, before = self._site, len(self.runs(self.victim))
        eventually(lambda: (self.work(), len(self.runs(self.victim)) > before + 20)[1], 20)
        begun = {run.task_id for run in self.runs(self.victim)}
        severs = site.view.severed
        site.book.write(Fault("parent", point, self.victim.pid, monotonic(), True, severs))
        strike()
        known, soon = len(site.records), monotonic() + A_MOMENT
        # Its last claim may be on its way still.
        eventually(lambda: monotonic() > soon)
        site.hold(self.victim.pid)
        site.look()
        held = {r.task_id for r in site.records[known:] if isinstance(r, Held)}
        # Who cannot say what is held names some that are done.
        held -= site.documents(held).keys()
        until = monotonic() + self.away

        def taken_over() -> bool:
            self.work()
            # Also what the other still runs: else the victim, once it is back, might be the first to end.
            left = held & begun
            return monotonic() > until and left <= site.documents(left).keys()

        eventually(taken_over, 20)
        mend()
        return held & begun & {run.task_id for run in self.runs(self.other)}


def check_outcomes(site: Site, rivals: Rivals, again: set[str]) -> None:
    """See that each has one outcome, the other's, and that it stays when the victim is back."""

    def stored() -> dict[str, ResultDocument]:
        rivals.work()
        return site.documents(again)

    eventually(lambda: len(stored()) == len(again))
    before = stored()
    assert {document.worker for document in before.values()} <= {"other@here"}
    done = len(rivals.runs(rivals.victim))
    # When the victim works again, it has said what it had to say about its old tasks.
    eventually(lambda: (rivals.work(), len(rivals.runs(rivals.victim)) > done + 50)[1], 20)
    assert stored() == before


def finish(site: Site, rivals: Rivals, what: str) -> None:
    """Do the rest, add up, and judge."""
    missing = many(1000) - site.tried
    if missing > 0:
        rivals.producer.publish(missing, HEALTHY, 0.001)
    eventually(site.settled, 120)
    report = close(site, 0, [])
    show(what, report)
    assert report.passed, f"\n{report}"
    assert report.ok == report.attempted
