"""The broker's settings."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from cluster.settings import Endpoint, HostPort


class BrokerSettings(BaseSettings):
    """What the environment may say to the broker, as `BROKER_` and the name in capitals."""

    model_config = SettingsConfigDict(env_prefix="BROKER_", frozen=True)

    frontend: Endpoint = Field("tcp://127.0.0.1:4242", description="where clients connect")
    backend: Endpoint = Field("tcp://127.0.0.1:4243", description="where workers connect")
    http: HostPort = Field("127.0.0.1:8420", description="metrics, health and discovery")
    max_message_bytes: int = Field(16 * 1024 * 1024, ge=1024, description="largest event of a client, in bytes")
    no_worker_grace_s: float = Field(
        10.0, ge=0, description="how long a call waits for a worker where none is ready, in seconds"
    )
    drain_timeout_s: float = Field(
        20.0, ge=0, description="how long a stopping broker waits for its open calls, in seconds"
    )
    expected_models: str = Field(
        "",
        description="qualified names, comma-separated, without which /readyz is 503; if none, all that were registered",
    )

    def expected(self) -> list[str]:
        """The qualified names of `expected_models`."""
        return [name for name in (part.strip() for part in self.expected_models.split(",")) if name]
