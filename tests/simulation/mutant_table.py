"""The faults that the tests of the core must notice, one entry each.

An entry says what the broker does wrong, in which function, which code is right there and which code replaces it. An
empty text removes the statements. `mutation.Mutant` has the rules.
"""

from tests.simulation.mutation import Mutant

DEPLOYMENT = "core/deployment/deployment.py"
CALLS = "core/state/calls.py"
FAIR_QUEUE = "core/state/fair_queue.py"
POOL = "core/state/pool.py"
PROCEDURES = "core/state/procedures.py"
REGISTRY = "core/state/registry.py"
SCHEDULER = "core/scheduling/scheduler.py"
CLIENTS = "core/handlers/clients.py"
WORKERS = "core/handlers/workers.py"

MUTANTS = (
    Mutant(
        "a model is unloaded while it has calls",
        DEPLOYMENT,
        "Deployment._go_on_unloading",
        "any(replica.free < replica.capacity for replica in unloading.replicas)",
        "False",
    ),
    Mutant(
        "the broker waits for an unload by a worker that was lost",
        DEPLOYMENT,
        "Deployment.lost",
        "unloading.waiting = {number: one for number, one in unloading.waiting.items() if one is not worker}",
        "",
    ),
    Mutant(
        "the broker waits for a load by a worker that was lost",
        DEPLOYMENT,
        "Deployment.lost",
        "del loading.waiting[number]",
        "",
    ),
    Mutant("an unloaded model can still be called", DEPLOYMENT, "Deployment.unload", "self._registry.close(key)", ""),
    Mutant(
        "a new worker does not load the models that it should",
        DEPLOYMENT,
        "Deployment.joined",
        "there is None",
        "there is not None",
    ),
    Mutant(
        "a new worker brings an unloaded model back",
        DEPLOYMENT,
        "Deployment.is_unwanted",
        "(name, str(version)) in self._plan.unloaded",
        "False",
    ),
    Mutant(
        "a batch does not name the version of its model",
        PROCEDURES,
        "Target.describe",
        "self.pool.model.pinned(described.name)",
        "described.name",
    ),
    Mutant(
        "a model that was loaded again keeps its old capacity",
        POOL,
        "WorkerPool.resize",
        "self.change_free(replica, capacity - replica.capacity)",
        "",
    ),
    Mutant(
        "bytes of a reassigned stream stay counted with its old version",
        CALLS,
        "CallTable.move",
        "if target.is_stream:\n    self._count_stream(call, client, -1)",
        "",
    ),
    Mutant(
        "the broker never notices that a client has abandoned a call",
        CALLS,
        "CallTable.abandoned",
        "one.last_heartbeat_s is not None and now_s - one.last_heartbeat_s > one.patience_s",
        "False",
    ),
    Mutant(
        "an error waits for its reader without a limit",
        CALLS,
        "CallTable.abandoned",
        "now_s - one.full_s > self._unread_patience_s * (1 if one.last_heartbeat_s is None else BEATING_FACTOR)",
        "False",
    ),
    Mutant(
        "streams have the capacity of calls",
        POOL,
        "_capacity",
        "model.max_streams if pool.is_for_streams else model.slots + model.batches_ahead",
        "model.slots + model.batches_ahead",
    ),
    Mutant(
        "a dead worker's stream waits for a worker without streams",
        SCHEDULER,
        "Scheduler._give_again",
        "replica, room = (pool.least_loaded(now_s), 1)",
        "replica = pool.least_busy_for_retry(others_wait=others_wait)\nroom = replica.capacity if replica else 0",
    ),
    Mutant(
        "bytes of an ended stream stay counted", CALLS, "CallTable.forget", "self._count_stream(call, client, -1)", ""
    ),
    Mutant(
        "a client that sends heartbeats times out",
        CALLS,
        "CallTable.abandoned",
        "now_s - one.last_heartbeat_s > one.patience_s",
        "now_s - one.last_heartbeat_s < one.patience_s",
    ),
    Mutant(
        "an answered batch frees no capacity",
        REGISTRY,
        "Registry.release",
        "pool.change_free(batch.replica, batch.room)",
        "",
    ),
    Mutant("the first answer of a batch frees its capacity", REGISTRY, "Registry.release", "batch.unanswered", "False"),
    Mutant("a batch takes no capacity", REGISTRY, "Registry.take", "replica.pool.change_free(replica, -room)", ""),
    Mutant("a draining worker stays in its pool", REGISTRY, "Registry._take_back", "pool.withdraw(replica)", ""),
    Mutant("a draining worker's free capacity stays counted", POOL, "WorkerPool.withdraw", "self.free -= room", ""),
    Mutant(
        "answers of a draining worker add free capacity",
        POOL,
        "WorkerPool.change_free",
        "replica in self.replicas",
        "True",
    ),
    Mutant(
        "an answered call stays in flight",
        REGISTRY,
        "Registry.release",
        "del batch.replica.worker.in_flight[call.number]",
        "",
    ),
    Mutant(
        "a dispatched call is not marked as in flight", SCHEDULER, "Scheduler._give", "in_flight[number] = call", ""
    ),
    Mutant("a batch is larger than it may be", SCHEDULER, "Scheduler._next_batch", "len(calls) < most", "True"),
    Mutant(
        "a retry shares its worker with other calls",
        SCHEDULER,
        "Scheduler._give_again",
        "replica.capacity if replica is not None else 0",
        "1",
    ),
    Mutant(
        "a retry takes the capacity of one batch only",
        SCHEDULER,
        "Scheduler._give_again",
        "self._give([call], replica, room, now_s)",
        "self._give([call], replica, 1, now_s)",
    ),
    Mutant(
        "a worker that is kept free for a retry gets other calls",
        SCHEDULER,
        "Scheduler._give_out_of",
        "pool.least_loaded(now_s, kept)",
        "pool.least_loaded(now_s)",
    ),
    Mutant(
        "a worker stays kept free for a retry that has left the queue",
        SCHEDULER,
        "Scheduler.leave_queue",
        "self._dirty[pool] = None",
        "",
    ),
    Mutant(
        "retries of a dead worker hold up all other calls",
        SCHEDULER,
        "Scheduler._give_again",
        "replica.ran_retry_last = True",
        "",
    ),
    Mutant(
        "a retry waits for other calls when none are left",
        SCHEDULER,
        "Scheduler._give_out_of",
        "queue.again and queue.calls == len(queue.again)",
        "False",
    ),
    Mutant("an incomplete batch waits without a limit", SCHEDULER, "Scheduler._give_out_of", "now_s < due_s", "True"),
    Mutant("an expired call is executed", SCHEDULER, "Scheduler._next_batch", "call.deadline_s <= now_s", "False"),
    Mutant(
        "a call is retried without a limit", SCHEDULER, "Scheduler._retry_or_fail", "call.deaths < _MOST_DEATHS", "True"
    ),
    Mutant(
        "a stream is retried after its first item", SCHEDULER, "Scheduler._retry_or_fail", "not call.streamed", "True"
    ),
    Mutant("a dead worker's calls are forgotten", SCHEDULER, "Scheduler.drop_worker", "reversed(lost.values())", "()"),
    Mutant(
        "a dead worker stays", SCHEDULER, "Scheduler.drop_worker", "del self._registry.workers[worker.identity]", ""
    ),
    Mutant(
        "the scheduler does not look at a pool with a new retry",
        SCHEDULER,
        "Scheduler._retry_or_fail",
        "self._dirty[pool] = None",
        "",
    ),
    Mutant(
        "the scheduler does not look at a pool with a new call",
        SCHEDULER,
        "Scheduler.enqueue",
        "self._dirty[pool] = None",
        "",
    ),
    Mutant(
        "the scheduler does not look at a pool with free capacity",
        SCHEDULER,
        "Scheduler.mark_dirty",
        "self._dirty[pool] = None",
        "",
    ),
    Mutant(
        "nothing expires", SCHEDULER, "Scheduler.expire_if_due", "now_s - self._expired_s < EXPIRE_INTERVAL_S", "True"
    ),
    Mutant(
        "a running call that expires is not cancelled",
        SCHEDULER,
        "Scheduler._expire_running",
        "self._outbox.to_worker(identity, protocol.CANCEL, call.number)",
        "",
    ),
    Mutant("an expired call stays in the queue", SCHEDULER, "Scheduler.expire_if_due", "self.leave_queue(call)", ""),
    Mutant("the queue does not count down", FAIR_QUEUE, "FairQueue.pop", "self.calls -= 1\nself.bytes -= size", ""),
    Mutant("the queue keeps the empty lane of a client", FAIR_QUEUE, "FairQueue.pop", "del lanes[client]", ""),
    Mutant("the call table keeps a call that has ended", CALLS, "CallTable.forget", "del self._open[call.number]", ""),
    Mutant(
        "the call table keeps a client without calls",
        CALLS,
        "CallTable.forget",
        "del self.clients[client.identity]",
        "",
    ),
    Mutant(
        "an end is counted twice",
        CALLS,
        "CallTable.close",
        "target.outcomes[outcome] += 1",
        "target.outcomes[outcome] += 2",
    ),
    Mutant("an error does not wait for a free slot", CALLS, "CallTable.fail", "call.slots > 0", "True"),
    Mutant(
        "an error that waits for a slot is never sent",
        CALLS,
        "CallTable.add_slots",
        "call.failure is not None and call.slots > 0",
        "False",
    ),
    Mutant(
        "the broker passes an answer on after the call has ended",
        WORKERS,
        "WorkerHandler._reply",
        "call.closed or call.failure is not None",
        "False",
    ),
    Mutant(
        "a late answer frees no capacity",
        WORKERS,
        "WorkerHandler._late",
        "if events.event_name(event) != events.STREAM:\n    self._release(call)",
        "",
    ),
    Mutant("an item of a stream ends it", WORKERS, "WorkerHandler._reply", "name == events.STREAM", "False"),
    Mutant(
        "an unknown worker is not reset",
        WORKERS,
        "WorkerHandler._from_stranger",
        "self._outbox.to_worker(identity, protocol.RESET)",
        "",
    ),
    Mutant(
        "calls of a lost client stay in the queue",
        CLIENTS,
        "ClientHandler._drop",
        "self._scheduler.leave_queue(call)",
        "",
    ),
    Mutant("calls of a lost client are answered", CLIENTS, "ClientHandler._drop", "self._calls.forget(call)", ""),
    Mutant(
        "the client's slots are not passed on to the worker",
        CLIENTS,
        "ClientHandler._later_event",
        "self._outbox.to_worker(batch.replica.worker.identity, *frames)",
        "",
    ),
    Mutant("a heartbeat is not answered", CALLS, "CallTable.on_heartbeat", "self.send_heartbeat(call, now_s)", ""),
    Mutant(
        "bad frames are not counted", CLIENTS, "ClientHandler.message", "self._counters.bad_frames[bad.reason] += 1", ""
    ),
)
