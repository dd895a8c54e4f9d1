"""Small worlds that hypothesis makes up and shrinks, and long worlds from seeds."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from cluster.wire.protocol import Version
from tests.simulation.run import run, run_network
from tests.simulation.simulation import VERSIONS, Simulation

EXAMPLES = 100
EXAMPLE_STEPS = 40
SEEDS = 20
STEPS = 1000
SECONDS = 100

WHICH = st.integers(0, 5)
CLIENT = st.integers(0, 3)
MODEL = st.integers(0, 1)
SOME_VERSIONS = st.sampled_from([VERSIONS[:1], VERSIONS[1:], VERSIONS])


class World(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.simulation = Simulation()
        self.simulation.join(1, 2)

    @rule(slots=st.integers(1, 3), which=st.integers(0, 2), batch=st.integers(1, 4), versions=SOME_VERSIONS)
    def join(self, slots: int, which: int, batch: int, versions: tuple[Version, ...]) -> None:
        self.simulation.join(slots, which, batch, versions)

    @rule(which=st.integers(0, 2))
    def join_server(self, which: int) -> None:
        self.simulation.join_server(which)

    @rule(which=WHICH)
    def block_server(self, which: int) -> None:
        self.simulation.block_server(which)

    @rule(which=WHICH)
    def overflow(self, which: int) -> None:
        self.simulation.overflow(which)

    @rule(which=WHICH)
    def drop_conversation(self, which: int) -> None:
        self.simulation.drop_conversation(which)

    @rule(model=MODEL, weights=st.tuples(st.integers(0, 2), st.integers(0, 2)))
    def route(self, model: int, weights: tuple[int, int]) -> None:
        self.simulation.route(model, weights)

    @rule(model=MODEL, version=MODEL)
    def load(self, model: int, version: int) -> None:
        self.simulation.load(model, version)

    @rule(model=MODEL, version=MODEL)
    def unload(self, model: int, version: int) -> None:
        self.simulation.unload(model, version)

    @rule(which=WHICH, can_load=st.booleans(), less_room=st.integers(0, 2))
    def carry_out(self, which: int, *, can_load: bool, less_room: int) -> None:
        self.simulation.carry_out(which, can_load=can_load, less_room=less_room)

    @rule(
        client=CLIENT,
        model=st.integers(0, 2),
        timeout_s=st.none() | st.sampled_from([0.5, 3.0, 30.0]),
        is_stream=st.booleans(),
        version=st.none() | st.sampled_from(VERSIONS),
    )
    def call(
        self, client: int, model: int, timeout_s: float | None, *, is_stream: bool, version: Version | None
    ) -> None:
        self.simulation.call(client, model, timeout_s, is_stream=is_stream, version=version)

    @rule(which=WHICH, slots=st.integers(0, 3))
    def more(self, which: int, slots: int) -> None:
        self.simulation.more(which, slots)

    @rule(which=WHICH)
    def send_heartbeat(self, which: int) -> None:
        self.simulation.send_heartbeat(which)

    @rule(client=CLIENT, payload=st.binary(max_size=5))
    def noise(self, client: int, payload: bytes) -> None:
        self.simulation.noise(client, payload)

    @rule(which=WHICH, name=st.integers(0, 3))
    def answer(self, which: int, name: int) -> None:
        self.simulation.answer(which, name)

    @rule(which=WHICH)
    def answer_again(self, which: int) -> None:
        self.simulation.answer_again(which)

    @rule(which=WHICH)
    def lose_worker(self, which: int) -> None:
        self.simulation.lose_worker(which)

    @rule(which=WHICH)
    def thaw_worker(self, which: int) -> None:
        self.simulation.thaw_worker(which)

    @rule(which=WHICH)
    def drain_worker(self, which: int) -> None:
        self.simulation.drain_worker(which)

    @rule(client=CLIENT)
    def lose_client(self, client: int) -> None:
        self.simulation.lose_client(client)

    @rule(seconds=st.sampled_from([0.1, 1.0, 5.0, 15.0]))
    def wait(self, seconds: float) -> None:
        self.simulation.wait(seconds)

    @rule(seconds=st.sampled_from([0.1, 1.0]))
    def hold_up(self, seconds: float) -> None:
        self.simulation.hold_up(seconds)

    def teardown(self) -> None:
        self.simulation.heal()


World.TestCase.settings = settings(max_examples=EXAMPLES, stateful_step_count=EXAMPLE_STEPS, deadline=None)
TestSmallWorlds = World.TestCase


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_network_where_everything_happens_at_once(seed: int) -> None:
    network = run_network(seed, SECONDS)
    assert network.answered > 500


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_long_world(seed: int) -> None:
    run(seed, STEPS)
