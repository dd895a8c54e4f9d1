"""How a client makes its calls, and the address that it calls."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zerorpc_cluster.keys import Keys
from zmtp.endpoint import TcpEndpoint, parse_endpoint
from zmtp.mechanism import Mechanism, Null

DEFAULT_ADDRESS = "tcp://127.0.0.1:4242"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a client makes its calls.

    Attributes:
        timeout_s: how long to wait for the answer of a call, attempts and waiting between them included, and for each
            item of a stream; in seconds. None to wait without limit.
        heartbeat_s: time between two heartbeats of a call, in seconds. A call whose server has been silent for two of
            them fails. A plain `zerorpc.Server` has 5 s and needs the client to have the same. None for no heartbeats.
        retries: how many more attempts a call gets after an error that says that it was not executed.
        retry_delay_s: mean time before the first retry, in seconds; each further one waits twice as long.
        slots: most items of a stream that wait in this client. The server stops when there are so many.
        keys: for a server that requires CURVE; None for one that requires no keys.
        trace_context: returns what to add to the header of each call, such as `{"traceparent": "00-..."}`.
    """

    timeout_s: float | None = 30.0
    heartbeat_s: float | None = 5.0
    retries: int = 3
    retry_delay_s: float = 0.1
    slots: int = 100
    keys: Keys | None = None
    trace_context: Callable[[], Mapping[str, str]] | None = None

    def mechanism(self) -> Mechanism:
        """Return the security of a new connection."""
        return Null() if self.keys is None else self.keys.mechanism()

    def header(self) -> Mapping[str, str] | None:
        """Return what to add to the header of the next call."""
        return self.trace_context() if self.trace_context is not None else None

    def __post_init__(self) -> None:
        for name, value in (("timeout_s", self.timeout_s), ("heartbeat_s", self.heartbeat_s)):
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"{name} should be a positive number of seconds, or None, not {value!r}")
        if self.retries < 0 or self.retry_delay_s < 0:
            raise ValueError(f"retries={self.retries!r} and retry_delay_s={self.retry_delay_s!r} should be 0 or more")
        if self.slots < 2:
            raise ValueError(f"slots should be at least 2, not {self.slots!r}")


def check_address(address: str) -> str:
    """Return the address if a client can connect to it.

    Raises:
        ValueError: if it is malformed, or has port 0.
    """
    endpoint = parse_endpoint(address)
    if isinstance(endpoint, TcpEndpoint) and endpoint.port == 0:
        raise ValueError(f"an address should be tcp://host:port, with a port above 0, or ipc://path, not {address!r}")
    return address
