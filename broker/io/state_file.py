"""The state file (`BROKER_STATE`): saves the deployment plan for the next broker. Does not interpret the plan."""

import json
import logging
import os
import stat
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from broker.core.deployment.checks import checked_plan
from broker.core.errors import ProcedureError
from broker.core.state.plan import DeploymentPlan, LoadedModel, SavedRoute
from cluster.runtime.settings import ConfigError

log = logging.getLogger(__name__)

_MODE = 0o600
"""Only the broker's user may read and write the file: an entry in it names code that the workers run."""


@dataclass
class _Model:
    """A `LoadedModel` in the file; `checked_plan` checks the rest."""

    entry: Any
    workers: Any
    model: str
    version: str


@dataclass
class _Route:
    default: str
    split: Any = field(default_factory=dict)
    is_automatic: bool = False


@dataclass
class _Plan:
    loaded: list[_Model] = field(default_factory=list)
    unloaded: list[tuple[str, str]] = field(default_factory=list)
    routes: dict[str, _Route] = field(default_factory=dict)


_adapter = TypeAdapter(_Plan)


class StateFile:
    """Reads and writes the state file.

    Attributes:
        was_broken: whether `read` has set a broken file aside.
    """

    def __init__(self, path: str) -> None:
        """Take the path of the file; with an empty path, nothing is saved."""
        self._path = Path(path) if path else None
        self.was_broken = False

    def __str__(self) -> str:
        return str(self._path)

    def read(self) -> DeploymentPlan:
        """Return the plan that an earlier broker saved, or an empty plan if there is none.

        A broken file must not keep the broker from its work. So a file whose content no broker has written, or of which
        a part is missing, gets a dated name, and the plan is empty.

        Raises:
            ConfigError: if the file cannot be read, is no file, or its folder is not writable.
        """
        if self._path is None:
            return DeploymentPlan()
        where = f"BROKER_STATE={str(self._path)!r}"
        if not os.access(self._path.parent, os.W_OK | os.X_OK):
            raise ConfigError(f"{where}: it should be a file in a folder that exists and is writable")
        try:
            content = _read_regular(self._path)
        except FileNotFoundError:
            return DeploymentPlan()
        except OSError as error:
            raise ConfigError(f"{where} cannot be read ({error}): correct the path, or the file's rights") from error
        try:
            return _parse(content)
        except (ValidationError, ValueError, RecursionError, ProcedureError) as error:
            text = error.text if isinstance(error, ProcedureError) else str(error)
            first = text.splitlines()[0]
        try:
            aside = _set_aside(self._path)
        except OSError as error:
            raise ConfigError(f"{where} is broken ({first}) and cannot be set aside ({error}): remove it") from error
        self.was_broken = True
        log.error(
            "%s is broken (%s). It is now %s, and the broker starts with an empty plan: "
            "nothing is loaded, unloaded or routed until an administrator does it again",
            where,
            first,
            aside,
        )
        return DeploymentPlan()

    def write(self, plan: DeploymentPlan) -> None:
        """Save a plan so that it outlives a loss of power: the file is always the old one or the new one, complete.

        Raises:
            OSError: if that is not possible.
        """
        if self._path is None:
            return
        new = self._path.with_name(f"{self._path.name}.new")
        new.unlink(missing_ok=True)  # of a broker that was killed; it may have other rights
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), "w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(plan), indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # the new name
        finally:
            os.close(folder)


def _read_regular(path: Path) -> bytes:
    """Return the content of a file, and take the rights of others away from it.

    Raises:
        OSError: if that is not possible, or the path is no regular file, such as a pipe that nobody writes to.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError("it is not a regular file")
    with path.open("rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if mode & ~_MODE & 0o777:
            with suppress(OSError):  # it belongs to another user; the next plan is written to a file of our own
                os.fchmod(file.fileno(), _MODE)
        return file.read()


def _parse(content: bytes) -> DeploymentPlan:
    json.loads(content, object_pairs_hook=_without_duplicates)
    saved = _adapter.validate_json(content, strict=True)
    return checked_plan(
        DeploymentPlan(
            [LoadedModel(one.entry, one.workers, one.model, one.version) for one in saved.loaded],
            saved.unloaded,
            {name: SavedRoute(route.default, route.split, route.is_automatic) for name, route in saved.routes.items()},
        )
    )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is named twice")
    return made


def _set_aside(path: Path) -> Path:
    """Give a broken file a dated name, which no other file has, and return it."""
    base = f"{path.name}.broken-{datetime.now().astimezone():%Y-%m-%dT%H-%M-%S}"
    aside, count = path.with_name(base), 1
    while aside.exists():
        count += 1
        aside = path.with_name(f"{base}-{count}")
    path.replace(aside)
    return aside
