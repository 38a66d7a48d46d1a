"""Connections and transactions on the embedded file.

One connection per process and thread, opened on first use; nothing else in the process may open the
file, because closing any descriptor of it would drop SQLite's POSIX locks. Writers queue on a lock
of their own process first and then for the file, in short waits of their own in place of SQLite's
sleeping busy handler. Errors of the driver become ``OperationalError`` with the file, the cause and
the next step.

Before a fork every connection is closed; both sides open them again on first use. It is not enough
that a child leaves inherited connections alone: SQLite keeps its own account of the locks of the
process, and with an inherited account a child takes no lock of its own on the file. Whoever else
closes the file last then deletes the log that the child is still writing to, and with it everything
that the child has stored.
"""

import os
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from pathlib import Path
from random import uniform
from time import monotonic, sleep
from types import TracebackType
from typing import Any
from weakref import WeakSet

from celeriac.clock import boot_id
from celeriac.exceptions import ImproperlyConfigured, OperationalError, StorageCorrupt

APPLICATION_ID = 0x43_6C_72_63
SCHEMA_VERSION = 1
_SCHEMA = Path(__file__).with_name("schema.sql")
_NETWORK_FILE_SYSTEMS = frozenset(
    [
        *("afs", "ceph", "cifs", "fuse.glusterfs", "fuse.sshfs", "glusterfs", "lustre", "nfs"),
        *("nfs4", "ncpfs", "smb3", "smbfs"),
    ]
)
Parameters = Sequence[Any] | Mapping[str, Any]
"""Values for the marks of a statement: in their order, or by name."""

_BUSY = frozenset((sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED))
_DAMAGED = frozenset((sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB))

_databases: "WeakSet[Database]" = WeakSet()
_joining = threading.Lock()
"""Held to add a database to the set, and during a fork: none is opened that the fork does not know.
"""
_creating = threading.Lock()
_serials = count(1)
_orphans: list[object] = []
"""Connections that were inherited over a fork after all: neither used nor closed."""


