"""Encodes and decodes the descriptions of workers and models, and checks every field."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import msgpack
from pydantic import TypeAdapter, ValidationError

from cluster.wire import protocol
from cluster.wire.unpacking import UNPACK_ERRORS, unpack

MAX_DESCRIPTION_BYTES = 4 * 1024 * 1024
"""Longest body of READY and of LOADED, in bytes. A model with a large schema needs a few KiB."""

MAX_ID_LENGTH = 128
"""Longest id of a worker, in characters."""

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
    if not description.id.isprintable() or not 1 <= len(description.id) <= MAX_ID_LENGTH:
        raise protocol.ProtocolError(f"READY: the id should be 1 to {MAX_ID_LENGTH} printable characters")
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


def _check_models(kind: str, models: Sequence[protocol.ModelDescription]) -> None:
    if len({model.key for model in models}) < len(models):
        raise protocol.ProtocolError(f"{kind}: two models have the same qualified name and version")
    if any(model.major_version < 0 or model.minor_version < 0 for model in models):
        raise protocol.ProtocolError(f"{kind}: the numbers of a version should be 0 or more")
    if any(not 1 <= model.slots <= protocol.MAX_CAPACITY for model in models):
        raise protocol.ProtocolError(f"{kind}: slots should be from 1 to {protocol.MAX_CAPACITY}")
    if any(model.max_batch_size < 1 for model in models):
        raise protocol.ProtocolError(f"{kind}: max_batch_size should be 1 or more")
    if any(not 0 <= model.batches_ahead <= protocol.MAX_CAPACITY for model in models):
        raise protocol.ProtocolError(f"{kind}: batches_ahead should be from 0 to {protocol.MAX_CAPACITY}")
    if any(not 1 <= model.max_streams <= protocol.MAX_CAPACITY for model in models):
        raise protocol.ProtocolError(f"{kind}: max_streams should be from 1 to {protocol.MAX_CAPACITY}")
    if any(example.keys() != {"input", "output"} for model in models for example in model.examples):
        raise protocol.ProtocolError(f"{kind}: an example should have an input and an output")
    if any(not 0 <= model.batch_wait_ms < float("inf") for model in models):
        raise protocol.ProtocolError(f"{kind}: batch_wait_ms should be a number of milliseconds")
    if any(not 0 < model.timeout_s < float("inf") for model in models):
        raise protocol.ProtocolError(f"{kind}: timeout_s should be a positive number of seconds")
    for model in models:
        for procedure in model.procedures:
            if not procedure.name.startswith(f"{model.qualified_name}_"):
                raise protocol.ProtocolError(
                    f"{kind}: the name of procedure {procedure.name!r} should begin with {model.qualified_name + '_'!r}"
                )
