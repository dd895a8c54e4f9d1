"""Converts a model's schema to JSON Schema. Whatever the schema is, the result is valid, and loading goes on."""

import json
import logging
from collections.abc import Callable
from typing import Any

import jsonschema
from pydantic import BaseModel, TypeAdapter
from pydantic.dataclasses import is_pydantic_dataclass
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind
from pydantic_core import core_schema
from schema import And, Schema

from worker.models.representable import is_json, representable

log = logging.getLogger(__name__)

MAX_SCHEMA_BYTES = 64 * 1024
"""Largest schema that is shown, in bytes of JSON: a worker may describe 4 MiB in all."""

MAX_DEPTH = 100
"""Deepest nesting of a schema that is shown."""


class _UnshowableError(Exception):
    """Why a schema is not shown."""


class _PydanticGenerator(GenerateJsonSchema):
    """Pydantic's generator, which accepts everything where JSON Schema has no form."""

    def render_warning_message(self, kind: JsonSchemaWarningKind, detail: str) -> str | None:
        return None  # defaults that JSON cannot carry are left out without a warning

    def handle_invalid_for_json_schema(self, schema: core_schema.CoreSchema, error_info: str) -> JsonSchemaValue:
        return {}


def to_json_schema(read_schema: Callable[[], object], identifier: str) -> dict[str, Any]:
    """Convert a `schema.Schema`, or a class, dataclass or type adapter of pydantic.

    Args:
        read_schema: returns the model's schema.
        identifier: becomes the `$id`; the log names it.

    Returns:
        The JSON Schema. `{}`, which accepts everything, for any other object, such as None. If there is no valid JSON
        Schema, `{}` and a note in the log.
    """
    try:
        made: dict[str, Any] = _without_odd_values(_convert(read_schema(), identifier), 0)
        size = len(json.dumps(made))
        if size > MAX_SCHEMA_BYTES:
            raise _UnshowableError(f"it has {size} bytes, and at most {MAX_SCHEMA_BYTES} are shown")
        jsonschema.validators.validator_for(made, default=jsonschema.Draft202012Validator).check_schema(made)
    except Exception as error:  # the code of a model and two libraries run here
        log.warning(
            "%s: the schema is shown as {}, which accepts everything: %s: %s",
            identifier,
            type(error).__name__,
            str(error).partition("\n")[0][:500],
        )
        return {}
    return made


def _convert(schema: object, identifier: str) -> dict[str, Any]:
    if isinstance(schema, (Schema, And)):  # an Or is an And
        prepared = representable(schema)
        if type(prepared) is not Schema:
            prepared = Schema(prepared)
        made: dict[str, Any] = prepared.json_schema(identifier)
        return made
    if isinstance(schema, TypeAdapter):
        return schema.json_schema(schema_generator=_PydanticGenerator)
    if isinstance(schema, type):
        if issubclass(schema, BaseModel):
            return schema.model_json_schema(schema_generator=_PydanticGenerator)
        if is_pydantic_dataclass(schema):
            return TypeAdapter(schema).json_schema(schema_generator=_PydanticGenerator)
    return {}


def _without_odd_values(value: Any, depth: int) -> Any:
    """Leave out the keywords whose values JSON cannot carry, such as NaN as a default."""
    if depth > MAX_DEPTH:
        raise _UnshowableError(f"it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        return {
            key: _without_odd_values(one, depth + 1)
            for key, one in value.items()
            if isinstance(key, str) and (isinstance(one, dict) or _is_keyword_value(one))
        }
    if isinstance(value, list):
        return [_without_odd_values(one, depth + 1) for one in value]
    return value


def _is_keyword_value(value: Any) -> bool:
    """Whether a keyword may stay: a list of schemas is looked through later, all else must be JSON."""
    if isinstance(value, list) and any(isinstance(one, dict) for one in value):
        return True
    return is_json(value)
