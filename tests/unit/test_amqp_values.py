"""Messages as they are on RabbitMQ: tables, properties, delays, addresses. No server is asked."""

import json
import ssl
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pika
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from pika import data as pikas

from celeriac import brokers
from celeriac.brokers.amqp import delays
from celeriac.brokers.amqp.addresses import HEARTBEAT, addresses
from celeriac.brokers.amqp.declarations import queue_arguments
from celeriac.brokers.amqp.properties import (
    NEW,
    Record,
    decode_properties,
    encode_properties,
    entomb,
)
from celeriac.brokers.amqp.tables import decode_table, encode_table
from celeriac.brokers.urls import broker_url, open_broker
from celeriac.clock import iso, wall
from celeriac.exceptions import DecodeError, EncodeError, ImproperlyConfigured
from celeriac.message import DeadLetter, Message
from celeriac.queues import Queue
from celeriac.results.urls import store_url
from celeriac.routing.bindings import topic_matches
from celeriac.settings import Settings
from tests.fixtures.messages import message


def decoded(data: bytes) -> dict[str, Any]:
    table: dict[str, Any] = {}
    assert decode_table(data, 0, table) == len(data)
    return table


names = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(names, inner),
    max_leaves=20,
)


class TestTables:
    @settings(deadline=None)
    @given(st.dictionaries(names, values))
    def test_what_goes_in_comes_out(self, table: dict[str, Any]) -> None:
        assert decoded(encode_table(table)) == table

    @settings(deadline=None)
    @given(st.dictionaries(names, st.none() | st.booleans() | st.text() | st.binary()))
    def test_it_is_the_form_that_others_read(self, table: dict[str, Any]) -> None:
        pieces: list[bytes] = []
        try:
            pikas.encode_table(pieces, table)
        except UnicodeEncodeError:  # A lone surrogate: JSON has them, and they survive here.
            assert decoded(encode_table(table)) == table
            return
        assert encode_table(table) == b"".join(pieces)

    def test_numbers_that_others_write(self) -> None:
        pieces: list[bytes] = []
        pikas.encode_table(pieces, {"n": 5, "big": 2**40, "d": Decimal("1.25"), "l": [1, {"x": 2}]})
        expected = {"n": 5, "big": 2**40, "d": Decimal("1.25"), "l": [1, {"x": 2}]}
        assert decoded(b"".join(pieces)) == expected

    @pytest.mark.parametrize(
        ("table", "said"),
        [
            ({"a": {"b": [1, 2**63]}}, r"headers\['a'\]\['b'\]\[1\] is 9223372036854775808"),
            ({"x" * 256: 1}, "a name of 256 bytes"),
            ({"a": object()}, r"headers\['a'\] is a object"),
        ],
    )
    def test_what_cannot_be_written_is_named(self, table: dict[str, Any], said: str) -> None:
        with pytest.raises(EncodeError, match=said):
            encode_table(table)

    def test_nesting_beyond_reason(self) -> None:
        deep: Any = []
        for _ in range(5000):
            deep = [deep]
        with pytest.raises(EncodeError, match="nested too deeply"):
            encode_table({"deep": deep})
        deep = b"V"
        for _ in range(200):
            deep = b"A" + len(deep).to_bytes(4) + deep
        entry = b"\1a" + deep
        with pytest.raises(DecodeError, match="nested more than 100 deep"):
            decoded(len(entry).to_bytes(4) + entry)

    @settings(deadline=None)
    @given(st.binary(max_size=60))
    def test_garbage_is_an_error_of_ours(self, garbage: bytes) -> None:
        try:
            decode_table(garbage, 0, {})
        except DecodeError:
            pass


FULL = Message(
    id="1",
    task="shop.pay",
    headers=b'{"id": "1", "task": "shop.pay", "timelimit": [0.5, null], "n": {"a": [1, 2.5, true]}}',
    body=b"\0body",
    content_type="application/x-python-serialize",
    content_encoding="binary",
    priority=7,
    reply_to="answers",
)


