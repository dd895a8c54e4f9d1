"""Over how many workers waiting calls are divided, by what their batches have taken."""

import random
from collections.abc import Callable
from functools import partial

import pytest

from broker.core.state.run_times import RunTimes
from tests.unit.test_loop import W1, W2, A, Bench, bench

__all__ = ["bench"]

SIZES = (1, 3, 8, 16, 40)


def learned(model: Callable[[int], float], noise: float = 0.2) -> RunTimes:
    """What is learned of a model from batches of several sizes. `model` returns the seconds of a batch."""
    times, chance = RunTimes(), random.Random(1)
    for _ in range(50):
        for size in SIZES:
            times.observe(size, model(size) * chance.uniform(1 - noise, 1 + noise))
    return times


def constant(fixed_s: float, calls: int) -> float:
    return fixed_s * (1 + 0.005 * calls)


def test_batches_that_take_the_same_time_whatever_their_size_stay_whole() -> None:
    for fixed_s in (0.0001, 0.005, 0.5):
        times = learned(partial(constant, fixed_s))
        for calls in (2, 16, 64):
            assert times.parts(calls, workers=8) == 1


def test_calls_of_a_model_that_works_row_by_row_are_divided_over_all_idle_workers() -> None:
    times = learned(lambda calls: 0.0002 + 0.001 * calls)
    assert times.parts(16, workers=2) == 2
    assert times.parts(16, workers=4) == 4
    assert times.parts(2, workers=4) == 2
    assert times.parts(3, workers=1) == 1


def test_between_the_two_a_batch_is_divided_only_if_it_is_large() -> None:
    times = learned(lambda calls: 0.001 + 0.0001 * calls, noise=0.05)
    assert [times.parts(calls, workers=8) for calls in (4, 16, 64, 640)] == [1, 1, 2, 6]


def test_what_one_size_has_taught_outlasts_many_batches_of_another() -> None:
    times = learned(lambda calls: 0.0002 + 0.001 * calls)
    for _ in range(1000):
        times.observe(8, 0.0082)
    assert times.parts(16, workers=2) == 2


def test_a_model_that_becomes_faster_is_learned_again() -> None:
    times = learned(lambda calls: 0.0002 + 0.001 * calls)
    for _ in range(100):
        for size in SIZES:
            times.observe(size, 0.001)
    assert times.parts(16, workers=2) == 1


def test_one_slow_batch_says_little() -> None:
    times = RunTimes()
    times.observe(1, 2.0)  # the first call warms the model up
    for _ in range(30):
        times.observe(1, 0.0012)
        times.observe(16, 0.0162)
    times.observe(16, 300.0)
    assert times.parts(16, workers=2) == 2


def test_a_size_that_does_not_occur_any_more_is_forgotten() -> None:
    times = RunTimes()
    times.observe(1, 2.0)
    for _ in range(1001):
        times.observe(16, 0.0162)
    assert times.parts(16, workers=4) == 2, "to learn another size"
    times.observe(8, 0.0082)
    assert times.parts(16, workers=4) == 4


def test_while_one_size_is_known_calls_are_divided_to_learn_another() -> None:
    times = RunTimes()
    assert times.parts(16, workers=4) == 2
    times.observe(8, 0.001)
    assert times.parts(16, workers=4) == 2
    assert times.parts(1, workers=4) == 1


def test_the_parts_of_a_division_are_equal(bench: Bench) -> None:
    for number in range(4):
        bench.join(b"w%d" % number, max_batch_size=64)
    bench.turn()
    for number in range(8):
        bench.call(A, b"%d" % number)
    bench.turn()
    in_flight = [worker.in_flight for worker in bench.core.registry.workers.values()]
    assert sorted(in_flight) == [0, 0, 4, 4], "nothing is known yet, so the calls are divided in two"


def test_only_idle_workers_count(bench: Bench) -> None:
    bench.join(W1, max_batch_size=64, slots=1)
    bench.join(W2, max_batch_size=64, slots=2)
    bench.turn()
    (pool,) = (pool for pool in bench.core.registry.workers[W1].replicas if not pool.is_for_streams)
    small, large = pool.replicas
    pool.change_free(large, -1)  # it has as much free capacity as the other, and is not idle
    assert (pool.idle_beside(small), pool.idle_beside(large)) == (1, 0)


@pytest.mark.parametrize(("each_s", "given"), [(0.001, [4, 4]), (0.0, [0, 8])])
def test_the_broker_divides_what_arrives_together(bench: Bench, each_s: float, given: list[int]) -> None:
    for worker in (W1, W2):
        bench.join(worker, max_batch_size=64)
    bench.turn()
    workers = [bench.core.registry.workers[worker] for worker in (W1, W2)]
    (pool,) = (pool for pool in workers[0].replicas if not pool.is_for_streams)
    for size in SIZES:
        pool.run_times.observe(size, 0.0002 + each_s * size)
    for number in range(8):
        bench.call(A, b"%d" % number)
    bench.turn()
    assert sorted(worker.in_flight for worker in workers) == given


def test_the_broker_learns_from_batches_whose_worker_had_nothing_else_to_do(bench: Bench) -> None:
    bench.join(W1, max_batch_size=64, batches_ahead=1)
    for calls, took_s in ((1, 0.011), (4, 0.014)):
        for number in range(calls):
            bench.call(A, b"%d" % number)
        bench.turn()
        bench.call(A, b"ahead")  # its batch waits at the worker, so that its time says nothing
        bench.turn()
        bench.now_s += took_s
        bench.answer(W1)
        bench.turn()
    (pool,) = (pool for pool in bench.core.registry.workers[W1].replicas if not pool.is_for_streams)
    fixed_s, each_s = pool.run_times.fit()
    assert fixed_s == pytest.approx(0.01)
    assert each_s == pytest.approx(0.001)
