"""Makes calls with one kind of client, as a program that uses the client would, and prints what that took.

python client_load.py stock|threads|asyncio ADDRESS IN_FLIGHT SECONDS
"""

import json
import sys
import time

FLOWER = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
EXPECTED = {"species": "setosa"}

WARM_UP_S = 0.5


class Count:
    """The correct answers of the measured time, and when it begins and ends."""

    def __init__(self, seconds: float) -> None:
        self.calls = 0
        self._begin_s = time.perf_counter() + WARM_UP_S
        self._end_s = self._begin_s + seconds
        self._cpu_s = 0.0
        self._seconds = seconds

    def goes_on(self, answer: object) -> bool:
        """Count an answer; return whether to make another call."""
        if answer != EXPECTED:
            sys.exit(f"error: the service answered {answer!r}")
        now_s = time.perf_counter()
        if now_s < self._begin_s:
            return True
        if not self.calls:
            self._cpu_s = time.process_time()
        self.calls += 1
        return now_s < self._end_s

    def result(self) -> dict[str, float]:
        """Return the calls per second, and the CPU time of this process for one call in microseconds."""
        cpu_us = (time.process_time() - self._cpu_s) / self.calls * 1e6
        return {"calls_a_second": self.calls / self._seconds, "cpu_us": cpu_us}


def run_stock(address: str, in_flight: int, count: Count) -> None:
    """One stock client, and a greenlet for each call in flight."""
    import gevent
    import zerorpc

    client = zerorpc.Client(address)

    def work() -> None:
        while count.goes_on(client.iris_model_predict(FLOWER)):
            pass

    gevent.joinall([gevent.spawn(work) for _ in range(in_flight)], raise_error=True)


def run_threads(address: str, in_flight: int, count: Count) -> None:
    """One `Client`, and a thread for each call in flight."""
    from concurrent.futures import ThreadPoolExecutor

    from zerorpc_cluster import Client

    with Client(address) as client, ThreadPoolExecutor(in_flight) as pool:

        def work() -> None:
            while count.goes_on(client.iris_model_predict(FLOWER)):
                pass

        for done in [pool.submit(work) for _ in range(in_flight)]:
            done.result()


def run_asyncio(address: str, in_flight: int, count: Count) -> None:
    """One `AsyncClient`, and a task for each call in flight."""
    import asyncio

    from zerorpc_cluster import AsyncClient

    async def main() -> None:
        async with AsyncClient(address) as client:

            async def work() -> None:
                while count.goes_on(await client.iris_model_predict(FLOWER)):
                    pass

            await asyncio.gather(*(work() for _ in range(in_flight)))

    asyncio.run(main())


def main() -> None:
    """Make the calls."""
    kind, address, in_flight, seconds = sys.argv[1:]
    count = Count(float(seconds))
    {"stock": run_stock, "threads": run_threads, "asyncio": run_asyncio}[kind](address, int(in_flight), count)
    print(json.dumps(count.result()))


if __name__ == "__main__":
    main()
