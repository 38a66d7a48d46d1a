"""awaiting.py: results that coroutines wait for."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from celeriac import Celery
from celeriac.completion import Put
from celeriac.exceptions import DecodeError, OperationalError, TimeoutError
from celeriac.results.base import task_key
from celeriac.results.memory import MemoryStore
from celeriac.wire.result import exception_document
from tests.fixtures.coroutines import put, threads, turn, watched
from tests.fixtures.messages import ANY_SIZE
from tests.fixtures.runs import body, memory_app
from tests.fixtures.waiting import eventually

MANY = 500


@pytest.fixture
def app() -> Iterator[Celery]:
    app = memory_app()
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


# -- results


def test_a_result_that_is_there_is_read(any_app: Celery) -> None:
    put(any_app, "one", "SUCCESS", 5)
    assert asyncio.run(any_app.AsyncResult("one").aget()) == 5


@pytest.mark.follows("RES-26")
def test_many_results_are_awaited_at_once(any_app: Celery) -> None:
    async def main() -> list[Any]:
        waits = [asyncio.create_task(any_app.AsyncResult(str(n)).aget(20)) for n in range(MANY)]
        await turn()
        await asyncio.to_thread(
            lambda: [put(any_app, str(n), "STARTED") for n in range(0, MANY, 9)]
        )
        await asyncio.to_thread(lambda: [put(any_app, str(n), "SUCCESS", n) for n in range(MANY)])
        return await asyncio.gather(*waits)

    assert asyncio.run(main()) == list(range(MANY))
    assert threads().count("celeriac-listener") == 1


def test_calls_and_results_go_round(any_app: Celery) -> None:
    add = any_app.task(name="sums.add")(lambda x, y: x + y)

    async def main() -> list[Any]:
        async def one(n: int) -> Any:
            result = await add.adelay(n, n)
            return await result.aget(20)

        waits = [asyncio.create_task(one(n)) for n in range(100)]
        consumer = any_app.broker.consumer(["celery"])
        done = 0
        while done < 100:
            for delivery in await asyncio.to_thread(consumer.claim, 100, ANY_SIZE):
                x, y = body(delivery)[0]
                await asyncio.to_thread(put, any_app, delivery.message.id, "SUCCESS", x + y)
                done += 1
        answers = await asyncio.gather(*waits)
        consumer.close()
        return answers

    assert asyncio.run(main()) == [2 * n for n in range(100)]


def test_a_failure_is_raised_as_get_raises_it(app: Celery) -> None:
    put(app, "one", "FAILURE", exception_document(KeyError("k")))
    with pytest.raises(KeyError, match="k"):
        asyncio.run(app.AsyncResult("one").aget())
    assert isinstance(asyncio.run(app.AsyncResult("one").aget(propagate=False)), KeyError)


def test_several_coroutines_may_wait_for_one_result(any_app: Celery) -> None:
    async def main() -> list[Any]:
        waits = [asyncio.create_task(any_app.AsyncResult("one").aget(20)) for _ in range(5)]
        await turn()
        put(any_app, "one", "SUCCESS", 5)
        return await asyncio.gather(*waits)

    assert asyncio.run(main()) == [5] * 5


def test_only_a_final_state_ends_the_wait(app: Celery) -> None:
    async def main() -> None:
        wait = asyncio.create_task(app.AsyncResult("one").aget(20))
        for state in ("STARTED", "RETRY", "PROGRESS"):
            put(app, "one", state)
            await turn()
        assert not wait.done()
        put(app, "one", "SUCCESS", 5)
        assert await wait == 5

    asyncio.run(main())


def test_waiting_ends_with_its_time(any_app: Celery) -> None:
    async def main() -> None:
        before = monotonic()
        with pytest.raises(
            TimeoutError, match=r"task one has no result after 0\.05 s; is a worker"
        ):
            await any_app.AsyncResult("one").aget(timeout=0.05)
        assert monotonic() - before >= 0.05

    asyncio.run(main())


@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_is_one_look(timeout: float, any_app: Celery) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            await any_app.AsyncResult("one").aget(timeout)
        patient = asyncio.create_task(any_app.AsyncResult("one").aget(20))
        await turn()
        with pytest.raises(TimeoutError):
            await any_app.AsyncResult("one").aget(timeout)
        put(any_app, "one", "SUCCESS", 5)
        assert await any_app.AsyncResult("one").aget(timeout) == 5
        assert await patient == 5

    asyncio.run(main())


@pytest.mark.follows("RES-26")
def test_a_cancelled_wait_is_forgotten(any_app: Celery) -> None:
    async def main() -> None:
        results = [any_app.AsyncResult(id_) for id_ in ("one", "one", "two")]
        waits = [asyncio.create_task(result.aget(20)) for result in results]
        await asyncio.to_thread(eventually, lambda: len(watched(any_app)) == 2)
        waits[0].cancel()
        waits[2].cancel()
        await asyncio.gather(waits[0], waits[2], return_exceptions=True)
        await asyncio.to_thread(eventually, lambda: watched(any_app) == {task_key("one")})
        put(any_app, "one", "SUCCESS", 5)
        assert await waits[1] == 5
        await asyncio.to_thread(eventually, lambda: not watched(any_app))

    asyncio.run(main())


def test_a_wait_from_outside_may_be_timed(app: Celery) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError) as caught:
            async with asyncio.timeout(0.01):
                await app.AsyncResult("one").aget(20)
        assert not isinstance(caught.value, TimeoutError), "it is not ours"

    asyncio.run(main())


def test_a_document_that_cannot_be_read_fails_its_wait_only(app: Celery) -> None:
    assert app.store is not None
    app.store.put([Put(task_key("broken"), b"no json", None, "SUCCESS")])
    put(app, "one", "SUCCESS", 5)

    async def main() -> list[Any]:
        waits = [app.AsyncResult(id_).aget(20) for id_ in ("broken", "one")]
        return await asyncio.gather(*waits, return_exceptions=True)

    broken, good = asyncio.run(main())
    assert isinstance(broken, DecodeError)
    assert good == 5


def test_a_store_that_is_away_fails_those_who_wait_and_not_the_next(app: Celery) -> None:
    store = app.store
    assert isinstance(store, MemoryStore)

    async def main() -> None:
        waits = [asyncio.create_task(app.AsyncResult(str(n)).aget(20)) for n in range(5)]
        await asyncio.to_thread(eventually, lambda: len(watched(app)) == 5)
        store.sleep()
        errors = await asyncio.gather(*waits, return_exceptions=True)
        assert [type(error) for error in errors] == [OperationalError] * 5
        with pytest.raises(OperationalError):
            await app.AsyncResult("0").aget(20)
        store.wake_up()
        put(app, "0", "SUCCESS", 5)
        assert await app.AsyncResult("0").aget(20) == 5

    asyncio.run(main())
