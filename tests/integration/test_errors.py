"""What a worker does when its file cannot be used: full, locked, damaged. Nothing is lost by it."""

import os
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from celeriac.exceptions import OperationalError, StorageCorrupt
from tests.fixtures.apps import working
from tests.fixtures.apps.working import app
from tests.fixtures.gate import Gate
from tests.fixtures.waiting import eventually
from tests.fixtures.worker import APPS, ROOT, WorkerProcess, connected

WAIT = 10.0
MIB = 1 << 20

StartWorker = Callable[..., WorkerProcess]

pytestmark = pytest.mark.filterwarnings("ignore::celeriac.exceptions.NoWorkerSeenWarning")


@pytest.fixture
def start() -> Iterator[StartWorker]:
    workers: list[WorkerProcess] = []

    def start_one(url: str, *options: str, module: str = "working", **env: Any) -> WorkerProcess:
        workers.append(WorkerProcess(f"{APPS}.{module}", url, *options, folder=ROOT, **env))
        return workers[-1].ready()

    yield start_one
    for worker in workers:
        worker.__exit__()


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with connected(app, tmp_path) as url:
        yield url


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, with 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    try:
        mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a file system is not permitted here")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Leave no byte free on a disk."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (MIB, 4096, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                pass
    yield
    filler.unlink()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the file's lock for writing, as a process that was stopped in a transaction does."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def damage(path: Path) -> None:
    """Destroy everything but the first page, while nobody writes, and have it noticed."""
    app.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert eventually(
            lambda: connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
        )
        [[owner]] = connection.execute("PRAGMA application_id")
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(path.stat().st_size - 4096))
        # A new version of the first page: readers drop what they remember of the others.
        connection.execute(f"PRAGMA application_id = {owner}")


class TestDiskFull:
    def test_results_are_kept_until_there_is_room(
        self, small_disk: Path, start: StartWorker, gate: Gate
    ) -> None:
        with connected(app, small_disk) as url:
            worker = start(url)
            results = [working.swell.delay(gate.address, MIB) for _ in range(3)]
            runs = [gate.visitor(), gate.visitor()]
            with filled(small_disk):
                for run in runs:
                    run.let_go()
                worker.wait_for(
                    "cannot store results, keeping them and trying again: .* the disk is full"
                )
                assert gate.deserted(), "nothing more is claimed"
                with pytest.raises(OperationalError, match="the disk is full; free some space"):
                    working.echo.delay("x" * MIB)
            worker.wait_for("results can be stored again")
            gate.visitor().let_go()
            assert [len(result.get(WAIT)) for result in results] == [MIB] * 3
            assert eventually(lambda: app.broker.sizes() == {})
            assert gate.deserted(), "each has run once"
            worker.stop()
            assert worker.count("cannot store results") == 1
            assert worker.count("Traceback") == 0

    def test_what_a_worker_cannot_give_back_at_its_end_is_delivered_again(
        self, small_disk: Path, start: StartWorker, gate: Gate
    ) -> None:
        with connected(app, small_disk) as url:
            worker = start(url, module="hasty")
            result = working.swell.delay(gate.address, MIB)
            run = gate.visitor()
            with filled(small_disk):
                run.let_go()
                worker.wait_for("cannot store results")
                worker.stop(signal.SIGQUIT)
            start(url, module="hasty")
            gate.visitor().let_go()
            assert len(result.get(WAIT)) == MIB


class TestStoreAway:
    def test_nothing_is_claimed_that_could_not_be_finished(
        self, url: str, small_disk: Path, start: StartWorker, gate: Gate
    ) -> None:
        app.conf.result_backend = backend = f"sqlite:///{small_disk / 'results.db'}"
        worker = start(url, CELERY_RESULT_BACKEND=backend)
        start(url, "-Q", "clock", CELERY_RESULT_BACKEND=backend)
        large = working.swell.delay(gate.address, MIB)
        run = gate.visitor()
        with filled(small_disk):
            run.let_go()
            worker.wait_for("cannot store results, keeping them and trying again")
            working.ignored.delay(gate.address, "next")
            # The broker is well, and another worker goes on: it tells when there was time enough.
            working.ignored.apply_async((gate.address, "time"), countdown=0.5, queue="clock")
            later = gate.visitor()
            assert later.word == "time"
            assert gate.deserted()
        worker.wait_for("results can be stored again")
        assert gate.visitor().word == "next"
        assert len(large.get(WAIT)) == MIB
        del app.conf.result_backend


class TestFileLocked:
    def test_one_error_each_and_everything_goes_on_afterwards(
        self, start: StartWorker, url: str, tmp_path: Path, gate: Gate
    ) -> None:
        worker = start(url, module="impatient")
        results = [working.pause.delay(gate.address) for _ in range(4)]
        runs = [gate.visitor(), gate.visitor()]
        with locked(tmp_path / "work.db"):
            for run in runs:
                run.let_go()
            worker.wait_for("cannot store results.*another process has held it locked for 0.3 s")
            # Leases are looked after every half second: by then results were tried again, too.
            worker.wait_for("cannot look after leases")
        worker.wait_for("results can be stored again")
        for _ in range(2):
            gate.visitor().let_go()
        assert [result.get(WAIT) for result in results] == ["go"] * 4
        assert eventually(lambda: app.broker.sizes() == {})
        assert gate.deserted(), "each has run once"
        worker.stop()
        assert worker.count("cannot store results") == 1
        assert worker.count("cannot claim tasks") <= 1
        assert worker.count("cannot look after leases") == 1
        assert worker.count("Traceback") == 0


class TestFileDamaged:
    def test_the_worker_ends_and_says_how_to_recover(
        self, start: StartWorker, url: str, tmp_path: Path
    ) -> None:
        worker = start(url)
        working.add.delay_many([(1, 1)] * 100)[-1].get(WAIT)
        assert eventually(lambda: app.broker.sizes() == {})
        damage(tmp_path / "work.db")
        worker.ends(1)
        line = worker.wait_for("CRITICAL/MainProcess.*the worker ends: the embedded file")
        assert "Stop all workers, keep a copy, and recover it with: sqlite3" in line
        assert worker.count("CRITICAL") == 1
        assert worker.count("Traceback") == 0
        with pytest.raises(StorageCorrupt):
            working.add.delay(1, 1)
