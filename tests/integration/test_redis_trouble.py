"""Redis in trouble: what is no message, keys of the wrong kind, refusals, silence; nothing is lost."""

import json
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest
import yaml

from celeriac.brokers.redis.broker import RedisBroker
from celeriac.brokers.redis.consumer import RedisConsumer
from celeriac.completion import SETTLED, STALE, Completion, Put, Settlement
from celeriac.exceptions import ImproperlyConfigured, OperationalError
from celeriac.message import ALL_DEAD, QueueSize
from celeriac.results.redis import RedisStore
from celeriac.states import STARTED, SUCCESS
from tests.fixtures.certificates import server_keys
from tests.fixtures.messages import ANY_SIZE, ids, publish, publishes
from tests.fixtures.redis_server import RedisServer
from tests.fixtures.servers import MakeProxy, MakeRedis, MakeSentinel
from tests.fixtures.waiting import InAMoment, eventually

TIMEOUT = 1.0


@pytest.fixture
def broker(redis_url: str) -> Iterator[RedisBroker]:
    broker = RedisBroker(redis_url)
    yield broker
    broker.close()


@pytest.fixture
def server(redis_server: RedisServer) -> Iterator[Any]:
    with redis_server.client() as client:
        yield client


@pytest.fixture
def own(make_redis: MakeRedis) -> RedisServer:
    """A server of the test's own."""
    server: RedisServer = make_redis()
    return server


GARBAGE = [
    b"garbage",
    b"\xff\xfe\x00binary",
    b"",
    b"{}",
    b'{"body":',
    b"[" * 1500 + b"]" * 1500,
    b'{"body": "%%%", "properties": {"body_encoding": "base64"}}',
    b'{"body": "", "headers": {}, "properties": {}, "content-encoding": "klingon"}',
    b'{"body": 7, "headers": 7, "properties": 7}',
]

LARGE_ONE = b"value" * 2000


class TestGarbage:
    def test_what_is_no_message_is_claimed_among_the_others(
        self, broker: RedisBroker, server: Any
    ) -> None:
        for number, text in enumerate(GARBAGE):
            broker.publish([publish(str(number))])
            server.lpush("work", text)
        consumer = broker.consumer(["work"])
        deliveries = consumer.claim(100, ANY_SIZE)
        assert [id_ for id_ in ids(deliveries) if id_] == [str(n) for n in range(len(GARBAGE))]
        strange = [delivery for delivery in deliveries if not delivery.message.id]
        assert len(strange) == len(GARBAGE)
        # It comes and goes like any other.
        consumer.requeue([delivery.receipt for delivery in deliveries])
        assert broker.sizes() == {"work": QueueSize(ready=2 * len(GARBAGE))}
        again = consumer.claim(100, ANY_SIZE)
        assert [d.message.body for d in again if not d.message.id][:3] == GARBAGE[:3]

    def test_it_dies_and_comes_back_as_it_was(self, broker: RedisBroker, server: Any) -> None:
        server.lpush("work", b"garbage")
        consumer = broker.consumer(["work"])
        [delivery] = consumer.claim(1, ANY_SIZE)
        done = Completion(receipt=delivery.receipt, settlement=Settlement.DEAD, reason="unreadable")
        assert consumer.commit([done], None) == [SETTLED]
        [letter] = broker.dead()
        assert (letter.message.body, letter.reason, letter.queue) == (
            b"garbage",
            "unreadable",
            "work",
        )
        assert broker.revive(ALL_DEAD) == 1
        assert server.lrange("work", 0, -1) == [b"garbage"]

    def test_a_body_that_looks_like_what_befell_it(self, broker: RedisBroker) -> None:
        trap = b',"celeriac":[9,1,9,0,9,9]}'
        broker.publish([publish("1", body=trap)])
        consumer = broker.consumer(["work"])
        for claims in (1, 2):
            [delivery] = consumer.claim(1, ANY_SIZE)
            assert (delivery.claims, delivery.losses, delivery.message.body) == (claims, 0, trap)
            consumer.requeue([delivery.receipt])

    @pytest.mark.parametrize("queue", ['a "quoted" one', "with:colons:in", ',"",', "größe", "a b"])
    def test_queues_may_have_strange_names(self, broker: RedisBroker, queue: str) -> None:
        broker.publish([publish("1", queue), publish("2", queue, priority=3)])
        consumer = broker.consumer([queue])
        for _ in range(2):
            deliveries = consumer.claim(2, ANY_SIZE)
            assert [(d.message.id, d.queue) for d in deliveries] == [("2", queue), ("1", queue)]
            consumer.requeue([delivery.receipt for delivery in deliveries])
        assert broker.sizes() == {queue: QueueSize(ready=2)}


