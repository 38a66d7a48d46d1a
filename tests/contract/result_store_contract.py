"""What every result store promises.

An adapter runs these classes (see ``test_result_stores.py``) with two fixtures: ``store``, and
``make_store``, which returns another store object for the same server.
"""

from collections.abc import Iterator
from functools import partial
from statistics import median
from threading import Thread
from time import monotonic

import pytest

from celeriac.clock import wall
from celeriac.completion import Put
from celeriac.results.base import ResultStore, Watch
from celeriac.states import FAILURE, RETRY, STARTED, SUCCESS
from tests.contract.broker_contract import QUICK
from tests.fixtures.waiting import InAMoment, eventually


class DocumentContract:
    def test_what_was_put_is_there(self, store: ResultStore) -> None:
        every_byte = bytes(range(256))
        store.put([Put("a", b"1"), Put("b", every_byte), Put("empty", b"")])
        assert store.get(["b", "missing", "a", "empty"]) == {
            "a": b"1",
            "b": every_byte,
            "empty": b"",
        }

    def test_nothing_asked_nothing_given(self, store: ResultStore) -> None:
        store.put([])
        assert store.get([]) == {}
        store.forget([])

    def test_keys_may_be_long_and_strange(self, store: ResultStore) -> None:
        keys = ["celery-task-meta-" + "x" * 700, "key with spaces", "schlüssel-☃", "'\"%_"]
        store.put([Put(key, key.encode()) for key in keys])
        assert store.get(keys) == {key: key.encode() for key in keys}

    def test_the_last_one_stays(self, store: ResultStore) -> None:
        store.put([Put("a", b"1"), Put("a", b"2")])
        assert store.get(["a"]) == {"a": b"2"}
        store.put([Put("a", b"3")])
        assert store.get(["a"]) == {"a": b"3"}

    def test_putting_twice_is_putting_once(self, store: ResultStore) -> None:
        puts = [Put("a", b"1", state=STARTED), Put("b", b"2", state=SUCCESS)]
        store.put(puts)
        store.put(puts)
        assert store.get(["a", "b"]) == {"a": b"1", "b": b"2"}

    @pytest.mark.follows("TASK-36", "RES-20", "QUIRK-14")
    @pytest.mark.parametrize("state", [SUCCESS, FAILURE, RETRY, STARTED, ""])
    def test_success_is_never_overwritten(self, store: ResultStore, state: str) -> None:
        store.put([Put("a", b"done", state=SUCCESS)])
        store.put([Put("a", b"later", state=state), Put("b", b"other", state=state)])
        assert store.get(["a", "b"]) == {"a": b"done", "b": b"other"}

    @pytest.mark.follows("RES-20")
    def test_success_is_not_overwritten_within_a_batch(self, store: ResultStore) -> None:
        store.put([Put("a", b"done", state=SUCCESS), Put("a", b"later", state=FAILURE)])
        assert store.get(["a"]) == {"a": b"done"}

    @pytest.mark.parametrize("state", [FAILURE, RETRY, STARTED, ""])
    def test_everything_else_is_overwritten(self, store: ResultStore, state: str) -> None:
        store.put([Put("a", b"first", state=state)])
        store.put([Put("a", b"second", state=SUCCESS)])
        assert store.get(["a"]) == {"a": b"second"}

    def test_forgotten_is_gone(self, store: ResultStore) -> None:
        store.put([Put("a", b"1", state=SUCCESS), Put("b", b"2")])
        store.forget(["a", "missing"])
        assert store.get(["a", "b"]) == {"b": b"2"}
        store.put([Put("a", b"new", state=FAILURE)])
        assert store.get(["a"]) == {"a": b"new"}

    def test_many_documents(self, store: ResultStore) -> None:
        documents = {f"key-{number}": b"%d" % number for number in range(2000)}
        store.put([Put(key, value) for key, value in documents.items()])
        assert store.get(list(documents)) == documents
        store.forget(list(documents)[:1999])
        assert store.get(list(documents)) == {"key-1999": b"1999"}

    def test_it_opens_again_after_close(self, store: ResultStore) -> None:
        store.put([Put("a", b"1")])
        store.close()
        assert store.get(["a"]) == {"a": b"1"}
        store.close()
        store.put([Put("a", b"2")])
        assert store.get(["a"]) == {"a": b"2"}

    def test_what_is_too_large_is_known_beforehand(self, store: ResultStore) -> None:
        store.max_bytes = 100
        assert store.refusal(Put("a", b"x" * 100)) is None
        error = store.refusal(Put("a", b"x" * 101))
        assert error is not None
        assert "101" in error
        assert store.url in error


