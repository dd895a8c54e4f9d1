"""The metrics that models make with prometheus_client, in its default registry.

The worker's `/metrics` shows them after its own. A module that is imported again makes its metrics again, which the
registry would refuse as duplicates; here the new ones replace the old ones.
"""

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

log = logging.getLogger(__name__)

PREFIX = "zerorpc_worker_"
"""Begins the names of the worker's own metrics."""

_LOG_INTERVAL_S = 60.0


@dataclass(frozen=True, slots=True)
class _Registration:
    """A collector of a model.

    Attributes:
        names: of its metrics.
        module: the globals of the module that registered it. Another dictionary of the same name is that module,
            imported again.
    """

    collector: Collector
    names: frozenset[str]
    module: dict[str, Any]


class OwnMetrics:
    """Watches one registry of prometheus_client."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._register, self._unregister = registry.register, registry.unregister
        registry.register = self._on_register  # type: ignore[method-assign]
        registry.unregister = self._on_unregister  # type: ignore[method-assign]
        self._registrations: list[_Registration] = []
        self._undo = threading.local()  # what to do if the load of this thread fails
        self._logged_s = float("-inf")

    def _on_register(self, collector: Collector) -> None:
        describe = getattr(collector, "describe", collector.collect)
        new = _Registration(collector, frozenset(metric.name for metric in describe()), _calling_module())
        taken = sorted(name for name in new.names if name.startswith(PREFIX))
        if taken:
            raise ValueError(f"the metric {taken[0]!r} begins with {PREFIX}, as the worker's own do: rename it")
        replaced = [one for one in self._registrations if _is_former(one, new)]
        for old in replaced:
            self._remove(old)
        try:
            self._register(collector)
        except ValueError:
            for old in replaced:
                self._add(old)
            raise
        self._registrations = [*self._registrations, new]
        getattr(self._undo, "steps", []).append((new, replaced))

    def _on_unregister(self, collector: Collector) -> None:
        self._unregister(collector)
        self._registrations = [one for one in self._registrations if one.collector is not collector]

    def _add(self, registration: _Registration) -> None:
        self._register(registration.collector)
        self._registrations = [*self._registrations, registration]

    def _remove(self, registration: _Registration) -> None:
        with contextlib.suppress(KeyError):  # the model has unregistered it meanwhile
            self._on_unregister(registration.collector)

    @contextlib.contextmanager
    def kept_on_failure(self) -> Iterator[None]:
        """Bring back what this thread has replaced if the block raises."""
        steps: list[tuple[_Registration, list[_Registration]]] = []
        self._undo.steps = steps
        try:
            yield
        except BaseException:
            for new, replaced in reversed(steps):
                self._remove(new)
                for old in replaced:
                    self._add(old)
            raise
        finally:
            del self._undo.steps

    def as_text(self) -> bytes:
        """The metrics, as Prometheus reads them. A collector that raises is left out, and logged once a minute."""
        parts = []
        for registration in self._registrations:
            try:
                parts.append(generate_latest(_Alone(registration.collector)))
            except Exception:
                now_s = time.monotonic()
                if now_s - self._logged_s >= _LOG_INTERVAL_S:
                    self._logged_s = now_s
                    log.exception("a model's metric could not be collected: %s", ", ".join(registration.names))
        return b"".join(parts)


class _Alone(CollectorRegistry):
    """A registry of one collector, without the check for duplicates."""

    def __init__(self, collector: Collector) -> None:
        super().__init__()
        self._collector = collector

    def collect(self) -> Iterable[Metric]:
        return self._collector.collect()


def _is_former(old: _Registration, new: _Registration) -> bool:
    """Whether the new collector has a name of the old one, and comes from the same module, imported again."""
    same_module = old.module.get("__name__") == new.module.get("__name__") and old.module is not new.module
    return same_module and not old.names.isdisjoint(new.names)


def _calling_module() -> dict[str, Any]:
    """The globals of the module that makes a metric: the first one outside prometheus_client."""
    frame = sys._getframe(2)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "prometheus_client":
        frame = frame.f_back
    return frame.f_globals


_watched: OwnMetrics | None = None


def install() -> None:
    """Watch the default registry from now on. Call it before any model's module is imported."""
    global _watched  # noqa: PLW0603 - the registry that models use is global, too
    _watched = _watched or OwnMetrics(REGISTRY)


def kept_on_failure() -> contextlib.AbstractContextManager[None]:
    """Bring back the metrics that a load replaces if it fails."""
    return _watched.kept_on_failure() if _watched is not None else contextlib.nullcontext()


def as_text() -> bytes:
    """The metrics of all models, as Prometheus reads them."""
    return _watched.as_text() if _watched is not None else b""
