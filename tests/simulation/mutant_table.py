"""The faults that the tests of the core must notice, one entry each.

An entry says what the broker does wrong, in which function, which code is right there and which code replaces it. An
empty text removes the statements. `mutation.Mutant` has the rules.
"""

from tests.simulation.mutation import Mutant

LOADING = "core/deployment/loading.py"
RESTORING = "core/deployment/restoring.py"
UNLOADING = "core/deployment/unloading.py"
CALLS = "core/state/calls.py"
CALL_TABLE = "core/state/call_table.py"
FAIR_QUEUE = "core/state/fair_queue.py"
POOL = "core/state/pool.py"
PROCEDURES = "core/state/procedures.py"
REGISTRY = "core/state/registry.py"
SCHEDULER = "core/scheduling/scheduler.py"
DEADLINES = "core/scheduling/deadlines.py"
CLIENTS = "core/handlers/clients.py"
WORKERS = "core/handlers/workers.py"
SERVERS = "core/handlers/servers.py"
SERVER_REGISTRATION = "core/handlers/server_registration.py"
SERVICES = "core/state/services.py"
CONVERSATIONS = "core/state/conversations.py"
SILENCE = "core/scheduling/silence.py"
ANSWERS = "core/handlers/answers.py"

MUTANTS = (
    Mutant(
        "a model is unloaded while it has calls",
        UNLOADING,
        "Unloading.has_calls",
        "any(replica.free < replica.capacity for replica in self.replicas)",
        "False",
    ),
    Mutant(
        "the broker waits for an unload by a worker that was lost",
        UNLOADING,
        "Unloading.worker_lost",
        "self.awaited = {number: other for number, other in self.awaited.items() if other is not worker}",
        "",
    ),
    Mutant(
        "the broker waits for a load by a worker that was lost",
        LOADING,
        "Loading.worker_lost",
        "del self.awaited[number]",
        "",
    ),
    Mutant(
        "an unloaded model can still be called",
        UNLOADING,
        "Unloader.unload_everywhere",
        "self._registry.close(key)",
        "",
    ),
    Mutant(
        "a new worker does not load the models that it should",
        RESTORING,
        "Restorer.worker_registered",
        "present is None",
        "present is not None",
    ),
    Mutant(
        "a new worker brings an unloaded model back",
        UNLOADING,
        "Unloader.has_unloaded",
        "self._plan.is_unloaded(key)",
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
        CALL_TABLE,
        "CallTable.retarget",
        "if target.is_stream:\n    self._count_stream(call, client, -1)",
        "",
    ),
    Mutant(
        "the broker never notices that a client has abandoned a call",
        CALL_TABLE,
        "CallTable.abandoned",
        "call.last_heartbeat_s is not None and now_s - call.last_heartbeat_s > call.client_timeout_s",
        "False",
    ),
    Mutant(
        "an error waits for its reader without a limit",
        CALL_TABLE,
        "CallTable.abandoned",
        "now_s - call.full_since_s > self._unread_timeout_s"
        " * (1 if call.last_heartbeat_s is None else HEARTBEAT_PATIENCE_FACTOR)",
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
        "Scheduler._dispatch_retries",
        "replica, capacity = (pool.least_loaded(now_s), 1)",
        "replica = pool.least_busy_for_retry(others_wait=others_wait)\ncapacity = replica.capacity if replica else 0",
    ),
    Mutant(
        "bytes of an ended stream stay counted",
        CALL_TABLE,
        "CallTable._forget",
        "self._count_stream(call, client, -1)",
        "",
    ),
    Mutant(
        "a client that sends heartbeats times out",
        CALL_TABLE,
        "CallTable.abandoned",
        "now_s - call.last_heartbeat_s > call.client_timeout_s",
        "now_s - call.last_heartbeat_s < call.client_timeout_s",
    ),
    Mutant(
        "an answered batch frees no capacity",
        CALL_TABLE,
        "CallTable.release",
        "pool.change_free(replica, batch.capacity)",
        "",
    ),
    Mutant(
        "the first answer of a batch frees its capacity",
        CALL_TABLE,
        "CallTable.release",
        "if batch.unanswered:\n    return None",
        "",
    ),
    Mutant(
        "a batch takes no capacity", CALL_TABLE, "CallTable.start", "replica.pool.change_free(replica, -capacity)", ""
    ),
    Mutant(
        "a draining worker stays in its pool", REGISTRY, "Registry._withdraw_from_pool", "pool.withdraw(replica)", ""
    ),
    Mutant("a draining worker's free capacity stays counted", POOL, "WorkerPool.withdraw", "self.free -= free", ""),
    Mutant(
        "answers of a draining worker add free capacity",
        POOL,
        "WorkerPool.change_free",
        "replica in self.replicas",
        "True",
    ),
    Mutant(
        "an answered call stays in flight",
        CALL_TABLE,
        "CallTable.release",
        "del self.in_flight[worker][call.number]",
        "",
    ),
    Mutant(
        "a dispatched call is not marked as in flight",
        CALL_TABLE,
        "CallTable.start",
        "in_flight[call.number] = call",
        "",
    ),
    Mutant("a batch is larger than it may be", SCHEDULER, "Scheduler._next_batch", "len(batch) < most", "True"),
    Mutant(
        "a retry shares its worker with other calls",
        SCHEDULER,
        "Scheduler._dispatch_retries",
        "replica.capacity if replica is not None else 0",
        "1",
    ),
    Mutant(
        "a retry takes the capacity of one batch only",
        SCHEDULER,
        "Scheduler._dispatch_retries",
        "self._send_batch([call], replica, capacity, now_s)",
        "self._send_batch([call], replica, 1, now_s)",
    ),
    Mutant(
        "a worker that is kept free for a retry gets other calls",
        SCHEDULER,
        "Scheduler._dispatch_pool",
        "pool.least_loaded(now_s, reserved)",
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
        "Scheduler._dispatch_retries",
        "replica.ran_retry_last = True",
        "",
    ),
    Mutant(
        "a retry waits for other calls when none are left",
        SCHEDULER,
        "Scheduler._dispatch_pool",
        "queue.retries and queue.calls == len(queue.retries)",
        "False",
    ),
    Mutant("an incomplete batch waits without a limit", SCHEDULER, "Scheduler._dispatch_pool", "now_s < due_s", "True"),
    Mutant("an expired call is executed", SCHEDULER, "Scheduler._next_batch", "call.deadline_s <= now_s", "False"),
    Mutant(
        "a call is retried without a limit", SCHEDULER, "Scheduler._retry_or_fail", "call.deaths < _MOST_DEATHS", "True"
    ),
    Mutant(
        "a stream is retried after its first item",
        SCHEDULER,
        "Scheduler._retry_or_fail",
        "call.state is RUNNING",
        "True",
    ),
    Mutant("a dead worker's calls are forgotten", SCHEDULER, "Scheduler.drop_worker", "reversed(lost)", "()"),
    Mutant("a dead worker stays", REGISTRY, "Registry.remove", "del self.workers[worker.identity]", ""),
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
        "Scheduler.on_new_call",
        "self._dirty[call.target.pool] = None",
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
        "nothing expires", DEADLINES, "Deadlines.check_if_due", "now_s - self._checked_s < CHECK_INTERVAL_S", "True"
    ),
    Mutant(
        "a running call that expires is not cancelled",
        DEADLINES,
        "Deadlines._expire_running",
        "self._conversations.cancel(call)",
        "",
    ),
    Mutant(
        "an expired call stays in the queue",
        DEADLINES,
        "Deadlines.check_if_due",
        "self._scheduler.leave_queue(call)",
        "",
    ),
    Mutant(
        "the queue does not count down", FAIR_QUEUE, "FairQueue._removed", "self.calls -= 1\nself.bytes -= size", ""
    ),
    Mutant("the queue keeps empty lanes", FAIR_QUEUE, "FairQueue._removed", "self._groups.clear()", "pass"),
    Mutant(
        "the call table keeps a call that has ended", CALL_TABLE, "CallTable._forget", "del self._open[call.number]", ""
    ),
    Mutant(
        "the call table keeps a client without calls",
        CALL_TABLE,
        "CallTable._forget",
        "del self.clients[client.identity]",
        "",
    ),
    Mutant(
        "an end is counted twice",
        CALL_TABLE,
        "CallTable.end",
        "target.outcomes[outcome] += 1",
        "target.outcomes[outcome] += 2",
    ),
    Mutant("an error does not wait for a free slot", CALL_TABLE, "CallTable.fail", "call.slots > 0", "True"),
    Mutant(
        "an error that waits for a slot is never sent",
        CALL_TABLE,
        "CallTable.add_slots",
        "call.failure is not None and call.slots > 0",
        "False",
    ),
    Mutant(
        "the broker passes an answer on after the call has ended",
        ANSWERS,
        "Answers.is_dropped",
        "call.is_over",
        "False",
    ),
    Mutant(
        "a late answer frees no capacity",
        ANSWERS,
        "Answers.is_dropped",
        "if name != events.STREAM:\n    self._release(call, now_s)",
        "",
    ),
    Mutant("an item of a stream ends it", ANSWERS, "Answers.pass_on", "name == events.STREAM", "False"),
    Mutant(
        "an unknown worker is not reset",
        WORKERS,
        "WorkerHandler._from_unregistered",
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
    Mutant("calls of a lost client are answered", CALL_TABLE, "CallTable.cancel", "self._forget(call)", ""),
    Mutant(
        "the client's slots are not passed on to the worker",
        CLIENTS,
        "ClientHandler._later_event",
        "self._conversations.more(call, slots)",
        "",
    ),
    Mutant(
        "a heartbeat is not answered", CALL_TABLE, "CallTable.on_heartbeat", "self._send_heartbeat(call, now_s)", ""
    ),
    Mutant(
        "bad frames are not counted", CLIENTS, "ClientHandler.message", "self._counters.bad_frames[bad.reason] += 1", ""
    ),
    Mutant(
        "a call that its client drops is retried after its worker's death",
        SCHEDULER,
        "Scheduler.drop_worker",
        "call.is_with_worker",
        "True",
    ),
    Mutant(
        "a stream that has sent an item counts as running",
        CALL_TABLE,
        "CallTable.on_item",
        "call.become(STREAMING)",
        "",
    ),
    Mutant(
        "a worker's count of calls in flight is not reduced",
        CALL_TABLE,
        "CallTable.release",
        "worker.in_flight -= 1",
        "",
    ),
    Mutant(
        "a call that a stock server has dropped is waited for",
        SILENCE,
        "Silence._is_dropped",
        "server.pong_s - max(overdue_since_s, server.turns_since_s) > GRACE_S",
        "False",
    ),
    Mutant(
        "the calls of a stock server that is blocked are given up",
        SILENCE,
        "Silence._is_dropped",
        "server.pong_s - max(overdue_since_s, server.turns_since_s) > GRACE_S",
        "True",
    ),
    Mutant(
        "a call waits at full servers beside others with room",
        SERVER_REGISTRATION,
        "ServerRegistrations.tick",
        "self._scheduler.rebalance(service)",
        "",
    ),
    Mutant(
        "a server that was blocked must send its overdue heartbeats before its pong",
        SILENCE,
        "Silence._is_dropped",
        "max(overdue_since_s, server.turns_since_s)",
        "overdue_since_s",
    ),
    Mutant(
        "a method is called again although it may have effects",
        SCHEDULER,
        "Scheduler._retry_or_fail",
        "call.target.procedure.may_retry",
        "True",
    ),
    Mutant(
        "a stock server cannot tell a second attempt from the first",
        CONVERSATIONS,
        "Conversations._id_of",
        "self.ids.encode(call.number, call.deaths)",
        "self.ids.encode(call.number)",
    ),
    Mutant(
        "a stock server's heartbeat is not answered",
        SERVERS,
        "ServerHandler._event",
        "self._conversations.answer_heartbeat(batch, call)",
        "",
    ),
    Mutant(
        "a stock server may send more than its client has room for",
        SERVERS,
        "ServerHandler._event",
        "call.slots <= 0 and call.client is not None",
        "False",
    ),
    Mutant(
        "calls do not move to a stock server that has come",
        SERVER_REGISTRATION,
        "ServerRegistrations._register",
        "self._scheduler.reassign_waiting(self._registry.services.by_name[service])",
        "",
    ),
    Mutant(
        "a lost stock server keeps its calls",
        SERVER_REGISTRATION,
        "ServerRegistrations.lost",
        "self._scheduler.drop_worker(server, reason, now_s)",
        "",
    ),
    Mutant("a stock server gets more calls than it may", SERVICES, "_as_model", "rules.calls", "rules.calls + 1"),
    Mutant(
        "a call goes to a stock server without its method",
        SERVICES,
        "Services.add",
        "frozenset((method.name for method in methods))",
        "frozenset()",
    ),
    Mutant(
        "room that a client announced while its call waited is lost",
        CONVERSATIONS,
        "Conversations.begin",
        "call.slots > 1",
        "False",
    ),
)
