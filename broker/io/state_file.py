"""The state file (`BROKER_STATE`): saves the deployment plan for the next broker. Does not interpret the plan."""

import json
import logging
import os
from dataclasses import asdict
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from broker.core.state.plan import DeploymentPlan
from cluster.runtime.settings import ConfigError
from cluster.wire.protocol import Version

log = logging.getLogger(__name__)

_adapter = TypeAdapter(DeploymentPlan)


class StateFile:
    """Reads and writes the state file."""

    def __init__(self, path: str) -> None:
        """Take the path of the file; with an empty path, nothing is saved."""
        self._path = Path(path) if path else None

    def read(self) -> DeploymentPlan:
        """Return the plan that an earlier broker saved, or an empty plan if there is none.

        Raises:
            ConfigError: if the file cannot be read, has other contents than a broker writes, or its folder is not
                writable.
        """
        if self._path is None:
            return DeploymentPlan()
        where = f"BROKER_STATE={str(self._path)!r}"
        if not os.access(self._path.parent, os.W_OK):
            raise ConfigError(f"{where}: it should be a file in a folder that exists and is writable")
        try:
            plan = _adapter.validate_json(self._path.read_bytes(), strict=False)
            for version in _versions(plan):
                Version.read(version)
        except FileNotFoundError:
            return DeploymentPlan()
        except (OSError, ValidationError, ValueError) as error:
            first = str(error).splitlines()[0]
            raise ConfigError(
                f"{where} cannot be read ({first}): correct the file, or remove it to forget what was loaded and routed"
            ) from error
        return plan

    def write(self, plan: DeploymentPlan) -> None:
        """Save a plan. A failure is logged; the plan then holds only until this broker ends."""
        if self._path is None:
            return
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            new.write_text(json.dumps(asdict(plan), indent=1) + "\n")
            new.replace(self._path)
        except (OSError, TypeError, ValueError) as error:
            log.error("the deployment plan could not be written to %s and ends with this broker: %s", self._path, error)


def _versions(plan: DeploymentPlan) -> list[str]:
    return [
        *(model.version for model in plan.loaded),
        *(version for _, version in plan.unloaded),
        *(version for route in plan.routes.values() for version in (route.default, *route.split)),
    ]
