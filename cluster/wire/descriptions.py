"""Encodes and decodes the descriptions of workers and models, and checks every field."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NamedTuple, TypeVar

import msgpack
from pydantic import TypeAdapter, ValidationError

from cluster.wire import protocol
from cluster.wire.texts import MAX_LINE_LENGTH, MAX_NAME_LENGTH, MAX_TEXT_LENGTH, is_line, is_name, is_text
from cluster.wire.unpacking import UNPACK_ERRORS, unpack

MAX_DESCRIPTION_BYTES = 4 * 1024 * 1024
"""Longest body of READY and of LOADED, in bytes. A model with a large schema needs a few KiB."""

MAX_MODELS = 1000
"""Most models that a worker may host, over all versions."""

MAX_PROCEDURES = 4000
"""Most procedures of all models of a worker."""


class _Bound(NamedTuple):
    """The range of a number in the description of a model."""

    field: str
    least: float
    most: float


_BOUNDS = (
    _Bound("major_version", 0, protocol.MAX_VERSION),
    _Bound("minor_version", 0, protocol.MAX_VERSION),
    _Bound("slots", 1, protocol.MAX_CAPACITY),
    _Bound("batches_ahead", 0, protocol.MAX_CAPACITY),
    _Bound("max_streams", 1, protocol.MAX_CAPACITY),
    _Bound("max_batch_size", 1, protocol.MAX_BATCH_SIZE),
    _Bound("batch_wait_ms", 0, protocol.MAX_BATCH_WAIT_MS),
    _Bound("timeout_s", protocol.MIN_TIMEOUT_S, protocol.MAX_TIMEOUT_S),
)

_worker_adapter = TypeAdapter(protocol.WorkerDescription)
_model_adapter = TypeAdapter(protocol.ModelDescription)

Description = TypeVar("Description")


def write_description(description: protocol.WorkerDescription | protocol.ModelDescription) -> bytes:
    """Encode the body of READY (a worker) or of LOADED (a model)."""
    packed: bytes = msgpack.packb(asdict(description))
    return packed


def read_description(body: bytes) -> protocol.WorkerDescription:
    """Decode the body of READY.

    Raises:
        ProtocolError: if the body is not a description of this protocol version. The text goes to the worker's log.
    """
    raw = _unpack("READY", body)
    # Check the version first: a description of another version may have other fields.
    version = raw.get("protocol") if isinstance(raw, dict) else None
    if type(version) is not int or version != protocol.VERSION:
        named = version if type(version) is int else type(version).__name__
        raise protocol.ProtocolError(
            f"READY names protocol version {named}; this broker speaks version {protocol.VERSION}: "
            "run a worker and a broker of one release"
        )
    description = _validate("READY", raw, _worker_adapter)
    _check_worker(description)
    _check_models("READY", description.models)
    return description


def read_model_description(body: bytes) -> protocol.ModelDescription:
    """Decode the body of LOADED.

    Raises:
        ProtocolError: if the body is not a description of a model.
    """
    model = _validate("LOADED", _unpack("LOADED", body), _model_adapter)
    _check_models("LOADED", [model])
    return model


def _unpack(kind: str, body: bytes) -> Any:
    if len(body) > MAX_DESCRIPTION_BYTES:
        raise protocol.ProtocolError(f"{kind} has {len(body)} bytes; at most {MAX_DESCRIPTION_BYTES} are accepted")
    try:
        return unpack(body, strict_map_key=True)
    except UNPACK_ERRORS as error:
        raise protocol.ProtocolError(f"{kind} cannot be read as msgpack: {error}") from error


def _validate(kind: str, raw: Any, adapter: TypeAdapter[Description]) -> Description:
    try:
        # pydantic validates a dataclass strictly (so that "1" is not 1) only if the input is JSON.
        return adapter.validate_json(json.dumps(raw), strict=True)
    except (TypeError, ValueError, RecursionError) as error:
        if not isinstance(error, ValidationError):
            raise protocol.ProtocolError(f"{kind} has a value that JSON cannot hold: {type(error).__name__}") from error
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise protocol.ProtocolError(f"{kind}: {where or 'description'}: {first['msg']}") from error


def _check_worker(worker: protocol.WorkerDescription) -> None:
    if not is_line(worker.id) or not 1 <= len(worker.id) <= MAX_NAME_LENGTH:
        raise protocol.ProtocolError(f"READY: the id should be 1 to {MAX_NAME_LENGTH} printable characters")
    _check_line("READY: host", worker.host)
    _check_line("READY: metrics_address", worker.metrics_address)
    procedures = sum(len(model.procedures) for model in worker.models)
    for what, count, most in (("models", len(worker.models), MAX_MODELS), ("procedures", procedures, MAX_PROCEDURES)):
        if count > most:
            raise protocol.ProtocolError(
                f"READY has {count} {what}; a worker may have {most}: divide them among several workers"
            )


def _check_models(kind: str, models: Sequence[protocol.ModelDescription]) -> None:
    if len({model.key for model in models}) < len(models):
        raise protocol.ProtocolError(f"{kind}: two models have the same qualified name and version")
    for model in models:
        _check_model(kind, model)


def _check_model(kind: str, model: protocol.ModelDescription) -> None:
    _check_name(f"{kind}: qualified_name", model.qualified_name)
    where = f"{kind}: {model.qualified_name}"
    for bound in _BOUNDS:
        value = getattr(model, bound.field)
        if not bound.least <= value <= bound.most:
            raise protocol.ProtocolError(
                f"{where}: {bound.field} should be from {bound.least:,} to {bound.most:,}, not {value}"
            )
    _check_line(f"{where}: display_name", model.display_name)
    _check_text(f"{where}: description", model.description)
    if any(example.keys() != {"input", "output"} for example in model.examples):
        raise protocol.ProtocolError(f"{where}: an example should have an input and an output")
    for procedure in model.procedures:
        _check_name(f"{where}: the name of a procedure", procedure.name)
        if not procedure.name.startswith(f"{model.qualified_name}_"):
            raise protocol.ProtocolError(
                f"{where}: the name of procedure {procedure.name!r} should begin with {model.qualified_name + '_'!r}"
            )
        _check_text(f"{where}: the doc of {procedure.name}", procedure.doc)
        for name in procedure.args:
            _check_name(f"{where}: a parameter of {procedure.name}", name)


def _check_name(what: str, name: str) -> None:
    if not is_name(name):
        raise protocol.ProtocolError(
            f"{what} should be an identifier of at most {MAX_NAME_LENGTH} characters, not {_shown(name)}"
        )


def _check_line(what: str, text: str) -> None:
    if not is_line(text):
        raise protocol.ProtocolError(
            f"{what} should be a line of at most {MAX_LINE_LENGTH} printable characters, not {_shown(text)}"
        )


def _check_text(what: str, text: str) -> None:
    if not is_text(text):
        raise protocol.ProtocolError(
            f"{what} should be at most {MAX_TEXT_LENGTH:,} printable characters, not {_shown(text)}"
        )


def _shown(text: str) -> str:
    return f"{text[:40]!a}... ({len(text)} characters)" if len(text) > 40 else f"{text!a}"
