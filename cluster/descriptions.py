"""A worker's description to and from the msgpack of READY, checked field by field. Knows no socket."""

import json
from dataclasses import asdict

import msgpack
from pydantic import TypeAdapter, ValidationError

from cluster import protocol

MAX_DESCRIPTION_BYTES = 4 * 1024 * 1024
"""Longest READY; a model with a large schema needs some KiB."""

MAX_ID_LENGTH = 128
"""Longest id of a worker, in characters."""

_adapter = TypeAdapter(protocol.WorkerDescription)


def write_description(description: protocol.WorkerDescription) -> bytes:
    """The body of READY."""
    packed: bytes = msgpack.packb(asdict(description))
    return packed


def read_description(body: bytes) -> protocol.WorkerDescription:
    """Read the body of READY.

    Raises:
        ProtocolError: if it is not a description of this protocol version; the text is for the worker's log.
    """
    if len(body) > MAX_DESCRIPTION_BYTES:
        raise protocol.ProtocolError(f"READY has {len(body)} bytes; at most {MAX_DESCRIPTION_BYTES} are accepted")
    try:
        raw = msgpack.unpackb(body, raw=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise protocol.ProtocolError(f"READY cannot be read as msgpack: {error}") from error
    # The version first: another version's description may have other fields.
    version = raw.get("protocol") if isinstance(raw, dict) else None
    if type(version) is not int or version != protocol.VERSION:
        named = version if type(version) is int else type(version).__name__
        raise protocol.ProtocolError(
            f"READY names protocol version {named}; this broker speaks version {protocol.VERSION}: "
            "run a worker and a broker of one release"
        )
    try:
        # By way of JSON, because only from there pydantic reads a dataclass strictly: "1" is no 1.
        description = _adapter.validate_json(json.dumps(raw), strict=True)
    except (TypeError, ValueError, RecursionError) as error:
        if not isinstance(error, ValidationError):
            raise protocol.ProtocolError(f"READY holds what JSON cannot: {type(error).__name__}") from error
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise protocol.ProtocolError(f"READY: {where or 'description'}: {first['msg']}") from error
    if not description.id.isprintable() or not 1 <= len(description.id) <= MAX_ID_LENGTH:
        raise protocol.ProtocolError(f"READY: the id should be 1 to {MAX_ID_LENGTH} printable characters")
    _check_models(description.models)
    hosted = {model.qualified_name for model in description.models}
    for procedure in description.procedures:
        if procedure.model not in hosted:
            raise protocol.ProtocolError(
                f"READY: procedure {procedure.name!r} names {procedure.model!r}, which is not among its models"
            )
    return description


def _check_models(models: list[protocol.ModelDescription]) -> None:
    if len({model.qualified_name for model in models}) < len(models):
        raise protocol.ProtocolError("READY: two of its models have one qualified name")
    if any(model.slots < 1 for model in models):
        raise protocol.ProtocolError("READY: a model must have at least one slot")
    if any(model.max_batch_size < 1 or model.batches_ahead < 0 for model in models):
        raise protocol.ProtocolError("READY: max_batch_size should be 1 or more, batches_ahead 0 or more")
    if any(not 1 <= model.max_streams <= protocol.MAX_STREAMS for model in models):
        raise protocol.ProtocolError(f"READY: max_streams should be from 1 to {protocol.MAX_STREAMS}")
    if any(example.keys() != {"input", "output"} for model in models for example in model.examples):
        raise protocol.ProtocolError("READY: an example should have an input and an output")
    if any(not 0 <= model.batch_wait_ms < float("inf") for model in models):
        raise protocol.ProtocolError("READY: batch_wait_ms should be a number of milliseconds")
    if any(not 0 < model.timeout_s < float("inf") for model in models):
        raise protocol.ProtocolError("READY: timeout_s should be a positive number of seconds")