class ExpiryContract:
    @pytest.mark.follows("RES-18")
    def test_documents_outlive_their_ttl_not(self, store: ResultStore) -> None:
        born = wall()
        store.put([Put("short", b"1", ttl=0.1), Put("long", b"2", ttl=60.0), Put("ever", b"3")])
        assert set(store.get(["short", "long", "ever"])) == {"short", "long", "ever"}
        eventually(lambda: not store.get(["short"]))
        assert wall() - born >= 0.1
        assert set(store.get(["short", "long", "ever"])) == {"long", "ever"}

    def test_a_new_document_has_a_new_ttl(self, store: ResultStore) -> None:
        store.put([Put("a", b"1", ttl=0.05), Put("b", b"1", ttl=60.0)])
        store.put([Put("a", b"2", ttl=60.0), Put("b", b"2", ttl=0.05)])
        eventually(lambda: not store.get(["b"]))
        assert store.get(["a"]) == {"a": b"2"}

    def test_an_expired_success_is_no_obstacle(self, store: ResultStore) -> None:
        store.put([Put("a", b"old", state=SUCCESS, ttl=0.02)])
        eventually(lambda: not store.get(["a"]))
        store.put([Put("a", b"new", state=FAILURE)])
        assert store.get(["a"]) == {"a": b"new"}


class ClearanceContract:
    """Of stores whose server does not delete by itself."""

    def test_expire_deletes_them(self, store: ResultStore) -> None:
        store.put([Put(f"key-{number}", b"1", ttl=0.01) for number in range(1200)])
        store.put([Put("long", b"2", ttl=60.0), Put("ever", b"3")])
        deleted: list[int] = []
        eventually(lambda: deleted.append(store.expire()) or sum(deleted) >= 1200)
        assert sum(deleted) == 1200
        assert store.expire() == 0
        # No call takes so much that others wait long.
        assert max(deleted) <= 1000
        assert set(store.get(["long", "ever"])) == {"long", "ever"}


