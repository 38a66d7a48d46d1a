"""What is done with a delivery before it runs, for every kind of message."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

import msgspec
import pytest

from celeriac import clock
from celeriac.completion import Settlement
from celeriac.exceptions import UnknownSerializerWarning
from celeriac.message import Delivery, Message
from celeriac.pools.base import NO_LIMITS, Limits
from celeriac.pools.manifest import TaskOptions
from celeriac.settings import Settings
from celeriac.wire import pickled, serializers
from celeriac.wire import task as wire
from celeriac.worker.dispatcher import Admission, Deferred, Dispatcher, Refused
from celeriac.worker.documents import Documents
from celeriac.worker.flights import Flight
from tests.fixtures.deliveries import delivery, manifest, message, options

NOW = 1_800_000_000.0
Admit = Callable[..., Admission]


@pytest.fixture(autouse=True)
def now(monkeypatch: pytest.MonkeyPatch) -> float:
    """Let the wall clock stand still."""
    monkeypatch.setattr(clock, "wall", lambda: NOW)
    return NOW


def dispatcher(*tasks: TaskOptions, **settings: Any) -> Dispatcher:
    chosen = Settings(**settings)
    held = manifest(
        *(tasks or (options(),)), content_types=serializers.accepted(chosen.accept_content)
    )
    return Dispatcher(held, chosen, Documents(chosen, "w1@box"))


def at(seconds: float) -> str:
    return datetime.fromtimestamp(NOW + seconds, UTC).isoformat()


def flown(admission: Admission) -> Flight:
    assert isinstance(admission, Flight)
    return admission


def refused(admission: Admission) -> Refused:
    assert isinstance(admission, Refused)
    return admission


def document(refusal: Refused) -> dict[str, Any]:
    [put] = refusal.completion.puts
    decoded: dict[str, Any] = json.loads(put.value)
    return decoded


class TestRun:
    def test_a_known_task_becomes_a_job_with_all_that_its_child_needs(self) -> None:
        held = delivery(message("one", retries=2), queue="slow", claims=1)
        flight = flown(dispatcher().admit(held))
        assert (flight.job.message, flight.job.queue) == (held.message, "slow")
        assert (flight.job.redelivered, flight.job.asks, flight.job.tells) == (False, False, False)
        assert (flight.delivery, flight.task, flight.retries) == (held, options(), 2)

    def test_no_number_is_used_twice(self) -> None:
        dispatching = dispatcher()
        numbers = [flown(dispatching.admit(delivery())).job.number for _ in range(3)]
        assert numbers == [1, 2, 3]

    def test_a_second_delivery_is_told_to_the_task(self) -> None:
        assert flown(dispatcher().admit(delivery(claims=2))).job.redelivered

    def test_early_acks_and_suspects_ask_before_they_begin(self) -> None:
        early = dispatcher(options(acks_late=False))
        assert flown(early.admit(delivery())).job.asks
        assert flown(dispatcher().admit(delivery(suspect=True))).job.asks

    def test_a_start_is_stored_if_the_task_tracks_it(self) -> None:
        tracking = dispatcher(options(track_started=True))
        assert flown(tracking.admit(delivery())).job.tells

    @pytest.mark.parametrize(
        ("of_task", "of_call", "limits"),
        [
            ((None, None), (None, None), NO_LIMITS),
            ((3.0, 9.0), (None, None), Limits(3.0, 9.0)),
            ((3.0, 9.0), (1.0, 2.0), Limits(1.0, 2.0)),
            ((3.0, 9.0), (None, 2.0), Limits(3.0, 2.0)),
            ((None, None), (1.0, None), Limits(1.0, None)),
        ],
    )
    def test_limits_are_those_of_the_call_or_else_of_the_task(
        self,
        of_task: tuple[float | None, float | None],
        of_call: tuple[float | None, float | None],
        limits: Limits,
    ) -> None:
        task = options(soft_time_limit=of_task[0], time_limit=of_task[1])
        held = message(soft_time_limit=of_call[0], time_limit=of_call[1])
        assert flown(dispatcher(task).admit(delivery(held))).limits == limits


class TestLater:
    def test_a_message_that_came_too_early_goes_back_until_its_time(self) -> None:
        held = delivery(message(eta=at(60)), receipt="7:7")
        assert dispatcher().admit(held) == Deferred("7:7", NOW + 60)

    @pytest.mark.follows("CALL-03")
    def test_so_does_one_that_came_a_moment_too_early(self) -> None:
        held = delivery(message(eta=at(0.2)), receipt="7:7")
        assert dispatcher().admit(held) == Deferred("7:7", NOW + 0.2)

    @pytest.mark.parametrize("seconds", [-60, 0])
    def test_a_message_whose_time_is_here_runs(self, seconds: float) -> None:
        flown(dispatcher().admit(delivery(message(eta=at(seconds)))))

    def test_a_rounding_of_its_time_does_not_put_it_off(self) -> None:
        """The text of a time is in microseconds; the broker kept the message until the time itself."""
        flown(dispatcher().admit(delivery(message(eta=at(0.000_001)))))

    def test_one_that_was_sent_back_is_not_sent_back_for_a_clock_that_is_behind(self) -> None:
        flown(dispatcher().admit(delivery(message(eta=at(1)), claims=2)))
        assert dispatcher().admit(delivery(message(eta=at(1.1)), claims=2)) == Deferred(
            "1:1", NOW + 1.1
        )


class TestUnknown:
    @pytest.mark.parametrize(
        ("parkings", "pause"), [(0, 1), (1, 2), (2, 4), (5, 32), (6, 60), (500, 60)]
    )
    def test_it_is_parked_longer_each_time(self, parkings: int, pause: float) -> None:
        held = delivery(
            message(task="nobody.knows"), receipt="7:7", parked=NOW - 10, parkings=parkings
        )
        assert dispatcher().admit(held) == Deferred("7:7", NOW + pause, unknown=True)

    def test_after_its_time_it_is_dead_lettered_and_failed(self) -> None:
        held = delivery(message(task="nobody.knows"), parked=NOW - 61, parkings=6)
        refusal = refused(dispatcher(task_unknown_ttl=60).admit(held))
        assert refusal.completion.settlement is Settlement.DEAD
        assert refusal.completion.reason == "no worker knew task 'nobody.knows' for 61 s"
        assert document(refusal)["result"]["exc_type"] == "NotRegistered"


class TestRefused:
    @pytest.mark.parametrize("task", [options(), options(acks_late=False), options("other")])
    @pytest.mark.parametrize("seconds", [-60, 0])
    def test_expired(self, task: TaskOptions, seconds: float) -> None:
        refusal = refused(dispatcher(task).admit(delivery(message(expires=at(seconds)))))
        assert refusal.completion.settlement is Settlement.ACK
        assert document(refusal)["status"] == "REVOKED"
        assert (refusal.signal, refusal.arguments["expired"]) == ("task_revoked", True)

    def test_not_expired_yet(self) -> None:
        flown(dispatcher().admit(delivery(message(expires=at(1)))))

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"headers": b"\xff"}, "cannot read"),
            ({"headers": b"[]"}, "cannot read task headers"),
            ({"headers": b'{"id": "one"}'}, "cannot read task headers"),
            (
                {"headers": b'{"id": "one", "task": "a", "retries": "x"}'},
                "cannot read task headers",
            ),
            ({"content_type": "application/x-python-serialize"}, "is not in accept_content"),
        ],
    )
    def test_undecodable(self, changes: dict[str, Any], words: str) -> None:
        odd = msgspec.structs.replace(message(), **changes)
        completion = refused(dispatcher().admit(delivery(odd))).completion
        assert (completion.settlement, completion.puts) == (Settlement.DEAD, ())
        assert words in completion.reason

    @pytest.mark.parametrize("field", ["eta", "expires"])
    def test_a_time_that_is_none(self, field: str) -> None:
        held: Message = message(**cast(dict[str, Any], {field: "soon"}))
        completion = refused(dispatcher().admit(delivery(held))).completion
        assert completion.settlement is Settlement.DEAD
        assert "soon" in completion.reason

    def test_content_types_may_be_written_in_full(self) -> None:
        msgpack = msgspec.structs.replace(message(), content_type="application/x-msgpack")
        named = dispatcher(accept_content=("json", "application/x-msgpack"))
        flown(named.admit(delivery(msgpack)))
        refused(dispatcher().admit(delivery(msgpack)))

    @pytest.mark.follows("SEC-01")
    def test_a_name_that_nobody_has_is_not_accepted(self) -> None:
        odd = msgspec.structs.replace(message(), content_type="xml")
        with pytest.warns(UnknownSerializerWarning, match="'xml'"):
            lenient = dispatcher(accept_content=("json", "xml"))
        refused(lenient.admit(delivery(odd)))
        flown(lenient.admit(delivery()))

    def test_lost_too_often(self) -> None:
        held = delivery(losses=3, suspect=True)
        refusal = refused(dispatcher(task_delivery_limit=3).admit(held))
        assert refusal.completion.settlement is Settlement.DEAD
        assert "lost 3 times" in refusal.completion.reason
        assert document(refusal)["result"]["exc_type"] == "WorkerLostError"

    def test_not_lost_too_often_yet(self) -> None:
        flown(dispatcher(task_delivery_limit=3).admit(delivery(losses=2, suspect=True)))


class TestWhetherAFailureIsStored:
    """As the call says, or else the task; errors may be kept even so."""

    CASES = pytest.mark.parametrize(
        ("task", "call", "stored"),
        [
            ({"ignore_result": False}, None, True),
            ({"ignore_result": True}, None, False),
            ({"ignore_result": True}, False, True),
            ({"ignore_result": False}, True, False),
            ({"ignore_result": True, "store_errors_even_if_ignored": True}, None, True),
            ({"store_errors_even_if_ignored": True}, True, True),
        ],
    )

    @CASES
    def test_expired(self, task: dict[str, Any], call: bool | None, stored: bool) -> None:
        held = message(expires=at(-1), ignore_result=call)
        refusal = refused(dispatcher(options(**task)).admit(delivery(held)))
        assert len(refusal.completion.puts) == stored

    @CASES
    def test_lost_too_often(self, task: dict[str, Any], call: bool | None, stored: bool) -> None:
        held = delivery(message(ignore_result=call), losses=3)
        assert len(refused(dispatcher(options(**task)).admit(held)).completion.puts) == stored

    @CASES
    def test_killed(self, task: dict[str, Any], call: bool | None, stored: bool) -> None:
        held = delivery(message(ignore_result=call))
        assert flown(dispatcher(options(**task)).admit(held)).keeps_errors == stored

    @pytest.mark.parametrize("call", [None, True, False])
    def test_unknown_for_too_long(self, call: bool | None) -> None:
        held = delivery(message(task="nobody.knows", ignore_result=call), parked=NOW - 1e9)
        assert len(refused(dispatcher().admit(held)).completion.puts) == (call is not True)


def test_what_expired_is_not_parked_or_put_back() -> None:
    late: Delivery = delivery(message(task="nobody.knows", expires=at(-1), eta=at(60)))
    assert refused(dispatcher().admit(late)).completion.settlement is Settlement.ACK


def test_a_message_is_read_by_its_headers_alone() -> None:
    bare = Message(id="", task="", headers=b'{"task": "shop.pay", "id": "one"}', body=b"\xff")
    flown(dispatcher().admit(delivery(bare)))


def old(body: bytes, headers: bytes = b"{}", **changes: Any) -> Delivery:
    """Return a delivery of a message of protocol 1, as an adapter reads it: nameless."""
    return delivery(Message(id="", task="", headers=headers, body=body, **changes))


class TestProtocol1:
    """Its headers say nothing, and what the body says counts."""

    BODY = b'{"task": "shop.pay", "id": "one", "args": [1], "kwargs": {"x": 2}%s}'

    @pytest.mark.follows("OLD-05")
    def test_it_runs_under_the_name_that_its_body_has(self) -> None:
        held = old(self.BODY % b', "retries": 2, "timelimit": [9, 5], "taskset": "g"')
        flight = flown(dispatcher().admit(held))
        job = flight.job.message
        assert (job.id, job.task, job.body) == ("one", "shop.pay", held.message.body)
        assert flight.delivery.message == job
        assert (flight.retries, flight.limits) == (2, Limits(5, 9))
        headers = wire.decode_headers(job.headers)
        assert (headers.group, headers.argsrepr, headers.kwargsrepr) == ("g", "[1]", "{'x': 2}")

    @pytest.mark.follows("OLD-05")
    @pytest.mark.parametrize(
        ("more", "group"),
        [
            (b', "group": "a", "taskset": "b"', "b"),
            (b', "group": "a"', "a"),
            (b', "group": "a", "taskset": null', None),
        ],
    )
    def test_a_taskset_wins_over_a_group(self, more: bytes, group: str | None) -> None:
        flight = flown(dispatcher().admit(old(self.BODY % more)))
        assert wire.decode_headers(flight.job.message.headers).group == group

    @pytest.mark.follows("OLD-05")
    def test_its_times_count(self) -> None:
        early = old(self.BODY % f', "eta": "{at(60)}"'.encode())
        assert dispatcher().admit(early) == Deferred("1:1", NOW + 60)
        late = old(self.BODY % f', "expires": "{at(-1)}"'.encode())
        assert document(refused(dispatcher().admit(late)))["status"] == "REVOKED"

    @pytest.mark.follows("OLD-05", "SEC-01")
    def test_a_pickle_is_not_run_by_the_parent(self) -> None:
        body = pickled.encode({"task": "shop.pay", "id": "one", "args": [Trap()], "kwargs": {}})
        held = old(body, content_type=serializers.PICKLE)
        refused(dispatcher().admit(held))
        flight = flown(dispatcher(accept_content=("json", "pickle")).admit(held))
        assert flight.job.message.body == body
        assert wire.decode_headers(flight.job.message.headers).argsrepr == "[<pickled>]"
        assert Trap.sprung == []

    @pytest.mark.follows("OLD-05")
    @pytest.mark.parametrize(
        ("body", "words"),
        [
            (b"{}", "its task is None, its id None"),
            (b'{"task": "shop.pay", "id": 5}', "its id 5"),
            (b'{"task": {"__type__": "bytes", "__value__": "x"}, "id": "1"}', "its task is b'x'"),
            (b"[]", "they name no task, and the body is none of protocol 1"),
            (b'{"task"', "cannot read JSON"),
            (b"", "cannot read JSON"),
            (b'{"task": "shop.pay", "id": "1", "retries": "x"}', "cannot read task headers"),
            (b'{"task": "shop.pay", "id": "1", "eta": "soon"}', "soon"),
        ],
    )
    def test_nonsense_is_dead_lettered(self, body: bytes, words: str) -> None:
        completion = refused(dispatcher().admit(old(body))).completion
        assert completion.settlement is Settlement.DEAD
        assert words in completion.reason

    @pytest.mark.follows("OLD-05", "SER-05")
    def test_a_bomb_is_dead_lettered(self) -> None:
        held = old(b"x", b'{"compression": "application/x-gzip"}')
        assert "cannot decompress" in refused(dispatcher().admit(held)).completion.reason


class Trap:
    """Tells when it is made again."""

    sprung: list[str] = []

    def __reduce__(self) -> Any:
        return spring, ("sprung",)


def spring(word: str) -> None:
    Trap.sprung.append(word)
