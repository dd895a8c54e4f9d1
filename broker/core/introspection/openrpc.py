"""The service as one OpenRPC 1.3 document (https://spec.open-rpc.org), made from the workers' descriptions.

ZeroRPC is not JSON-RPC. The document's own description states three differences: errors have names, the items of a
stream arrive one by one, and parameters go by position.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from broker.core.errors import ERROR_KINDS
from broker.core.introspection.view import View
from broker.core.state.procedures import Procedure
from broker.core.state.versions import ModelVersions
from cluster import __version__
from cluster.wire.protocol import ModelKey

JsonSchema = dict[str, Any]

_DESCRIPTION = """\
Models served over ZeroRPC. Parameters go by position. An error is identified by its name, which is the \
"message" of the errors here; the codes only tell them apart. A method with "x-stream" is answered with a stream: each \
element of its result arrives by itself, as soon as it is ready."""

_OF_EVERY_PROCEDURE = ("BadRequest", "MessageTooLarge", "Draining")
_OF_METHODS = (
    *_OF_EVERY_PROCEDURE,
    "ServerBusy",
    "NoWorkers",
    "DeadlineExceeded",
    "WorkerLost",
    "ResultTooLarge",
)
_OF_MODELS = (*_OF_METHODS, "MLModelSchemaValidationException")

_TEXT: JsonSchema = {"type": "string"}
_NUMBER: JsonSchema = {"type": "integer"}
_SUMMARY = {
    "display_name": _TEXT,
    "qualified_name": _TEXT,
    "description": _TEXT,
    "major_version": _NUMBER,
    "minor_version": _NUMBER,
}
_METADATA = {**_SUMMARY, "input_schema": {"type": "object"}, "output_schema": {"type": "object"}}
_REFS = ("#/$defs/", "#/definitions/")


def document(view: View) -> dict[str, Any]:
    """Return the document: every public procedure with its parameters, result, errors and examples."""
    schemas: dict[str, JsonSchema] = {"model": _object(_SUMMARY), "model_metadata": _object(_METADATA)}
    names: dict[ModelKey, str] = {}
    models = view.models
    for name, model_versions in models.items():
        for one in model_versions.callable_versions:
            model = one.description
            names[model.key] = name if one is model_versions.current else model.pinned_name
            schemas |= _components(f"{names[model.key]}_input", model.input_schema)
            schemas |= _components(f"{names[model.key]}_output", model.output_schema)
    methods = [_method(procedure, models, names) for procedure in view.public()]
    errors = {
        name: {"code": code, "message": name, "data": {"when": when, "executed": executed}}
        for name, (code, when, executed) in ERROR_KINDS.items()
    }
    return {
        "openrpc": "1.3.2",
        "info": {"title": "ModelZeroRPCService", "version": __version__, "description": _DESCRIPTION},
        "methods": methods,
        "components": {"schemas": schemas, "errors": errors},
    }


def _method(procedure: Procedure, models: Mapping[str, ModelVersions], names: Mapping[ModelKey, str]) -> dict[str, Any]:
    if procedure.owner is None:
        params, result = _OWN[procedure.name]
        errors: Iterable[str] = (*_OF_EVERY_PROCEDURE, *(["ValueError"] if params else []))
        return _described(procedure, params, result, errors)
    if procedure.is_method:
        method = _described(procedure, {name: {} for name in procedure.args}, {}, _OF_METHODS)
        return method | {"tags": [{"name": procedure.owner}], "x-service": procedure.owner}
    model_versions = models[procedure.owner]
    hosted = model_versions.current if procedure.version is None else model_versions.versions[procedure.version]
    assert hosted is not None
    model = hosted.description
    what = procedure.name.removeprefix(procedure.owner if procedure.version is None else model.pinned_name)
    name = names[model.key]
    row, output = _ref(f"{name}_input"), _ref(f"{name}_output")
    param: JsonSchema = {}
    result = {}
    examples: list[tuple[Any, Any]] = []
    if what == "_predict":
        param, result = row, output
        examples = [(one["input"], one["output"]) for one in model.examples]
    elif what in ("_predict_batch", "_predict_stream") and procedure.args == ["rows"]:
        param, result = _array(row), _array(output)
        if model.examples:
            examples = [([one["input"] for one in model.examples], [one["output"] for one in model.examples])]
    elif procedure.is_stream:
        param, result = row, _array({})
    method = _described(procedure, dict.fromkeys(procedure.args, param), result, _OF_MODELS)
    method["tags"] = [{"name": model.qualified_name}]
    if procedure.version is not None:
        method["x-version"] = ".".join(map(str, procedure.version))
    if procedure.is_stream:
        method["x-stream"] = True
    if examples and len(procedure.args) == 1:
        (arg,) = procedure.args
        method["examples"] = [
            {
                "name": f"{procedure.name} {number}",
                "params": [{"name": arg, "value": value}],
                "result": {"name": "result", "value": answer},
            }
            for number, (value, answer) in enumerate(examples, start=1)
        ]
    return method


def _described(
    procedure: Procedure, params: dict[str, JsonSchema], result: JsonSchema, errors: Iterable[str]
) -> dict[str, Any]:
    return {
        "name": procedure.name,
        "summary": procedure.doc,
        "paramStructure": "by-position",
        "params": [{"name": name, "required": True, "schema": schema} for name, schema in params.items()],
        "result": {"name": "result", "schema": result},
        "errors": [{"$ref": f"#/components/errors/{name}"} for name in errors],
    }


def _object(properties: dict[str, JsonSchema]) -> JsonSchema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _array(items: JsonSchema) -> JsonSchema:
    return {"type": "array", "items": items}


def _ref(name: str) -> JsonSchema:
    return {"$ref": f"#/components/schemas/{name}"}


_OWN: dict[str, tuple[dict[str, JsonSchema], JsonSchema]] = {
    "get_models": ({}, _array(_ref("model"))),
    "get_model_metadata": ({"qualified_name": _TEXT}, _ref("model_metadata")),
    "get_service_schema": ({}, {"type": "object"}),
}
"""Parameters and result of the broker's own procedures."""


def _components(name: str, schema: JsonSchema) -> dict[str, JsonSchema]:
    """Return a model's schema, and the definitions in it, as components of the document."""
    made: dict[str, JsonSchema] = {}
    inner: JsonSchema = {}
    for definitions in (schema.get("definitions"), schema.get("$defs")):
        inner |= definitions if isinstance(definitions, dict) else {}
    outer = {key: value for key, value in schema.items() if key not in ("$schema", "$id", "$defs", "definitions")}
    made[name] = _with_own_refs(outer, name)
    for key, value in inner.items():
        made[f"{name}_{key}"] = _with_own_refs(value, name)
    return made


def _with_own_refs(value: Any, name: str) -> Any:
    """Return a part of a schema with its references turned to the components made of that schema."""
    if isinstance(value, list):
        return [_with_own_refs(one, name) for one in value]
    if not isinstance(value, dict):
        return value
    made = {key: _with_own_refs(one, name) for key, one in value.items()}
    target = value.get("$ref")
    if isinstance(target, str):
        if target == "#":
            made["$ref"] = f"#/components/schemas/{name}"
        for prefix in _REFS:
            if target.startswith(prefix):
                made["$ref"] = f"#/components/schemas/{name}_{target.removeprefix(prefix)}"
    return made
