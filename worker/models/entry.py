"""A model's entry: names its class, and holds its settings. Entries come from a configuration or from the broker."""

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cluster.runtime.settings import ConfigError, expected_value
from cluster.wire.protocol import MAX_BATCH_SIZE, MAX_BATCH_WAIT_MS, MAX_CAPACITY, MAX_TIMEOUT_S, MIN_TIMEOUT_S

MAX_THREADS = 1024
"""Most threads of numeric libraries."""


class ModelEntry(BaseModel):
    """One entry of a configuration's `models`. `worker/config.py` explains the settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    module_name: str
    class_name: str
    slots: int = Field(1, ge=1, le=MAX_CAPACITY)
    retry: bool = True
    timeout_s: float = Field(300.0, ge=MIN_TIMEOUT_S, le=MAX_TIMEOUT_S, allow_inf_nan=False)
    max_batch_size: int | None = Field(None, ge=1, le=MAX_BATCH_SIZE)
    batch_wait_ms: float = Field(0.0, ge=0, le=MAX_BATCH_WAIT_MS, allow_inf_nan=False)
    batches_ahead: int = Field(0, ge=0, le=MAX_CAPACITY)
    max_streams: int = Field(1000, ge=1, le=MAX_CAPACITY)
    threads: int = Field(1, ge=1, le=MAX_THREADS)

    @property
    def label(self) -> str:
        """Names the entry in the text of an error."""
        return f"model {self.module_name}.{self.class_name}"


def parse_entry(raw: object, where: str = "the entry") -> ModelEntry:
    """Check an entry.

    Args:
        raw: the entry as its author wrote it.
        where: begins the text of an error.

    Raises:
        ConfigError: if the entry is not a dictionary, or a setting is missing, unknown or wrong.
    """
    try:
        return ModelEntry.model_validate(raw)
    except ValidationError as error:
        raise ConfigError(f"{where}{_reason(error)}") from error


def _reason(invalid: ValidationError) -> str:
    error = invalid.errors()[0]
    if not error["loc"]:
        return f"={error['input']!r}: an entry should be {expected_value(error)}"
    key = error["loc"][0]
    if error["type"] == "missing":
        return f" lacks {key!r}"
    if error["type"] == "extra_forbidden":
        return f": {key!r} is not a setting of a model; the settings are {', '.join(ModelEntry.model_fields)}"
    return f": {key}={error['input']!r} is wrong: it should be {expected_value(error)}"
