"""The procedures that the broker answers itself, for the cluster as a whole. Pure: catalogue in, plain values out.

The `_zerorpc_*` answers have the shapes of zerorpc-python's `ServerBase._inject_builtins`. Its own versions fail on
Python 3.11 and later, where `inspect.getargspec` is gone; these need no inspection, the workers described themselves.
"""

from collections.abc import Callable
from typing import Any

from broker import openrpc
from broker.catalogue import Catalogue
from broker.procedure import Procedure
from cluster import events
from cluster.protocol import ModelDescription

SERVICE_NAME = "ModelZeroRPCService"


class CallError(Exception):
    """An error for the caller, by the name and text that it will see."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(name, text)
        self.name = name
        self.text = text


def own_procedures() -> list[Procedure]:
    """What the broker answers itself."""
    return [Procedure(name, doc, args) for name, (_, args, doc) in _ANSWERS.items()]


def answer(catalogue: Catalogue, name: str, args: list[Any]) -> object:
    """Answer one of the broker's own procedures.

    Args:
        catalogue: what is known of the cluster.
        name: of one of `own_procedures`.
        args: as many as the procedure has.

    Raises:
        CallError: for the caller.
    """
    function, _, _ = _ANSWERS[name]
    return function(catalogue, *args)


def _get_models(catalogue: Catalogue) -> list[dict[str, Any]]:
    return [_summary(one.description) for family in catalogue.families.values() for one in family.callable_versions]


def _summary(model: ModelDescription) -> dict[str, Any]:
    return {
        "display_name": model.display_name,
        "qualified_name": model.qualified_name,
        "description": model.description,
        "major_version": model.major_version,
        "minor_version": model.minor_version,
    }


def _get_model_metadata(catalogue: Catalogue, qualified_name: object) -> dict[str, Any]:
    model = _described(catalogue, qualified_name)
    if model is None:
        raise CallError("ValueError", "Metadata not found for this model.")
    return {**_summary(model), "input_schema": model.input_schema, "output_schema": model.output_schema}


def _described(catalogue: Catalogue, name: object) -> ModelDescription | None:
    """The model of that qualified name, in the version that answers its calls unless the name has one in it."""
    if not isinstance(name, str):
        return None
    if name in catalogue.families and (current := catalogue.families[name].current) is not None:
        return current.description
    able = (one.description for family in catalogue.families.values() for one in family.callable_versions)
    return next((description for description in able if description.pinned_name == name), None)


def _get_service_schema(catalogue: Catalogue) -> events.Packed:
    if catalogue.document is None:
        catalogue.document = events.pack(openrpc.document(catalogue))
    return events.Packed(catalogue.document)


def _procedure(catalogue: Catalogue, name: object) -> Procedure:
    procedure = catalogue.procedures.get(name) if isinstance(name, str) else None
    if procedure is None:
        # What a single server's dictionary raises; of a value that is no name, only its type, for it may be anything.
        raise CallError("KeyError", ascii(name[:80]) if isinstance(name, str) else type(name).__name__)
    return procedure


def _name(_: Catalogue) -> str:
    return SERVICE_NAME


def _ping(_: Catalogue) -> list[str]:
    return ["pong", SERVICE_NAME]


def _list(catalogue: Catalogue) -> list[str]:
    return [procedure.name for procedure in catalogue.public()]


def _help(catalogue: Catalogue, name: object) -> str:
    return _procedure(catalogue, name).doc


def _args(catalogue: Catalogue, name: object) -> list[Any]:
    """As `inspect.getargspec` was sent: names, name of varargs, name of keywords, defaults."""
    return [_procedure(catalogue, name).args, None, None, None]


def _inspect(catalogue: Catalogue) -> dict[str, Any]:
    methods = {
        procedure.name: {"args": [{"name": arg} for arg in procedure.args], "doc": procedure.doc}
        for procedure in catalogue.public()
    }
    return {"name": SERVICE_NAME, "methods": methods}


_ANSWERS: dict[str, tuple[Callable[..., object], list[str], str]] = {
    "get_models": (_get_models, [], "Return list of models hosted in this service."),
    "get_model_metadata": (
        _get_model_metadata,
        ["qualified_name"],
        "Return metadata about a model hosted by the service.",
    ),
    "get_service_schema": (_get_service_schema, [], "Return an OpenRPC document that describes the service."),
    "_zerorpc_name": (_name, [], "Return the name of the service."),
    "_zerorpc_ping": (_ping, [], "Return 'pong' and the name of the service."),
    "_zerorpc_list": (_list, [], "Return the names of all procedures."),
    "_zerorpc_help": (_help, ["method"], "Return the documentation of a procedure."),
    "_zerorpc_args": (_args, ["method"], "Return the parameters of a procedure."),
    "_zerorpc_inspect": (_inspect, [], "Return the documentation and parameters of all procedures."),
}