class TestWrongKinds:
    @pytest.mark.parametrize(
        "key", ["unacked", "unacked_index", "celeriac:leases", "celeriac:started"]
    )
    def test_a_key_that_is_something_else_is_named_and_nothing_lost(
        self, broker: RedisBroker, server: Any, key: str
    ) -> None:
        broker.publish(publishes(range(3)))
        consumer = broker.consumer(["work"])
        server.set(key, "something else")
        with pytest.raises(OperationalError, match=f"the key {key} is no .*remove or rename it"):
            consumer.claim(10, ANY_SIZE)
        server.delete(key)
        assert ids(consumer.claim(10, ANY_SIZE)) == ["0", "1", "2"]

    def test_a_queue_that_is_something_else_does_not_hold_back_the_others(
        self, broker: RedisBroker, server: Any
    ) -> None:
        server.set("broken", "something else")
        broker.publish([publish("1", "fine")])
        consumer = broker.consumer(["broken", "fine"])
        consumer.wait(5.0)
        assert ids(consumer.claim(10, ANY_SIZE)) == ["1"]
        with pytest.raises(OperationalError, match="WRONGTYPE"):
            broker.publish([publish("2", "broken")])
        with pytest.raises(OperationalError, match="WRONGTYPE"):
            broker.publish([publish("3", "fine"), publish("4", "broken")])
        assert server.llen("fine") == 0

    def test_a_follow_up_that_cannot_be_sent_is_refused_alone(
        self, broker: RedisBroker, server: Any
    ) -> None:
        server.set("broken", "something else")
        broker.publish(publishes(["1", "2"]))
        consumer = broker.consumer(["work"])
        first, second = (delivery.receipt for delivery in consumer.claim(2, ANY_SIZE))
        completions = [
            Completion(
                receipt=first, settlement=Settlement.ACK, publishes=(publish("x", "broken"),)
            ),
            Completion(receipt=second, settlement=Settlement.ACK),
        ]
        refused, settled = consumer.commit(completions, None)
        assert (refused.kind, settled) == ("refused", SETTLED)
        assert "broken" in refused.error
        assert consumer.renew([first]) == set()


