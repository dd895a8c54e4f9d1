"""Reads `BROKER_ACCESS`: a TOML file that says which client may call what, and which worker may host what."""

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.core.state.access import AccessRules, ClientRules, Patterns
from cluster.runtime.settings import ConfigError, expected_value

Name = Annotated[str, Field(min_length=1, max_length=200)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Client(_Table):
    allow: list[Name] | None = None
    calls: Annotated[int, Field(ge=1)] | None = None
    waiting_calls: Annotated[int, Field(ge=1)] | None = None

    def rules(self) -> ClientRules:
        allowed = None if self.allow is None else Patterns(self.allow)
        return ClientRules(allowed, self.calls, self.waiting_calls)


class _Worker(_Table):
    models: list[Name]


class _File(_Table):
    default: _Client = _Client()
    clients: dict[Name, _Client] = {}
    workers: dict[Name, _Worker] = {}


def read_access(path: str) -> AccessRules:
    """Read an access file.

    Raises:
        ConfigError: if it cannot be read, or something in it is wrong; the text names the place.
    """
    try:
        with Path(path).open("rb") as file:
            content = _File.model_validate(tomllib.load(file))
    except OSError as error:
        raise ConfigError(f"BROKER_ACCESS={path!r} cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"BROKER_ACCESS={path!r} is not TOML: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise ConfigError(f"BROKER_ACCESS={path!r}: {place} is not known here: remove it") from error
        should = expected_value(first)
        raise ConfigError(
            f"BROKER_ACCESS={path!r}: {place}={first['input']!r} is wrong: it should be {should}"
        ) from error
    return AccessRules(
        clients={name: one.rules() for name, one in content.clients.items()},
        default=content.default.rules(),
        workers={name: Patterns(one.models) for name, one in content.workers.items()},
    )
