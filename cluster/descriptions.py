"""A worker's description to and from the msgpack of READY, checked field by field. Knows no socket."""

from dataclasses import asdict

import msgpack
from pydantic import TypeAdapter, ValidationError

from cluster import protocol

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
    try:
        raw = msgpack.unpackb(body, raw=False)
    except (ValueError, TypeError, RecursionError, msgpack.UnpackException) as error:
        raise protocol.ProtocolError(f"READY cannot be read as msgpack: {error}") from error
    # The version first: another version's description may have other fields.
    version = raw.get("protocol") if isinstance(raw, dict) else None
    if version != protocol.VERSION:
        raise protocol.ProtocolError(
            f"READY names protocol version {version!r}; this broker speaks version {protocol.VERSION}: "
            "run a worker and a broker of one release"
        )
    try:
        description = _adapter.validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise protocol.ProtocolError(f"READY: {where or 'description'}: {first['msg']}") from error
    hosted = {model.qualified_name for model in description.models}
    if len(hosted) < len(description.models):
        raise protocol.ProtocolError("READY: two of its models have one qualified name")
    if any(model.slots < 1 for model in description.models):
        raise protocol.ProtocolError("READY: a model must have at least one slot")
    for procedure in description.procedures:
        if procedure.model not in hosted:
            raise protocol.ProtocolError(
                f"READY: procedure {procedure.name!r} names {procedure.model!r}, which is not among its models"
            )
    return description
