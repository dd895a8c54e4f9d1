"""Breaks the core on purpose, one small fault at a time, and sees that it is noticed: `make mutants`.

The simulation is to notice. What only makes a call wait longer than it need, it cannot: the tests of batches do.
"""

import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

REPOSITORY = Path(__file__).resolve().parents[2]
SEEDS = "6"
STEPS = "800"
AT_A_TIME = 2


@dataclass(frozen=True)
class Mutant:
    """One fault: in a file of the broker, some text in place of some other."""

    fault: str
    file: str
    right: str
    wrong: str


MUTANTS = (
    Mutant(
        "a model is unloaded while it has calls",
        "core/deployment/deployment.py",
        "any(replica.free < replica.capacity for replica in unloading.replicas)",
        "False",
    ),
    Mutant(
        "a worker that was lost while it unloads is waited for",
        "core/deployment/deployment.py",
        "            unloading.waiting = {number: one for number, one in unloading.waiting.items() if one is not worker}\n",
        "",
    ),
    Mutant(
        "a worker that was lost while it loads is waited for",
        "core/deployment/deployment.py",
        "                del loading.waiting[number]\n",
        "",
    ),
    Mutant(
        "what was unloaded can still be called",
        "core/deployment/deployment.py",
        "            self._forget_route(key)\n            self._registry.close(key)\n",
        "            self._forget_route(key)\n",
    ),
    Mutant(
        "a worker that comes does not load what it should",
        "core/deployment/deployment.py",
        "if there is None or (there.entry != placed.entry",
        "if there is not None and (there.entry != placed.entry",
    ),
    Mutant(
        "a worker that comes brings back what was unloaded",
        "core/deployment/deployment.py",
        "(name, str(version)) in self._plan.unloaded and not is_coming",
        "False and not is_coming",
    ),
    Mutant(
        "work does not say which version",
        "core/state/procedures.py",
        "self.pool.model.pinned(described.name).encode()",
        "described.name.encode()",
    ),
    Mutant(
        "a model that was loaded anew keeps its room",
        "core/state/pool.py",
        "        self.change_free(replica, capacity - replica.capacity)\n",
        "",
    ),
    Mutant(
        "bytes of a stream stay with the version that it waited for",
        "core/state/calls.py",
        "        if target.is_stream:\n            self._count_stream(call, client, -1)\n",
        "",
    ),
    Mutant(
        "a client that has given a call up is never noticed",
        "core/state/calls.py",
        "one.last_received_s is not None and now_s - one.last_received_s > one.patience_s",
        "False",
    ),
    Mutant(
        "an error waits for ever for a reader",
        "core/state/calls.py",
        "now_s - one.full_s > self._unread_patience_s * (1 if one.last_received_s is None else BEATING_FACTOR)",
        "False",
    ),
    Mutant(
        "streams take the room of calls",
        "core/state/pool.py",
        "model.max_streams if pool.is_for_streams else model.slots + model.batches_ahead",
        "model.slots + model.batches_ahead",
    ),
    Mutant(
        "a stream of a dead worker waits for one that has none",
        "core/scheduling/scheduler.py",
        "                replica, room = pool.least_loaded(now_s), 1\n",
        "                replica = pool.least_busy_for_retry(others_wait=others_wait)\n                room = replica.capacity if replica else 0\n",
    ),
    Mutant(
        "bytes of open streams are counted for ever",
        "core/state/calls.py",
        "if call.target.is_stream:",
        "pass",
    ),
    Mutant(
        "a client that beats is taken for gone",
        "core/state/calls.py",
        "now_s - one.last_received_s > one.patience_s",
        "now_s - one.last_received_s < one.patience_s",
    ),
    Mutant(
        "an answered batch frees no room",
        "core/state/registry.py",
        "        pool.change_free(batch.replica, batch.room)\n",
        "",
    ),
    Mutant(
        "the first answer of a batch frees its room",
        "core/state/registry.py",
        "        if batch.unanswered:\n",
        "        if False:\n",
    ),
    Mutant(
        "a batch takes no room",
        "core/state/registry.py",
        "        replica.pool.change_free(replica, -room)\n",
        "",
    ),
    Mutant(
        "a draining worker is offered on",
        "core/state/registry.py",
        "        pool.withdraw(replica)\n",
        "",
    ),
    Mutant(
        "a drained worker's room stays counted",
        "core/state/pool.py",
        "        self.free -= room\n",
        "",
    ),
    Mutant(
        "a draining worker's answers make room",
        "core/state/pool.py",
        "        if replica in self.replicas:\n",
        "        if True:\n",
    ),
    Mutant(
        "an answered call stays in flight",
        "core/state/registry.py",
        "        del batch.replica.worker.in_flight[call.number]\n",
        "",
    ),
    Mutant(
        "a given call is not marked in flight",
        "core/scheduling/scheduler.py",
        "            in_flight[number] = call\n",
        "",
    ),
    Mutant(
        "a batch is larger than it may be",
        "core/scheduling/scheduler.py",
        "while len(calls) < most and size",
        "while size",
    ),
    Mutant(
        "a call is tried again beside others",
        "core/scheduling/scheduler.py",
        "room = replica.capacity if replica is not None else 0",
        "room = 1",
    ),
    Mutant(
        "others are given beside a call that is tried again",
        "core/scheduling/scheduler.py",
        "self._give([call], replica, room, now_s)",
        "self._give([call], replica, 1, now_s)",
    ),
    Mutant(
        "a worker that is kept free gets work",
        "core/scheduling/scheduler.py",
        "pool.least_loaded(now_s, kept)",
        "pool.least_loaded(now_s)",
    ),
    Mutant(
        "a worker stays kept free for a call that has gone",
        "core/scheduling/scheduler.py",
        "            self._dirty[pool] = None  # a worker may have been kept free for it, or for others before it\n",
        "            pass\n",
    ),
    Mutant(
        "the calls of a dead worker hold up all others",
        "core/scheduling/scheduler.py",
        "                replica.ran_retry_last = True\n",
        "                pass\n",
    ),
    Mutant(
        "a call that must run alone waits for others that there are not",
        "core/scheduling/scheduler.py",
        "        if queue.again and queue.calls == len(queue.again):\n",
        "        if False:\n",
    ),
    Mutant(
        "company is awaited for ever",
        "core/scheduling/scheduler.py",
        "                if now_s < due_s:\n",
        "                if True:\n",
    ),
    Mutant(
        "an expired call is executed",
        "core/scheduling/scheduler.py",
        "            if call.deadline_s <= now_s:\n                self._expire_waiting(call, now_s)\n"
        "            else:\n                calls",
        "            if True:\n                calls",
    ),
    Mutant(
        "a call is tried for ever",
        "core/scheduling/scheduler.py",
        "call.deaths < _MOST_DEATHS and ",
        "",
    ),
    Mutant(
        "a begun stream is tried again",
        "core/scheduling/scheduler.py",
        " and not call.streamed",
        "",
    ),
    Mutant(
        "a dead worker's calls are forgotten",
        "core/scheduling/scheduler.py",
        "for call in reversed(lost.values())",
        "for call in ()",
    ),
    Mutant(
        "a dead worker stays",
        "core/scheduling/scheduler.py",
        "        del self._registry.workers[worker.identity]\n",
        "",
    ),
    Mutant(
        "a retry is not looked at",
        "core/scheduling/scheduler.py",
        "            pool.queue.push_retry(call)\n            self._dirty[pool] = None\n",
        "            pool.queue.push_retry(call)\n",
    ),
    Mutant(
        "what came is not looked at",
        "core/scheduling/scheduler.py",
        "        pool.queue.append(call)\n        self._dirty[pool] = None\n",
        "        pool.queue.append(call)\n",
    ),
    Mutant(
        "free room is not looked at",
        "core/scheduling/scheduler.py",
        "        self._dirty[pool] = None\n\n    def dispatch",
        "        pass\n\n    def dispatch",
    ),
    Mutant(
        "nothing expires",
        "core/scheduling/scheduler.py",
        "        if now_s - self._expired_s < EXPIRE_INTERVAL_S:\n",
        "        if True:\n",
    ),
    Mutant(
        "a running call that expires is not cancelled",
        "core/scheduling/scheduler.py",
        "        self._outbox.to_worker(identity, protocol.CANCEL, call.number)\n",
        "",
    ),
    Mutant(
        "an expired call stays in the queue",
        "core/scheduling/scheduler.py",
        "                self.leave_queue(call)\n",
        "",
    ),
    Mutant(
        "the queue counts up only",
        "core/state/fair_queue.py",
        "        self.calls -= 1\n        self.bytes -= size\n        return call",
        "        return call",
    ),
    Mutant(
        "an empty lane stays",
        "core/state/fair_queue.py",
        "            del lanes[client]\n",
        "            pass\n",
    ),
    Mutant(
        "a call is not forgotten",
        "core/state/calls.py",
        "        del self._open[call.number]\n",
        "",
    ),
    Mutant(
        "a client is not forgotten",
        "core/state/calls.py",
        "            del self.clients[client.identity]\n",
        "",
    ),
    Mutant(
        "an end is counted twice",
        "core/state/calls.py",
        "target.outcomes[outcome] += 1",
        "target.outcomes[outcome] += 2",
    ),
    Mutant(
        "a failure does not wait for room",
        "core/state/calls.py",
        "        if call.slots > 0:\n            self._end",
        "        if True:\n            self._end",
    ),
    Mutant(
        "a failure that waits never comes",
        "core/state/calls.py",
        "if call.failure is not None and call.slots > 0:",
        "if False:",
    ),
    Mutant(
        "an answer is passed on after the end",
        "core/handlers/workers.py",
        "        if call.closed or call.failure is not None:\n",
        "        if False:\n",
    ),
    Mutant(
        "a late answer frees no room",
        "core/handlers/workers.py",
        "        if events.event_name(event) != events.STREAM:\n            self._release(call)\n",
        "",
    ),
    Mutant(
        "an item of a stream ends it",
        "core/handlers/workers.py",
        "        if name == events.STREAM:\n",
        "        if False:\n",
    ),
    Mutant(
        "a stranger is not told",
        "core/handlers/workers.py",
        "            self._outbox.to_worker(identity, protocol.RESET)\n\n    def worker_lost",
        "            pass\n\n    def worker_lost",
    ),
    Mutant(
        "what a lost client had queued stays",
        "core/handlers/clients.py",
        "            self._scheduler.leave_queue(call)\n",
        "",
    ),
    Mutant("a lost client is answered", "core/handlers/clients.py", "            self._calls.forget(call)\n", ""),
    Mutant(
        "room at the client is not passed on",
        "core/handlers/clients.py",
        "            self._outbox.to_worker(batch.replica.worker.identity, *frames)\n",
        "            pass\n",
    ),
    Mutant(
        "a heartbeat is not answered",
        "core/state/calls.py",
        "        self.send_heartbeat(call, now_s)\n\n    def given_up",
        "\n    def given_up",
    ),
    Mutant(
        "bad frames are not counted",
        "core/handlers/clients.py",
        "            self._counters.bad_frames[bad.reason] += 1\n",
        "",
    ),
)