class TestProperties:
    def test_a_message_comes_out_as_it_went_in(self) -> None:
        received = decode_properties(encode_properties(FULL), FULL.body)
        assert (received.message, received.record, received.legible) == (FULL, NEW, True)

    def test_what_it_has_been_through_goes_with_it(self) -> None:
        record = Record(claims=3, suspect=True, losses=2, parked=1.5, parkings=4, due=2.5)
        received = decode_properties(encode_properties(FULL, record), FULL.body)
        assert (received.message, received.record) == (FULL, record)

    def test_headers_that_do_not_name_the_task(self) -> None:
        sent = replace(FULL, headers=b'{"lang": "py"}')
        assert decode_properties(encode_properties(sent), sent.body).message == sent

    def test_they_are_what_pika_reads(self) -> None:
        properties = pika.BasicProperties()
        properties.decode(encode_properties(replace(FULL, headers=b'{"a": 1}', task=""), mode=1))
        assert (properties.delivery_mode, properties.priority) == (1, 7)
        assert (properties.correlation_id, properties.reply_to) == ("1", "answers")
        assert (properties.headers, properties.expiration) == ({"a": 1}, None)

    @pytest.mark.parametrize(("expires", "least", "most"), [(60, 59_000, 60_000), (-5, 0, 0)])
    @pytest.mark.follows("CALL-05")
    def test_expiry_is_told_to_the_server(self, expires: float, least: int, most: int) -> None:
        headers = json.dumps({"task": "shop.pay", "expires": iso(wall() + expires)}).encode()
        properties = pika.BasicProperties()
        properties.decode(encode_properties(replace(FULL, headers=headers)))
        assert properties.expiration is not None
        assert least <= int(properties.expiration) <= most

    @pytest.mark.follows("CALL-05")
    def test_an_expiry_that_is_too_far_for_the_server_is_left_to_workers(self) -> None:
        headers = json.dumps({"task": "shop.pay", "expires": iso(wall() + 50 * 86400)}).encode()
        properties = pika.BasicProperties()
        properties.decode(encode_properties(replace(FULL, headers=headers)))
        assert properties.expiration is None
        assert properties.headers == json.loads(headers)

    def test_what_the_server_adds_is_taken_off(self) -> None:
        traces = {"x-death": [{"count": 1}], "x-first-death-queue": "q", "x-delivery-count": 3}
        headers = json.dumps({"task": "shop.pay", "x-own": 1, **traces}).encode()
        received = decode_properties(encode_properties(replace(FULL, headers=headers)), b"")
        assert received.message.headers == b'{"task": "shop.pay", "x-own": 1}'
        assert received.returns == 3

    def test_a_record_is_not_that_of_the_next_retry(self) -> None:
        """Celery takes headers that it does not know along."""
        record = Record(claims=2, suspect=True, losses=2)
        first = {"task": "shop.pay", "retries": 0}
        sent = encode_properties(replace(FULL, headers=json.dumps(first).encode()), record)
        assert decode_properties(sent, b"").record == record
        properties = pika.BasicProperties()
        properties.decode(sent)
        retried = json.dumps({**(properties.headers or {}), "retries": 1}).encode()
        again = encode_properties(replace(FULL, headers=retried))
        assert decode_properties(again, b"").record == NEW

    @pytest.mark.parametrize(
        "ours", [1, "text", {"claims": "many"}, {"losses": None}, {"due": [], "parked": 1}]
    )
    def test_a_header_of_ours_that_is_not_ours(self, ours: Any) -> None:
        headers = json.dumps({"task": "shop.pay", "celeriac": ours}).encode()
        assert (
            decode_properties(encode_properties(replace(FULL, headers=headers)), b"").record == NEW
        )

    @settings(deadline=None)
    @given(st.binary(max_size=80))
    def test_garbage_is_a_message_without_headers(self, garbage: bytes) -> None:
        received = decode_properties(garbage, b"body")
        assert received.message.body == b"body"

    def test_illegible_headers_stay_in_a_dead_letter(self) -> None:
        broken = encode_properties(FULL).replace(b"\x08shop.pay", b"\x08shop.pay")
        entry = b"\1ak"  # No type of this name.
        flags, rest = broken[:2], broken[2:]
        begin = 2 + rest.index(b"binary") + 6
        size = int.from_bytes(broken[begin : begin + 4]) + len(entry)
        broken = flags + broken[2:begin] + size.to_bytes(4) + entry + broken[begin + 4 :]
        received = decode_properties(broken, FULL.body)
        assert (received.legible, received.message.headers) == (False, b"")
        assert (received.message.id, received.message.priority) == ("1", 7)
        letter = DeadLetter(
            id="7", message=received.message, queue="q", reason="illegible", died=1.0
        )
        again = decode_properties(entomb(broken, letter), FULL.body)
        assert again.dead == {
            "id": "7",
            "queue": "q",
            "reason": "illegible",
            "died": 1.0,
            "losses": 0,
        }
        assert entry in entomb(broken, letter)

    def test_ids_that_are_too_long(self) -> None:
        with pytest.raises(EncodeError, match="255 bytes of an id"):
            encode_properties(message("x" * 256))


