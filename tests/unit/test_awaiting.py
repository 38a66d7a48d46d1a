"""awaiting.py: calls from coroutines, in batches; event loops, threads and forks."""

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from time import process_time
from typing import Any

import pytest

from celeriac import AsyncResult, Celery, Task, signals
from celeriac.awaiting import MOST, MOST_BYTES, Awaiter
from celeriac.brokers.memory import MemoryBroker
from celeriac.exceptions import EncodeError, OperationalError
from celeriac.message import Publish
from tests.fixtures.coroutines import put, threads, turn, watched
from tests.fixtures.messages import ANY_SIZE
from tests.fixtures.processes import Child, Line
from tests.fixtures.runs import body, claim, document, headers, memory_app, run_sent
from tests.fixtures.waiting import eventually

MANY = 500


class Counted(MemoryBroker):
    """Notes the batches that it is given, and may be held up."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.open = threading.Event()
        self.open.set()

    def publish(self, publishes: Sequence[Publish]) -> None:
        self.batches.append(len(publishes))
        assert self.open.wait(20)
        super().publish(publishes)


@pytest.fixture
def app() -> Iterator[Celery]:
    app = memory_app()
    app.connections._open["broker"] = Counted()
    yield app
    app.close()


@pytest.fixture(params=["memory", "sqlite"])
def any_app(request: pytest.FixtureRequest, home: Path) -> Iterator[Celery]:
    url = {"memory": "memory://", "sqlite": f"sqlite:///{home}/tasks.db"}[request.param]
    app = Celery("proj", broker=url, backend=url)
    consumer = app.broker.consumer(["celery"])
    yield app
    consumer.close()
    app.close()


@pytest.fixture
def add(app: Celery) -> Task[..., int]:
    return app.task(name="sums.add")(lambda x, y: x + y)


def broker_of(app: Celery) -> Counted:
    assert isinstance(app.broker, Counted)
    return app.broker


# -- calls


def test_a_call_is_out_when_it_has_been_awaited(app: Celery, add: Task[..., int]) -> None:
    async def main() -> AsyncResult[int]:
        result = await add.adelay(1, y=2)
        (delivery,) = claim(app)
        assert (delivery.message.id, body(delivery)[:2]) == (result.id, [[1], {"y": 2}])
        return result

    assert asyncio.run(main()).state == "PENDING"


def test_many_calls_at_once_are_all_out_each_once(any_app: Celery) -> None:
    add = any_app.task(name="sums.add")(lambda x, y: x + y)

    async def main() -> list[AsyncResult[Any]]:
        return await asyncio.gather(*(add.adelay(n, n) for n in range(MANY)))

    results = asyncio.run(main())
    with closing(any_app.broker.consumer(["celery"])) as consumer:
        deliveries = consumer.claim(2 * MANY, ANY_SIZE)
    assert [delivery.message.id for delivery in deliveries] == [result.id for result in results]
    assert [body(delivery)[0] for delivery in deliveries] == [[n, n] for n in range(MANY)]


def test_what_gathers_while_a_batch_is_on_its_way_is_the_next(
    app: Celery, add: Task[..., int]
) -> None:
    broker = broker_of(app)

    async def main() -> None:
        broker.open.clear()
        first = asyncio.create_task(add.adelay(0, 0))
        await asyncio.to_thread(eventually, lambda: broker.batches)
        rest = [asyncio.create_task(add.adelay(n, n)) for n in range(MANY)]
        await turn()
        assert broker.batches == [1]
        broker.open.set()
        await asyncio.gather(first, *rest)

    asyncio.run(main())
    assert broker.batches == [1, MOST, MOST, MANY - 2 * MOST]


def test_a_batch_is_bounded_by_its_bytes(app: Celery, add: Task[..., int]) -> None:
    broker = broker_of(app)
    third, huge = "x" * (MOST_BYTES // 3 - 1000), "x" * (MOST_BYTES + 1)

    async def main() -> None:
        broker.open.clear()
        first = asyncio.create_task(add.adelay(0, 0))
        await asyncio.to_thread(eventually, lambda: broker.batches)
        rest = [asyncio.create_task(add.adelay(text, 0)) for text in [huge] + [third] * 4 + [huge]]
        await turn()
        broker.open.set()
        await asyncio.gather(first, *rest)

    asyncio.run(main())
    assert broker.batches == [1, 1, 3, 1, 1]


def test_a_broker_that_is_away_fails_the_batch_and_not_the_next(
    app: Celery, add: Task[..., int]
) -> None:
    broker = broker_of(app)

    async def main() -> None:
        broker.sleep()
        errors = await asyncio.gather(
            *(add.adelay(n, n) for n in range(20)), return_exceptions=True
        )
        assert [type(error) for error in errors] == [OperationalError] * 20
        broker.wake_up()
        await add.adelay(1, 2)

    asyncio.run(main())
    assert len(claim(app)) == 1


def test_what_cannot_be_written_harms_nobody_else(app: Celery, add: Task[..., int]) -> None:
    async def main() -> list[Any]:
        calls = [add.adelay(1, 1), add.adelay(1, object()), add.adelay(1, 2)]
        return await asyncio.gather(*calls, return_exceptions=True)

    first, wrong, last = asyncio.run(main())
    assert isinstance(wrong, EncodeError)
    assert {delivery.message.id for delivery in claim(app)} == {first.id, last.id}


def test_a_cancelled_call_that_was_not_on_its_way_is_not_sent(
    app: Celery, add: Task[..., int]
) -> None:
    broker = broker_of(app)

    async def main() -> None:
        broker.open.clear()
        on_its_way = asyncio.create_task(add.adelay(1, 1))
        await asyncio.to_thread(eventually, lambda: broker.batches)
        waiting = asyncio.create_task(add.adelay(2, 2))
        await turn()
        for call in (on_its_way, waiting):
            call.cancel()
        await asyncio.gather(on_its_way, waiting, return_exceptions=True)
        broker.open.set()
        await add.adelay(3, 3)

    asyncio.run(main())
    assert sorted(body(delivery)[0] for delivery in claim(app)) == [[1, 1], [3, 3]]


def test_settings_that_change_between_calls_count(app: Celery, add: Task[..., int]) -> None:
    async def main() -> None:
        calls = [asyncio.create_task(add.adelay(1, 1))]
        await turn()
        app.conf.task_default_queue = "other"
        calls.append(asyncio.create_task(add.adelay(2, 2)))
        await asyncio.gather(*calls)

    asyncio.run(main())
    assert [len(claim(app, queue)) for queue in ("celery", "other")] == [1, 1]


def test_a_receiver_that_fails_a_batch_ends_nothing(app: Celery, add: Task[..., int]) -> None:
    def spoil(headers: dict[str, Any], **_: Any) -> None:
        headers["broken"] = object()

    async def main() -> None:
        signals.before_task_publish.connect(spoil)
        try:
            with pytest.raises(EncodeError, match=r'headers\["broken"\]'):
                await add.adelay(1, 1)
        finally:
            signals.before_task_publish.disconnect(spoil)
        await add.adelay(1, 2)

    asyncio.run(main())


def test_a_call_inside_a_run_belongs_to_it(app: Celery, add: Task[..., int]) -> None:
    @app.task(name="outer")
    def outer() -> str:
        return asyncio.run(add.adelay(1, 2)).id

    outcome = run_sent(app, lambda: outer.apply_async(task_id="outer run"))
    found = document(outcome)
    assert found.children == [[[found.result, None], None]]
    assert headers(claim(app)[0])["parent_id"] == "outer run"


# -- loops and threads


def test_loops_of_several_threads_share_the_two_threads(app: Celery, add: Task[..., int]) -> None:
    gate = threading.Barrier(4)
    answers: list[Any] = []

    async def main(n: int) -> None:
        result = await add.adelay(n, n)
        put(app, result.id, "SUCCESS", 2 * n)
        answers.append(await result.aget(20))

    def loop(n: int) -> None:
        gate.wait()
        asyncio.run(main(n))

    loops = [threading.Thread(target=loop, args=(n,)) for n in range(4)]
    for thread in loops:
        thread.start()
    for thread in loops:
        thread.join(20)
    assert sorted(answers) == [0, 2, 4, 6]
    assert sorted(threads()) == ["celeriac-listener", "celeriac-publisher"]


def test_one_loop_after_another_may_be_used(app: Celery, add: Task[..., int]) -> None:
    for n in range(3):
        put(app, str(n), "SUCCESS", n)
        asyncio.run(add.adelay(n, n))
        assert asyncio.run(app.AsyncResult(str(n)).aget()) == n
    assert len(claim(app)) == 3


def test_a_loop_that_was_closed_meanwhile_harms_nobody(app: Celery, add: Task[..., int]) -> None:
    broker = broker_of(app)
    broker.open.clear()
    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(add.adelay(1, 1)), loop.create_task(app.AsyncResult("one").aget())]
    loop.run_until_complete(turn())
    eventually(lambda: broker.batches and watched(app))
    loop.close()
    broker.open.set()
    put(app, "one", "SUCCESS", 1)
    put(app, "two", "SUCCESS", 2)
    assert asyncio.run(app.AsyncResult("two").aget(20)) == 2
    asyncio.run(add.adelay(2, 2))
    assert len(claim(app)) == 2
    for task in tasks:  # nobody ever hears of these; say so, or asyncio complains
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()


def test_close_fails_what_waits_and_ends_the_threads(app: Celery, add: Task[..., int]) -> None:
    broker = broker_of(app)

    async def main() -> list[Any]:
        broker.open.clear()
        waits = [asyncio.create_task(add.adelay(1, 1))]
        await asyncio.to_thread(eventually, lambda: broker.batches)
        waits.append(asyncio.create_task(add.adelay(2, 2)))
        waits.append(asyncio.create_task(app.AsyncResult("one").aget()))
        await asyncio.to_thread(eventually, lambda: watched(app))
        awaiter = app.awaiter
        assert isinstance(awaiter, Awaiter)
        publisher = awaiter._publishers[os.getpid()]
        ending = asyncio.create_task(asyncio.to_thread(app.close))
        await asyncio.to_thread(eventually, lambda: publisher.stopping)
        broker.open.set()
        answers = await asyncio.gather(*waits, return_exceptions=True)
        await ending
        return answers

    on_its_way, call, result = asyncio.run(main())
    assert isinstance(on_its_way, AsyncResult), "what is on its way arrives"
    for error in (call, result):
        assert isinstance(error, OperationalError)
        assert "the app was closed before this" in str(error)
    assert threads() == []
    app.connections._open["broker"] = broker
    assert [body(delivery)[0] for delivery in claim(app)] == [[1, 1]]


def test_after_close_there_are_new_threads(app: Celery) -> None:
    broker_of(app)
    put(app, "one", "SUCCESS", 5)
    assert asyncio.run(app.AsyncResult("one").aget()) == 5
    store = app.store
    app.close()
    assert threads() == []
    app.connections._open["store"] = store
    assert asyncio.run(app.AsyncResult("one").aget()) == 5


def test_an_app_that_never_awaits_has_no_threads(app: Celery, add: Task[..., int]) -> None:
    add.delay(1, 2)
    app.close()
    assert threads() == []


def test_threads_rest_while_there_is_nothing_to_do(app: Celery, add: Task[..., int]) -> None:
    async def main() -> None:
        result = await add.adelay(1, 2)
        put(app, result.id, "SUCCESS", 3)
        assert await result.aget() == 3
        assert rests(), "with nobody to wait for"
        wait = asyncio.create_task(app.AsyncResult("one").aget())
        await asyncio.to_thread(eventually, lambda: watched(app))
        assert rests(), "with somebody to wait for"
        wait.cancel()

    def rests() -> bool:
        used = process_time()
        threading.Event().wait(0.1)
        return process_time() - used < 0.05

    asyncio.run(main())


# -- forks


def _forks(line: Line, url: str) -> list[str]:
    """Use an awaiter in this process, fork, use it in the child; return what the child says."""
    app = Celery("proj", broker=url, backend=url)
    app.client.warned = True
    add = app.task(name="sums.add")(lambda x, y: x + y)

    async def round_trip(name: str) -> str:
        result = await add.adelay(1, 2)
        put(app, result.id, "SUCCESS", name)
        return str(await result.aget(20))

    said = [asyncio.run(round_trip("parent"))]
    out, into = os.pipe()
    if (pid := os.fork()) == 0:
        try:
            os.write(into, asyncio.run(round_trip("child")).encode())
            os.write(into, f" {len(threads())}".encode())
        finally:
            os._exit(0)
    os.close(into)
    with open(out, "rb") as pipe:
        said.append(pipe.read().decode())
    os.waitpid(pid, 0)
    said.append(asyncio.run(round_trip("parent again")))
    app.close()
    return said


def test_a_child_has_threads_of_its_own(home: Path) -> None:
    child = Child(_forks, f"sqlite:///{home}/tasks.db")
    try:
        assert child.hear() == ["parent", "child 2", "parent again"]
    finally:
        child.kill()
