"""Models on the move: loading and unloading them on workers that run, and what of that outlives a process. Pure state.

A change is carried out on one worker first, and only then on the others: what cannot be loaded, or ends the process
that tries, has met one worker only. There is one change at a time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from broker.introspection import CallError
from broker.model import Route
from cluster import events, protocol
from cluster.protocol import ModelDescription, ModelKey, Version, source_of

if TYPE_CHECKING:
    from broker.catalogue import Catalogue
    from broker.dispatch import Dispatcher
    from broker.outbox import Outbox
    from broker.service import Hosting, Worker

MOST_DEATHS = 3
"""A model in the loading of which so many workers died, one after the other, is loaded on no further one by itself."""

MAX_WEIGHT = 1_000_000

Answer = Callable[[object], None]
"""Takes the result of a change, or the `CallError` that it ended with."""


@dataclass(slots=True)
class Placed:
    """A model that was loaded.

    Attributes:
        entry: what it is loaded from, as a configuration has it.
        workers: patterns for the workers that are to host it; all, if there are none.
        model, version: its qualified name and its version, when it was loaded.
    """

    entry: dict[str, Any]
    workers: list[str]
    model: str
    version: str


@dataclass(slots=True)
class Routed:
    """Where calls that name no version go: see `broker.model.Route`."""

    default: str
    split: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Plan:
    """What differs from the workers' configurations, and is to outlive the processes.

    Attributes:
        loaded: models that are hosted as well.
        unloaded: qualified names and versions of models that are not hosted, whatever a configuration says.
        routes: by qualified name.
    """

    loaded: list[Placed] = field(default_factory=list)
    unloaded: list[tuple[str, str]] = field(default_factory=list)
    routes: dict[str, Routed] = field(default_factory=dict)


class _Loading:
    """A model on its way to several workers, or anew on those that have it."""

    def __init__(self, what: str, targets: Sequence[tuple[Worker, dict[str, Any]]], answer: Answer) -> None:
        self.what = what
        self.answer = answer
        self.targets = list(targets)
        self.placed: Placed | None = None  # what becomes part of the plan
        self.waiting: dict[bytes, Worker] = {}  # by the number of the order
        self.loaded: list[tuple[Worker, ModelDescription]] = []
        self.new: list[tuple[Worker, ModelKey]] = []  # of these, what the worker had not hosted before
        self.failed: list[str] = []


class _Unloading:
    """A model that leaves several workers when the calls that it has are done."""

    def __init__(self, key: ModelKey, hostings: Iterable[Hosting], answer: Answer) -> None:
        name, version = key
        self.what = f"{name} {version} is being unloaded"
        self.answer = answer
        self.key = key
        self.hostings = list(hostings)  # of calls and of streams, whose workers have not been told
        self.waiting: dict[bytes, Worker] = {}


class Placement:
    """Carries changes out, and brings workers that join up to what was changed before."""

    def __init__(self, catalogue: Catalogue, dispatcher: Dispatcher, outbox: Outbox, plan: Plan) -> None:
        self._catalogue = catalogue
        self._dispatcher = dispatcher
        self._outbox = outbox
        self._plan = plan
        self._change: _Loading | _Unloading | None = None
        self._restoring: dict[bytes, tuple[Worker, Placed]] = {}
        self._deaths: Counter[tuple[str, str]] = Counter()  # of workers, while they loaded that model and version
        self._troubles: dict[tuple[bytes, ModelKey], str] = {}  # by worker: why it does not host what it should
        self._last_number = 0
        self._has_changed = False
        for name, routed in plan.routes.items():
            split = {Version.read(version): weight for version, weight in routed.split.items()}
            catalogue.routes[name] = Route(Version.read(routed.default), split)

    def take_plan(self) -> Plan | None:
        """The plan, if it has changed since it was last taken; None otherwise."""
        if not self._has_changed:
            return None
        self._has_changed = False
        self._plan.routes = {
            name: Routed(str(route.default), {str(version): weight for version, weight in route.split.items()})
            for name, route in self._catalogue.routes.items()
        }
        return self._plan

    # -- what can be asked for ------------------------------------------------------------------------------------

    def load(self, entry: dict[str, Any], patterns: Sequence[str], answer: Answer) -> None:
        """Load a model on the workers that match one of the patterns, or on all; what is there is loaded anew.

        Raises:
            CallError: if that cannot begin.
        """
        self._refuse_if_busy()
        workers = [worker for worker in self._able() if _matches(worker, patterns)]
        if not workers:
            raise CallError("ValueError", f"no ready worker {self._wanted(patterns)}")
        what = f"{source_of(entry)} is being loaded"
        loading = _Loading(what, [(worker, entry) for worker in workers], answer)
        loading.placed = Placed(entry, list(patterns), "", "")
        self._begin(loading)

    def reload(self, key: ModelKey, answer: Answer) -> None:
        """Load a model anew, from its code and files as they are now, on every worker that hosts it.

        Raises:
            CallError: if that cannot begin.
        """
        self._refuse_if_busy()
        name, version = key
        targets = [
            (hosting.worker, hosting.entry)
            for hosting in self._hostings(key)
            if hosting.worker.description.loads and hosting.entry
        ]
        if not targets:
            raise CallError("ValueError", f"no ready worker hosts {name} {version} and can load it anew")
        self._begin(_Loading(f"{name} {version} is being loaded anew", targets, answer))

    def unload(self, key: ModelKey, answer: Answer) -> None:
        """Let a model's calls end, and have no worker host it any more.

        Raises:
            CallError: if that cannot begin.
        """
        self._refuse_if_busy()
        name, version = key
        self._plan.loaded = [one for one in self._plan.loaded if (one.model, one.version) != (name, str(version))]
        self._plan.unloaded.append((name, str(version)))
        self._forget_route(key)
        self._catalogue.close(key)
        self._has_changed = True
        self._leave(_Unloading(key, self._pairs(key), answer))

    def route(self, name: str, weights: Mapping[Version, int]) -> None:
        """Deal calls that name no version out by these weights; to the default version, if there are none.

        One weight alone names a new default version.

        Raises:
            CallError: if there are no such versions.
        """
        model = self._catalogue.models.get(name)
        known = [one.version for one in model.callable_versions] if model is not None else []
        if model is None or not known:
            raise CallError("ValueError", f"there is no model {name!r}; there are {self._names()}")
        for version in weights:
            if version not in known:
                there = ", ".join(map(str, known))
                raise CallError("ValueError", f"{name} has no version {version}; it has {there}")
        split = {version: weight for version, weight in weights.items() if weight}
        if weights and not split:
            raise CallError("ValueError", "one version at least should have a weight above 0")
        default = next(iter(split)) if len(split) == 1 else model.route.default
        self._set_route(name, Route(default, split if len(split) > 1 else {}))
        shares = ", ".join(f"{version}={weight}" for version, weight in split.items()) or str(default)
        self._outbox.note(f"calls of {name} go to {shares}")

    def find(self, name: str, version: str) -> ModelKey:
        """The key of a model that can be called; the version may be left empty where there is only one.

        Raises:
            CallError: if there is no such model, or several.
        """
        model = self._catalogue.models.get(name)
        known = [str(one.version) for one in model.callable_versions] if model is not None else []
        if not known:
            raise CallError("ValueError", f"there is no model {name!r}; there are {self._names()}")
        if not version and len(known) > 1:
            raise CallError("ValueError", f"{name} has the versions {', '.join(known)}: say which")
        chosen = version or known[0]
        if chosen not in known:
            raise CallError("ValueError", f"{name} has no version {chosen}; it has {', '.join(known)}")
        return name, Version.read(chosen)

    def models(self) -> list[dict[str, Any]]:
        """One object for each version of each model that is hosted, or should be, or still has calls."""
        rows: dict[tuple[str, str], dict[str, Any]] = {}
        for name, model in self._catalogue.models.items():
            weights = model.weights()
            total = sum(weights.values())
            for one in model.versions.values():
                workers = [hosting.worker.description.id for hosting in self._hostings((name, one.version))]
                if not one.is_callable and not workers:
                    continue
                state = "unloading" if not one.is_callable else "ready" if workers else "no worker"
                share = 100 * weights.get(one.version, 0) / total if total else 0.0
                rows[name, str(one.version)] = _row(
                    name, str(one.version), one.description.entry, state, share, workers
                )
        for placed in self._plan.loaded:
            row = rows.setdefault(
                (placed.model, placed.version),
                _row(placed.model, placed.version, placed.entry, "no worker", 0.0, []),
            )
            row["loaded"] = True
            row["on"] = placed.workers
            if self._deaths[placed.model, placed.version] >= MOST_DEATHS:
                row["troubles"].append(f"{MOST_DEATHS} workers died while they loaded it: load it again to retry")
        for (identity, (name, version)), text in self._troubles.items():
            worker = self._catalogue.workers[identity]
            if (name, str(version)) in rows:
                rows[name, str(version)]["troubles"].append(f"{worker.description.id}: {text}")
        return list(rows.values())

    # -- what workers say -----------------------------------------------------------------------------------------

    def is_unwanted(self, model: ModelDescription) -> bool:
        """Whether a model was unloaded, whatever a worker's configuration says; not while it still has calls."""
        if isinstance(self._change, _Unloading) and self._change.key == model.key:
            return False
        return (model.qualified_name, str(model.version)) in self._plan.unloaded

    def joined(self, worker: Worker) -> None:
        """A worker has registered: bring it up to what was changed before."""
        if not worker.description.loads:
            return
        hosted = {model.key for model in worker.description.models}
        for key in hosted:
            if isinstance(self._change, _Unloading) and self._change.key == key:
                # It helps to end the calls that are left; none begins because of it.
                self._catalogue.close(key)
                self._change.hostings += [one for one in self._pairs(key) if one.worker is worker]
        for model in worker.description.models:
            if self.is_unwanted(model):
                self._order_unload(worker, model.key)
        for placed in self._plan.loaded:
            if (placed.model, Version.read(placed.version)) not in hosted:
                self._restore(worker, placed)

    def loaded(self, worker: Worker, number: bytes, model: ModelDescription) -> bool:
        """A worker has loaded a model; whether it is to be called there."""
        objection = self._catalogue.objection([model])
        if objection is not None:
            self._order_unload(worker, model.key)
            self.failed(worker, number, objection)
            return False
        change = self._change
        if number in self._restoring:
            _, placed = self._restoring.pop(number)
            del self._deaths[placed.model, placed.version]
            self._troubles.pop((worker.identity, model.key), None)
            return True
        if isinstance(change, _Loading) and change.waiting.pop(number, None) is worker:
            if not any(hosting.worker is worker for hosting in self._hostings(model.key)):
                change.new.append((worker, model.key))
            change.loaded.append((worker, model))
            if self.is_unwanted(model):
                self._plan.unloaded = [
                    one for one in self._plan.unloaded if one != (model.qualified_name, str(model.version))
                ]
                self._has_changed = True
            return True
        self._order_unload(worker, model.key)  # nobody waits for it any more
        return False

    def failed(self, worker: Worker, number: bytes, reason: str) -> None:
        """A worker could not load a model."""
        change = self._change
        if number in self._restoring:
            _, placed = self._restoring.pop(number)
            self._troubles[worker.identity, (placed.model, Version.read(placed.version))] = reason
            self._outbox.note(f"worker {worker.description.id} could not load {source_of(placed.entry)}: {reason}")
        elif isinstance(change, _Loading) and change.waiting.pop(number, None) is worker:
            change.failed.append(f"{worker.description.id}: {reason}")

    def unloaded(self, worker: Worker, number: bytes) -> None:
        """A worker hosts a model no longer."""
        if isinstance(self._change, _Unloading) and self._change.waiting.get(number) is worker:
            del self._change.waiting[number]

    def lost(self, worker: Worker) -> None:
        """A worker has gone."""
        for trouble in [trouble for trouble in self._troubles if trouble[0] == worker.identity]:
            del self._troubles[trouble]
        for number in [number for number, (one, _) in self._restoring.items() if one is worker]:
            _, placed = self._restoring.pop(number)
            self._deaths[placed.model, placed.version] += 1
        change = self._change
        if change is None:
            return
        for number in [number for number, one in change.waiting.items() if one is worker]:
            del change.waiting[number]
            if isinstance(change, _Loading):
                change.failed.append(f"{worker.description.id}: it was lost while it loaded the model")
        if isinstance(change, _Loading):
            change.targets = [(one, entry) for one, entry in change.targets if one is not worker]

    def go_on(self, now_s: float) -> None:
        """Do what can be done next for the change that is under way. After each event, and from time to time."""
        change = self._change
        if isinstance(change, _Loading):
            self._go_on_loading(change, now_s)
        elif isinstance(change, _Unloading):
            self._go_on_unloading(change, now_s)

    def _restore(self, worker: Worker, placed: Placed) -> None:
        if _matches(worker, placed.workers) and self._deaths[placed.model, placed.version] < MOST_DEATHS:
            self._restoring[self._order_load(worker, placed.entry)] = worker, placed

    # -- loading --------------------------------------------------------------------------------------------------

    def _begin(self, loading: _Loading) -> None:
        self._change = loading
        worker, entry = loading.targets.pop(0)
        loading.waiting[self._order_load(worker, entry)] = worker
        self._outbox.note(f"{loading.what}, on {worker.description.id} first")

    def _go_on_loading(self, loading: _Loading, now_s: float) -> None:
        if loading.waiting:
            return
        if loading.targets and loading.loaded and not loading.failed:
            targets, loading.targets = loading.targets, []
            for worker, entry in targets:
                loading.waiting[self._order_load(worker, entry)] = worker
            return
        self._change = None
        if loading.failed:
            self._undo(loading, now_s)
            return
        if not loading.loaded:
            loading.answer(CallError("LoadFailed", "every worker that was to load it has gone"))
            return
        model = loading.loaded[-1][1]
        if loading.placed is not None:
            self._keep(loading.placed, model)
        self._outbox.note(f"{model.qualified_name} {model.version} was loaded on {len(loading.loaded)} worker(s)")
        workers = [worker.description.id for worker, _ in loading.loaded]
        loading.answer({"model": model.qualified_name, "version": str(model.version), "workers": workers})

    def _keep(self, placed: Placed, model: ModelDescription) -> None:
        placed.model, placed.version = model.qualified_name, str(model.version)
        self._plan.loaded = [
            one for one in self._plan.loaded if (one.model, one.version) != (placed.model, placed.version)
        ]
        self._plan.loaded.append(placed)
        del self._deaths[placed.model, placed.version]
        for worker in self._able():  # some may have joined meanwhile
            if not any(hosting.worker is worker for hosting in self._hostings(model.key)):
                self._restore(worker, placed)
        family = self._catalogue.models[placed.model]
        if len(family.callable_versions) > 1 and placed.model not in self._catalogue.routes:
            # From here on it matters which is the default, also for a broker that sees the versions in another order.
            current = family.current
            able = [one.version for one in family.callable_versions]
            default = family.route.default if family.route.default in able or current is None else current.version
            self._set_route(placed.model, Route(default, {}))
        self._has_changed = True

    def _undo(self, loading: _Loading, now_s: float) -> None:
        """Leave everything as it was, but for what was loaded in place of itself."""
        reasons = "; ".join(loading.failed)
        anew = len(loading.loaded) - len(loading.new)
        text = (
            f"{reasons}. Nothing else has changed" if not anew else f"{reasons}. On {anew} other worker(s) it is loaded"
        )
        error = CallError("LoadFailed", text)
        self._outbox.note(f"a model was not loaded: {reasons}")
        if not loading.new:
            loading.answer(error)
            return
        key = loading.new[0][1]
        theirs = [worker for worker, _ in loading.new]
        pairs = [hosting for hosting in self._pairs(key) if hosting.worker in theirs]
        if len(pairs) == len(self._pairs(key)):
            self._catalogue.close(key)
        else:
            for hosting in pairs:
                self._catalogue.withdraw(hosting, now_s)
        self._leave(_Unloading(key, pairs, lambda _: loading.answer(error)))

    # -- unloading ------------------------------------------------------------------------------------------------

    def _leave(self, unloading: _Unloading) -> None:
        self._change = unloading
        self._outbox.note(unloading.what)

    def _go_on_unloading(self, unloading: _Unloading, now_s: float) -> None:
        key = unloading.key
        hosted = self._catalogue.find(key)
        assert hosted is not None
        unloading.hostings = [one for one in unloading.hostings if self._is_there(one.worker)]
        waits = not hosted.is_callable and any(service.queue for service in hosted.services)
        if waits or any(hosting.free < hosting.capacity for hosting in unloading.hostings):
            return
        for hosting in unloading.hostings:
            self._catalogue.withdraw(hosting, now_s)
        for worker in {hosting.worker: None for hosting in unloading.hostings}:
            unloading.waiting[self._order_unload(worker, key)] = worker
        unloading.hostings = []
        if unloading.waiting:
            return
        self._change = None
        name, version = key
        self._outbox.note(f"{name} {version} was unloaded")
        unloading.answer({"model": name, "version": str(version)})

    def _forget_route(self, key: ModelKey) -> None:
        name, version = key
        model = self._catalogue.models[name]
        others = [one.version for one in model.callable_versions if one.version != version]
        if not others:
            self._catalogue.routes.pop(name, None)
            return
        split = {one: weight for one, weight in model.route.split.items() if one != version}
        default = model.route.default if model.route.default != version else max(others)
        self._set_route(name, Route(default, split if len(split) > 1 else {}))

    def _set_route(self, name: str, route: Route) -> None:
        self._catalogue.route(name, route)
        self._has_changed = True

    # -- orders ---------------------------------------------------------------------------------------------------

    def _number(self) -> bytes:
        self._last_number += 1
        return self._last_number.to_bytes(protocol.NUMBER_BYTES, "big")

    def _order_load(self, worker: Worker, entry: dict[str, Any]) -> bytes:
        number = self._number()
        self._outbox.to_worker(worker.identity, protocol.LOAD, number, events.pack(entry))
        return number

    def _order_unload(self, worker: Worker, key: ModelKey) -> bytes:
        number = self._number()
        name, version = key
        self._outbox.to_worker(worker.identity, protocol.UNLOAD, number, name.encode(), str(version).encode())
        return number

    # -- who and what ---------------------------------------------------------------------------------------------

    def _refuse_if_busy(self) -> None:
        if self._dispatcher.draining:
            raise CallError("Draining", "the broker is shutting down")
        if self._change is not None:
            raise CallError("Busy", f"{self._change.what}; wait for that, and try again")

    def _is_there(self, worker: Worker) -> bool:
        return self._catalogue.workers.get(worker.identity) is worker

    def _able(self) -> list[Worker]:
        return [one for one in self._catalogue.workers.values() if one.description.loads and one.state == "ready"]

    def _hostings(self, key: ModelKey) -> list[Hosting]:
        """Of the calls of a model, on workers that are ready."""
        hosted = self._catalogue.find(key)
        return list(hosted.calls.hostings) if hosted is not None else []

    def _pairs(self, key: ModelKey) -> list[Hosting]:
        """Of the calls and of the streams of a model, on workers that are ready."""
        hosted = self._catalogue.find(key)
        return [one for service in hosted.services for one in service.hostings] if hosted is not None else []

    def _names(self) -> str:
        return ", ".join(name for name, model in self._catalogue.models.items() if model.callable_versions) or "none"

    def _wanted(self, patterns: Sequence[str]) -> str:
        if not patterns:
            return "can load models"
        there = ", ".join(worker.description.metrics_address for worker in self._able()) or "none"
        return f"that can load models matches {' or '.join(map(repr, patterns))}; there are {there}"


def _matches(worker: Worker, patterns: Sequence[str]) -> bool:
    one = worker.description
    return not patterns or any(
        fnmatchcase(name, pattern) for pattern in patterns for name in (one.id, one.host, one.metrics_address)
    )


def _row(
    name: str, version: str, entry: Mapping[str, Any], state: str, share: float, workers: list[str]
) -> dict[str, Any]:
    return {
        "model": name,
        "version": version,
        "from": source_of(entry),
        "state": state,
        "share": round(share, 2),
        "workers": workers,
        "loaded": False,
        "on": [],
        "troubles": [],
    }