class TestDelays:
    @settings(deadline=None)
    @given(st.integers(1, delays.MOST), st.sampled_from(["work", "a.b", "#"]))
    def test_the_digits_add_up(self, seconds: int, queue: str) -> None:
        """Follow a message through the exchanges, and count the seconds of the queues it waits in."""
        key, waited, place = delays.delayed_key(seconds, queue), 0, delays.FIRST
        for number in reversed(range(delays.LEVELS)):
            level = delays.level(number, "classic")
            assert level.name == place
            if topic_matches(level.waiting_key, key):
                waited += level.arguments["x-message-ttl"] // 1000
                place = level.arguments["x-dead-letter-exchange"]
                assert not topic_matches(level.passing_key, key)
            else:
                assert topic_matches(level.passing_key, key)
                place = level.next
        assert (waited, place) == (seconds, delays.DELIVERY)
        assert topic_matches(delays.delivery_key(queue), key)

    def test_a_name_that_ends_like_another(self) -> None:
        assert not topic_matches(delays.delivery_key("b"), delays.delayed_key(5, "a.b"))

    def test_longer_than_can_be(self) -> None:
        assert delays.delayed_key(2**40, "q") == "1." * 28 + "q"

    def test_arguments_are_celerys(self) -> None:
        assert delays.level(0, "quorum").arguments == {
            "x-queue-type": "quorum",
            "x-overflow": "reject-publish",
            "x-message-ttl": 1000,
            "x-dead-letter-exchange": "celery_delayed_delivery",
            "x-dead-letter-strategy": "at-least-once",
        }
        assert delays.level(27, "classic").waiting_key == "1.#"
        assert delays.level(26, "classic").passing_key == "*.0.#"


def test_arguments_of_queues() -> None:
    queue = Queue("q", expires=1.5, message_ttl=2, max_length=3, max_length_bytes=4, max_priority=5)
    assert queue_arguments(queue) == {
        "x-expires": 1500,
        "x-message-ttl": 2000,
        "x-max-length": 3,
        "x-max-length-bytes": 4,
        "x-max-priority": 5,
    }


