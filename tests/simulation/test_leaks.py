"""Nothing in the core grows with what has been: calls, connections, workers."""

import gc
import types

import pytest

from tests.simulation.network import Network

CALLS = 200_000
CONNECTIONS = 20_000
RESTARTS = 1_000
ROUNDS = 4


@pytest.mark.timeout(400)
def test_no_table_grows_with_calls_connections_and_restarts() -> None:
    network = Network(seed=1, clients=8, workers=4)
    seconds = 125.0
    sizes = []
    for _ in range(ROUNDS):
        for _ in range(int(seconds)):
            for _ in range(CONNECTIONS // ROUNDS // int(seconds)):
                network.agenda.chance.choice(network.clients).vanish()
            for _ in range(RESTARTS // ROUNDS // int(seconds)):
                network.agenda.chance.choice(network.workers).kill(0.1)
            network.run(1.0, calls_a_second=CALLS / ROUNDS / seconds, faults_a_second=0)
        network.heal()
        sizes.append(_objects_of(network.broker.core))
    assert network.calls > 0.97 * CALLS
    assert sum(worker.starts for worker in network.workers) > 0.9 * RESTARTS
    assert max(sizes[1:]) <= sizes[0] + 100, sizes


def _objects_of(root: object) -> int:
    """How many objects can be reached from that one."""
    seen = {id(root)}
    found = [root]
    while found:
        for one in gc.get_referents(found.pop()):
            if id(one) not in seen and not isinstance(one, type | types.ModuleType | types.FunctionType):
                seen.add(id(one))
                found.append(one)
    return len(seen)
