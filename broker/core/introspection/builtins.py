"""The procedures that the broker answers itself, for what a client sees of the cluster: a view in, plain values out.

The `_zerorpc_*` answers have the shapes of zerorpc-python's `ServerBase._inject_builtins`. zerorpc-python's own
fail on Python 3.11 and later, which has no `inspect.getargspec`; these use the workers' descriptions instead.
"""

from collections.abc import Callable
from typing import Any

from broker.core.errors import ProcedureError
from broker.core.introspection import openrpc
from broker.core.introspection.view import View
from broker.core.state.procedures import Procedure
from cluster.wire import events
from cluster.wire.protocol import ModelDescription

SERVICE_NAME = "ModelZeroRPCService"


def own_procedures() -> list[Procedure]:
    """Return the procedures that the broker answers itself."""
    return [Procedure(name, doc, args) for name, (_, args, doc) in _ANSWERS.items()]


def answer(view: View, name: str, args: list[Any]) -> object:
    """Answer one of the broker's own procedures.

    Args:
        view: what the client sees of the cluster.
        name: name of one of `own_procedures`.
        args: as many as the procedure has.

    Raises:
        ProcedureError: for the caller.
    """
    function, _, _ = _ANSWERS[name]
    return function(view, *args)


def _get_models(view: View) -> list[dict[str, Any]]:
    return [
        _summary(one.description) for model_versions in view.models.values() for one in model_versions.callable_versions
    ]


def _summary(model: ModelDescription) -> dict[str, Any]:
    return {
        "display_name": model.display_name,
        "qualified_name": model.qualified_name,
        "description": model.description,
        "major_version": model.major_version,
        "minor_version": model.minor_version,
    }


def _get_model_metadata(view: View, qualified_name: object) -> dict[str, Any]:
    model = _described(view, qualified_name)
    if model is None:
        raise ProcedureError("ValueError", "Metadata not found for this model.")
    return {**_summary(model), "input_schema": model.input_schema, "output_schema": model.output_schema}


def _described(view: View, name: object) -> ModelDescription | None:
    """Return the model of a qualified name: the version that answers its calls, or the version that the name pins."""
    if not isinstance(name, str):
        return None
    models = view.models
    if name in models and (current := models[name].current) is not None:
        return current.description
    able = (one.description for model_versions in models.values() for one in model_versions.callable_versions)
    return next((description for description in able if description.pinned_name == name), None)


def _get_service_schema(view: View) -> events.Packed:
    document = view.document
    if document is None:
        document = view.document = events.pack(openrpc.document(view))
    return events.Packed(document)


def _procedure(view: View, name: object) -> Procedure:
    procedure = view.procedure(name) if isinstance(name, str) else None
    if procedure is None:
        # A zerorpc server raises KeyError from its dictionary. A value that is not a name may be large: show its type.
        raise ProcedureError("KeyError", ascii(name[:80]) if isinstance(name, str) else type(name).__name__)
    return procedure


def _name(_: View) -> str:
    return SERVICE_NAME


def _ping(_: View) -> list[str]:
    return ["pong", SERVICE_NAME]


def _list(view: View) -> list[str]:
    return [procedure.name for procedure in view.public()]


def _help(view: View, name: object) -> str:
    return _procedure(view, name).doc


def _args(view: View, name: object) -> list[Any]:
    """Return the shape of `inspect.getargspec`: names, name of varargs, name of keywords, defaults."""
    return [_procedure(view, name).args, None, None, None]


def _inspect(view: View) -> dict[str, Any]:
    methods = {
        procedure.name: {"args": [{"name": arg} for arg in procedure.args], "doc": procedure.doc}
        for procedure in view.public()
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
