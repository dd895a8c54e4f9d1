"""Configurations for tests: `APP_SETTINGS=tests.services.configs:Name`."""

from typing import Any

MODELS = "tests.services.models"
HABITS = "tests.services.habits"
LIGHT_IRIS = {"module_name": "tests.services.light_iris", "class_name": "LightIris"}

Entries = list[dict[str, Any]]


def entry(class_name: str, **settings: Any) -> dict[str, Any]:
    return {"module_name": MODELS, "class_name": class_name, **settings}


def habit(class_name: str, **settings: Any) -> dict[str, Any]:
    return {"module_name": HABITS, "class_name": class_name, **settings}


class EchoOnly:
    models: Entries = [entry("Echo")]


class SleeperOnly:
    models: Entries = [entry("Sleeper")]


class PacerOnly:
    models: Entries = [entry("Pacer")]


class GathererOnly:
    models: Entries = [entry("Gatherer")]


class CounterOnly:
    models: Entries = [entry("Counter")]


class PatientGatherer:
    models: Entries = [entry("Gatherer", batch_wait_ms=1000, max_batch_size=4)]


class GathererAhead:
    models: Entries = [entry("Gatherer", max_batch_size=2, batches_ahead=1)]


class DeadlyBatches:
    models: Entries = [entry("Deadly")]


class SleeperAndEcho:
    models: Entries = [entry("Sleeper"), entry("Echo")]


class SleeperOnce:
    models: Entries = [entry("Sleeper", retry=False)]


class ImpatientSleeper:
    models: Entries = [entry("Sleeper", timeout_s=1.0), entry("Echo")]


class ImpatientLockHolder:
    models: Entries = [entry("ForeverLockHolder", timeout_s=1.0)]


class SleeperWithSlots:
    models: Entries = [entry("Sleeper", slots=8)]


class LockHolderOnly:
    models: Entries = [entry("LockHolder")]


class Misbehaving:
    models: Entries = [entry("Misbehaver"), entry("NumpyModel"), entry("Echo")]


class MlBase:
    models: Entries = [{"module_name": "tests.services.ml_base_model", "class_name": "ColourModel"}]


class SlowLoading:
    models: Entries = [entry("SlowToLoad")]


class FailingToLoad:
    models: Entries = [entry("FailsToLoad")]


class NoModule:
    models: Entries = [{"module_name": "no_such_package.model", "class_name": "Model"}]


class EchoAndNoModule:
    models: Entries = [entry("Echo"), {"module_name": "no_such_package.model", "class_name": "Model"}]


class NoClass:
    models: Entries = [entry("Nothing")]


class NotAModel:
    models: Entries = [entry("NoModel")]


class IsAbstract:
    models: Entries = [entry("Abstract")]


class SameName:
    models: Entries = [entry("Echo"), entry("Echo")]


class BadName:
    models: Entries = [entry("BadlyNamed")]


class UnknownKey:
    models: Entries = [entry("Echo", slot=1)]


class BadSlots:
    models: Entries = [entry("Echo", slots=0)]


class OddExamples:
    models: Entries = [entry("OddExamples")]


class NoClassName:
    models: Entries = [{"module_name": MODELS}]


class NoDictionary:
    models: list[Any] = ["echo"]


class Empty:
    models: Entries = []


class LightIris:
    models: Entries = [LIGHT_IRIS]


class IrisAndBreakable:
    models: Entries = [entry("Breakable"), LIGHT_IRIS]


class Answers:
    models: Entries = [habit("RowChanger"), habit("OddReturns"), habit("Unreadable")]


class Forks:
    models: Entries = [habit("Forker"), entry("Echo")]


class ForksAndIris:
    models: Entries = [habit("Forker"), LIGHT_IRIS]


class SlowIris:
    models: Entries = [entry("SlowToLoad"), LIGHT_IRIS]


class SleeperAndIris:
    models: Entries = [entry("Sleeper"), LIGHT_IRIS]


class PatchesAndIris:
    models: Entries = [LIGHT_IRIS, habit("Patcher")]


class IrisAndFailing:
    models: Entries = [LIGHT_IRIS, entry("FailsToLoad")]


class TakesSignals:
    models: Entries = [habit("SignalTaker")]


class KeepsThreads:
    models: Entries = [habit("ThreadKeeper")]


class FailsAfterThreads:
    models: Entries = [habit("FailsAfterThread")]


class HarmlessHabits:
    models: Entries = [
        habit("ThreadLoser"),
        habit("Reader"),
        habit("Wanderer"),
        habit("Warming"),
        habit("ThreadCounter"),
        habit("Instrumented"),
        habit("OddSchemas"),
        habit("ClientKeeper"),
        habit("Asker"),
        habit("RowChanger"),
        habit("Unreadable"),
    ]


class ManyThreads:
    models: Entries = [habit("ThreadCounter", threads=3), entry("Echo", threads=2)]


class Patches:
    models: Entries = [habit("Patcher")]
