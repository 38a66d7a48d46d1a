"""The embedded file's connections and transactions, seen from inside one process.

What other processes, full disks and damaged files do to it is in
``tests/integration/test_embedded_file.py``.
"""

import gc
import os
import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from time import monotonic

import pytest

from celeriac.embedded import database as module
from celeriac.embedded.database import APPLICATION_ID, SCHEMA_VERSION, Database
from celeriac.embedded.statements import statements
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from tests.fixtures.processes import Children, Line

INSERT = "INSERT INTO meta (name, value) VALUES (?, ?)"
NAMES = "SELECT name FROM meta WHERE name <> 'boot' ORDER BY name"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "app.db")


@pytest.fixture
def database(path: str) -> Iterator[Database]:
    database = Database(path)
    yield database
    database.close()


def in_thread(action: Callable[[], object]) -> None:
    thread = Thread(target=action)
    thread.start()
    thread.join()


def descriptors(path: str) -> int:
    """Return how many descriptors of the file this process has open."""
    links = (f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd"))
    return sum(os.path.exists(link) and os.path.realpath(link) == path for link in links)


def holds_a_lock(path: str) -> bool:
    """Return whether this process holds a POSIX lock on the file."""
    inode = os.stat(path).st_ino
    pattern = rf"POSIX +ADVISORY +READ +{os.getpid()} [0-9a-f:]+:{inode} "
    return re.search(pattern, Path("/proc/locks").read_text()) is not None


class TestTransactions:
    def test_what_was_written_is_read(self, database: Database) -> None:
        with database.write() as connection:
            connection.execute(INSERT, ("a", "1"))
            assert database.read(NAMES) == [("a",)]
        assert database.read("SELECT value FROM meta WHERE name = ?", ("a",)) == [("1",)]

    def test_nothing_of_it_remains_after_an_exception(self, database: Database) -> None:
        with pytest.raises(ZeroDivisionError), database.write() as connection:
            connection.execute(INSERT, ("a", "1"))
            raise ZeroDivisionError
        assert database.read(NAMES) == []
        with database.write() as connection:
            connection.execute(INSERT, ("b", "1"))
        assert database.read(NAMES) == [("b",)]

    def test_errors_of_the_driver_are_translated(self, database: Database) -> None:
        with pytest.raises(OperationalError, match=re.escape(database.path)) as raised:
            database.read("SELECT nonsense")
        assert isinstance(raised.value.__cause__, sqlite3.Error)
        with pytest.raises(OperationalError, match="written"), database.write() as connection:
            connection.execute(INSERT, ("a", "1"))
            connection.execute(INSERT, ("a", "1"))
        assert database.read(NAMES) == []

    def test_durable_ones_wait_for_the_disk(self, database: Database) -> None:
        for durable in (True, False, True):
            with database.write(durable=durable) as connection:
                [[level]] = connection.execute("PRAGMA synchronous")
            assert level == (2 if durable else 1)

    def test_threads_write_one_after_the_other(self, database: Database) -> None:
        def write_some(name: str) -> None:
            for number in range(50):
                with database.write() as connection:
                    connection.execute(INSERT, (f"{name}-{number}", ""))

        threads = [Thread(target=write_some, args=(name,)) for name in "abc"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(database.read(NAMES)) == 150

    def test_the_deadline_counts_the_wait_for_other_threads(self, path: str) -> None:
        database = Database(path, timeout=0.2)
        writing, done = Event(), Event()

        def hang() -> None:
            with database.write():
                writing.set()
                done.wait()

        thread = Thread(target=hang)
        thread.start()
        writing.wait()
        before = monotonic()
        with pytest.raises(OperationalError, match="another thread"), database.write():
            pass
        assert 0.2 <= monotonic() - before < 1.0
        # Readers are not held up.
        assert database.read(NAMES) == []
        done.set()
        thread.join()
        database.close()

    def test_a_reader_sees_nothing_unfinished(self, database: Database) -> None:
        with database.write() as connection:
            connection.execute(INSERT, ("a", "1"))
            seen: list[object] = []
            in_thread(lambda: seen.append(database.read(NAMES)))
            assert seen == [[]]


class TestVersion:
    def test_it_changes_when_others_have_written(self, database: Database, path: str) -> None:
        other = Database(path)
        before = database.version()
        assert database.version() == before
        with other.write() as connection:
            connection.execute(INSERT, ("a", "1"))
        after = database.version()
        assert after != before
        assert database.version() == after
        other.close()

    def test_it_changes_when_another_thread_has_written(self, database: Database) -> None:
        def write() -> None:
            with database.write() as connection:
                connection.execute(INSERT, ("a", "1"))

        before = database.version()
        in_thread(write)
        assert database.version() != before

    def test_it_does_not_stay_the_same_over_a_new_connection(self, database: Database) -> None:
        before = database.version()
        database.close()
        assert database.version() != before


class TestConnections:
    def test_one_for_each_thread(self, database: Database, path: str) -> None:
        seen: list[int] = []
        go = Event()

        def use() -> None:
            database.read(NAMES)
            seen.append(1)
            go.wait()

        threads = [Thread(target=use) for _ in range(3)]
        for thread in threads:
            thread.start()
        while len(seen) < 3:
            pass
        assert descriptors(path) == 3
        go.set()
        for thread in threads:
            thread.join()

    def test_those_of_threads_that_ended_are_closed(self, database: Database, path: str) -> None:
        for _ in range(50):
            in_thread(lambda: database.read(NAMES))
        database.read(NAMES)
        # SQLite itself keeps a closed one for the next to open, rather than drop the locks.
        assert descriptors(path) <= 2

    def test_close_closes_all(self, database: Database, path: str) -> None:
        in_thread(lambda: database.read(NAMES))
        database.read(NAMES)
        database.close()
        assert descriptors(path) == 0
        assert not os.path.exists(path + "-wal")
        assert database.read(NAMES) == []

    def test_a_second_database_does_not_drop_the_locks_of_the_first(
        self, database: Database, path: str
    ) -> None:
        database.read(NAMES)
        assert holds_a_lock(path)
        other = Database(path)
        other.read(NAMES)
        assert holds_a_lock(path)
        other.close()
        assert holds_a_lock(path)

    def test_databases_do_not_live_for_ever(self, path: str) -> None:
        before = len(module._databases)
        Database(path).close()
        gc.collect()
        assert len(module._databases) <= before


class TestForks:
    def test_the_parent_goes_on(self, database: Database, path: str) -> None:
        with Children() as start:
            assert start(fork_and_use, path).hear() == ["child", "parent"]
        assert database.read(NAMES) == [("child",), ("parent",)]

    def test_a_thread_in_a_transaction_ends_it_first(self, database: Database, path: str) -> None:
        with Children() as start:
            assert start(fork_beside_a_transaction, path).hear() == ["child", "thread"]

    def test_a_fork_within_a_transaction_leaves_the_child_without(self, path: str) -> None:
        with Children() as start:
            told, names = start(fork_within_a_transaction, path).hear()
        assert "forked" in told
        assert names == ["parent"]


class TestPlace:
    def test_the_schema(self, database: Database) -> None:
        assert database.read("PRAGMA user_version") == [(SCHEMA_VERSION,)]
        assert database.read("PRAGMA application_id") == [(APPLICATION_ID,)]
        assert database.read("PRAGMA journal_mode") == [("wal",)]

    def test_network_file_systems_are_refused(
        self, path: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.mkdir(os.path.dirname(path))
        kind = module._file_system(os.path.dirname(path))
        assert kind
        # No server is at hand here: what this folder is on is declared one.
        monkeypatch.setattr(module, "_NETWORK_FILE_SYSTEMS", {kind})
        with pytest.raises(ImproperlyConfigured, match=f"network file system .{kind}") as raised:
            Database(path).read(NAMES)
        assert "CELERIAC_HOME" in str(raised.value)
        assert not os.path.exists(path)

    def test_file_systems_are_known(self) -> None:
        assert module._file_system("/proc") == "proc"
        assert module._file_system("/proc/self/fd") == "proc"


class TestStatements:
    def test_they_are_found_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "some.sql").write_text(
            "-- Head of the file: not a statement.\n\n"
            "-- first: what it is for\nSELECT 1\n    FROM meta;\n\n"
            "-- second: and the other\nDELETE FROM meta;\n"
        )
        assert statements(str(tmp_path / "adapter.py"), "some.sql") == {
            "first": "SELECT 1 FROM meta",
            "second": "DELETE FROM meta",
        }


def names(database: Database) -> list[str]:
    return [name for (name,) in database.read(NAMES)]


def insert(database: Database, name: str) -> None:
    with database.write() as connection:
        connection.execute(INSERT, (name, ""))


def fork_and_use(line: Line, path: str) -> list[str]:
    database = Database(path)
    database.read(NAMES)
    if not (pid := os.fork()):
        insert(database, "child")
        os._exit(0)
    os.waitpid(pid, 0)
    insert(database, "parent")
    return names(database)


def fork_beside_a_transaction(line: Line, path: str) -> list[str]:
    database = Database(path)
    writing, forking = Event(), Event()

    def write_slowly() -> None:
        with database.write() as connection:
            connection.execute(INSERT, ("thread", ""))
            writing.set()
            # The fork cannot say that it waits: it is given the time to go wrong.
            forking.wait(0.1)

    thread = Thread(target=write_slowly)
    thread.start()
    writing.wait()
    if not (pid := os.fork()):
        insert(database, "child")
        os._exit(0)
    os.waitpid(pid, 0)
    thread.join()
    return names(database)


def fork_within_a_transaction(line: Line, path: str) -> tuple[str, list[str]]:
    database = Database(path, timeout=0.1)
    read, write = os.pipe()
    with database.write() as connection:
        connection.execute(INSERT, ("parent", ""))
        if not (pid := os.fork()):
            try:
                database.read(NAMES)
            except OperationalError as error:
                os.write(write, str(error).encode())
            os._exit(0)
        os.waitpid(pid, 0)
    return os.read(read, 10_000).decode(), names(database)
