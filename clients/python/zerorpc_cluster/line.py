"""The connection of a client: makes it, loses it, and moves the events of its calls. Its driver decides when."""

from zerorpc_cluster.calls import Call, Calls
from zerorpc_cluster.errors import CallTimeoutError, ClientError, ConnectionLostError
from zerorpc_cluster.events import BadEventError
from zerorpc_cluster.ids import Ids
from zerorpc_cluster.options import Options
from zmtp.dealer import Dealer, Watcher
from zmtp.errors import PeerError

TICK_S = 0.5
"""How often the driver should call `tick` while there are calls, in seconds."""

FIRST_DELAY_S = 0.05
LONGEST_DELAY_S = 2.0
"""The first and the longest time between the end of a connection and the next attempt, in seconds."""


class Line:
    """A connection that is made again when it breaks. Not for two threads at once.

    Attributes:
        calls: the open calls.
        problem: why there is no connection, as part of a sentence.
        retry_at_s: when to connect again, in monotonic seconds, if there is no connection.
    """

    def __init__(self, address: str, watcher: Watcher, options: Options) -> None:
        """Begin without a connection.

        Args:
            address: shown in errors.
            watcher: watches the connection.
            options: for the calls.
        """
        self.calls = Calls(Ids(), options.heartbeat_s, options.slots)
        self.problem = "there is no connection yet"
        self.retry_at_s = 0.0
        self._address = address
        self._watcher = watcher
        self._mechanism = options.mechanism
        self._has_keys = options.keys is not None
        self._silence_s = float("inf") if options.heartbeat_s is None else 2 * options.heartbeat_s
        self._dealer: Dealer | None = None
        self._delay_s = FIRST_DELAY_S
        self._last_received_s = 0.0

    @property
    def is_connected(self) -> bool:
        """Whether a connection exists or is being made."""
        return self._dealer is not None

    @property
    def is_ready(self) -> bool:
        """Whether the server has completed the handshake of the connection."""
        return self._dealer is not None and self._dealer.is_ready

    def connect(self, endpoint: str, now_s: float) -> None:
        """Begin to make a connection.

        Args:
            endpoint: where the server listens: the address, or what its host name means.
            now_s: monotonic seconds.
        """
        try:
            self._dealer = Dealer(endpoint, self._watcher, self._mechanism)
        except OSError as error:
            self.cannot_connect(error, now_s)
            return
        self.problem = "the server has not completed ZeroMQ's handshake"
        self._last_received_s = now_s
        self._check(now_s, was_ready=True)

    def cannot_connect(self, error: OSError, now_s: float) -> None:
        """Note that the host name of the address could not be resolved."""
        self._lost(error.strerror or str(error), now_s)

    def send(self, now_s: float) -> None:
        """Send what the connection takes now."""
        dealer = self._dealer
        if dealer is None:
            return
        if self.calls.has_unsent and dealer.has_room:
            for event in self.calls.take_unsent(now_s):
                dealer.send(event)
        dealer.flush()

    def receive(self, now_s: float) -> None:
        """Read once from the connection, and send what that allows or asks for."""
        dealer = self._dealer
        if dealer is None:
            return
        was_ready = dealer.is_ready
        try:
            for event in dealer.receive():
                self.calls.receive(event, now_s)
        except (PeerError, BadEventError) as error:
            was_ready = dealer.is_ready
            self._lost(str(error), now_s)
            if not was_ready:  # it is something else that listens there: another attempt meets the same
                text = f"{self._address}: {error}; the call was not sent"
                self.calls.fail_all(lambda call: ConnectionLostError(text, not_executed=True))
            return
        self._last_received_s = now_s
        if dealer.is_ready:
            self._delay_s = FIRST_DELAY_S
        if self._check(now_s, was_ready=was_ready):
            self.send(now_s)

    def tick(self, now_s: float) -> None:
        """Send heartbeats, and end what is silent."""
        if self.calls.tick(now_s) and now_s - self._last_received_s > self._silence_s:
            self._lost("the server is silent", now_s)  # its machine may be gone; TCP alone would take minutes to see it
        self.send(now_s)

    def close(self, error: ClientError) -> None:
        """Fail the open calls, tell the server, and close the connection. May be called twice."""
        for call in list(self.calls.open.values()):
            self.calls.abandon(call, error)
        if self._dealer is not None:
            self.send(0.0)
            self._dealer.close()
            self._dealer = None

    def expire(self, call: Call, timeout_s: float, now_s: float) -> None:
        """Fail a call that has waited for its answer, or its next item, for `timeout_s`; tell the server."""
        if call.is_settled:
            return
        is_unsent = call.event is not None
        reason = f"it was not sent, because of this: {self.problem}" if is_unsent else "it may have been executed"
        text = f"{call.procedure}: no answer from {self._address} within {timeout_s:g} s; {reason}"
        self.calls.abandon(call, CallTimeoutError(text, not_executed=is_unsent))
        self.send(now_s)

    def _check(self, now_s: float, *, was_ready: bool) -> bool:
        """Return whether the connection still exists."""
        assert self._dealer is not None
        if self._dealer.is_connected:
            return True
        closed = "the server closed the connection"
        if self._has_keys and not was_ready:
            closed += " in the handshake: it may not accept the key of this client, or have another key itself"
        self._lost(self._dealer.broken_by or closed, now_s)
        return False

    def _lost(self, problem: str, now_s: float) -> None:
        self.problem = problem
        if self._dealer is not None:
            self._dealer.close()
            self._dealer = None
        self.retry_at_s = now_s + self._delay_s
        self._delay_s = min(2 * self._delay_s, LONGEST_DELAY_S)
        self.calls.disconnected(problem)
