"""Converts a model's schema to JSON Schema."""

import json
from typing import Any

from pydantic import BaseModel
from schema import Schema


def to_json_schema(schema: object, identifier: str) -> dict[str, Any]:
    """Convert a `schema.Schema` or a pydantic class.

    Args:
        schema: of a model's input or output.
        identifier: becomes the `$id`.

    Returns:
        The JSON Schema; `{}`, which accepts everything, for any other object, such as None.
    """
    if isinstance(schema, Schema):
        made = schema.json_schema(identifier)
    elif isinstance(schema, type) and issubclass(schema, BaseModel):
        made = schema.model_json_schema()
    else:
        made = {}
    plain: dict[str, Any] = json.loads(json.dumps(made, default=str))
    return plain
