"""What only `AsyncClient` promises: tasks, cancellation, and its event loop."""

import asyncio
import gc
import time
from collections.abc import AsyncIterator, Callable, Iterator

import pytest
from zerorpc_cluster import AsyncClient, ClientClosedError

from tests.processes import Cluster, cluster, wait_until


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("made"), "SleeperAndEcho") as cluster_of_one:
        yield cluster_of_one


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait in a thread, so that the event loop goes on."""
    await asyncio.to_thread(wait_until, condition, 5.0, what)


def test_a_thousand_tasks_share_one_client(made: Cluster) -> None:
    async def main() -> None:
        async with AsyncClient(made.frontend) as client:
            answers = await asyncio.gather(*(client.echo_predict(i) for i in range(1000)))
            assert answers == list(range(1000))

    asyncio.run(main())


def test_a_cancelled_task_ends_its_call_at_the_server(made: Cluster) -> None:
    async def main() -> None:
        async with AsyncClient(made.frontend) as client:
            task = asyncio.ensure_future(client.sleeper_predict(1.0))
            await until(lambda: made.in_flight() == 1, "the call runs")
            waiting = asyncio.ensure_future(client.sleeper_predict(30))
            await until(lambda: made.open_calls() == 2, "another waits")
            for one in (task, waiting):
                one.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await one
            assert await client.sleeper_predict(0) > 0
            await until(lambda: made.open_calls() == 0, "the broker has no call open")

    asyncio.run(main())


def test_a_time_limit_of_asyncio_works(made: Cluster) -> None:
    async def main() -> None:
        async with AsyncClient(made.frontend) as client:
            started_s = time.monotonic()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.sleeper_predict(1.0)
            assert time.monotonic() - started_s < 0.9
            assert await client.sleeper_predict(0) > 0

    asyncio.run(main())


def test_a_stream_that_is_dropped_is_cancelled(made: Cluster) -> None:
    async def main() -> None:
        async with AsyncClient(made.frontend) as client:
            async for item in client.stream("echo_predict_stream", [7] * 100_000):
                assert item == 7
                break
            gc.collect()
            await until(lambda: made.open_calls() == 0, "the broker has no call open")

    asyncio.run(main())


def test_rows_may_come_from_an_asynchronous_iterator(made: Cluster) -> None:
    async def rows() -> AsyncIterator[int]:
        for i in range(250):
            await asyncio.sleep(0)
            yield i

    async def main() -> None:
        async with AsyncClient(made.frontend) as client:
            outputs = [output async for output in client.map("echo_predict_batch", rows(), chunk_rows=40)]
            assert outputs == list(range(250))

    asyncio.run(main())


def test_a_client_belongs_to_one_event_loop_and_says_so(made: Cluster) -> None:
    client = AsyncClient(made.frontend)

    async def call() -> object:
        return await client.echo_predict(1)

    async def close() -> None:
        await client.close()

    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(call()) == 1
        with pytest.raises(RuntimeError, match="belongs to the event loop of its first call"):
            second.run(call())
        assert first.run(call()) == 1
        first.run(close())
        with pytest.raises(ClientClosedError):
            first.run(call())


def test_the_event_loop_goes_on_while_a_host_name_is_looked_up() -> None:
    async def main() -> None:
        async with AsyncClient("tcp://no-such-host.invalid:4242") as client:
            task = asyncio.ensure_future(client.call("anything", timeout_s=1.0))
            longest_s, last_s = 0.0, time.monotonic()
            while not task.done():
                await asyncio.sleep(0.01)
                longest_s, last_s = max(longest_s, time.monotonic() - last_s), time.monotonic()
            assert longest_s < 0.5
            with pytest.raises(TimeoutError, match="was not sent"):
                await task

    asyncio.run(main())
