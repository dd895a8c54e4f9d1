"""Loads settings from environment variables and reports a wrong one in one sentence. It knows no particular setting."""

import difflib
import errno
import ipaddress
import os
import re
from contextlib import suppress
from typing import Annotated, TypeVar

from pydantic import AfterValidator, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings

# Container platforms add these variables for a service with the name "broker" or "worker".
_PLATFORM_VARIABLE = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT(_\d+_(TCP|UDP)(_|$)|$)")
_TCP_ENDPOINT = re.compile(r"tcp://(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/\s\[\]]+):(?P<port>[0-9]+)")
_HOST_PORT = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/\s\[\]]+):(?P<port>[0-9]+)")


class ConfigError(Exception):
    """A setting that is unknown, missing or wrong; the text names the setting, its value and a right value."""


def _checked_port(match: re.Match[str] | None) -> bool:
    return match is not None and 1 <= int(match["port"]) <= 65535


def _endpoint(value: str) -> str:
    if value.startswith("ipc://") and len(value) > len("ipc://"):
        if value.startswith("ipc://@"):
            raise ValueError("ipc:///path; names that begin with @ (abstract sockets) are not allowed")
        return value
    if not _checked_port(_TCP_ENDPOINT.fullmatch(value)):
        raise ValueError("a ZeroMQ endpoint, tcp://host:port with a port from 1 to 65535, or ipc:///path")
    return value


def is_local(endpoint: str) -> bool:
    """Whether only this machine can reach an endpoint: a Unix socket, or a loopback address."""
    if endpoint.startswith("ipc://"):
        return True
    host = endpoint.removeprefix("tcp://").rpartition(":")[0].strip("[]")
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def local_endpoint(value: str) -> str:
    """Validate an endpoint that only this machine can reach; it may be empty.

    Raises:
        ValueError: if other machines can reach the endpoint, or it is not an endpoint.
    """
    if value and not is_local(value):
        raise ValueError("ipc:///path, or tcp://127.0.0.1:port: anyone who can reach it can run code on the workers")
    return _endpoint(value) if value else value


def _host_port(value: str) -> str:
    if not _checked_port(_HOST_PORT.fullmatch(value)):
        raise ValueError("host:port with a port from 1 to 65535")
    return value


Endpoint = Annotated[str, AfterValidator(_endpoint)]
"""A ZeroMQ endpoint."""

HostPort = Annotated[str, AfterValidator(_host_port)]
"""An address as `host:port`."""

Settings = TypeVar("Settings", bound=BaseSettings)


def connect_address(endpoint: str) -> str:
    """Return the endpoint to connect to for an endpoint that is bound: "all interfaces" becomes this machine."""
    return endpoint.replace("//0.0.0.0:", "//127.0.0.1:").replace("//*:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")


def split_host_port(address: str) -> tuple[str, int]:
    """Split a `HostPort` into host and port, without the brackets of an IPv6 address."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def load_settings(settings: type[Settings]) -> Settings:
    """Load the settings of one process from its environment.

    Args:
        settings: the class of the settings; its `env_prefix` selects the variables.

    Raises:
        ConfigError: if a setting is unknown or wrong; the text names the first one.
    """
    prefix = settings.model_config["env_prefix"]
    known = {f"{prefix}{name.upper()}" for name in settings.model_fields}
    for name, value in os.environ.items():
        if name.startswith(prefix) and name not in known and not _PLATFORM_VARIABLE.search(name):
            near = difflib.get_close_matches(name, known, n=1) or sorted(known)
            raise ConfigError(f"{name}={value!r} is not a setting; did you mean {near[0]}?")
    try:
        return settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"{prefix}{str(first['loc'][0]).upper()}"
        raise ConfigError(f"{name}={first['input']!r} is wrong: it should be {expected_value(first)}") from error


def expected_value(error: ErrorDetails) -> str:
    """Describe the values that pydantic accepts where it refused one; the text follows "it should be"."""
    named = {
        "bool_parsing": "true or false",
        "bool_type": "true or false",
        "dict_type": "a dictionary",
        "float_parsing": "a number",
        "float_type": "a number",
        "int_from_float": "a whole number",
        "int_parsing": "a whole number",
        "int_type": "a whole number",
        "model_type": "a dictionary",
        "string_type": "a string",
    }
    if error["type"] == "greater_than_equal":
        return f"{error['ctx']['ge']} or more"
    if error["type"] == "less_than_equal":
        return f"{error['ctx']['le']} or less"
    if error["type"] == "greater_than":
        return f"more than {error['ctx']['gt']}"
    return named.get(error["type"]) or error["msg"].removeprefix("Value error, ").removeprefix("Input should be ")


class AddressTakenError(ConfigError):
    """The address of a setting is in use. That may pass, while a wrong address stays wrong."""


def bind_error(setting: str, value: str, error: Exception) -> ConfigError:
    """Return the error for an address that cannot be bound.

    Args:
        setting: the name of the setting that holds the address.
        value: its value.
        error: the error from the system.
    """
    if getattr(error, "errno", None) == errno.EADDRINUSE:
        return AddressTakenError(
            f"{setting}={value!r} is taken: another process listens there; stop it or choose another port"
        )
    return ConfigError(f"{setting}={value!r} cannot be bound ({error}): it should be an address of this machine")