class TestAddresses:
    @pytest.mark.parametrize(
        ("url", "location", "login"),
        [
            ("amqp://", "amqp:localhost:5672//", ("guest", "guest")),
            ("pyamqp://h", "amqp:h:5672//", ("guest", "guest")),
            ("amqp://me:p%40ss@h:1//", "amqp:h:1//", ("me", "p@ss")),
            ("amqp://me:p@ss/w@h/shop", "amqp:h:5672/shop", ("me", "p@ss/w")),
            ("amqp://me:w?rd@h/shop?heartbeat=20", "amqp:h:5672/shop", ("me", "w?rd")),
            ("amqp://h/%2F", "amqp:h:5672//", ("guest", "guest")),
            ("amqps://[::1]/a%2Fb", "amqp:::1:5671/a/b", ("guest", "guest")),
        ],
    )
    def test_what_a_url_says(self, url: str, location: str, login: tuple[str, str]) -> None:
        [address] = addresses(url, {})
        assert address.location == location
        assert (address.user, address.password) == login
        assert address.heartbeat == HEARTBEAT
        assert (address.context is not None) == url.startswith("amqps")

    def test_several(self) -> None:
        several = addresses("amqp://a:p;w@one;amqp://two//;pyamqp://three", {"heartbeat": 7})
        assert [one.host for one in several] == ["one", "two", "three"]
        assert several[0].password == "p;w"
        assert {one.heartbeat for one in several} == {7}
        assert several[0].shown == "amqp://a:**@one"

    @pytest.mark.follows("BROK-10")
    def test_in_which_order_they_are_tried(self) -> None:
        urls = ";".join(f"amqp://h{number}" for number in range(8))
        given = [one.host for one in addresses(urls, {})]
        assert given == [f"h{number}" for number in range(8)]
        assert [one.host for one in addresses(urls, {"failover_strategy": "round-robin"})] == given
        shuffled = [
            [one.host for one in addresses(urls, {"failover_strategy": "shuffle"})]
            for _ in range(3)
        ]
        assert all(sorted(order) == given for order in shuffled)
        assert any(order != given for order in shuffled)
        with pytest.raises(ImproperlyConfigured, match="round-robin or shuffle"):
            addresses(urls, {"failover_strategy": "best"})

    def test_verification_may_be_switched_off(self) -> None:
        [address] = addresses("amqps://h?verify=verify_none&heartbeat=0", {})
        assert address.context.verify_mode == ssl.CERT_NONE
        assert address.heartbeat == 0

    @pytest.mark.parametrize(
        ("url", "options", "said"),
        [
            ("amqp://h:x", {}, "'x' is no port"),
            ("amqp://h?nonsense=1", {}, "nonsense cannot be set there"),
            ("amqp://u:geheim@h?heartbeat=often", {}, r"u:\*\*@h.* no number of seconds"),
            ("amqp://h;redis://h", {}, "which begin with amqp://"),
            ("amqps://h?verify=maybe", {}, "verify_peer or verify_none"),
            ("amqps://h", {"ssl": {"password": "x"}}, "ssl in broker_transport_options has no"),
        ],
    )
    def test_what_cannot_be_right(self, url: str, options: dict[str, Any], said: str) -> None:
        with pytest.raises(ImproperlyConfigured, match=said):
            addresses(url, options)


class TestUrls:
    def test_nothing_is_connected(self) -> None:
        broker = open_broker("pyamqp://u:p@nowhere.invalid/shop", Settings())
        assert (broker.url, broker.location) == (
            "pyamqp://u:**@nowhere.invalid/shop",
            "amqp:nowhere.invalid:5672/shop",
        )
        broker.close()

    def test_a_list_is_for_rabbitmq(self, tmp_path: Path) -> None:
        name = ("app", str(tmp_path))
        assert broker_url(("amqp://a", "amqp://b"), name) == "amqp://a;amqp://b"
        with pytest.raises(ImproperlyConfigured, match="names several brokers"):
            open_broker("sqlite:///a;sqlite:///b", Settings())

    def test_a_type_of_levels_that_there_is_not(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="write quorum or classic"):
            open_broker("amqp://", Settings(broker_native_delayed_delivery_queue_type="stream"))

    def test_a_missing_driver_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # The package is an attribute, too, which the import below is going to replace.
        monkeypatch.setattr(brokers, "amqp", brokers.amqp)
        for name in [name for name in sys.modules if name.startswith("celeriac.brokers.amqp")]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "pika", None)
        with pytest.raises(ImproperlyConfigured, match=r"needs a driver.*pika.*celeriac\[amqp\]"):
            open_broker("amqp://u:p@h", Settings())

    def test_results_are_sent_there(self) -> None:
        assert store_url(None, "amqp://h") == "rpc://"
        assert store_url("sqlite:///r.db", "amqp://h") == "sqlite:///r.db"
