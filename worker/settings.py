"""The worker's settings. `config` names the models that it hosts."""

import platform
import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from cluster.runtime.busy_poll import DEFAULT_US, MAX_US
from cluster.runtime.settings import Endpoint, HostPort, split_host_port

_MODULES = re.compile(r"\s*(\*|[^\W\d]\w*(\.[^\W\d]\w*)*)\s*")


def _modules(value: str) -> str:
    if value and not all(_MODULES.fullmatch(name) for name in value.split(",")):
        raise ValueError("modules or packages, comma-separated, such as iris_model,my_models.text, or * for all")
    return value


class WorkerSettings(BaseSettings):
    """Settings from the environment. A variable's name is `WORKER_` and the name of the field in capitals."""

    model_config = SettingsConfigDict(env_prefix="WORKER_", frozen=True)

    broker: Endpoint = Field("tcp://127.0.0.1:4243", description="the broker's address for workers")
    curve_secret: str = Field(
        "", description="file with the secret key of this worker, if the broker requires keys (docs/security.md)"
    )
    broker_key: str = Field("", description="the broker's public key: a file, or the key itself")
    http: HostPort = Field("127.0.0.1:8421", description="metrics and health")
    metrics_address: HostPort | None = Field(
        None, description="where Prometheus reaches this worker, if not at WORKER_HTTP as seen from here"
    )
    expose_tracebacks: bool = Field(False, description="whether errors carry the model's traceback to the caller")
    drain_timeout_s: float = Field(
        20.0, ge=0, description="how long a stopping worker waits for the calls it has, in seconds"
    )
    busy_poll_us: int = Field(
        DEFAULT_US,
        ge=0,
        le=MAX_US,
        description="how long a busy worker polls before it sleeps, in microseconds; 0 to sleep at once",
    )
    models: str = Field("", description="qualified names of the models to host, comma-separated, of the configured")

    loadable: Annotated[str, AfterValidator(_modules)] = Field(
        "", description="packages and modules, comma-separated, from which scripts/models.py may load; * for all"
    )
    devices: str = Field("", description="GPUs of this machine, comma-separated; each worker sees one of them, in turn")

    def device_names(self) -> list[str]:
        """The names in `devices`."""
        return [name.strip() for name in self.devices.split(",") if name.strip()]

    def loadable_modules(self) -> list[str]:
        """The names in `loadable`. An empty list stands for all installed packages with models."""
        return [name.strip() for name in self.loadable.split(",") if name.strip()]

    def hosted_models(self) -> list[str]:
        """The qualified names in `models`. An empty list stands for all configured models."""
        return [name.strip() for name in self.models.split(",") if name.strip()]

    def advertised_address(self) -> str:
        """The `host:port` for Prometheus. This machine's name replaces a host that means "every interface"."""
        if self.metrics_address is not None:
            return self.metrics_address
        host, port = split_host_port(self.http)
        return f"{platform.node()}:{port}" if host in ("0.0.0.0", "::") else self.http
