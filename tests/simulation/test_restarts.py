"""What `list` shows is what a restart brings, whatever administrators and authors of models have done before."""

import random
from typing import Any

import msgpack
import pytest

from broker.core.core import Core
from broker.core.state.plan import DeploymentPlan
from cluster.wire import protocol
from cluster.wire.descriptions import write_description
from cluster.wire.protocol import ModelDescription, ModelKey, Version
from tests.unit.world import LIMITS, MAX_MESSAGE_BYTES, World, describe_model

CONFIGURED, OTHER = "wine", "beer"
MODELS = (CONFIGURED, OTHER)
VERSIONS = (Version(0, 1), Version(0, 2))
WORKERS = (b"w1", b"w2")


class Site:
    """A broker, two workers that host `wine` by their configuration, and the code of two models on the disk."""

    def __init__(self) -> None:
        self.on_disk = dict.fromkeys(MODELS, VERSIONS[0])
        self.hosted: dict[bytes, dict[ModelKey, ModelDescription]] = {}
        self.configured: dict[bytes, set[ModelKey]] = {}
        self._plan: DeploymentPlan | None = None
        self._starts = 0
        self.world = World()
        self.start_workers()

    # -- what can happen

    def change_code(self, model: str, version: Version) -> None:
        self.on_disk[model] = version

    def ask(self, procedure: str, *args: Any) -> None:
        """An administrator asks for something, which may be refused."""
        self.world.ask(procedure, *args)
        self._carry_out()

    def start_workers(self) -> None:
        """Every worker is started, or started again."""
        self._starts += 1
        for name in WORKERS:
            identity = b"%s-%d" % (name, self._starts)
            for old in [one for one in self.hosted if one.startswith(name)]:
                self.world.from_worker(old, protocol.BYE)
                del self.hosted[old]
            model = self._describe(CONFIGURED, is_configured=True)
            self.hosted[identity], self.configured[identity] = {model.key: model}, {model.key}
            self.world.join_with(identity, model)
            self._carry_out()

    def start_broker(self) -> None:
        """Another broker, with what the first one has saved, and the workers started again."""
        plan = self.world.core.deployment.take_plan()
        self._plan = plan or self._plan
        saved = self._plan or DeploymentPlan()
        self.hosted.clear()
        self.world = World(core=Core(max_message_bytes=MAX_MESSAGE_BYTES, limits=LIMITS, plan=saved))
        self.start_workers()

    # -- how it happens

    def _describe(self, model: str, *, is_configured: bool) -> ModelDescription:
        entry = {"module_name": model, "class_name": model.title()}
        return describe_model(model, self.on_disk[model], entry=entry, is_configured=is_configured)

    def _carry_out(self) -> None:
        """The workers do what they were ordered to; the broker goes on after each answer."""
        for _ in range(100):
            orders = [(to, frames) for to, frames in self.world.to_workers if to in self.hosted]
            self.world.to_workers.clear()
            if not any(frames[0] in (protocol.LOAD, protocol.UNLOAD) for _, frames in orders):
                return
            for identity, (kind, *rest) in orders:
                if kind == protocol.UNLOAD:
                    key = rest[1].decode(), Version.read(rest[2].decode())
                    self.hosted[identity].pop(key, None)
                    self.world.from_worker(identity, protocol.UNLOADED, rest[0])
                elif kind == protocol.LOAD:
                    self._load(identity, rest[0], msgpack.unpackb(rest[1])["module_name"])
            self.world.pass_time(0.5)
            self.world.admin_replies()
        raise AssertionError("the workers get orders for ever")

    def _load(self, identity: bytes, number: bytes, model: str) -> None:
        made = self._describe(model, is_configured=False)
        if made.key in self.configured[identity]:
            made = self._describe(model, is_configured=True)
        self.hosted[identity][made.key] = made
        self.world.from_worker(identity, protocol.LOADED, number, write_description(made))

    # -- what is seen

    def listed(self) -> dict[tuple[str, str], tuple[str, float, int]]:
        """State, share and number of workers of each version that `list` shows, but for those that nobody has."""
        (reply,) = self.world.ask("list_models")
        return {
            (row["model"], row["version"]): (row["state"], row["share"], len(row["workers"]))
            for row in reply.args[0]
            if row["state"] != "no worker"
        }


def do_something(site: Site, chance: random.Random, *, may_change_code: bool) -> str:
    model, version = chance.choice(MODELS), chance.choice(VERSIONS)
    what = chance.choice(["load", "reload", "unload", "unload", "route", *["code"] * may_change_code])
    if what == "code":
        site.change_code(model, version)
    elif what == "load":
        site.ask("load_model", {"module_name": model, "class_name": model.title()}, [])
    elif what == "reload":
        site.ask("reload_model", model, chance.choice(["", str(version)]))
    elif what == "unload":
        site.ask("unload_model", model, str(version))
    else:
        site.ask("route_model", model, {str(version): 1})
    return f"{what} {model} {version}"


def assert_restarts_change_nothing(site: Site, done: list[str]) -> None:
    before = site.listed()
    site.start_workers()
    assert site.listed() == before, done
    site.start_broker()
    assert site.listed() == before, done


@pytest.mark.parametrize("seed", range(300))
def test_a_restart_brings_what_is_listed(seed: int) -> None:
    chance = random.Random(seed)
    site = Site()
    done = [do_something(site, chance, may_change_code=True) for _ in range(chance.randint(1, 8))]
    site.start_workers()  # the code of today, from now on
    for _ in range(3):
        assert_restarts_change_nothing(site, done)
        done.append(do_something(site, chance, may_change_code=False))
    assert_restarts_change_nothing(site, done)


def test_a_version_whose_code_came_back_is_no_longer_unloaded() -> None:
    """The story of the page: reload to 0.2, unload 0.1, put the code of 0.1 back, restart, unload 0.2, restart."""
    site = Site()
    site.change_code(CONFIGURED, VERSIONS[1])
    site.ask("reload_model", CONFIGURED, "")
    site.ask("route_model", CONFIGURED, {"0.2": 1})
    site.ask("unload_model", CONFIGURED, "0.1")
    assert site.listed() == {("wine", "0.1"): ("unloaded", 0.0, 0), ("wine", "0.2"): ("ready", 100.0, 2)}
    site.change_code(CONFIGURED, VERSIONS[0])
    site.start_broker()
    assert site.listed() == {("wine", "0.1"): ("ready", 100.0, 2)}
    site.ask("unload_model", CONFIGURED, "0.2")
    site.start_workers()
    assert site.listed() == {("wine", "0.1"): ("ready", 100.0, 2)}
