"""Checks of what a deployment consists of: entries, patterns, weights, whole plans.

Administrators' commands and the state file pass through the same checks, so that neither brings in what the other
refuses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from broker.core.errors import ProcedureError
from broker.core.state.plan import DeploymentPlan, LoadedModel, SavedRoute
from cluster.wire.protocol import Version

MAX_WEIGHT = 1_000_000
"""Largest weight of a version in a split."""

_INTEGERS = range(-(1 << 63), 1 << 64)
"""The whole numbers that msgpack can hold: a worker gets the entry as msgpack."""


def checked_entry(entry: object) -> dict[str, Any]:
    """Return the configuration entry of a model.

    Raises:
        ProcedureError: if it has another form.
    """
    if not isinstance(entry, dict) or not all(isinstance(key, str) for key in entry):
        text = "the entry should be a map with module_name and class_name, as in a configuration"
        raise ProcedureError("ValueError", text)
    for key, value in entry.items():
        if not _is_plain(value):
            raise ProcedureError("ValueError", f"the entry's {key!r} should be a string, number or boolean")
    for key in ("module_name", "class_name"):
        if not isinstance(entry.get(key), str):
            raise ProcedureError("ValueError", f"the entry lacks {key!r}, which should be a string")
    return entry


def _is_plain(value: object) -> bool:
    if isinstance(value, int):
        return value in _INTEGERS
    return abs(value) < float("inf") if isinstance(value, float) else isinstance(value, str | None)


def checked_patterns(patterns: object) -> list[str]:
    """Return the patterns of workers.

    Raises:
        ProcedureError: if they are not a list of strings.
    """
    if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
        text = "workers should be a list of strings: ids, hosts or addresses; * matches any text"
        raise ProcedureError("ValueError", text)
    return patterns


def checked_weights(value: object) -> dict[Version, int]:
    """Return the weights by version, those of 0 included.

    Raises:
        ProcedureError: if it is no map from versions to weights, or names one version twice.
    """
    if not isinstance(value, dict):
        raise ProcedureError("ValueError", "weights should be a map from versions to whole numbers")
    weights: dict[Version, int] = {}
    for text, weight in value.items():
        if type(weight) is not int or not 0 <= weight <= MAX_WEIGHT:
            reason = f"{text}={weight!a}: a weight should be a whole number up to {MAX_WEIGHT}"
            raise ProcedureError("ValueError", reason)
        version = checked_version(str(text))
        if version in weights:
            raise ProcedureError("ValueError", f"{text}: the version {version} is named twice")
        weights[version] = weight
    return weights


def checked_split(weights: Mapping[Version, int]) -> dict[Version, int]:
    """Return the weights above 0; empty if there are no weights.

    Raises:
        ProcedureError: if all weights are 0.
    """
    split = {version: weight for version, weight in weights.items() if weight}
    if weights and not split:
        raise ProcedureError("ValueError", "at least one version should have a weight above 0")
    return split


def checked_version(text: str) -> Version:
    """Return a version.

    Raises:
        ProcedureError: if the text is none.
    """
    try:
        return Version.read(text)
    except ValueError as error:
        raise ProcedureError("ValueError", str(error)) from error


def checked_plan(plan: DeploymentPlan) -> DeploymentPlan:
    """Return a plan that was read from a file, with its versions in their usual form.

    Args:
        plan: names and versions are strings; entries, patterns and splits may be anything.

    Raises:
        ProcedureError: if it has what no administrator's command would have made.
    """
    loaded = [_checked_model(model) for model in plan.loaded]
    unloaded = [(name, str(checked_version(version))) for name, version in plan.unloaded]
    _refuse_repeated([*((model.model, model.version) for model in loaded), *unloaded])
    return DeploymentPlan(loaded, unloaded, {name: _checked_route(name, route) for name, route in plan.routes.items()})


def _checked_model(saved: LoadedModel) -> LoadedModel:
    version = str(checked_version(saved.version))
    return LoadedModel(checked_entry(saved.entry), checked_patterns(saved.workers), saved.model, version)


def _checked_route(name: str, route: SavedRoute) -> SavedRoute:
    try:
        split = checked_split(checked_weights(route.split))
        default = checked_version(route.default)
    except ProcedureError as error:
        raise ProcedureError(error.name, f"the route of {name}: {error.text}") from error
    return SavedRoute(str(default), {str(version): weight for version, weight in split.items()}, route.is_automatic)


def _refuse_repeated(keys: Iterable[tuple[str, str]]) -> None:
    seen: set[tuple[str, str]] = set()
    for name, version in keys:
        if (name, version) in seen:
            raise ProcedureError("ValueError", f"{name} {version} is named twice")
        seen.add((name, version))