class Database:
    """One embedded file. Thread-safe; usable after a fork.

    ``timeout`` is the total deadline in seconds of every transaction, waiting for others included.
    """

    def __init__(self, path: str, timeout: float = 5.0) -> None:
        self.path = path
        self.timeout = timeout
        self._opened: dict[threading.Thread, sqlite3.Connection] = {}
        self._inherited = False
        self._forget()
        self._new_locks()
        with _joining:
            _databases.add(self)

    def _forget(self) -> None:
        self._local = threading.local()
        self._ready = False

    def _new_locks(self) -> None:
        # Whoever holds both knows that no thread is inside SQLite. They are taken in this order.
        self._turn = threading.Lock()
        self._reading = threading.Lock()
        self._still = False

    def read(self, sql: str, parameters: Parameters = ()) -> list[Any]:
        """Run one reading statement and return its rows."""
        with self._reading:
            return self._read(sql, parameters)

    def _read(self, sql: str, parameters: Parameters = ()) -> list[Any]:
        connection = self._connection()
        try:
            # Readers wait for nobody, except while a log is repaired after a crash.
            return self._patiently(connection, sql, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._translated(error, "read") from error

    def write(self, *, durable: bool = False) -> "Transaction":
        """Return a writing transaction, to be used with ``with``.

        ``durable`` waits until the disk has it; without it, a power loss (not a crash of any
        process) may undo the newest transactions.
        """
        return Transaction(self, durable)

    def version(self) -> tuple[int, int]:
        """Return a value that changes when another connection has changed the file.

        It also changes when this thread had to open a new connection.
        """
        with self._reading:
            version = self._read("PRAGMA data_version")[0][0]
            return self._local.serial, version

    def close(self) -> None:
        """Close every connection of this process, when no thread is using one."""
        with self._turn, self._reading:
            self._close()

    def _close(self) -> None:
        while self._opened:
            self._opened.popitem()[1].close()
        self._forget()

    def before_fork(self) -> None:
        """Leave nothing open that a child could inherit; wait for the threads that are using it."""
        if not self._turn.acquire(timeout=self.timeout):
            return
        if not self._reading.acquire(timeout=self.timeout):
            self._turn.release()
            return
        self._close()
        self._still = True

    def after_fork(self, *, child: bool) -> None:
        """Go on, in the parent or in the child."""
        if child:
            self._new_locks()
            if self._opened:
                _orphans.append(self._opened)
                self._opened = {}
                self._forget()
                self._inherited = True
        elif self._still:
            self._still = False
            self._reading.release()
            self._turn.release()

    def _connection(self) -> sqlite3.Connection:
        """Return this thread's connection, in autocommit mode. A lock is held."""
        try:
            return self._local.connection  # type: ignore[no-any-return]
        except AttributeError:
            return self._open()

    def _open(self) -> sqlite3.Connection:
        if self._inherited:
            raise OperationalError(
                f"the embedded file {self.path} cannot be opened: this process was forked while "
                "another thread was in the middle of a transaction, and inherited it; fork when no "
                "thread is sending tasks, or start processes with spawn or forkserver"
            )
        try:
            if not self._ready:
                self._prepare_place()
            connection = sqlite3.connect(
                self.path, timeout=0, isolation_level=None, check_same_thread=False
            )
            try:
                self._configure(connection)
            except BaseException:
                connection.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise self._translated(error, "opened") from error
        for thread in list(self._opened):
            if not thread.is_alive() and (left := self._opened.pop(thread, None)):
                left.close()
        self._local.connection = connection
        self._local.durable = False
        self._local.serial = next(_serials)
        self._opened[threading.current_thread()] = connection
        return connection

    def _configure(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA temp_store = MEMORY")
        if not self._ready:
            # A look before the first change: the database of another program stays as it is.
            self._version(connection)
            self._patiently(connection, "PRAGMA journal_mode = WAL")
            self._upgrade(connection)
            self._ready = True
        self._patiently(connection, "PRAGMA synchronous = NORMAL")
        self._patiently(connection, "PRAGMA cache_size = -4096")
        self._patiently(connection, "PRAGMA journal_size_limit = 67108864")

    def _patiently(
        self,
        connection: sqlite3.Connection,
        sql: str,
        parameters: Parameters = (),
        deadline: float | None = None,
    ) -> sqlite3.Cursor:
        """Run a statement that may meet others, waiting up to the deadline for them."""
        deadline = monotonic() + self.timeout if deadline is None else deadline
        while True:
            try:
                return connection.execute(sql, parameters)
            except sqlite3.OperationalError as error:
                if _code(error) not in _BUSY or monotonic() > deadline:
                    raise
            # A random pause: waiters that sleep in step would meet again and again.
            sleep(uniform(0.0002, 0.001))

    def _prepare_place(self) -> None:
        folder = os.path.dirname(os.path.abspath(self.path))
        os.makedirs(folder, mode=0o700, exist_ok=True)
        kind = _file_system(folder)
        if kind in _NETWORK_FILE_SYSTEMS:
            raise ImproperlyConfigured(
                f"the embedded file {self.path} is on a network file system ({kind}), where SQLite's "
                "locks cannot be trusted; put it on a local disk (CELERIAC_HOME), or use Redis or "
                "RabbitMQ to share work between machines"
            )
        # Created here, so that no moment passes in which others may read it; and only if it is new,
        # under a lock, because to close a descriptor of a file in use would drop the locks on it.
        with _creating, suppress(FileExistsError):
            flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC
            os.close(os.open(self.path, flags, 0o600))

    def _version(self, connection: sqlite3.Connection) -> int:
        """Return the version of the schema; refuse files of others and of newer versions."""
        # The owner last: whoever creates the schema meanwhile makes all three true at once.
        version = int(self._patiently(connection, "PRAGMA user_version").fetchone()[0])
        tables = self._patiently(connection, "SELECT count(*) FROM sqlite_schema").fetchone()[0]
        owner = self._patiently(connection, "PRAGMA application_id").fetchone()[0]
        if (tables or version) and owner != APPLICATION_ID:
            raise ImproperlyConfigured(
                f"{self.path} is a database of another program; choose another path"
            )
        if version > SCHEMA_VERSION:
            raise ImproperlyConfigured(
                f"{self.path} was written by a newer Celeriac (schema {version}, this version "
                f"knows {SCHEMA_VERSION}); upgrade Celeriac here, or choose another path"
            )
        return version

    def _upgrade(self, connection: sqlite3.Connection) -> None:
        """Create the schema in an empty file."""
        self._patiently(connection, "BEGIN IMMEDIATE")
        try:
            if self._version(connection) < 1:
                self._create(connection)
            self._check_boot(connection)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise

    @staticmethod
    def _create(connection: sqlite3.Connection) -> None:
        for statement in _SCHEMA.read_text(encoding="utf-8").split(";\n"):
            if statement.strip():
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")

    @staticmethod
    def _check_boot(connection: sqlite3.Connection) -> None:
        """End the leases of an earlier boot: their clock has started anew."""
        row = connection.execute("SELECT value FROM meta WHERE name = 'boot'").fetchone()
        if row is None or row[0] != boot_id():
            connection.execute("UPDATE message SET lease = 0 WHERE lease IS NOT NULL")
            connection.execute("DELETE FROM consumer_bell")
            connection.execute("DELETE FROM watch_bell")
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('boot', ?)", (boot_id(),))

    def _translated(self, error: Exception, verb: str) -> Exception:
        """Return the error that tells a user what is wrong with the file and what to do."""
        where = f"the embedded file {self.path}"
        code = _code(error)
        if isinstance(error, OSError) or code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
            advice = "check that the folder exists and that this user may write there"
        elif code in _BUSY:
            advice = (
                f"another process has held it locked for {self.timeout:g} s; look for a stopped "
                "(SIGSTOP) or hanging process that uses it"
            )
        elif code == sqlite3.SQLITE_FULL:
            advice = "the disk is full; free some space, nothing that was accepted is lost"
        elif code in _DAMAGED:
            return StorageCorrupt(
                f"{where} cannot be {verb}: {error}. Stop all workers, keep a copy, and recover it "
                f"with: sqlite3 {self.path} .recover | sqlite3 recovered.db"
            )
        else:
            advice = "see the cause above"
        return OperationalError(f"{where} cannot be {verb}: {error}; {advice}")


class Transaction:
    """A writing transaction; ``with db.write() as connection: ...``. Rolled back on any exception."""

    __slots__ = ("_connection", "_database", "_durable")

    def __init__(self, database: Database, durable: bool) -> None:
        self._database = database
        self._durable = durable

    def __enter__(self) -> sqlite3.Connection:
        database = self._database
        deadline = monotonic() + database.timeout
        if not database._turn.acquire(timeout=database.timeout):
            raise OperationalError(
                f"the embedded file {database.path} cannot be written: another thread of this process "
                f"has been writing for {database.timeout:g} s; look for one that hangs"
            )
        try:
            connection = self._connection = database._connection()
            if database._local.durable is not self._durable:
                level = "FULL" if self._durable else "NORMAL"
                connection.execute(f"PRAGMA synchronous = {level}")
                database._local.durable = self._durable
            database._patiently(connection, "BEGIN IMMEDIATE", deadline=deadline)
        except BaseException as error:
            database._turn.release()
            if isinstance(error, sqlite3.Error):
                raise database._translated(error, "written") from error
            raise
        return connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self._connection.execute("COMMIT")
        except sqlite3.Error as failure:
            error = failure
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            self._database._turn.release()
        if isinstance(error, sqlite3.Error):
            raise self._database._translated(error, "written") from error


def _code(error: Exception) -> int:
    """Return the primary result code of a driver's error (extended codes carry it in the low byte)."""
    return int(getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF


def _file_system(folder: str) -> str:
    """Return the type of the file system that holds a folder, empty if the system does not say."""
    best, kind = -1, ""
    folder = os.path.realpath(folder)
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                _, point, found = line.split(" ", 3)[:3]
                point = point.replace("\\040", " ").rstrip("/")
                # Of two that are mounted on one point, the later one counts.
                if (folder + "/").startswith(point + "/") and len(point) >= best:
                    best, kind = len(point), found
    except OSError:
        return ""
    return kind


def _before_fork() -> None:
    _joining.acquire()
    # In one order, so that two threads that fork at once do not wait for each other.
    for database in sorted(_databases, key=id):
        database.before_fork()


def _after_fork(*, child: bool) -> None:
    for database in list(_databases):
        database.after_fork(child=child)
    _joining.release()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=partial(_after_fork, child=False),
    after_in_child=partial(_after_fork, child=True),
)
