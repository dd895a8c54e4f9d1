"""The broker's settings."""

from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from broker.core.scheduling.scheduler import Limits
from cluster.runtime.settings import Endpoint, HostPort, local_endpoint

RUN = Path(__file__).resolve().parents[1] / "run"
"""Where a broker that is told nothing else has its administrators' address."""

AdminEndpoint = Annotated[str, AfterValidator(local_endpoint)]


class BrokerSettings(BaseSettings):
    """What the environment may say to the broker, as `BROKER_` and the name in capitals."""

    model_config = SettingsConfigDict(env_prefix="BROKER_", frozen=True)

    frontend: Endpoint = Field("tcp://127.0.0.1:4242", description="where clients connect")
    backend: Endpoint = Field("tcp://127.0.0.1:4243", description="where workers connect")
    http: HostPort = Field("127.0.0.1:8420", description="metrics, health and discovery")
    admin: AdminEndpoint = Field(
        f"ipc://{RUN}/broker-admin.sock",
        description="where scripts/models.py finds the broker: ipc://path or tcp://127.0.0.1:port; none if empty",
    )
    state: str = Field(
        "", description="file that keeps which models were loaded and routed; if none, a new broker has forgotten it"
    )
    max_message_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="largest event of a client, in bytes")
    no_worker_grace_s: float = Field(
        10.0, ge=0, description="how long a call waits for a worker where none is ready, in seconds"
    )
    queue_timeout_s: float = Field(120.0, gt=0, description="how long a call may wait in its queue, in seconds")
    queue_calls: int = Field(20_000, ge=1, description="calls that may wait for one model")
    queue_bytes: int = Field(256 * 1024 * 1024, ge=1024, description="bytes of the calls that may wait for one model")
    queue_client_calls: int = Field(2_000, ge=1, description="calls of one client that may wait for one model")
    queue_client_bytes: int = Field(64 * 1024 * 1024, ge=1024, description="bytes of those of one client")
    drain_timeout_s: float = Field(
        20.0, ge=0, description="how long a stopping broker waits for its open calls, in seconds"
    )
    expected_models: str = Field(
        "",
        description="qualified names, comma-separated, without which /readyz is 503; if none, all that were registered",
    )

    def limits(self) -> Limits:
        """How much may wait, and how long."""
        return Limits(
            no_worker_grace_s=self.no_worker_grace_s,
            queue_timeout_s=self.queue_timeout_s,
            queue_calls=self.queue_calls,
            queue_bytes=self.queue_bytes,
            client_calls=self.queue_client_calls,
            client_bytes=self.queue_client_bytes,
        )

    def expected(self) -> list[str]:
        """The qualified names of `expected_models`."""
        return [name for name in (part.strip() for part in self.expected_models.split(",")) if name]
