"""Models on the move: loading and unloading them on workers that run, and what of that outlives a process. Pure state.

A model is loaded on one worker first, and only then on the others: what cannot be loaded, or ends the process that
tries, has met one worker only. One model is loaded at a time; those that are unloaded wait for nobody but their calls.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from broker.core.errors import ProcedureError
from broker.core.state.counters import EXIT, HEARTBEAT
from broker.core.state.plan import Placed, Plan, Routed
from broker.core.state.versions import Route
from cluster.wire import events, protocol
from cluster.wire.protocol import ModelDescription, ModelKey, Version, model_source

if TYPE_CHECKING:
    from broker.core.scheduling.scheduler import Scheduler
    from broker.core.state.outbox import Outbox
    from broker.core.state.pool import Replica, Worker, WorkerPool
    from broker.core.state.registry import Registry

MOST_DEATHS = 3
"""A model in the loading of which so many workers died, one after the other, is loaded on no further one by itself."""

MAX_WEIGHT = 1_000_000
"""Largest weight of a version in a split."""

Answer = Callable[[object], None]
"""Takes the result of a change, or the `ProcedureError` that it ended with."""


class _Loading:
    """A model on its way to several workers, or anew on those that have it.

    Attributes:
        what: for people.
        answer: takes how it ends.
        targets: who is still to be told, and what to load.
        patterns: for workers that come later; None if it is loaded anew where it is.
        waiting: who has been told, by the number of the order.
        key: what was loaded; None before the first worker has it.
        loaded: who has it.
        new: who of these had not had it before, nor should have.
        failed: why others could not.
    """

    def __init__(
        self,
        what: str,
        targets: Iterable[tuple[Worker, dict[str, Any]]],
        patterns: Sequence[str] | None,
        answer: Answer,
    ) -> None:
        self.what = what
        self.answer = answer
        self.targets = list(targets)
        self.patterns = patterns
        self.waiting: dict[bytes, tuple[Worker, dict[str, Any]]] = {}
        self.key: ModelKey | None = None
        self.loaded: list[tuple[Worker, dict[str, Any]]] = []
        self.new: list[Worker] = []
        self.failed: list[str] = []


class _Unloading:
    """A model that leaves workers when the calls that it has there are done.

    Attributes:
        key: which.
        is_whole: whether it leaves all of them, and can be called no longer.
        replicas: of its calls and of its streams, whose workers have not been told.
        answer: takes how it ends.
        waiting: who has been told, by the number of the order.
    """

    def __init__(self, key: ModelKey, replicas: Iterable[Replica], answer: Answer, *, is_whole: bool) -> None:
        self.key = key
        self.is_whole = is_whole
        self.replicas = list(replicas)
        self.answer = answer
        self.waiting: dict[bytes, Worker] = {}


class Deployment:
    """Carries changes out, and brings workers that join up to what was changed before."""

    def __init__(
        self,
        registry: Registry,
        scheduler: Scheduler,
        outbox: Outbox,
        plan: Plan,
        has_waiting: Callable[[WorkerPool], bool],
    ) -> None:
        self._has_waiting = has_waiting
        self._registry = registry
        self._scheduler = scheduler
        self._outbox = outbox
        self._plan = plan
        self._loading: _Loading | None = None
        self._unloadings: list[_Unloading] = []
        self._restoring: dict[bytes, tuple[Worker, Placed]] = {}  # by the number of the order, the oldest first
        self._deaths: Counter[ModelKey] = Counter()  # of workers, while they restored that
        self._troubles: dict[tuple[bytes, ModelKey], str] = {}  # by worker: why it does not host what it should
        self._last_number = 0
        self._has_changed = False
        for name, routed in plan.routes.items():
            split = {Version.read(version): weight for version, weight in routed.split.items()}
            registry.routes[name] = Route(Version.read(routed.default), split)

    def take_plan(self) -> Plan | None:
        """The plan, if it has changed since it was last taken; None otherwise."""
        if not self._has_changed:
            return None
        self._has_changed = False
        self._plan.routes = {
            name: Routed(str(route.default), {str(version): weight for version, weight in route.split.items()})
            for name, route in self._registry.routes.items()
        }
        return self._plan

    # -- what can be asked for ------------------------------------------------------------------------------------

    def load(self, entry: dict[str, Any], patterns: Sequence[str], answer: Answer) -> None:
        """Load a model on the workers that match one of the patterns, or on all; what is there is loaded anew.

        Raises:
            ProcedureError: if that cannot begin.
        """
        self._refuse_if_busy()
        targets = [(worker, entry) for worker in self._able() if _matches(worker, patterns)]
        if not targets:
            there = ", ".join(worker.description.metrics_address for worker in self._able()) or "none"
            wanted = f" matches {' or '.join(map(repr, patterns))}" if patterns else ""
            raise ProcedureError("ValueError", f"no ready worker that can load models{wanted}; there are {there}")
        self._begin(_Loading(f"{model_source(entry)} is being loaded", targets, patterns, answer))

    def reload(self, key: ModelKey, answer: Answer) -> None:
        """Load a model anew, from its code and files as they are now, on every worker that hosts it.

        Raises:
            ProcedureError: if that cannot begin.
        """
        self._refuse_if_busy()
        name, version = key
        targets = [
            (replica.worker, replica.entry)
            for replica in self._replicas(key)
            if replica.worker.description.loads and replica.entry
        ]
        if not targets:
            raise ProcedureError("ValueError", f"no ready worker hosts {name} {version} and can load it anew")
        self._begin(_Loading(f"{name} {version} is being loaded anew", targets, None, answer))

    def cancel(self) -> str:
        """Wait no longer for what is being loaded: it is unloaded where it is new. Returns what that was.

        Raises:
            ProcedureError: if nothing is being loaded.
        """
        loading = self._loading
        if loading is None:
            raise ProcedureError("ValueError", "nothing is being loaded")
        for worker, _ in loading.waiting.values():
            loading.failed.append(f"{worker.description.id}: it was not waited for; restart it if it never ends")
        loading.waiting.clear()
        loading.targets.clear()
        return loading.what

    def unload(self, key: ModelKey, answer: Answer) -> None:
        """Let a model's calls end, and have no worker host it any more.

        Raises:
            ProcedureError: if that cannot begin.
        """
        self._refuse_if_draining()
        name, version = key
        if self._loading is not None and self._loading.key in (None, key):
            self._refuse_if_busy()
        if self._is_leaving(key):
            raise ProcedureError("Busy", f"{name} {version} is being unloaded already")
        if self._is_configured(key) and (name, str(version)) not in self._plan.unloaded:
            self._plan.unloaded.append((name, str(version)))
        self._plan.loaded = [one for one in self._plan.loaded if one.key != key]
        for number in [number for number, (_, placed) in self._restoring.items() if placed.key == key]:
            del self._restoring[number]  # when it is loaded all the same, it is sent back
        self._has_changed = True
        replicas = self._all_replicas(key)
        if self._registry.find(key) is not None:
            self._forget_route(key)
            self._registry.close(key)
        self._leave(_Unloading(key, replicas, answer, is_whole=True))

    def route(self, name: str, weights: Mapping[Version, int]) -> None:
        """Deal calls that name no version out by these weights; to the default version, if there are none.

        One weight alone names a new default version.

        Raises:
            ProcedureError: if there are no such versions.
        """
        known = self._callable_versions(name)
        if not known:
            raise ProcedureError("ValueError", f"there is no model {name!r}; there are {self._names()}")
        for version in weights:
            if version not in known:
                there = ", ".join(map(str, known))
                raise ProcedureError("ValueError", f"{name} has no version {version}; it has {there}")
        split = {version: weight for version, weight in weights.items() if weight}
        if weights and not split:
            raise ProcedureError("ValueError", "one version at least should have a weight above 0")
        default = next(iter(split)) if len(split) == 1 else self._registry.models[name].route.default
        self._set_route(name, Route(default, split if len(split) > 1 else {}))
        shares = ", ".join(f"{version}={weight}" for version, weight in split.items()) or str(default)
        self._outbox.note(f"calls of {name} go to {shares}")

    def find(self, name: str, version: str) -> ModelKey:
        """The key of a model that can be called, or should be; the version may be empty where there is only one.

        Raises:
            ProcedureError: if there is no such model, or several.
        """
        placed = {one.key[1] for one in self._plan.loaded if one.model == name}
        known = [str(one) for one in sorted(placed.union(self._callable_versions(name)))]
        if not known:
            raise ProcedureError("ValueError", f"there is no model {name!r}; there are {self._names()}")
        if not version and len(known) > 1:
            raise ProcedureError("ValueError", f"{name} has the versions {', '.join(known)}: say which")
        chosen = version or known[0]
        if chosen not in known:
            raise ProcedureError("ValueError", f"{name} has no version {chosen}; it has {', '.join(known)}")
        return name, Version.read(chosen)

    def models(self) -> list[dict[str, Any]]:
        """One object for each version of each model that is hosted, should be, was unloaded, or still has calls."""
        rows: dict[ModelKey, dict[str, Any]] = {}
        for name, family in self._registry.models.items():
            total = sum(family.shares.values())
            for one in family.versions.values():
                key = name, one.version
                workers = [replica.worker.description.id for replica in self._replicas(key)]
                state = "unloading" if self._is_leaving(key) else "ready" if workers else "no worker"
                if one.is_callable or self._is_leaving(key):
                    share = 100 * family.shares.get(one.version, 0) / total if total else 0.0
                    rows[key] = _row(key, one.description.entry, state, share, workers)
        for placed in self._plan.loaded:
            row = rows.setdefault(placed.key, _row(placed.key, placed.entry, "no worker", 0.0, []))
            row["loaded"] = True
            row["on"] = placed.workers
            if self._deaths[placed.key] >= MOST_DEATHS:
                row["troubles"].append(f"{MOST_DEATHS} workers died while they loaded it: load it again to retry")
        for name, version in self._plan.unloaded:
            key = name, Version.read(version)
            rows.setdefault(key, _row(key, {}, "unloaded", 0.0, []))
        for (identity, key), text in self._troubles.items():
            if key in rows:
                rows[key]["troubles"].append(f"{self._registry.workers[identity].description.id}: {text}")
        return list(rows.values())

    def awaited(self, worker: Worker) -> list[str]:
        """What a worker is still to load before it hosts all that it should: `module:Class` each."""
        return [model_source(placed.entry) for one, placed in self._restoring.values() if one is worker]

    def expected(self) -> set[str]:
        """The qualified names of models that were loaded."""
        return {placed.model for placed in self._plan.loaded}

    # -- what workers say -----------------------------------------------------------------------------------------

    def is_unwanted(self, key: ModelKey) -> bool:
        """Whether a model was unloaded, whatever a worker's configuration says; not while it still has calls."""
        name, version = key
        is_coming = self._loading is not None and self._loading.key == key
        return (name, str(version)) in self._plan.unloaded and not is_coming and not self._is_leaving(key)

    def joined(self, worker: Worker) -> None:
        """A worker has registered, and hosts what of its models is not unwanted: bring it up to the plan."""
        described = {model.key: model for model in worker.description.models}
        for unloading in self._unloadings:
            if unloading.is_whole and unloading.key in described:
                # It helps to end the calls that are left; none begins because of it.
                self._registry.close(unloading.key)
                unloading.replicas += [one for one in self._all_replicas(unloading.key) if one.worker is worker]
        for name in {name for name, _ in described}:
            self._keep_default(name)
        if not worker.description.loads:
            return
        for key in described:
            if self.is_unwanted(key):
                self._order_unload(worker, key)
        for placed in self._plan.loaded:
            there = described.get(placed.key)
            if there is None or (
                there.entry != placed.entry and model_source(there.entry) == model_source(placed.entry)
            ):
                self._restore(worker, placed)

    def loaded(self, worker: Worker, number: bytes, model: ModelDescription) -> bool:
        """A worker has loaded a model; whether it is to be called there."""
        loading = self._loading
        objection = self._objection(worker, number, model)
        if objection:
            self._send_back(worker, model.key)
            self.failed(worker, number, objection)
            return False
        if self._is_restoring(worker, number):
            _, placed = self._restoring.pop(number)
            if placed.key != model.key:
                text = f"{model_source(placed.entry)} is version {model.version} there"
                self._troubles[worker.identity, placed.key] = text
            del self._deaths[placed.key]
        elif loading is not None and self._is_loading(worker, number):
            is_there = any(replica.worker is worker for replica in self._replicas(model.key))
            if not is_there and not any(
                one.key == model.key and _matches(worker, one.workers) for one in self._plan.loaded
            ):
                loading.new.append(worker)
            loading.loaded.append(loading.waiting.pop(number))
            loading.key = model.key
        else:
            self._send_back(worker, model.key)  # nobody waits for it any more
            return False
        self._troubles.pop((worker.identity, model.key), None)
        return True

    def _send_back(self, worker: Worker, key: ModelKey) -> None:
        """Have a worker forget what it has loaded, unless that took the place of what it hosts, or is to forget."""
        hosted = self._registry.find(key)
        if self._leaves(worker, key):
            return
        if hosted is None or not any(replica.pool in hosted.pools for replica in worker.replicas):
            self._order_unload(worker, key)

    def _objection(self, worker: Worker, number: bytes, model: ModelDescription) -> str:
        """Why a model that a worker has loaded is not to be called there; empty if it is."""
        loading = self._loading
        name, version = model.key
        if self._leaves(worker, model.key):
            return f"{name} {version} is being unloaded there"
        first = loading.key if loading is not None and self._is_loading(worker, number) else None
        if first is not None and first != model.key:
            return f"it is {name} {version} there, and {first[0]} {first[1]} elsewhere"
        for replica in self._replicas(model.key):
            theirs = model_source(replica.entry)
            if replica.entry and replica.worker is not worker and theirs != model_source(model.entry):
                return f"{name} {version} is {theirs} elsewhere: rename the model, or give it a version of its own"
        return self._registry.objection([model]) or ""

    def failed(self, worker: Worker, number: bytes, reason: str) -> None:
        """A worker could not load a model."""
        if self._is_restoring(worker, number):
            _, placed = self._restoring.pop(number)
            self._troubles[worker.identity, placed.key] = reason
            self._outbox.note(f"worker {worker.description.id} could not load {model_source(placed.entry)}: {reason}")
        elif self._loading is not None and self._is_loading(worker, number):
            del self._loading.waiting[number]
            self._loading.failed.append(f"{worker.description.id}: {reason}")

    def _is_restoring(self, worker: Worker, number: bytes) -> bool:
        return number in self._restoring and self._restoring[number][0] is worker

    def _is_loading(self, worker: Worker, number: bytes) -> bool:
        waiting = self._loading.waiting if self._loading is not None else {}
        return number in waiting and waiting[number][0] is worker

    def unloaded(self, worker: Worker, number: bytes) -> None:
        """A worker hosts a model no longer."""
        for unloading in self._unloadings:
            if unloading.waiting.get(number) is worker:
                del unloading.waiting[number]

    def lost(self, worker: Worker, reason: str | None) -> None:
        """A worker has gone; `reason` is None if it left in good order."""
        for trouble in [trouble for trouble in self._troubles if trouble[0] == worker.identity]:
            del self._troubles[trouble]
        died = reason in (EXIT, HEARTBEAT)
        restored = [number for number, (one, _) in self._restoring.items() if one is worker]
        for place, number in enumerate(restored):
            _, placed = self._restoring.pop(number)
            if died and place == 0:  # the others had not begun
                self._deaths[placed.key] += 1
        loading = self._loading
        if loading is not None:
            loading.targets = [target for target in loading.targets if target[0] is not worker]
            for number in [number for number, (one, _) in loading.waiting.items() if one is worker]:
                del loading.waiting[number]
                if died:
                    loading.failed.append(f"{worker.description.id}: it was lost while it loaded the model")
        for unloading in self._unloadings:
            unloading.replicas = [one for one in unloading.replicas if one.worker is not worker]
            unloading.waiting = {number: one for number, one in unloading.waiting.items() if one is not worker}

    def go_on(self, now_s: float) -> None:
        """Do what can be done next for the changes that are under way. After each event, and from time to time."""
        if self._loading is not None:
            self._go_on_loading(self._loading, now_s)
        for unloading in list(self._unloadings):
            self._go_on_unloading(unloading, now_s)

    # -- loading --------------------------------------------------------------------------------------------------

    def _begin(self, loading: _Loading) -> None:
        self._loading = loading
        self._outbox.note(loading.what)

    def _go_on_loading(self, loading: _Loading, now_s: float) -> None:
        if loading.waiting:
            return
        if loading.targets and not loading.failed:
            next_ones = len(loading.targets) if loading.loaded else 1
            for worker, entry in loading.targets[:next_ones]:
                loading.waiting[self._order_load(worker, entry)] = worker, entry
            del loading.targets[:next_ones]
            return
        self._loading = None
        if loading.failed:
            self._undo(loading, now_s)
        elif loading.key is None:
            loading.answer(
                ProcedureError("LoadFailed", "every worker that was to load it has gone. Nothing has changed")
            )
        else:
            self._keep(loading, loading.key)
            name, version = loading.key
            workers = [worker.description.id for worker, _ in loading.loaded]
            self._outbox.note(f"{name} {version} was loaded on {len(workers)} worker(s)")
            loading.answer({"model": name, "version": str(version), "workers": workers})

    def _keep(self, loading: _Loading, key: ModelKey) -> None:
        """Make what was loaded part of the plan."""
        name, version = key
        entry = loading.loaded[-1][1]
        before = next((one for one in self._plan.loaded if one.key == key), None)
        if loading.patterns is None and before is None and not loading.new:
            return  # a configured model was loaded anew
        patterns = list(loading.patterns or [])
        if before is not None and (loading.patterns is None or model_source(before.entry) == model_source(entry)):
            is_for_all = not before.workers or loading.patterns == []
            patterns = [] if is_for_all else list(dict.fromkeys([*before.workers, *patterns]))
        placed = Placed(entry, patterns, name, str(version))
        self._plan.loaded = [one for one in self._plan.loaded if one.key != key] + [placed]
        self._plan.unloaded = [one for one in self._plan.unloaded if one != (name, str(version))]
        del self._deaths[key]
        self._has_changed = True
        self._keep_default(name)
        for worker in self._able():  # some may have joined meanwhile
            if not any(replica.worker is worker for replica in self._replicas(key)):
                self._restore(worker, placed)

    def _undo(self, loading: _Loading, now_s: float) -> None:
        """Leave everything as it was, but for what was loaded in place of itself."""
        reasons = "; ".join(loading.failed)
        self._outbox.note(f"a model was not loaded: {reasons}")
        anew = [worker.description.id for worker, _ in loading.loaded if worker not in loading.new]
        rest = f"On {', '.join(anew)} it was loaded anew" if anew else "Nothing has changed"
        error = ProcedureError("LoadFailed", f"{reasons}. {rest}")
        replicas = []
        if loading.key is not None:
            everywhere = self._all_replicas(loading.key)
            unwanted = self.is_unwanted(loading.key)
            replicas = [one for one in everywhere if unwanted or one.worker in loading.new]
        if not replicas:
            loading.answer(error)
            return
        assert loading.key is not None
        is_whole = len(replicas) == len(everywhere)
        if is_whole:
            self._registry.close(loading.key)
        else:
            for replica in replicas:
                self._registry.withdraw(replica, now_s)
        self._leave(_Unloading(loading.key, replicas, lambda _: loading.answer(error), is_whole=is_whole))

    def _restore(self, worker: Worker, placed: Placed) -> None:
        if _matches(worker, placed.workers) and self._deaths[placed.key] < MOST_DEATHS:
            self._restoring[self._order_load(worker, placed.entry)] = worker, placed

    # -- unloading ------------------------------------------------------------------------------------------------

    def _leave(self, unloading: _Unloading) -> None:
        self._unloadings.append(unloading)
        self._outbox.note(f"{unloading.key[0]} {unloading.key[1]} is being unloaded")

    def _is_leaving(self, key: ModelKey) -> bool:
        """Whether a model is on its way out, everywhere."""
        return any(one.is_whole and one.key == key for one in self._unloadings)

    def _leaves(self, worker: Worker, key: ModelKey) -> bool:
        """Whether a model is on its way out, at least from that worker."""
        ways_out = [one for one in self._unloadings if one.key == key]
        return any(
            one.is_whole or worker in one.waiting.values() or worker in [replica.worker for replica in one.replicas]
            for one in ways_out
        )

    def _go_on_unloading(self, unloading: _Unloading, now_s: float) -> None:
        key = unloading.key
        hosted = self._registry.find(key)
        waits = unloading.is_whole and hosted is not None and any(map(self._has_waiting, hosted.pools))
        if waits or any(replica.free < replica.capacity for replica in unloading.replicas):
            return
        for replica in unloading.replicas:
            self._registry.withdraw(replica, now_s)
        for worker in {replica.worker: None for replica in unloading.replicas}:
            if worker.description.loads:  # others forget the model for this broker only
                unloading.waiting[self._order_unload(worker, key)] = worker
        unloading.replicas = []
        if unloading.waiting:
            return
        self._unloadings.remove(unloading)
        name, version = key
        self._outbox.note(f"{name} {version} was unloaded")
        unloading.answer({"model": name, "version": str(version)})

    # -- routes ---------------------------------------------------------------------------------------------------

    def _forget_route(self, key: ModelKey) -> None:
        """A version can be called no longer: its share goes to the others."""
        name, version = key
        family = self._registry.models[name]
        if not [one for one in self._callable_versions(name) if one != version]:
            if self._registry.routes.pop(name, None) is not None:
                self._has_changed = True
            return
        split = {one: weight for one, weight in family.route.split.items() if one != version}
        default = family.route.default
        if default == version:
            hosted = {
                one.version: len(one.calls.replicas) for one in family.callable_versions if one.version != version
            }
            default = max(split or hosted, key=lambda one: ((split or hosted)[one], one))
        self._set_route(name, Route(default, split if len(split) > 1 else {}))

    def _keep_default(self, name: str) -> None:
        """Where there are several versions, keep which is the default: a next broker may see them in another order."""
        if len(self._callable_versions(name)) > 1 and name not in self._registry.routes:
            self._set_route(name, self._registry.models[name].route)

    def _set_route(self, name: str, route: Route) -> None:
        self._registry.route(name, route)
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

    def _refuse_if_draining(self) -> None:
        if self._scheduler.draining:
            raise ProcedureError("Draining", "the broker is shutting down")

    def _refuse_if_busy(self) -> None:
        self._refuse_if_draining()
        if self._loading is not None:
            on = ", ".join(worker.description.id for worker, _ in self._loading.waiting.values())
            text = f"{self._loading.what}, on {on} now; wait for that and try again, or cancel it"
            raise ProcedureError("Busy", text)

    def _able(self) -> list[Worker]:
        return [one for one in self._registry.workers.values() if one.description.loads and one.state == "ready"]

    def _replicas(self, key: ModelKey) -> list[Replica]:
        """Of the calls of a model, on workers that are ready."""
        hosted = self._registry.find(key)
        return list(hosted.calls.replicas) if hosted is not None else []

    def _all_replicas(self, key: ModelKey) -> list[Replica]:
        """Of the calls and of the streams of a model, on workers that are ready."""
        hosted = self._registry.find(key)
        return [one for pool in hosted.pools for one in pool.replicas] if hosted is not None else []

    def _callable_versions(self, name: str) -> list[Version]:
        family = self._registry.models.get(name)
        return [one.version for one in family.callable_versions] if family is not None else []

    def _is_configured(self, key: ModelKey) -> bool:
        """Whether workers would host the model by themselves. Where none is there to say so, what was not loaded is."""
        models = (model for one in self._registry.workers.values() for model in one.description.models)
        described = [model for model in models if model.key == key]
        if described:
            return any(model.is_configured for model in described)
        return not any(placed.key == key for placed in self._plan.loaded)

    def _names(self) -> str:
        return ", ".join(name for name in self._registry.models if self._callable_versions(name)) or "none"


def _matches(worker: Worker, patterns: Sequence[str]) -> bool:
    one = worker.description
    return not patterns or any(
        fnmatchcase(name, pattern) for pattern in patterns for name in (one.id, one.host, one.metrics_address)
    )


def _row(key: ModelKey, entry: Mapping[str, Any], state: str, share: float, workers: list[str]) -> dict[str, Any]:
    name, version = key
    return {
        "model": name,
        "version": str(version),
        "from": model_source(entry) if entry else "",
        "state": state,
        "share": round(share, 2),
        "workers": workers,
        "loaded": False,
        "on": [],
        "troubles": [],
    }