class WatchContract:
    @pytest.fixture
    def watch(self, store: ResultStore) -> Iterator[Watch]:
        watch = store.watch()
        yield watch
        watch.close()

    def test_what_is_there_already_is_reported(self, store: ResultStore, watch: Watch) -> None:
        store.put([Put("a", b"1"), Put("b", b"2"), Put("c", b"3")])
        watch.add(["a"])
        watch.add(["b"])
        assert collect(watch, {"a", "b"}) == {"a": b"1", "b": b"2"}

    def test_what_comes_later_is_reported(self, store: ResultStore, watch: Watch) -> None:
        watch.add(["a"])
        stored = InAMoment(lambda: store.put([Put("a", b"1")]))
        # One call of wait: it does not come back with nothing before.
        assert watch.wait(10.0) == {"a": b"1"}
        assert stored.ago() < 1.0

    def test_it_is_quick(self, store: ResultStore, watch: Watch) -> None:
        delays = []
        for number in range(15):
            key = f"key-{number}"
            watch.add([key])
            stored = InAMoment(partial(store.put, [Put(key, b"1")]))
            collect(watch, {key})
            delays.append(stored.ago())
            watch.discard([key])
        assert median(delays) < QUICK
        assert max(delays) < 1.0

    def test_the_newest_state_is_reported(self, store: ResultStore, watch: Watch) -> None:
        watch.add(["a"])
        for number in range(20):
            store.put([Put("a", b"%d" % number)])
        found: list[bytes] = []
        eventually(lambda: found.extend(watch.wait(1.0).values()) or b"19" in found)

    def test_a_change_is_reported_after_the_first_report(
        self, store: ResultStore, watch: Watch
    ) -> None:
        store.put([Put("a", b"started", state=STARTED)])
        watch.add(["a"])
        assert watch.wait(5.0) == {"a": b"started"}
        store.put([Put("a", b"done", state=SUCCESS)])
        eventually(lambda: watch.wait(5.0) == {"a": b"done"})

    def test_a_key_may_be_added_while_it_waits(self, store: ResultStore, watch: Watch) -> None:
        store.put([Put("a", b"1")])
        watch.add(["other"])
        added = InAMoment(lambda: watch.add(["a"]))
        assert watch.wait(10.0) == {"a": b"1"}
        assert added.ago() < 1.0

    def test_other_documents_are_not_reported(self, store: ResultStore, watch: Watch) -> None:
        watch.add(["a"])
        watch.add(["b"])
        watch.discard(["b"])
        watch.discard(["never added"])
        store.put([Put("b", b"1"), Put("c", b"1")])
        assert watch.wait(0.4) == {}

    def test_it_ends_after_the_timeout(self, watch: Watch) -> None:
        watch.add(["a"])
        before = monotonic()
        assert watch.wait(0.1) == {}
        assert 0.09 < monotonic() - before < 1.0
        assert watch.wait(0.0) == {}

    @pytest.mark.parametrize("timeout", [10.0, None])
    def test_wake_ends_it(self, watch: Watch, timeout: float | None) -> None:
        watch.add(["a"])
        woken = InAMoment(watch.wake)
        assert watch.wait(timeout) == {}
        # Not before, and soon after.
        assert 0.0 < woken.ago() < 1.0

    def test_wake_is_not_lost_before_it(self, watch: Watch) -> None:
        watch.wake()
        before = monotonic()
        assert watch.wait(10.0) == {}
        assert monotonic() - before < 1.0

    def test_many_keys(self, store: ResultStore, watch: Watch) -> None:
        keys = {f"key-{number}" for number in range(500)}
        watch.add(keys)

        def put_all() -> None:
            for key in sorted(keys):
                store.put([Put(key, key.encode())])

        putter = Thread(target=put_all)
        putter.start()
        assert collect(watch, keys) == {key: key.encode() for key in keys}
        putter.join()

    def test_many_watches_of_one_key(self, store: ResultStore) -> None:
        watches = [store.watch() for _ in range(5)]
        for watch in watches:
            watch.add(["a"])
        store.put([Put("a", b"1")])
        for watch in watches:
            assert collect(watch, {"a"}) == {"a": b"1"}
            watch.close()

    def test_documents_stored_between_two_waits(self, store: ResultStore, watch: Watch) -> None:
        watch.add(["a"])
        assert watch.wait(0.01) == {}
        store.put([Put("a", b"1")])
        assert watch.wait(5.0) == {"a": b"1"}

    def test_close_twice(self, store: ResultStore) -> None:
        watch = store.watch()
        watch.add(["a"])
        watch.close()
        watch.close()
        store.put([Put("a", b"1")])


def collect(watch: Watch, keys: set[str], within: float = 10.0) -> dict[str, bytes]:
    """Wait until each of these keys was reported; return what was."""
    found: dict[str, bytes] = {}
    deadline = monotonic() + within
    while not keys <= found.keys():
        assert monotonic() < deadline, f"{len(keys - found.keys())} were not reported"
        found.update(watch.wait(max(0.0, deadline - monotonic())))
    return found
