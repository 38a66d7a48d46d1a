"""The embedded file in a rough world: real files and disks, other processes, kill -9.

Nothing that was acknowledged may be lost, and every refusal says what is wrong and what to do.
"""

import os
import sqlite3
import stat
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from random import Random
from time import monotonic, sleep

import pytest

from celeriac.brokers.base import Consumer
from celeriac.brokers.sqlite.broker import SqliteBroker
from celeriac.completion import STALE, Completion, Put, Settlement
from celeriac.exceptions import ImproperlyConfigured, OperationalError, StorageCorrupt
from celeriac.message import QueueSize
from celeriac.results.sqlite import SqliteStore
from tests.fixtures import embedded as other_process
from tests.fixtures.messages import ANY_SIZE, ids, publish, publishes
from tests.fixtures.processes import Children, Start
from tests.fixtures.waiting import eventually

Consume = Callable[..., Consumer]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "state" / "app.db")


@pytest.fixture
def broker(path: str) -> Iterator[SqliteBroker]:
    broker = SqliteBroker(path)
    yield broker
    broker.close()


@pytest.fixture
def consume(broker: SqliteBroker) -> Iterator[Consume]:
    """Return a function that opens consumers; they are closed at the end."""
    with ExitStack() as opened:

        def open_one(*queues: str, lease: float = 20.0, broker: SqliteBroker = broker) -> Consumer:
            return opened.enter_context(closing(broker.consumer(queues or ["work"], lease=lease)))

        yield open_one


