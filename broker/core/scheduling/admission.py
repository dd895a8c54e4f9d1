"""Admission: whether a new call may wait, or is refused as `ServerBusy` or `NoWorkers`."""

from dataclasses import dataclass

from broker.core import errors
from broker.core.errors import Failure
from broker.core.state.call_table import CallTable
from broker.core.state.calls import Client
from broker.core.state.pool import WorkerPool


@dataclass(frozen=True, slots=True)
class QueueLimits:
    """How many calls may wait, and for how long.

    Attributes:
        no_worker_grace_s: how long a call waits for a first worker, in seconds, before it gets `NoWorkers`.
        queue_timeout_s: how long a call may wait in its queue, in seconds.
        queue_calls, queue_bytes: calls, and bytes of their events, that may wait for one model. A client that has less
            than an equal part of them may add calls beyond these limits, up to twice as many, or more if
            its address has less than an equal part, too.
        client_calls, client_bytes: the part of these that one client may have.
        unread_timeout_s: how long the reader of a stream may have no free slot, in seconds; a reader that sends
            heartbeats gets a multiple of it (`call_table.HEARTBEAT_PATIENCE_FACTOR`).
    """

    no_worker_grace_s: float
    queue_timeout_s: float
    queue_calls: int
    queue_bytes: int
    client_calls: int
    client_bytes: int
    unread_timeout_s: float = 600.0


class Admission:
    """Checks new calls against the limits."""

    def __init__(self, calls: CallTable, limits: QueueLimits) -> None:
        self._calls = calls
        self._limits = limits

    def is_unserved(self, pool: WorkerPool, now_s: float) -> bool:
        """Whether the pool has had no ready worker for longer than the grace, so that its calls are refused."""
        since_s = pool.unserved_since_s
        return since_s is not None and now_s - since_s > self._limits.no_worker_grace_s

    def no_workers(self, pool: WorkerPool) -> Failure:
        """Return the refusal of a call whose pool is unserved."""
        return errors.no_workers(pool.model.qualified_name, self._limits.no_worker_grace_s)

    def is_full(self, pool: WorkerPool) -> bool:
        """Whether as many calls wait for the pool as may, so that a call is refused whoever makes it."""
        return self._calls.queues[pool].calls >= self._limits.queue_calls

    def refusal(self, pool: WorkerPool, client: Client, size: int, now_s: float) -> Failure | None:
        """Return why a new call is refused; None if it may wait.

        Args:
            pool: the pool that would serve it.
            client: its client.
            size: bytes of its event.
            now_s: monotonic seconds.
        """
        if pool.unserved_since_s is not None and self.is_unserved(pool, now_s):
            return self.no_workers(pool)
        account = client.account
        if account.rules.calls is not None and account.open_calls >= account.rules.calls:
            return errors.server_busy(
                f"client {account.name!r} has {account.open_calls} open calls and may have {account.rules.calls}; "
                "wait for their answers"
            )
        if pool.is_for_streams:
            refusal = self._too_many_stream_bytes(pool, client, size)
            if refusal is not None:
                return refusal
        queue, limits = self._calls.queues[pool], self._limits
        if pool.free > 0 and not queue.calls:
            return None  # it will not wait
        name = pool.model.qualified_name
        calls, size_of_client = queue.share(client)
        most = limits.client_calls if account.rules.waiting_calls is None else account.rules.waiting_calls
        if calls >= most:
            return errors.server_busy(f"{calls} calls of {name} by this client wait already; wait for their answers")
        if size_of_client + size > limits.client_bytes:
            text = f"this client's calls of {name} that wait have {size_of_client} bytes already; wait for answers"
            return errors.server_busy(text)
        # Beyond the limits of the model, a client still gets an equal part of them: others may have taken all.
        is_full = queue.calls >= limits.queue_calls
        is_overfull = queue.calls >= 2 * limits.queue_calls and not queue.is_below_part(limits.queue_calls, client)
        if is_overfull or (is_full and calls >= queue.fair_part(limits.queue_calls, client)):
            return errors.server_busy(f"{queue.calls} calls of {name} wait already; call again later")
        if queue.bytes + size > limits.queue_bytes and size_of_client + size > queue.fair_part(
            limits.queue_bytes, client
        ):
            text = f"the calls of {name} that wait have {queue.bytes} bytes already; call again later"
            return errors.server_busy(text)
        return None

    def _too_many_stream_bytes(self, pool: WorkerPool, client: Client, size: int) -> Failure | None:
        """Bound open streams in bytes, as waiting calls are: a worker keeps the arguments of an open stream."""
        name, limits = pool.model.qualified_name, self._limits
        # Beyond the limit of the model, a client still gets an equal part of it: others may have taken all. All calls
        # of a service count as streams, because only the answer shows what they are.
        part = self._calls.shares[pool].fair_part(limits.queue_bytes, client)
        if pool.stream_bytes + size > limits.queue_bytes and client.stream_bytes + size > part:
            text = f"the open streams of {name} have {pool.stream_bytes} bytes already; call again later"
            return errors.server_busy(text)
        if client.stream_bytes + size > limits.client_bytes:
            text = f"this client's open streams have {client.stream_bytes} bytes already; wait until some have ended"
            return errors.server_busy(text)
        return None
