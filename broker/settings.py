"""The broker's settings."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from broker.core.scheduling.admission import QueueLimits
from broker.core.state.access import Patterns
from broker.core.state.services import ServerRules
from cluster.runtime.busy_poll import DEFAULT_US, MAX_US
from cluster.runtime.settings import Endpoint, HostPort, local_endpoint
from cluster.wire.protocol import MAX_CAPACITY, MAX_TIMEOUT_S, MIN_TIMEOUT_S

RUN = Path(__file__).resolve().parents[1] / "run"
"""The default folder of the administrators' socket."""

AdminEndpoint = Annotated[str, AfterValidator(local_endpoint)]


class BrokerSettings(BaseSettings):
    """The broker's settings; each is read from `BROKER_` and its name in capitals."""

    model_config = SettingsConfigDict(env_prefix="BROKER_", frozen=True)

    frontend: Endpoint = Field("tcp://127.0.0.1:4242", description="the address for clients")
    backend: Endpoint = Field("tcp://127.0.0.1:4243", description="the address for workers")
    http: HostPort = Field("127.0.0.1:8420", description="metrics, health and discovery")
    admin: AdminEndpoint = Field(
        f"ipc://{RUN}/broker-admin.sock",
        description="the address for administrators: ipc://path or tcp://127.0.0.1:port; none if empty",
    )
    state: str = Field(
        "", description="file that keeps which models were loaded, unloaded and routed; if empty, a restart forgets it"
    )
    curve_secret: str = Field(
        "", description="file with the secret key of this broker, for every port that has keys (docs/security.md)"
    )
    client_keys: str = Field(
        "", description="folder with the public keys of the clients that may connect; * for any key; open if empty"
    )
    worker_keys: str = Field("", description="likewise for workers")
    admin_keys: str = Field("", description="likewise for administrators")
    access: str = Field(
        "", description="TOML file that says which client may call what, and which worker may host what"
    )
    max_message_bytes: int = Field(
        16 * 1024 * 1024, ge=1024, description="largest event that a client may send, in bytes"
    )
    no_worker_grace_s: float = Field(
        10.0, ge=0, description="how long a call waits for a first ready worker, in seconds"
    )
    queue_timeout_s: float = Field(120.0, gt=0, description="how long a call may wait in its queue, in seconds")
    queue_calls: int = Field(20_000, ge=1, description="calls that may wait for one model")
    queue_bytes: int = Field(256 * 1024 * 1024, ge=1024, description="bytes of the calls that may wait for one model")
    queue_client_calls: int = Field(2_000, ge=1, description="calls of one client that may wait for one model")
    queue_client_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, description="bytes of one client's calls that may wait for one model"
    )
    server_calls: int = Field(
        100, ge=1, le=MAX_CAPACITY, description="most calls that one stock ZeroRPC server may have at one time"
    )
    server_timeout_s: float = Field(
        300.0,
        ge=MIN_TIMEOUT_S,
        le=MAX_TIMEOUT_S,
        description="how long a call may run at a stock ZeroRPC server, in seconds",
    )
    retry_methods: str = Field(
        "",
        description="methods of stock ZeroRPC servers, comma-separated, that are called again once if a server dies; "
        "* and ? as in file names",
    )
    drain_timeout_s: float = Field(
        20.0, ge=0, description="how long a stopping broker waits for its open calls, in seconds"
    )
    busy_poll_us: int = Field(
        DEFAULT_US,
        ge=0,
        le=MAX_US,
        description="how long a busy broker polls before it sleeps, in microseconds; 0 to sleep at once",
    )
    expected_models: str = Field(
        "",
        description="models and services, comma-separated, that /readyz requires; if empty, every callable model",
    )

    def limits(self) -> QueueLimits:
        """Return how many calls may wait, and for how long."""
        return QueueLimits(
            no_worker_grace_s=self.no_worker_grace_s,
            queue_timeout_s=self.queue_timeout_s,
            queue_calls=self.queue_calls,
            queue_bytes=self.queue_bytes,
            client_calls=self.queue_client_calls,
            client_bytes=self.queue_client_bytes,
        )

    def expected(self) -> list[str]:
        """Return the names of `expected_models`."""
        return _names(self.expected_models)

    def servers(self) -> ServerRules:
        """Return what holds for stock servers."""
        return ServerRules(self.server_calls, self.server_timeout_s, Patterns(_names(self.retry_methods)))


def _names(text: str) -> list[str]:
    return [name for name in (part.strip() for part in text.split(",")) if name]
