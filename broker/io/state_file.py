"""The file that keeps what was loaded and routed, so that a next broker knows it. Knows nothing of what it means."""

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from broker.core.state.plan import Plan
from cluster.runtime.settings import ConfigError
from cluster.wire.protocol import Version

log = logging.getLogger(__name__)

_adapter = TypeAdapter(Plan)


class StateFile:
    """`BROKER_STATE`."""

    def __init__(self, path: str) -> None:
        """Take a path; if that is empty, nothing is kept."""
        self._path = Path(path) if path else None

    def read(self) -> Plan:
        """What a former broker wrote; an empty plan if there is none.

        Raises:
            ConfigError: if the file cannot be read, or is none of a broker's, or its folder cannot be written to.
        """
        if self._path is None:
            return Plan()
        where = f"BROKER_STATE={str(self._path)!r}"
        if not os.access(self._path.parent, os.W_OK):
            raise ConfigError(f"{where}: it should be a file in a folder that is there and can be written to")
        try:
            plan = _adapter.validate_json(self._path.read_bytes(), strict=False)
            for version in _versions(plan):
                Version.read(version)
        except FileNotFoundError:
            return Plan()
        except (OSError, ValidationError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise ConfigError(
                f"{where} cannot be read ({first}): correct the file, or remove it to forget what was loaded and routed"
            ) from error
        return plan

    def write(self, plan: Plan) -> None:
        """Keep a plan. If that fails, it is logged: what is done goes on to hold as long as this broker runs."""
        if self._path is None:
            return
        fresh = self._path.with_name(f"{self._path.name}.new")
        try:
            fresh.write_text(json.dumps(asdict(plan), indent=1) + "\n")
            fresh.replace(self._path)
        except (OSError, TypeError, ValueError) as error:
            log.error(
                "what was loaded and routed could not be written to %s, and ends with this broker: %s",
                self._path,
                error,
            )


def _versions(plan: Plan) -> list[str]:
    return [
        *(placed.version for placed in plan.loaded),
        *(version for _, version in plan.unloaded),
        *(version for routed in plan.routes.values() for version in (routed.default, *routed.split)),
    ]