@pytest.fixture
def start() -> Iterator[Start]:
    with Children() as start:
        yield start


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    _mount("-t", "tmpfs", "-o", "size=1m,mode=0700", "none", str(folder))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _mount(*arguments: str) -> None:
    try:
        subprocess.run(["mount", *arguments], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this user may not mount: {error}")


def mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


class TestPlace:
    def test_only_its_owner_may_look_inside(self, broker: SqliteBroker, path: str) -> None:
        previous = os.umask(0)
        try:
            broker.publish([publish("1")])
        finally:
            os.umask(previous)
        assert mode(os.path.dirname(path)) == 0o700
        assert {mode(path + end) for end in ("", "-wal", "-shm")} == {0o600}

    def test_a_folder_that_is_there_stays_as_it_is(self, tmp_path: Path) -> None:
        folder = tmp_path / "shared"
        folder.mkdir(mode=0o750)
        before = mode(str(folder))
        broker = SqliteBroker(str(folder / "app.db"))
        broker.publish([publish("1")])
        broker.close()
        assert mode(str(folder)) == before

    def test_many_processes_open_a_new_file_at_once(self, tmp_path: Path, start: Start) -> None:
        # Many files, since each can be new only once.
        paths = [str(tmp_path / "state" / f"{number}.db") for number in range(40)]
        names = [str(number) for number in range(4)]
        children = [start(other_process.open_and_publish, paths, name) for name in names]
        for child in children:
            child.hear()
        for child in children:
            child.say("go")
        for child in children:
            child.hear()
        for path in paths:
            broker = SqliteBroker(path)
            assert sorted(claim_all_of(broker)) == names
            broker.close()

    @pytest.mark.parametrize("journal", ["delete", "wal"])
    def test_the_database_of_another_program_is_left_alone(
        self, broker: SqliteBroker, path: str, start: Start, journal: str
    ) -> None:
        os.mkdir(os.path.dirname(path))
        start(other_process.execute, path, f"PRAGMA journal_mode = {journal}").hear()
        start(other_process.execute, path, "CREATE TABLE theirs (x)").hear()
        before = Path(path).read_bytes()
        with pytest.raises(ImproperlyConfigured, match="another program") as raised:
            broker.publish([publish("1")])
        assert path in str(raised.value)
        assert Path(path).read_bytes() == before

    def test_a_newer_schema_is_left_alone(
        self, broker: SqliteBroker, path: str, start: Start
    ) -> None:
        broker.publish([publish("1")])
        broker.close()
        start(other_process.execute, path, "PRAGMA user_version = 99").hear()
        with pytest.raises(ImproperlyConfigured, match=r"newer Celeriac [(]schema 99") as raised:
            broker.publish([publish("2")])
        assert "upgrade" in str(raised.value)
        rows = start(other_process.execute, path, "SELECT id FROM message").hear()
        assert rows == [("1",)]


class TestNotWritable:
    @pytest.mark.parametrize("place", ["a file/app.db", "a file/deeper/app.db"])
    def test_a_file_in_place_of_the_folder(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "a file").touch()
        _refused(str(tmp_path / place))

    def test_a_folder_in_place_of_the_file(self, tmp_path: Path) -> None:
        (tmp_path / "app.db").mkdir()
        _refused(str(tmp_path / "app.db"))

    def test_where_no_folder_can_be_made(self) -> None:
        _refused("/proc/celeriac/app.db")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
    def test_the_folder_of_somebody_else(
        self, broker: SqliteBroker, path: str, start: Start
    ) -> None:
        broker.publish([publish("1")])
        with pytest.raises(OperationalError, match="this user may write there"):
            start(other_process.publish_as_nobody, path).hear()

    @pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
    def test_a_folder_without_permission(self, tmp_path: Path) -> None:
        tmp_path.chmod(0o500)
        _refused(str(tmp_path / "app.db"))
        tmp_path.chmod(0o700)

    def test_a_disk_that_is_read_only(self, small_disk: Path) -> None:
        path = str(small_disk / "app.db")
        broker = SqliteBroker(path)
        broker.publish([publish("1")])
        broker.close()
        _mount("-o", "remount,ro", str(small_disk))
        _refused(path)
        _refused(str(small_disk / "new" / "app.db"))
        _mount("-o", "remount,rw", str(small_disk))
        assert broker.sizes() == {"work": QueueSize(ready=1)}
        broker.close()


class TestDamage:
    def test_what_is_no_database(self, broker: SqliteBroker, path: str) -> None:
        os.mkdir(os.path.dirname(path))
        Path(path).write_text("Some notes that somebody keeps here.\n" * 200)
        with pytest.raises(StorageCorrupt, match="recover") as raised:
            broker.publish([publish("1")])
        assert path in str(raised.value)
        assert Path(path).read_text().startswith("Some notes")

    def test_pages_that_were_overwritten(self, broker: SqliteBroker, path: str) -> None:
        broker.publish(publishes(range(500)))
        broker.close()
        with open(path, "r+b") as file:
            file.seek(4096)
            file.write(os.urandom(os.path.getsize(path) - 4096))
        with pytest.raises(StorageCorrupt) as raised:
            claim_all_of(broker)
        # It says what to do, for a person who has never seen this.
        for words in (path, "Stop all workers", "keep a copy", ".recover"):
            assert words in str(raised.value)
        broker.close()

    def test_a_file_that_was_cut_off(self, broker: SqliteBroker, path: str) -> None:
        broker.publish(publishes(range(500)))
        broker.close()
        os.truncate(path, os.path.getsize(path) // 2)
        with pytest.raises(StorageCorrupt):
            claim_all_of(broker)
        broker.close()


class TestFullDisk:
    @pytest.fixture
    def path(self, small_disk: Path) -> str:
        return str(small_disk / "app.db")

    def test_what_was_acknowledged_is_there(
        self, small_disk: Path, broker: SqliteBroker, path: str, consume: Consume
    ) -> None:
        acknowledged, error = other_process.publish_until_error(broker)
        assert len(acknowledged) > 20
        assert "the disk is full; free some space" in error
        assert path in error
        # Looking is possible, and so is going on once there is room.
        assert broker.sizes() == {"work": QueueSize(ready=len(acknowledged))}
        _mount("-o", "remount,size=8m", str(small_disk))
        broker.publish([publish("after")])
        claimed = ids(consume().claim(10_000, ANY_SIZE))
        assert claimed == [*acknowledged, "after"]


class TestLimitedFiles:
    def test_a_limit_on_the_size_of_files(
        self, broker: SqliteBroker, path: str, consume: Consume, start: Start
    ) -> None:
        child = start(other_process.fill_up_to_a_limit, path, 500_000)
        acknowledged, error = child.hear()
        child.kill()
        assert len(acknowledged) > 20
        assert path in error
        assert ids(consume().claim(10_000, ANY_SIZE)) == acknowledged


class TestLocked:
    @pytest.fixture
    def broker(self, path: str) -> Iterator[SqliteBroker]:
        broker = SqliteBroker(path, timeout=0.4)
        yield broker
        broker.close()

    @pytest.mark.follows("CALL-06")
    def test_it_gives_up_after_the_deadline(
        self, broker: SqliteBroker, path: str, consume: Consume, start: Start
    ) -> None:
        store = SqliteStore(path, timeout=0.4)
        broker.publish([publish("1")])
        consumer = consume()
        [delivery] = consumer.claim(1, ANY_SIZE)
        holder = start(other_process.hold_the_lock, path)
        holder.hear()
        for call in (
            lambda: broker.publish([publish("2")]),
            lambda: consumer.claim(1, ANY_SIZE),
            lambda: consumer.renew([delivery.receipt]),
            lambda: consumer.commit([], store),
            lambda: store.put([Put("a", b"1")]),
            lambda: SqliteBroker(path, timeout=0.4).publish([publish("3")]),
        ):
            before = monotonic()
            with pytest.raises(OperationalError, match=r"held it locked for 0\.4 s") as raised:
                call()
            assert 0.4 <= monotonic() - before < 1.0
            assert path in str(raised.value)
        # Readers do not mind.
        assert broker.sizes() == {"work": QueueSize(leased=1)}
        holder.say("let go")
        holder.hear()
        broker.publish([publish("4")])
        assert ids(consumer.claim(10, ANY_SIZE)) == ["4"]
        store.close()

    def test_the_wait_for_another_thread_counts(self, path: str, start: Start) -> None:
        broker = SqliteBroker(path, timeout=1.0)
        broker.publish([publish("1")])
        start(other_process.hold_the_lock, path).hear()
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(_error, broker)
            sleep(0.5)  # Half of what the other thread will wait, and this one behind it.
            before = monotonic()
            assert path in _error(broker)
            assert 1.0 <= monotonic() - before < 1.45
            assert path in other.result()

    @pytest.mark.follows("CALL-06")
    def test_it_waits_for_others_until_then(
        self, broker: SqliteBroker, path: str, start: Start
    ) -> None:
        broker.publish([publish("1")])
        holder = start(other_process.hold_the_lock, path)
        holder.hear()
        holder.say("let go")
        broker.publish([publish("2")])
        assert broker.sizes() == {"work": QueueSize(ready=2)}


class TestKills:
    def test_nothing_acknowledged_is_lost(
        self, broker: SqliteBroker, path: str, consume: Consume, tmp_path: Path, start: Start
    ) -> None:
        ledger = tmp_path / "ledger"
        random = Random(7)
        broker.sizes()
        kills = 25
        for kill in range(kills):
            child = start(other_process.publish_into_ledger, path, str(ledger), str(kill))
            child.hear()
            # The moment of the kill is what this test varies; nothing is waited for.
            sleep(random.uniform(0.0, 0.03))
            child.kill()
        acknowledged = ledger.read_text().split("\n")[:-1]
        there = ids(consume("sent").claim(1_000_000, ANY_SIZE))
        assert len(acknowledged) >= kills
        assert len(there) == len(set(there))
        assert set(acknowledged) - set(there) == set()
        # Beyond that at most the batch of each kill, and every batch whole.
        batches = Counter(tuple(id_.split()[:2] + id_.split()[3:]) for id_ in there)
        assert all(count == int(size) for (_, _, size), count in batches.items())
        unacknowledged = {id_.split()[0] + id_.split()[1] for id_ in set(there) - set(acknowledged)}
        assert len(unacknowledged) <= kills

    def test_a_commit_is_whole_or_not_at_all(
        self, broker: SqliteBroker, path: str, consume: Consume, start: Start
    ) -> None:
        random = Random(8)
        sent = [str(number) for number in range(4000)]
        broker.publish(publishes(sent))
        for _ in range(10):
            child = start(other_process.work, path)
            child.hear()
            sleep(random.uniform(0.0, 0.02))
            child.kill()
        consumer = consume("work", "next")
        eventually(lambda: consumer.sweep() == 0 and _held(broker) == 0)
        left = ids(claimed := consumer.claim(1_000_000, ANY_SIZE))
        waiting = {delivery.message.id for delivery in claimed if delivery.queue == "work"}
        after = {id_.removeprefix("after ") for id_ in left if id_.startswith("after ")}
        store = SqliteStore(path)
        stored = {
            key.removeprefix("result ") for key in store.get(["result " + id_ for id_ in sent])
        }
        store.close()
        assert stored
        assert stored == after
        assert waiting == set(sent) - stored
        assert len(left) == len(sent)

    def test_a_dead_letter_is_in_one_place(
        self, broker: SqliteBroker, path: str, consume: Consume, start: Start
    ) -> None:
        random = Random(9)
        sent = [str(number) for number in range(4000)]
        broker.publish(publishes(sent))
        consumer = consume()
        consumer.commit(
            [
                Completion(receipt=delivery.receipt, settlement=Settlement.DEAD)
                for delivery in consumer.claim(1_000_000, ANY_SIZE)
            ],
            None,
        )
        revived: list[str] = []
        for kill in range(12):
            child = start(other_process.revive, path, kill % 2 == 0)
            child.hear()
            sleep(random.uniform(0.0, 0.03))
            child.kill()
            revived += ids(consumer.claim(1_000_000, ANY_SIZE))
        still_dead = [letter.message.id for letter in broker.dead(len(sent))]
        assert revived
        assert sorted(revived + still_dead) == sorted(sent)

    def test_the_bells_of_the_killed_are_taken_down(
        self, broker: SqliteBroker, path: str, start: Start
    ) -> None:
        broker.publish([publish("1")])
        child = start(other_process.hold, partial(SqliteBroker, path), 20.0)
        child.hear()
        bells = "SELECT address FROM consumer_bell"
        assert len(broker.database.read(bells)) == 1
        child.kill()
        broker.publish([publish("2")])
        assert broker.database.read(bells) == []


class TestTogether:
    def test_writers_take_turns(self, path: str, start: Start) -> None:
        children = [start(other_process.publish_for, path, 2.0) for _ in range(4)]
        for child in children:
            child.hear()
        for child in children:
            child.say("go")
        counts = [child.hear() for child in children]
        assert min(counts) >= max(counts) / 10, counts

    def test_leases_of_an_earlier_boot_are_over(
        self, broker: SqliteBroker, path: str, consume: Consume, start: Start
    ) -> None:
        broker.publish(publishes(["started", "waiting", "ready"]))
        consumer = consume(lease=1e9)
        started, waiting = consumer.claim(2, ANY_SIZE)
        consumer.start([started.receipt])
        broker.close()
        boot = "UPDATE meta SET value = 'an earlier one' WHERE name = 'boot'"
        start(other_process.execute, path, boot).hear()
        assert consume().sweep() == 2
        stale = [
            Completion(receipt=delivery.receipt, settlement=Settlement.ACK)
            for delivery in (started, waiting)
        ]
        assert consumer.commit(stale, None) == [STALE, STALE]
        again = consume().claim(10, ANY_SIZE)
        told = {d.message.id: (d.suspect, d.losses) for d in again}
        assert told == {"started": (True, 1), "waiting": (True, 0), "ready": (False, 0)}

    def test_a_second_look_in_the_same_boot_ends_nothing(
        self, broker: SqliteBroker, path: str, consume: Consume
    ) -> None:
        broker.publish([publish("1")])
        consumer = consume()
        [delivery] = consumer.claim(1, ANY_SIZE)
        broker.close()
        other = SqliteBroker(path)
        assert consume(broker=other).sweep() == 0
        assert consumer.renew([delivery.receipt]) == set()
        other.close()

    @pytest.mark.parametrize("idle", [other_process.wait_idly, other_process.watch_idly])
    def test_who_waits_costs_next_to_nothing(self, path: str, start: Start, idle: object) -> None:
        share = start(idle, path, 3.0).hear()
        assert share < 0.03

    def test_a_document_is_seen_although_nobody_rang(self, path: str, start: Start) -> None:
        store = SqliteStore(path)
        watch = store.watch()
        watch.add(["a"])
        assert watch.wait(0.05) == {}
        # Between two waits, and with the bell gone: only the look at the file remains.
        start(other_process.execute, path, "DELETE FROM watch_bell").hear()
        other = SqliteStore(path)
        other.put([Put("a", b"1")])
        before = monotonic()
        assert watch.wait(5.0) == {"a": b"1"}
        assert monotonic() - before < 1.0
        watch.close()
        other.close()
        store.close()

    def test_a_message_is_seen_although_nobody_rang(
        self, broker: SqliteBroker, path: str, consume: Consume, start: Start
    ) -> None:
        consumer = consume()
        start(other_process.execute, path, "DELETE FROM consumer_bell").hear()
        publisher = start(other_process.publish_when_told, partial(SqliteBroker, path))
        publisher.hear()
        publisher.say("1")
        before = monotonic()
        while not (claimed := consumer.claim(1, ANY_SIZE)):
            assert monotonic() - before < 5.0
            consumer.wait(5.0)
        assert ids(claimed) == ["1"]
        assert monotonic() - before < 1.0


def claim_all_of(broker: SqliteBroker) -> list[str]:
    with closing(broker.consumer(["work"])) as consumer:
        return ids(consumer.claim(1_000_000, ANY_SIZE))


def _error(broker: SqliteBroker) -> str:
    with pytest.raises(OperationalError) as raised:
        broker.publish([publish("5")])
    return str(raised.value)


def _held(broker: SqliteBroker) -> int:
    return sum(size.leased for size in broker.sizes().values())


def _refused(path: str) -> None:
    """Check that nothing can be published there, with an error that helps."""
    broker = SqliteBroker(path)
    with pytest.raises(OperationalError, match="this user may write there") as raised:
        broker.publish([publish("1")])
    assert path in str(raised.value)
    assert isinstance(raised.value.__cause__, OSError | sqlite3.Error)
    broker.close()