def survives(mutant: Mutant, folder: Path) -> bool:
    """Whether nothing wrong is found with it."""
    path = folder / "broker" / mutant.file
    right = path.read_text()
    if right.count(mutant.right) != 1:
        sys.exit(f"error: {mutant.file} has {right.count(mutant.right)} times what {mutant.fault!r} changes")
    path.write_text(right.replace(mutant.right, mutant.wrong))
    simulation = [sys.executable, "-m", "tests.simulation.run", "--seeds", SEEDS, "--steps", STEPS]
    unit_tests = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/unit/test_batches.py"]
    try:
        results = (
            subprocess.run(command, cwd=folder, capture_output=True, check=False, timeout=60)
            for command in (simulation, unit_tests)
        )
        return all(result.returncode == 0 for result in results)
    except subprocess.TimeoutExpired:
        return False  # it goes round and round: noticed
    finally:
        path.write_text(right)


def main() -> None:
    """Try every mutant; the exit code is 1 if one survives."""
    folders: SimpleQueue[Path] = SimpleQueue()

    def tried(mutant: Mutant) -> bool:
        folder = folders.get()
        try:
            return survives(mutant, folder)
        finally:
            folders.put(folder)

    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(AT_A_TIME) as pool:
        for number in range(AT_A_TIME):
            for part in ("broker", "cluster", "zmtp", "tests"):
                ignored = shutil.ignore_patterns("node_modules", "__pycache__")
                shutil.copytree(REPOSITORY / part, Path(name, str(number), part), ignore=ignored)
            folders.put(Path(name, str(number)))
        unbroken = Mutant("nothing", "core/core.py", '"""The routing core:', '"""The routing core:')
        if not tried(unbroken):
            sys.exit("error: the simulation fails without any mutant")
        survivors = []
        for mutant, alive in zip(MUTANTS, pool.map(tried, MUTANTS), strict=True):
            survivors += [mutant.fault] if alive else []
            print(f"{'SURVIVES' if alive else 'caught  '} {mutant.file}: {mutant.fault}", flush=True)  # noqa: T201
    if survivors:
        sys.exit(f"error: {len(survivors)} of {len(MUTANTS)} mutants survive")
    print(f"all {len(MUTANTS)} mutants were caught")  # noqa: T201


if __name__ == "__main__":
    main()
