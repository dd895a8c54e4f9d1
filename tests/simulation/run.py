"""Long simulated worlds from seeds: `make simulate SEEDS=100 STEPS=5000`. A seed that fails, fails again.

Each seed makes two worlds: one where one thing happens at a time (`simulation`), and one where everything is under way
at once (`network`).
"""

import argparse
import random
from collections.abc import Callable

from tests.simulation.network import Network
from tests.simulation.simulation import VERSIONS, Simulation

SECONDS_A_STEP = 0.125
"""How much time passes in the second world for each step of the first: both take about as long to compute."""


def run(seed: int, steps: int) -> Simulation:
    """Run one world, and heal it at the end."""
    chance = random.Random(seed)
    simulation = Simulation()

    def which() -> int:
        return chance.randrange(100)

    def client() -> int:
        return chance.randrange(4)

    def call() -> None:
        timeout_s = chance.choice([None, None, 0.5, 5.0])
        version = chance.choice([None, None, None, *VERSIONS])
        simulation.call(client(), chance.randrange(3), timeout_s, is_stream=chance.random() < 0.3, version=version)

    def join() -> None:
        versions = chance.choice([VERSIONS[:1], VERSIONS[1:], VERSIONS])
        simulation.join(chance.randrange(1, 4), chance.randrange(3), chance.randrange(1, 5), versions)

    actions: list[tuple[int, Callable[[], None]]] = [
        (30, call),
        (30, lambda: simulation.answer(which(), chance.choice([0, 0, 0, 1, 2, 2, 3]))),
        (8, lambda: simulation.more(which(), chance.randrange(4))),
        (5, lambda: simulation.send_heartbeat(which())),
        (2, lambda: simulation.noise(client(), chance.randbytes(4))),
        (2, lambda: simulation.answer_again(which())),
        (3, lambda: simulation.lose_worker(which())),
        (2, lambda: simulation.thaw_worker(which())),
        (1, lambda: simulation.drain_worker(which())),
        (2, lambda: simulation.lose_client(client())),
        (5, join),
        (2, lambda: simulation.join_server(chance.randrange(3))),
        (2, lambda: simulation.block_server(which())),
        (1, lambda: simulation.drop_conversation(which())),
        (1, lambda: simulation.overflow(which())),
        (1, lambda: simulation.route(chance.randrange(2), (chance.randrange(3), chance.randrange(3)))),
        (2, lambda: simulation.load(chance.randrange(2), chance.randrange(2))),
        (1, lambda: simulation.unload(chance.randrange(2), chance.randrange(2))),
        (10, lambda: simulation.carry_out(which(), can_load=chance.random() < 0.7, less_room=chance.randrange(3))),
        (10, lambda: simulation.wait(chance.choice([0.1, 0.5, 2.0, 12.0]))),
    ]
    actions.append((5, lambda: simulation.hold_up(chance.choice([0.1, 0.4, 1.0]))))
    weights = [weight for weight, _ in actions]
    simulation.join(2, 2)
    for _ in range(steps):
        chance.choices(actions, weights)[0][1]()
    simulation.heal()
    return simulation


def run_network(seed: int, seconds: float) -> Network:
    """Run one network, and heal it at the end."""
    network = Network(seed)
    network.run(seconds)
    network.heal()
    return network


def main() -> None:
    """Run many worlds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how many worlds (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=2000, help="steps in each (default: %(default)s)")
    options = parser.parse_args()
    for seed in range(options.first, options.first + options.seeds):
        simulation = run(seed, options.steps)
        simulated_s = simulation.world.now_s - 1000.0
        print(f"seed {seed}: {len(simulation.calls)} calls in {simulated_s:,.0f} simulated seconds", flush=True)  # noqa: T201
        network = run_network(seed, options.steps * SECONDS_A_STEP)
        ended = f"{network.answered} of {network.calls} calls were answered, the others had lost their client or broker"
        print(f"seed {seed}: in the network {ended}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
