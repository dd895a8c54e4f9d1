"""Nothing in the core grows with the number of past calls, connections and worker starts."""

import gc
import types
from typing import Any

import pytest

from broker.core.state.registry import Registry
from tests.simulation.network import Network

ROUNDS = 4
ROUND_S = 10
CALLS_A_SECOND = 200
CONNECTIONS_A_SECOND = 20
RESTARTS_A_SECOND = 5

SPARE_REFERENCES = 10
"""How far the counts of two rounds may differ: far less than one reference for each restart of a round."""


def sizes_after_rounds(rounds: int, seed: int = 1) -> list[int]:
    """How much the core refers to after each of several equal stretches of calls, new connections and restarts."""
    network = Network(seed, clients=8, workers=8)
    sizes = []
    for _ in range(rounds):
        calls, starts = network.calls, starts_of(network)
        for _ in range(ROUND_S):
            for _ in range(CONNECTIONS_A_SECOND):
                network.agenda.chance.choice(network.clients).vanish()
            for worker in network.agenda.chance.sample(network.workers, RESTARTS_A_SECOND):
                worker.kill(0.1)
            network.run(1.0, calls_a_second=CALLS_A_SECOND, faults_a_second=0)
        network.heal()
        sizes.append(references_in(network.broker.core))
        assert network.calls - calls > 0.9 * CALLS_A_SECOND * ROUND_S
        assert starts_of(network) - starts > 4 * SPARE_REFERENCES
    return sizes


def starts_of(network: Network) -> int:
    return sum(worker.starts for worker in network.workers)


def references_in(root: object) -> int:
    """How many references the objects hold that can be reached from this one.

    The number of objects would not do: Python makes new objects for large numbers only, so it depends on values.
    """
    seen = {id(root)}
    found = [root]
    references = 0
    while found:
        referents = gc.get_referents(found.pop())
        references += len(referents)
        for one in referents:
            if id(one) not in seen and not isinstance(one, type | types.ModuleType | types.FunctionType):
                seen.add(id(one))
                found.append(one)
    return references


def grows(sizes: list[int]) -> bool:
    """Whether every later round ends with more than the first, in which the tables of counters are made.

    One round alone may end with a few references more, such as those of a worker that has yet to be forgotten.
    """
    return min(sizes[1:]) - sizes[0] > SPARE_REFERENCES


def test_no_table_grows_with_calls_connections_and_restarts() -> None:
    sizes = sizes_after_rounds(ROUNDS)
    assert not grows(sizes), sizes


@pytest.mark.replaces_methods
def test_one_number_kept_for_each_restart_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    add = Registry.add

    def leak(registry: Any, *args: Any) -> Any:
        registry.__dict__.setdefault("leaked", []).append(0)
        return add(registry, *args)

    monkeypatch.setattr(Registry, "add", leak)
    sizes = sizes_after_rounds(2)
    assert grows(sizes), sizes
