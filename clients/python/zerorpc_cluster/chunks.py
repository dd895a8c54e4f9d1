"""Checks of calls that carry many rows in chunks."""

from typing import Any

from zerorpc_cluster.errors import ClientError


def check_chunks(chunk_rows: int, in_flight: int) -> None:
    """Check how rows are divided.

    Raises:
        ValueError: if one of the numbers is less than 1.
    """
    for name, value in (("chunk_rows", chunk_rows), ("in_flight", in_flight)):
        if value < 1:
            raise ValueError(f"{name} should be at least 1, not {value!r}")


def check_outputs(procedure: str, outputs: Any, rows: int) -> list[Any]:
    """Return the outputs if there is one for each row.

    Raises:
        ClientError: if not.
    """
    if not isinstance(outputs, list) or len(outputs) != rows:
        found = f"{len(outputs)} outputs" if isinstance(outputs, list) else f"a {type(outputs).__name__}"
        raise ClientError(f"{procedure} answered {rows} rows with {found}; map() needs a list with one output a row")
    return outputs
