"""What one client sees of the registry: the procedures that it may call, and their models."""

from collections.abc import Mapping

from broker.core.state.access import Patterns
from broker.core.state.procedures import Procedure
from broker.core.state.registry import Registry
from broker.core.state.versions import ModelVersions


class View:
    """A registry, as far as patterns allow."""

    __slots__ = ("_allowed", "_registry")

    def __init__(self, registry: Registry, allowed: Patterns | None = None) -> None:
        """Build.

        Args:
            registry: workers, models and procedures of the cluster.
            allowed: models and procedures that the client may call; None for all.
        """
        self._registry = registry
        self._allowed = allowed

    def procedure(self, name: str) -> Procedure | None:
        """Return the procedure of a name; None if there is none, or it may not be called."""
        procedure = self._registry.procedures.get(name)
        return procedure if procedure is not None and self._permits(procedure) else None

    def public(self) -> list[Procedure]:
        """Return the procedures for introspection, in the order of `Registry.public`."""
        return [procedure for procedure in self._registry.public() if self._permits(procedure)]

    @property
    def models(self) -> Mapping[str, ModelVersions]:
        """The models of which a procedure may be called, by qualified name."""
        if self._allowed is None:
            return self._registry.models
        able = (one for one in self._registry.procedures.values() if not one.is_method and self._permits(one))
        seen = {one.owner for one in able}
        return {name: model for name, model in self._registry.models.items() if name in seen}

    @property
    def document(self) -> bytes | None:
        """The packed OpenRPC document of the service; None after a change, until it is set."""
        return self._registry.documents.get(self._document_key)

    @document.setter
    def document(self, packed: bytes) -> None:
        self._registry.documents[self._document_key] = packed

    @property
    def _document_key(self) -> tuple[str, ...] | None:
        return None if self._allowed is None else self._allowed.texts

    def _permits(self, procedure: Procedure) -> bool:
        return self._allowed is None or self._allowed.permit(procedure)
