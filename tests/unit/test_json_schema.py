"""JSON Schema for the schemas of models: always valid, and never stricter than the model."""

import datetime
import enum
import math
from collections.abc import Callable
from typing import Any

import jsonschema
import numpy as np
import pytest
from pydantic import BaseModel, Field, TypeAdapter
from pydantic.dataclasses import dataclass
from schema import And, Const, Forbidden, Literal, Optional, Or, Regex, Schema, Use

from worker.models.json_schema import MAX_SCHEMA_BYTES, to_json_schema


def converted(schema: object) -> dict[str, Any]:
    made = to_json_schema(lambda: schema, "identifier")
    jsonschema.validators.validator_for(made, default=jsonschema.Draft202012Validator).check_schema(made)
    assert made.pop("$id", "identifier") == "identifier"
    made.pop("$schema", None)
    return made


def an_object(properties: dict[str, Any], required: list[str], *, is_open: bool = False) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": is_open}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (Schema(object), {}),
        (Schema(np.ndarray), {}),
        (Schema(datetime.date), {}),
        (Schema(And()), {}),
        (Schema(Or()), {}),
        (Schema(And(int, lambda number: number > 0)), {"type": "integer"}),
        (And(int, lambda number: number > 0), {"type": "integer"}),
        (Or(int, str), {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (Schema(Or(str, lambda _: True)), {}),
        (Schema(Or("a", "b")), {"enum": ["a", "b"]}),
        (Schema(Or("a", math.nan)), {}),
        (Schema([int, object]), {"type": "array", "items": {}}),
        (Schema({int}), {"type": "array", "items": {"type": "integer"}}),
        (Schema(Regex("a", flags=2)), {}),
        (Schema(Regex(r"^(?i:a)$")), {}),
        (Schema(Regex(r"^(?P<year>\d+)$")), {"type": "string", "pattern": r"^(\d+)$"}),
        (Schema(enum.Enum("Color", "red green").red), {}),  # type: ignore[attr-defined]
        (Schema(None), {"type": "null"}),
        (Schema(type(None)), {"type": "null"}),
        (Schema(2**70), {}),
        (Schema(Const("x")), {"const": "x"}),
        (Schema({"a": Use(int)}), an_object({"a": {}}, ["a"])),
        (Schema({int: str, "a": int}), an_object({"a": {"type": "integer"}}, ["a"], is_open=True)),
        (Schema({Regex("x.*"): int}), an_object({}, [], is_open=True)),
        (Schema({Or("a", 1): int}), an_object({}, [], is_open=True)),
        (Schema({Or("a", "b"): int}), an_object({"a": {"type": "integer"}, "b": {"type": "integer"}}, [])),
        (Schema({Optional("a", default=math.nan): float}), an_object({"a": {"type": "number"}}, [])),
        (Schema({Optional("a", default=2**70): int}), an_object({"a": {"type": "integer"}}, [])),
        (Schema({Optional("a", default=1): int}), an_object({"a": {"type": "integer", "default": 1}}, [])),
        (Schema({Literal("a", description="d"): str}), an_object({"a": {"description": "d", "type": "string"}}, ["a"])),
        (Schema({Forbidden("x"): object, "a": int}), an_object({"a": {"type": "integer"}}, ["a"])),
        (Schema(Schema({"a": int})), an_object({"a": {"type": "integer"}}, ["a"])),
        (None, {}),
        ("text", {}),
    ],
)
def test_what_each_construct_becomes(schema: object, expected: dict[str, Any]) -> None:
    assert converted(schema) == expected


def test_a_schema_by_reference_keeps_its_definition() -> None:
    made = converted(Schema({"a": Schema({"b": object}, name="Part", as_reference=True)}))
    assert made["properties"] == {"a": {"$ref": "#/definitions/Part"}}
    assert made["definitions"]["Part"]["properties"] == {"b": {}}


class Odd(BaseModel, arbitrary_types_allowed=True):
    """What pydantic accepts and JSON Schema has no form for."""

    nan: float = math.nan
    large: int = Field(1, le=2**70)
    function: Callable[[int], int] = abs
    array: np.ndarray | None = None


@dataclass
class Point:
    x: float = math.inf


def test_odd_pydantic_classes_are_shown_without_what_json_cannot_carry() -> None:
    made = converted(Odd)
    assert made["properties"]["nan"] == {"title": "Nan", "type": "number"}
    assert made["properties"]["large"] == {"default": 1, "title": "Large", "type": "integer"}
    assert made["properties"]["function"] == {"title": "Function"}
    assert converted(Point)["properties"] == {"x": {"title": "X", "type": "number"}}
    assert converted(TypeAdapter(list[int])) == {"items": {"type": "integer"}, "type": "array"}


def recursive() -> object:
    made: dict[str, Any] = {}
    made["again"] = made
    return Schema(made)


def deep() -> object:
    made: Any = int
    for _ in range(300):
        made = {"a": made}
    return Schema(made)


def large() -> object:
    return Schema({"x" * MAX_SCHEMA_BYTES: int})


def failing() -> object:
    raise AttributeError("no such thing")


@pytest.mark.parametrize("read_schema", [recursive, deep, large, failing])
def test_what_cannot_be_shown_accepts_everything_and_is_noted(
    read_schema: Callable[[], object], caplog: pytest.LogCaptureFixture
) -> None:
    assert to_json_schema(read_schema, "iris_input") == {}
    (record,) = caplog.records
    assert record.getMessage().startswith("iris_input: the schema is shown as {}, which accepts everything: ")
