"""Prepares a `schema.Schema` for its own `json_schema`, which renders some constructs as something else.

`json_schema` of schema 0.7.8 calls every type that it does not know a string, forbids keys that it cannot name, drops
the alternatives of an `Or` that it cannot render, and renders an `And` of nothing as an invalid schema. A description
that refuses right input is worse than one that says less. So a part without a right form is replaced by one that
accepts everything.
"""

import json
import math
import re
from typing import Any

from schema import And, Const, Hook, Literal, Optional, Or, Regex, Schema, Use

_ANYTHING = Use(lambda value: value)
"""Accepts everything; `json_schema` renders it as `{}`."""

_TYPES = frozenset((str, int, float, bool, list, dict))
_ONLY_PYTHON = re.compile(r"\(\?(?![:=!]|P<)|\(\?P[=>]|\\[AZ]|[*+?}]\+")


def representable(part: Any) -> Any:
    """Return what stands for a schema, or for a part of one, and has a right form in JSON Schema."""
    if isinstance(part, Or):
        return _or(part)
    if isinstance(part, And):
        return _and(part)
    if type(part) in (Schema, Const):
        return _schema(part)
    if isinstance(part, dict):
        return _dict(part)
    if type(part) in (list, tuple, set, frozenset):
        items = [representable(item) for item in part]
        return [_ANYTHING] if any(item is _ANYTHING for item in items) else items
    if isinstance(part, type):
        return None if part is type(None) else part if part in _TYPES else _ANYTHING
    if isinstance(part, Regex):
        return _ANYTHING if _is_only_python(part) else part
    if isinstance(part, Literal):
        return part if is_json(part.schema) else _ANYTHING
    if part is None or isinstance(part, (str, bool, int, float)):
        return part if is_json(part) else _ANYTHING
    return _ANYTHING


def is_json(value: object) -> bool:
    """Whether JSON has the value, and msgpack too: no NaN, and no integer beyond 64 bits."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 64
    if isinstance(value, list):
        return all(map(is_json, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(one) for key, one in value.items())
    try:
        json.dumps(value).encode()
    except (TypeError, ValueError):
        return False
    return True


def _schema(part: Schema) -> Any:
    inner = representable(part.schema)
    if inner is _ANYTHING or isinstance(inner, Schema):  # json_schema does not look into a schema of a schema
        return inner
    return Schema(
        inner,
        ignore_extra_keys=part.ignore_extra_keys,
        name=part.name,
        description=part.description,
        as_reference=part.as_reference,
    )


def _or(part: Or[Any]) -> Any:
    options = [representable(one) for one in part.args]
    return Or(*options) if options and not any(one is _ANYTHING for one in options) else _ANYTHING


def _and(part: And[Any]) -> Any:
    conditions = [one for one in map(representable, part.args) if one is not _ANYTHING]
    return And(*conditions) if conditions else _ANYTHING


def _dict(part: dict[Any, Any]) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    for key, value in part.items():
        if isinstance(key, Hook):
            continue
        if _names_a_property(key):
            made[_with_json_default(key)] = representable(value)
        else:
            made[str] = _ANYTHING  # further keys are allowed
    return made


def _names_a_property(key: Any) -> bool:
    if isinstance(key, (Optional, Literal)):
        return _names_a_property(key.schema)
    if isinstance(key, Or):
        return all(_names_a_property(one) for one in key.args)
    return isinstance(key, str)


def _with_json_default(key: Any) -> Any:
    if not isinstance(key, Optional) or not hasattr(key, "default"):
        return key
    return key if not callable(key.default) and is_json(key.default) else Optional(key.schema)


def _is_only_python(pattern: Regex) -> bool:
    """Whether ECMAScript, whose patterns JSON Schema has, would read the pattern differently."""
    return bool("flags=" in repr(pattern) or _ONLY_PYTHON.search(pattern.pattern_str))