class TestRefusals:
    def test_scripts_that_the_server_has_forgotten(self, broker: RedisBroker, server: Any) -> None:
        broker.publish(publishes(range(2)))
        consumer = broker.consumer(["work"])
        server.script_flush()
        [delivery] = consumer.claim(1, ANY_SIZE)
        server.script_flush()
        done = Completion(receipt=delivery.receipt, settlement=Settlement.ACK)
        assert consumer.commit([done], None) == [SETTLED]
        server.script_flush()
        broker.publish([publish("2")])
        assert ids(consumer.claim(10, ANY_SIZE)) == ["1", "2"]

    def test_a_full_server(self, own: RedisServer) -> None:
        broker, store = RedisBroker(own.url()), RedisStore(own.url(1))
        broker.publish(publishes(range(4)))
        consumer = broker.consumer(["work"])
        first, second = (delivery.receipt for delivery in consumer.claim(2, ANY_SIZE))
        assert consumer.commit([Completion(receipt=first, settlement=Settlement.KEEP)], store)
        with own.client() as client:
            client.config_set("maxmemory", 1)
            with pytest.raises(OperationalError, match="raise maxmemory"):
                broker.publish([publish("5")])
            with pytest.raises(OperationalError, match="raise maxmemory"):
                consumer.claim(1, ANY_SIZE)
            # What is settled makes room: it goes through, with all that comes with it.
            # A large document cannot be put beside its place first, and is handed over.
            done = Completion(
                receipt=first,
                settlement=Settlement.ACK,
                puts=(Put("document", b"value"), Put("large", LARGE_ONE)),
                publishes=(publish("6", "next"),),
            )
            assert consumer.commit([done], store) == [SETTLED]
            assert consumer.renew([second]) == set()
            client.config_set("maxmemory", 0)
        assert store.get(["document", "large"]) == {"document": b"value", "large": LARGE_ONE}
        assert broker.sizes() == {
            "next": QueueSize(ready=1),
            "work": QueueSize(ready=2, leased=1),
        }
        broker.close()
        store.close()

    def test_a_replica_is_told_from_its_master(
        self, own: RedisServer, redis_server: RedisServer
    ) -> None:
        broker = RedisBroker(own.url())
        broker.publish([publish("1")])
        with own.client() as client:
            client.replicaof("127.0.0.1", redis_server.port)
            with pytest.raises(OperationalError, match="replica"):
                broker.publish([publish("2")])
            client.replicaof("NO", "ONE")
        broker.publish([publish("3")])
        broker.close()

    def test_a_wrong_password(self, make_redis: MakeRedis) -> None:
        server = make_redis(password="s3cret-word")
        RedisBroker(server.url()).publish([publish("1")])
        broker = RedisBroker(server.url().replace("s3cret-word", "wr0ng-word"))
        with pytest.raises(OperationalError, match="check user name and password") as caught:
            broker.publish([publish("1")])
        assert "wr0ng-word" not in str(caught.value)

    def test_commands_that_this_user_may_not_use(self, make_redis: MakeRedis) -> None:
        server = make_redis()
        with server.client() as client:
            client.acl_setuser(
                "shy",
                enabled=True,
                passwords=["+pw"],
                keys=["*"],
                channels=["*"],
                commands=["+@all", "-client|tracking"],
            )
        broker = RedisBroker(server.url().replace("redis://", "redis://shy:pw@"))
        consumer = broker.consumer(["work"])
        published = InAMoment(lambda: broker.publish([publish("1")]))
        consumer.wait(10.0)
        assert published.ago() < 0.25
        assert ids(consumer.claim(1, ANY_SIZE)) == ["1"]
        consumer.close()
        broker.close()

    def test_a_store_that_no_script_may_reach_is_written_apart(self, make_redis: MakeRedis) -> None:
        server = make_redis()
        with server.client() as client:
            client.acl_setuser(
                "shy",
                enabled=True,
                passwords=["+pw"],
                channels=["*"],
                keys=["work", "unacked*", "celeriac:*", "_kombu.*"],
                commands=["+@all"],
            )
        broker = RedisBroker(server.url().replace("redis://", "redis://shy:pw@"))
        store = RedisStore(server.url(3))
        broker.publish([publish("1")])
        consumer = broker.consumer(["work"])
        [delivery] = consumer.claim(1, ANY_SIZE)
        done = Completion(
            receipt=delivery.receipt, settlement=Settlement.ACK, puts=(Put("document", b"value"),)
        )
        assert consumer.commit([done], store) == [SETTLED]
        assert store.get(["document"]) == {"document": b"value"}
        consumer.close()
        broker.close()
        store.close()


