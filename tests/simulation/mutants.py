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
        "placement.py",
        "any(hosting.free < hosting.capacity for hosting in unloading.hostings)",
        "False",
    ),
    Mutant(
        "a worker that was lost while it unloads is waited for",
        "placement.py",
        "            unloading.waiting = {number: one for number, one in unloading.waiting.items() if one is not worker}\n",
        "",
    ),
    Mutant(
        "a worker that was lost while it loads is waited for",
        "placement.py",
        "                del loading.waiting[number]\n",
        "",
    ),
    Mutant(
        "what was unloaded can still be called",
        "placement.py",
        "            self._forget_route(key)\n            self._catalogue.close(key)\n",
        "            self._forget_route(key)\n",
    ),
    Mutant(
        "a worker that comes does not load what it should",
        "placement.py",
        "if there is None or (there.entry != placed.entry",
        "if there is not None and (there.entry != placed.entry",
    ),
    Mutant(
        "a worker that comes brings back what was unloaded",
        "placement.py",
        "(name, str(version)) in self._plan.unloaded and not is_coming",
        "False and not is_coming",
    ),
    Mutant(
        "work does not say which version",
        "procedure.py",
        "self.service.model.pinned(described.name).encode()",
        "described.name.encode()",
    ),
    Mutant(
        "a model that was loaded anew keeps its room",
        "service.py",
        "        self.change_room(hosting, capacity - hosting.capacity)\n",
        "",
    ),
    Mutant(
        "bytes of a stream stay with the version that it waited for",
        "conversation.py",
        "        if target.is_stream:\n            self._count_stream(conversation, client, -1)\n",
        "",
    ),
    Mutant(
        "a client that has given a call up is never noticed",
        "conversation.py",
        "one.heard_s is not None and now_s - one.heard_s > one.patience_s",
        "False",
    ),
    Mutant(
        "an error waits for ever for a reader",
        "conversation.py",
        "now_s - one.full_s > self._unread_patience_s * (1 if one.heard_s is None else BEATING_FACTOR)",
        "False",
    ),
    Mutant(
        "streams take the room of calls",
        "service.py",
        "model.max_streams if service.is_of_streams else model.slots + model.batches_ahead",
        "model.slots + model.batches_ahead",
    ),
    Mutant(
        "a stream of a dead worker waits for one that has none",
        "dispatch.py",
        "                hosting, room = service.roomiest(now_s), 1\n",
        "                hosting = service.next_for_one_alone(others_wait=others_wait)\n                room = hosting.capacity if hosting else 0\n",
    ),
    Mutant(
        "bytes of open streams are counted for ever",
        "conversation.py",
        "if conversation.target.is_stream:",
        "pass",
    ),
    Mutant(
        "a client that beats is taken for gone",
        "conversation.py",
        "now_s - one.heard_s > one.patience_s",
        "now_s - one.heard_s < one.patience_s",
    ),
    Mutant(
        "an answered batch frees no room",
        "catalogue.py",
        "        service.change_room(batch.hosting, batch.room)\n",
        "",
    ),
    Mutant(
        "the first answer of a batch frees its room",
        "catalogue.py",
        "        if batch.unanswered:\n",
        "        if False:\n",
    ),
    Mutant(
        "a batch takes no room",
        "catalogue.py",
        "        hosting.service.change_room(hosting, -room)\n",
        "",
    ),
    Mutant(
        "a draining worker is offered on",
        "catalogue.py",
        "        service.withdraw(hosting)\n",
        "",
    ),
    Mutant(
        "a drained worker's room stays counted",
        "service.py",
        "        self.free -= room\n",
        "",
    ),
    Mutant(
        "a draining worker's answers make room",
        "service.py",
        "        if hosting in self.hostings:\n",
        "        if True:\n",
    ),
    Mutant(
        "an answered call stays in flight",
        "catalogue.py",
        "        del batch.hosting.worker.in_flight[conversation.number]\n",
        "",
    ),
    Mutant(
        "a given call is not marked in flight",
        "dispatch.py",
        "            in_flight[number] = conversation\n",
        "",
    ),
    Mutant(
        "a batch is larger than it may be",
        "dispatch.py",
        "while len(calls) < most and size",
        "while size",
    ),
    Mutant(
        "a call is tried again beside others",
        "dispatch.py",
        "room = hosting.capacity if hosting is not None else 0",
        "room = 1",
    ),
    Mutant(
        "others are given beside a call that is tried again",
        "dispatch.py",
        "self._give([conversation], hosting, room, now_s)",
        "self._give([conversation], hosting, 1, now_s)",
    ),
    Mutant(
        "a worker that is kept free gets work",
        "dispatch.py",
        "service.roomiest(now_s, kept)",
        "service.roomiest(now_s)",
    ),
    Mutant(
        "a worker stays kept free for a call that has gone",
        "dispatch.py",
        "            self._dirty[service] = None  # a worker may have been kept free for it, or for others before it\n",
        "            pass\n",
    ),
    Mutant(
        "the calls of a dead worker hold up all others",
        "dispatch.py",
        "                hosting.ran_one_alone = True\n",
        "                pass\n",
    ),
    Mutant(
        "a call that must run alone waits for others that there are not",
        "dispatch.py",
        "        if queue.again and queue.calls == len(queue.again):\n",
        "        if False:\n",
    ),
    Mutant(
        "company is awaited for ever",
        "dispatch.py",
        "                if now_s < due_s:\n",
        "                if True:\n",
    ),
    Mutant(
        "an expired call is executed",
        "dispatch.py",
        "            if conversation.deadline_s <= now_s:\n                self._expire_waiting(conversation, now_s)\n"
        "            else:\n                calls",
        "            if True:\n                calls",
    ),
    Mutant(
        "a call is tried for ever",
        "dispatch.py",
        "conversation.deaths < _MOST_DEATHS and ",
        "",
    ),
    Mutant(
        "a begun stream is tried again",
        "dispatch.py",
        " and not conversation.streamed",
        "",
    ),
    Mutant(
        "a dead worker's calls are forgotten",
        "dispatch.py",
        "for conversation in reversed(lost.values())",
        "for conversation in ()",
    ),
    Mutant(
        "a dead worker stays",
        "dispatch.py",
        "        del self._catalogue.workers[worker.identity]\n",
        "",
    ),
    Mutant(
        "a retry is not looked at",
        "dispatch.py",
        "            service.queue.put_first(conversation)\n            self._dirty[service] = None\n",
        "            service.queue.put_first(conversation)\n",
    ),
    Mutant(
        "what came is not looked at",
        "dispatch.py",
        "        service.queue.append(conversation)\n        self._dirty[service] = None\n",
        "        service.queue.append(conversation)\n",
    ),
    Mutant(
        "free room is not looked at",
        "dispatch.py",
        "        self._dirty[service] = None\n\n    def give_out",
        "        pass\n\n    def give_out",
    ),
    Mutant(
        "nothing expires",
        "dispatch.py",
        "        if now_s - self._expired_s < EXPIRE_INTERVAL_S:\n",
        "        if True:\n",
    ),
    Mutant(
        "a running call that expires is not cancelled",
        "dispatch.py",
        "        self._outbox.to_worker(identity, protocol.CANCEL, conversation.number)\n",
        "",
    ),
    Mutant(
        "an expired call stays in the queue",
        "dispatch.py",
        "                self.leave_queue(conversation)\n",
        "",
    ),
    Mutant(
        "the queue counts up only",
        "queue.py",
        "        self.calls -= 1\n        self.bytes -= size\n        return conversation",
        "        return conversation",
    ),
    Mutant(
        "an empty lane stays",
        "queue.py",
        "            del lanes[client]\n",
        "            pass\n",
    ),
    Mutant(
        "a conversation is not forgotten",
        "conversation.py",
        "        del self._open[conversation.number]\n",
        "",
    ),
    Mutant(
        "a client is not forgotten",
        "conversation.py",
        "            del self.clients[client.identity]\n",
        "",
    ),
    Mutant(
        "an end is counted twice",
        "conversation.py",
        "target.outcomes[outcome] += 1",
        "target.outcomes[outcome] += 2",
    ),
    Mutant(
        "a failure does not wait for room",
        "conversation.py",
        "        if conversation.slots > 0:\n            self._end",
        "        if True:\n            self._end",
    ),
    Mutant(
        "a failure that waits never comes",
        "conversation.py",
        "if conversation.failure is not None and conversation.slots > 0:",
        "if False:",
    ),
    Mutant(
        "an answer is passed on after the end",
        "backend.py",
        "        if conversation.closed or conversation.failure is not None:\n",
        "        if False:\n",
    ),
    Mutant(
        "a late answer frees no room",
        "backend.py",
        "        if events.event_name(event) != events.STREAM:\n            self._release(conversation)\n",
        "",
    ),
    Mutant(
        "an item of a stream ends it",
        "backend.py",
        "        if name == events.STREAM:\n",
        "        if False:\n",
    ),
    Mutant(
        "a stranger is not told",
        "backend.py",
        "            self._outbox.to_worker(identity, protocol.RESET)\n\n    def worker_lost",
        "            pass\n\n    def worker_lost",
    ),
    Mutant(
        "what a lost client had queued stays",
        "frontend.py",
        "            self._dispatcher.leave_queue(conversation)\n",
        "",
    ),
    Mutant("a lost client is answered", "frontend.py", "            self._conversations.forget(conversation)\n", ""),
    Mutant(
        "room at the client is not passed on",
        "frontend.py",
        "            self._outbox.to_worker(batch.hosting.worker.identity, *frames)\n",
        "            pass\n",
    ),
    Mutant(
        "a heartbeat is not answered",
        "conversation.py",
        "        self.beat(conversation, now_s)\n\n    def given_up",
        "\n    def given_up",
    ),
    Mutant(
        "bad frames are not counted",
        "frontend.py",
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
            for part in ("broker", "cluster", "tests"):
                ignored = shutil.ignore_patterns("node_modules", "__pycache__")
                shutil.copytree(REPOSITORY / part, Path(name, str(number), part), ignore=ignored)
            folders.put(Path(name, str(number)))
        unbroken = Mutant("nothing", "routing.py", '"""The routing core:', '"""The routing core:')
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