class TestSilence:
    @pytest.fixture
    def calls(self, own: RedisServer) -> Callable[[str], list[Callable[[], object]]]:
        def made(url: str) -> list[Callable[[], object]]:
            broker, store = RedisBroker(url, TIMEOUT), RedisStore(url, TIMEOUT)
            return [
                lambda: broker.publish([publish("1")]),
                lambda: broker.consumer(["work"]),
                broker.sizes,
                broker.dead,
                lambda: store.put([Put("a", b"1")]),
                lambda: store.get(["a"]),
                lambda: store.watch().add(["a"]),
            ]

        return made

    def test_a_server_that_is_not_there(self, own: RedisServer, calls: Any) -> None:
        own.kill()
        for call in calls(own.url()):
            with pytest.raises(OperationalError, match=rf"{own.port}.*check that it runs"):
                call()

    def test_a_server_that_says_nothing(self, own: RedisServer, calls: Any) -> None:
        for call in calls(own.url(2)):
            with own.frozen():
                before = monotonic()
                with pytest.raises(OperationalError, match="in time"):
                    call()
                assert monotonic() - before < TIMEOUT + 0.5

    def test_it_goes_on_when_the_server_is_back(self, make_redis: MakeRedis) -> None:
        server = make_redis(durable=True)
        broker, store = RedisBroker(server.url(), TIMEOUT), RedisStore(server.url(1), TIMEOUT)
        consumer, watch = broker.consumer(["work"]), store.watch()
        watch.add(["document"])
        broker.publish(publishes(range(3)))
        [delivery] = consumer.claim(1, ANY_SIZE)
        consumer.wait(0.01)
        server.kill()
        for call in (
            lambda: broker.publish([publish("3")]),
            lambda: consumer.claim(1, ANY_SIZE),
            lambda: consumer.wait(5.0),
            lambda: watch.wait(5.0),
        ):
            with pytest.raises(OperationalError):
                call()
        server.start()
        broker.publish([publish("4")])
        consumer.wait(5.0)
        assert ids(consumer.claim(10, ANY_SIZE)) == ["1", "2", "4"]
        done = Completion(
            receipt=delivery.receipt, settlement=Settlement.ACK, puts=(Put("document", b"value"),)
        )
        assert consumer.commit([done], store) == [SETTLED]
        assert watch.wait(5.0) == {"document": b"value"}
        for one in (watch, consumer, broker, store):
            one.close()

    def test_nothing_is_taken_from_the_living_while_the_server_was_away(
        self, own: RedisServer
    ) -> None:
        broker = RedisBroker(own.url(), 5.0)
        broker.publish([publish("1"), publish("2")])
        living, other = broker.consumer(["work"], lease=0.4), broker.consumer(["work"], lease=0.4)
        kept, lost = (delivery.receipt for delivery in living.claim(2, ANY_SIZE))
        other.sweep()
        began = monotonic()
        with own.frozen():
            eventually(lambda: monotonic() - began > 0.5)
        # Both leases have ended; whoever comes first, it is too early to tell who is dead.
        assert other.sweep() == 0
        assert living.renew([kept]) == set()
        assert eventually(other.sweep) == 1
        assert living.renew([kept, lost]) == {lost}
        for consumer in (living, other):
            consumer.close()
        broker.close()

    def test_a_reply_that_is_cut_in_the_middle(
        self, own: RedisServer, make_proxy: MakeProxy
    ) -> None:
        proxy = make_proxy(own.port)
        broker = RedisBroker(f"redis://127.0.0.1:{proxy.port}/0", TIMEOUT)
        broker.publish(publishes(range(50)))
        consumer = broker.consumer(["work"], lease=0.2)
        proxy.cut_after(700)
        with pytest.raises(OperationalError):
            consumer.claim(50, ANY_SIZE)
        # They are leased to nobody who knows of them: like those of a dead worker they come back.
        assert broker.sizes() == {"work": QueueSize(leased=50)}
        assert eventually(consumer.sweep) == 50
        assert ids(consumer.claim(100, ANY_SIZE)) == [str(number) for number in range(50)]
        consumer.close()
        broker.close()

    @pytest.mark.parametrize("database", [None, 0, 3], ids=["no-store", "with-store", "elsewhere"])
    def test_a_commit_whose_answer_was_lost_is_not_taken_for_a_lost_lease(
        self,
        database: int | None,
        make_redis: MakeRedis,
        own: RedisServer,
        make_proxy: MakeProxy,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # A run that waits for its early acknowledgement would never begin.
        proxy = make_proxy(own.port)
        broker = RedisBroker(f"redis://127.0.0.1:{proxy.port}/0", TIMEOUT)
        kept = make_redis() if database else own
        store: Any = None if database is None else RedisStore(kept.url(database), TIMEOUT)
        broker.publish(publishes(range(4)))
        consumer = broker.consumer(["work"], lease=0.4)
        zeroth, first, second, third = (d.receipt for d in consumer.claim(4, ANY_SIZE))
        # Now the server has the scripts, and answers with what they return.
        known = Completion(receipt=zeroth, settlement=Settlement.ACK)
        assert consumer.commit([known], store) == [SETTLED]
        begun = Completion(receipt=third, settlement=Settlement.KEEP)
        assert consumer.commit([begun], store) == [SETTLED]
        puts = (Put("document", b"value"),) if store else ()
        done = [
            Completion(receipt=r, settlement=Settlement.ACK, puts=puts) for r in (first, second)
        ]
        if database == 3:
            put = store.put
            # What is cut is the answer to the last of three questions.
            monkeypatch.setattr(store, "put", lambda some: (put(some), proxy.cut_after(5)))
        else:
            proxy.cut_after(5)
        with pytest.raises(OperationalError):
            consumer.commit(done, store)
        assert broker.sizes() == {"work": QueueSize(leased=1)}
        monkeypatch.undo()
        assert consumer.renew([first, second, third]) == {first, second}
        assert consumer.commit(done, store) == [SETTLED, SETTLED]
        # Once is enough; and what others have taken is lost.
        assert consumer.commit(done, store) == [STALE, STALE]
        late = Completion(receipt=third, settlement=Settlement.ACK)
        proxy.refuse()
        proxy.cut()
        with pytest.raises(OperationalError):
            consumer.commit([late], store)
        proxy.accept()
        eventually(consumer.sweep)
        assert consumer.commit([late], store) == [STALE]
        for one in (consumer, broker, *([store] if store else [])):
            one.close()

    def test_a_half_open_connection_is_found_while_waiting(
        self, own: RedisServer, make_proxy: MakeProxy
    ) -> None:
        proxy = make_proxy(own.port)
        broker = RedisBroker(f"redis://127.0.0.1:{proxy.port}/0", TIMEOUT)
        consumer = broker.consumer(["work"])
        consumer.wait(0.01)
        proxy.stall()
        before = monotonic()
        with pytest.raises(OperationalError, match="in time"):
            consumer.wait(30.0)
        assert monotonic() - before < TIMEOUT + 1.0
        proxy.resume()
        broker.publish([publish("1")])
        consumer.wait(5.0)
        assert ids(consumer.claim(1, ANY_SIZE)) == ["1"]
        consumer.close()
        broker.close()


class TestRoads:
    """All ways in: TLS, a password, a socket file, sentinels."""

    @staticmethod
    def tried(url: str, **options: Any) -> None:
        broker, store = RedisBroker(url, options=options), RedisStore(url, options=options)
        broker.publish([publish("1")])
        consumer = broker.consumer(["work"])
        consumer.wait(5.0)
        [delivery] = consumer.claim(1, ANY_SIZE)
        watch = store.watch()
        watch.add(["document"])
        done = Completion(
            receipt=delivery.receipt, settlement=Settlement.ACK, puts=(Put("document", b"value"),)
        )
        assert consumer.commit([done], store) == [SETTLED]
        assert watch.wait(5.0) == {"document": b"value"}
        for one in (watch, consumer, broker, store):
            one.close()

    @pytest.mark.follows("BROK-18", "SEC-08")
    def test_tls(self, make_redis: MakeRedis, tmp_path: Path) -> None:
        keys = server_keys(tmp_path)
        server = make_redis(tls=keys, password="pässword/@")
        self.tried(server.url(2))
        plain = server.url(2).partition("?")[0]
        self.tried(plain, ssl={"ssl_ca_certs": str(keys.ca), "ssl_cert_reqs": "CERT_REQUIRED"})
        self.tried(plain.replace("rediss:", "redis:"), ssl={"ssl_ca_certs": str(keys.ca)})
        with pytest.raises(OperationalError, match="certificate"):
            self.tried(plain)

    def test_a_socket_file(self, make_redis: MakeRedis) -> None:
        server = make_redis(unix_socket=True, password="pw")
        self.tried(server.socket_url(3))
        self.tried(
            server.socket_url(3).replace("redis+socket:", "unix:").replace("virtual_host", "db")
        )

    @pytest.mark.follows("BROK-03")
    def test_sentinels(self, make_redis: MakeRedis, make_sentinel: MakeSentinel) -> None:
        master = make_redis(password="pw")
        sentinel = make_sentinel(master)
        options = {"master_name": sentinel.name}
        self.tried(sentinel.url(1), **options)
        broker = RedisBroker(sentinel.url(1), 2.0, options)
        broker.publish([publish("before")])
        consumer = broker.consumer(["work"])
        consumer.wait(1.0)
        with sentinel.replica.client(1) as client:
            eventually(lambda: client.llen("work") == 1)
        master.kill()

        def published() -> bool:
            try:
                broker.publish([publish("after")])
            except OperationalError:
                return False
            return True

        eventually(published, within=30.0)
        assert ids(consumer.claim(10, ANY_SIZE)) == ["before", "after"]
        consumer.close()
        broker.close()

    @pytest.mark.parametrize(
        ("url", "options", "message"),
        [
            ("redis+cluster://h/0", {}, "Redis Cluster.*independent"),
            ("redis://h/abc", {}, "'abc' is no number of a database"),
            ("redis://h/0?nonsense=1", {}, "nonsense"),
            ("redis://:pw@h:port/0", {}, "cannot be read"),
            ("sentinel://h:26379/0", {}, "master_name is missing"),
            ("redis://h/0", {"visibility_timeout": 10}, "visibility_timeout.*30 or more"),
            ("redis://h/0", {"priority_direction": "up"}, "priority_direction.*higher or lower"),
        ],
    )
    def test_what_cannot_be_right_is_said_at_once(
        self, url: str, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ImproperlyConfigured, match=message) as caught:
            RedisBroker(url, options=options)
        assert "pw" not in str(caught.value)


def test_sizes_are_those_of_one_moment(broker: RedisBroker, redis_url: str) -> None:
    """What goes from hand to hand meanwhile is counted once."""
    broker.publish([publish("1")])
    other = RedisBroker(redis_url)
    consumer = other.consumer(["work"])
    over = Event()

    def move() -> None:
        while not over.is_set():
            consumer.requeue([delivery.receipt for delivery in consumer.claim(1, ANY_SIZE)])

    with ThreadPoolExecutor(1) as pool:
        moving = pool.submit(move)
        seen = [broker.sizes()["work"] for _ in range(500)]
        over.set()
        moving.result()
    assert {size.ready + size.leased for size in seen} == {1}
    assert {size.ready for size in seen} == {0, 1}
    consumer.close()
    other.close()


class TestStored:
    @pytest.mark.follows("RES-20")
    @pytest.mark.parametrize(
        "success",
        [
            b'{"status": "SUCCESS", "result": 4}',
            b'{"status":"SUCCESS","result":4}',
            b"\x80\x04\x95\x00}\x94(\x8c\x06status\x94\x8c\x07SUCCESS\x94",
            b"\x82\xa6status\xa7SUCCESS",
            pickle.dumps({"status": "SUCCESS", "result": 4}, 2),
            pickle.dumps({"status": "SUCCESS", "result": 4}, 5),
            yaml.safe_dump(
                {"status": "SUCCESS", "args": ["long" * 50], "traceback": None}
            ).encode(),
        ],
    )
    def test_a_success_of_celery_stays(self, redis_url: str, server: Any, success: bytes) -> None:
        store = RedisStore(redis_url)
        server.set("celery-task-meta-1", success)
        store.put([Put("celery-task-meta-1", b'{"status": "FAILURE"}', state="FAILURE")])
        assert server.get("celery-task-meta-1") == success
        store.close()

    @pytest.mark.parametrize(
        "failure",
        [
            b'{"status": "FAILURE", "result": {"exc_type": "SUCCESS"}}',
            pickle.dumps({"status": "RETRY", "result": "SUCCESS"}, 4),
            b"\x82\xa6status\xa5RETRY\xa6result\xa7SUCCESS",
            yaml.safe_dump({"status": "X", "args": ["SUCCESS", "a\n\nstatus: SUCCESS\n"]}).encode(),
        ],
        ids=["json", "pickle", "msgpack", "yaml"],
    )
    def test_what_speaks_of_success_and_is_none_does_not(
        self, redis_url: str, server: Any, failure: bytes
    ) -> None:
        store = RedisStore(redis_url)
        server.set("celery-task-meta-1", failure)
        store.put([Put("celery-task-meta-1", b'{"status": "SUCCESS"}', state=SUCCESS)])
        assert server.get("celery-task-meta-1") == b'{"status": "SUCCESS"}'
        store.close()

    @pytest.mark.parametrize("ttl", [None, 60.0])
    def test_a_large_document_is_put_beside_its_place_first(
        self, redis_url: str, server: Any, ttl: float | None
    ) -> None:
        store, watch_of = RedisStore(redis_url), RedisStore(redis_url)
        watch = watch_of.watch()
        watch.add(["celery-task-meta-1"])
        begun = b'{"status": "STARTED", "result": "%b"}' % (b"x" * 9000)
        done = begun.replace(b"STARTED", b"SUCCESS")
        for state, document in ((STARTED, begun), (SUCCESS, done)):
            store.put([Put("celery-task-meta-1", document, ttl, state)])
            assert watch.wait(5.0) == {"celery-task-meta-1": document}
        # It is a success, and stays.
        store.put([Put("celery-task-meta-1", begun, ttl, STARTED)])
        assert server.get("celery-task-meta-1") == done
        assert server.keys() == [b"celery-task-meta-1"]
        assert (server.ttl("celery-task-meta-1") > 0) == (ttl is not None)
        watch.close()
        store.close()
        watch_of.close()

    @pytest.fixture
    def consumer(self, broker: RedisBroker) -> Iterator[RedisConsumer]:
        consumer = broker.consumer(["work"])
        yield consumer
        consumer.close()

    @pytest.fixture
    def elsewhere(self, redis_server: RedisServer) -> Iterator[RedisStore]:
        """Return a store in another database of the server."""
        store = RedisStore(redis_server.url(1))
        yield store
        store.close()

    @staticmethod
    def held(broker: RedisBroker, consumer: RedisConsumer, count: int) -> list[str]:
        """Publish so many messages and claim them; return their receipts."""
        broker.publish(publishes(range(count)))
        return [delivery.receipt for delivery in consumer.claim(count, ANY_SIZE)]

    def test_a_commit_puts_it_there_in_its_own_database(
        self,
        redis_server: RedisServer,
        broker: RedisBroker,
        consumer: RedisConsumer,
        elsewhere: RedisStore,
    ) -> None:
        receipts = self.held(broker, consumer, 3)
        consumer.requeue(receipts[1:2])
        done = [
            Completion(
                receipt=receipt,
                settlement=Settlement.ACK,
                puts=(Put(f"document {number}", LARGE_ONE, 60.0),),
            )
            for number, receipt in enumerate(receipts)
        ]
        assert consumer.commit(done, elsewhere) == [SETTLED, STALE, SETTLED]
        found = elsewhere.get(["document 0", "document 1", "document 2"])
        assert found == {"document 0": LARGE_ONE, "document 2": LARGE_ONE}
        # The connection is back where it was.
        broker.publish([publish("after")])
        assert broker.sizes() == {"work": QueueSize(ready=2)}
        with redis_server.client(db=1) as results:
            # What was not taken ends by itself.
            [beside] = results.keys("document 1.celeriac:new:*")
            assert sorted(results.keys()) == sorted([b"document 0", beside, b"document 2"])
            assert results.ttl(beside) > 0

    @pytest.mark.parametrize("settlement", [Settlement.KEEP, Settlement.ACK])
    def test_several_large_documents_for_one_place(
        self,
        broker: RedisBroker,
        consumer: RedisConsumer,
        elsewhere: RedisStore,
        settlement: Settlement,
    ) -> None:
        """As of a task that reports its state, with large arguments beside it."""
        one, other = self.held(broker, consumer, 2)
        states = [b'{"status": "STARTED", "n": %d, "x": "%b"}' % (n, LARGE_ONE) for n in range(3)]
        puts = tuple(Put("document", state, 60.0, STARTED) for state in states)
        batch = [
            Completion(receipt=one, settlement=Settlement.KEEP, puts=puts[:1]),
            Completion(receipt=one, settlement=settlement, puts=puts[1:]),
            Completion(receipt=other, settlement=Settlement.ACK, puts=(Put("last", LARGE_ONE),)),
        ]
        assert consumer.commit(batch, elsewhere) == [SETTLED, SETTLED, SETTLED]
        assert elsewhere.get(["document", "last"]) == {"document": states[2], "last": LARGE_ONE}
        elsewhere.put([*puts, puts[0]])
        assert elsewhere.get(["document"]) == {"document": states[0]}

    def test_what_is_said_of_a_success_ends_with_it(self, redis_url: str, server: Any) -> None:
        """Celery forgets a document of ours, and not what stands beside it; the id is used again."""
        store = RedisStore(redis_url)
        store.put([Put("celery-task-meta-1", b"opaque", state=SUCCESS)])
        server.delete("celery-task-meta-1")
        store.put([Put("celery-task-meta-1", b"begun", state=STARTED)])
        store.put([Put("celery-task-meta-1", b"done", state=SUCCESS)])
        store.put([Put("celery-task-meta-1", b"late", state=STARTED)])
        assert server.get("celery-task-meta-1") == b"done"
        store.close()

    def test_a_worker_tells_of_its_queues_again_and_again(
        self, redis_url: str, server: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broker = RedisBroker(redis_url)
        consumer = broker.consumer(["work"])
        server.flushall()
        consumer.renew([])
        assert not server.exists("celeriac:queues")
        monkeypatch.setattr("celeriac.brokers.redis.consumer.ANNOUNCED_EVERY", 0.0)
        monkeypatch.setattr("celeriac.brokers.redis.consumer.SEEN_EVERY", 0.0)
        consumer.renew([])
        assert server.smembers("celeriac:queues") == {b"work"}
        assert server.exists("_kombu.binding.work")
        consumer.close()
        broker.close()

    def test_every_key_has_an_owner_or_ends_by_itself(self, redis_url: str, server: Any) -> None:
        broker, store = RedisBroker(redis_url), RedisStore(redis_url)
        broker.publish([*publishes(range(20)), publish("urgent", priority=3)])
        consumer = broker.consumer(["work"])
        deliveries = consumer.claim(30, ANY_SIZE)
        consumer.start([deliveries[0].receipt])
        for number, delivery in enumerate(deliveries):
            puts = (Put(f"doc-{number}", b"1", ttl=60.0, state=SUCCESS if number % 2 else STARTED),)
            done = Completion(receipt=delivery.receipt, settlement=Settlement.ACK, puts=puts)
            assert consumer.commit([done], store) == [SETTLED]
        consumer.sweep()
        consumer.close()
        lasting = {key.decode() for key in server.scan_iter() if server.ttl(key) < 0}
        bindings = {"_kombu.binding.work", "_kombu.binding_permanent.work"}
        assert lasting == {"celeriac:serial", *bindings}
        broker.close()
        store.close()

    @pytest.mark.follows("BACK-09")
    def test_a_prefix_as_celery_has_it(self, redis_url: str, server: Any) -> None:
        store = RedisStore(redis_url, options={"global_keyprefix": "shop"})
        store.put([Put("celery-task-meta-1", json.dumps({"status": "SUCCESS"}).encode())])
        assert server.exists("shop_celery-task-meta-1")
        watch = store.watch()
        watch.add(["celery-task-meta-1", "celery-task-meta-2"])
        assert set(watch.wait(5.0)) == {"celery-task-meta-1"}
        store.put([Put("celery-task-meta-2", b"2")])
        assert watch.wait(5.0) == {"celery-task-meta-2": b"2"}
        watch.close()
        store.close()


class TestFailover:
    @pytest.mark.follows("BROK-10")
    def test_the_next_server_is_tried(self, own: RedisServer, make_redis: MakeRedis) -> None:
        second = make_redis()
        broker = RedisBroker(f"{own.url()};{second.url()}", TIMEOUT)
        broker.publish([publish("1")])
        consumer = broker.consumer(["work"])
        own.kill()
        with pytest.raises(OperationalError, match=str(own.port)):
            broker.publish([publish("2")])
        broker.publish([publish("3")])
        consumer.wait(5.0)
        assert ids(consumer.claim(5, ANY_SIZE)) == ["3"]
        second.kill()
        own.start()
        with pytest.raises(OperationalError):
            broker.publish([publish("4")])
        broker.publish([publish("5")])
        with own.client() as client:
            assert client.llen("work") == 1
        consumer.close()
        broker.close()

    @pytest.mark.follows("BROK-17")
    def test_no_password_is_told(self) -> None:
        urls = "redis://:first@127.0.0.1:1/0;redis://user:second@127.0.0.1:2/0"
        broker = RedisBroker(urls, TIMEOUT, {"failover_strategy": "shuffle"})
        with pytest.raises(OperationalError) as caught:
            broker.publish([publish("1")])
        shown = f"{broker.url} {caught.value}"
        assert "first" not in shown
        assert "second" not in shown
        assert "127.0.0.1:1" in shown
        assert "127.0.0.1:2" in shown

    def test_an_unknown_strategy_is_refused(self) -> None:
        with pytest.raises(ImproperlyConfigured, match="round-robin or shuffle"):
            RedisBroker("redis://a/0;redis://b/0", options={"failover_strategy": "best"})
